"""Which assumptions of the theorem behind Eq. 6 hold for a start, and what the formula leaves out.

After Kuzborskij & Lampert (ICML 2018), Theorem 4; nothing is computed here but the largest step that it allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tatl.run import Recipe

PASSES = "one pass over the images without replacement, one image a step"
SCALE = "w -> a w before a BatchNorm leaves the function as it is and changes the Hessian's norm by a^-2"


@dataclass(frozen=True)
class Assumption:
    """One assumption of the theorem, whether it holds here (None: not known), and what was found."""

    name: str
    holds: bool | None
    found: str


def largest_step(beta: float, steps: int) -> float:
    """The largest c that the theorem allows: min(1/beta, 1 / (4 (2 beta ln T)^2)); infinite for beta 0."""
    if beta <= 0:
        return float("inf")
    log = 2 * beta * np.log(steps)
    return float(min(1 / beta, 1 / (4 * log**2) if log > 0 else np.inf))


def audit(
    beta: float, m: int, c: float, recipe: Recipe, kinks: int, own_images: bool | None, calibrated: int = 0
) -> list[Assumption]:
    """Which assumptions of Theorem 4 hold, and what Eq. 6 drops of it.

    Args:
        beta: largest |eigenvalue| seen; the true smoothness constant is at least that
        m: number of training images, and of steps T in one pass
        c: of the steps c/t
        recipe: how the target segmenters are really trained
        kinks: operations of the network whose derivatives jump (`analysis.curvature.kinks`)
        own_images: whether the weights were made from the very training images that the bound is about; None: not known
        calibrated: on how many of these images the start's BatchNorm statistics were estimated
    """
    allowed, moved = largest_step(beta, m), c * float((1 / np.arange(1, m + 1)).sum())
    optimiser = f"SGD with momentum {recipe.momentum}" if recipe.optimizer == "sgd" else "AdamW"
    return [
        Assumption("loss in [0, 1]", True, "half Tversky, half Jaccard: both lie in [0, 1)"),
        Assumption(
            "smooth, Hessian Lipschitz",
            False if kinks else None,
            f"{kinks} activations and poolings have kinks" if kinks else "no kink was met; constants are not known",
        ),
        Assumption(
            "c <= min(1/beta, 1/(4 (2 beta ln T)^2))",
            c <= allowed,
            f"c is {c:g}, at most {allowed:.1e} is allowed for beta >= {beta:.3g} (largest |eigenvalue| seen), T = {m}",
        ),
        Assumption(
            "steps c/t",
            False,
            f"training has the constant rate {recipe.lr:g}; all steps of one pass of the theorem add up to {moved:.2g}",
        ),
        Assumption(
            PASSES,
            recipe.epochs == 1 and recipe.batch == 1 and recipe.balance == 0,
            f"training has up to {recipe.epochs} epochs of mini-batches of {recipe.batch}",
        ),
        Assumption("plain SGD", recipe.optimizer == "sgd" and recipe.momentum == 0, f"training uses {optimiser}"),
        _independent(own_images, calibrated),
        Assumption(
            "Eq. 6 is the whole bound",
            False,
            "it stands inside an O(.), and drops the theorem's minimum with the constants of smoothness, Lipschitz and "
            "gradient noise: to first order stability is (c H_m / m) tr Cov(grad l), which is not curvature",
        ),
        Assumption("norms do not depend on the scale of weights", False, SCALE),
    ]


def _independent(own_images: bool | None, calibrated: int) -> Assumption:
    """Whether the start was made without the training images: neither its weights nor its statistics saw them."""
    weights = {None: "what it was trained on is not known", True: "it was trained on these very images"}
    found = weights.get(own_images, "its weights were made without them")
    if calibrated:
        found += f"; its BatchNorm statistics were estimated on {calibrated} of them"
    holds = False if calibrated else None if own_images is None else not own_images
    return Assumption("the start does not depend on the training images", holds, found)

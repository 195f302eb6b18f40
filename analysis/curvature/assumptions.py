"""Which assumptions of the theorem behind Eq. 6 hold for a start, and what the formula leaves out.

After Kuzborskij & Lampert (ICML 2018), Theorem 4.  One of them is smoothness: operations whose derivatives jump are
met in one forward pass.  A pass is watched, and not its modules: a function called in `forward` has kinks like a layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from analysis.curvature.stability import largest_step

# Of aten; ReLU6 is a hardtanh, CELU and SELU are ELUs (whose second derivative jumps), PReLU has a kernel of its own.
ACTIVATIONS = {
    "relu", "hardtanh", "leaky_relu", "_prelu_kernel", "rrelu_with_noise", "hardswish", "hardsigmoid", "threshold",
    "elu", "celu", "hardshrink", "softshrink", "clamp", "clamp_min", "clamp_max", "abs", "maximum", "minimum",
}  # fmt: skip
POOLINGS = {
    "max", "min", "amax", "amin", "max_pool1d", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "fractional_max_pool2d", "fractional_max_pool3d",
}  # fmt: skip
KINKED = ACTIVATIONS | POOLINGS


class _Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.count += name in KINKED or (name.endswith("_") and name[:-1] in KINKED)
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def kinks(model: nn.Module, images: Tensor) -> int:
    """How many operations with kinks `model(images)` applies; each time one is applied counts."""
    with _Counter() as counter:
        model(images)
    return counter.count


@dataclass(frozen=True)
class Assumption:
    """One assumption of the theorem, whether it holds here (None: not known), and what was found."""

    name: str
    holds: bool | None
    found: str


NEVER = (
    Assumption(
        "Eq. 6 is the whole bound",
        False,
        "it stands inside an O(.), and drops the theorem's minimum with the constants of smoothness, Lipschitz and "
        "gradient noise: to first order stability is (c H_m / m) tr Cov(grad l), which is not curvature",
    ),
    Assumption(
        "norms do not depend on the scale of weights",
        False,
        "w -> a w before a BatchNorm leaves the function as it is and changes the Hessian's norm by a^-2",
    ),
)


@dataclass(frozen=True)
class Training:
    """What really trains: "SGD" or another optimiser in words, its constant rate, epochs, images a step.

    `drawn` says that images are drawn with replacement.
    """

    optimiser: str
    lr: float
    epochs: int
    batch: int
    drawn: bool = False


def audit(
    beta: float, m: int, c: float, training: Training, kinks: int, own_images: bool | None, calibrated: int = 0
) -> list[Assumption]:
    """Which assumptions of Theorem 4 hold, and what Eq. 6 drops of it.

    Args:
        beta: largest |eigenvalue| seen; the true smoothness constant is at least that
        m: number of training images, and of steps T in one pass
        c: of the steps c/t
        training: how the networks are really trained from the start
        kinks: operations of the network whose derivatives jump (`kinks`)
        own_images: whether the weights were made from the very training images that the bound is about; None: not known
        calibrated: on how many of these images the start's BatchNorm statistics were estimated
    """
    allowed, moved = largest_step(beta, m), c * float((1 / np.arange(1, m + 1)).sum())
    smooth = f"{kinks} activations and poolings have kinks" if kinks else "no kink was met; constants are not known"
    step = f"c is {c:g}, at most {allowed:.1e} is allowed for beta >= {beta:.3g} (largest |eigenvalue| seen), T = {m}"
    rate = f"training has the constant rate {training.lr:g}; all steps of one pass of the theorem add up to {moved:.2g}"
    passes = f"training has up to {training.epochs} epochs of mini-batches of {training.batch}"
    single = training.epochs == 1 and training.batch == 1 and not training.drawn
    return [
        Assumption("loss in [0, 1]", True, "half Tversky, half Jaccard: both lie in [0, 1)"),
        Assumption("smooth, Hessian Lipschitz", False if kinks else None, smooth),
        Assumption("c <= min(1/beta, 1/(4 (2 beta ln T)^2))", c <= allowed, step),
        Assumption("steps c/t", False, rate),
        Assumption("one pass over the images without replacement, one image a step", single, passes),
        Assumption("plain SGD", training.optimiser == "SGD", f"training uses {training.optimiser}"),
        _independent(own_images, calibrated),
        *NEVER,
    ]


def _independent(own_images: bool | None, calibrated: int) -> Assumption:
    """Whether the start was made without the training images: neither its weights nor its statistics saw them."""
    weights = {None: "what it was trained on is not known", True: "it was trained on these very images"}
    found = weights.get(own_images, "its weights were made without them")
    if calibrated:
        found += f"; its BatchNorm statistics were estimated on {calibrated} of them"
    holds = False if calibrated else None if own_images is None else not own_images
    return Assumption("the start does not depend on the training images", holds, found)

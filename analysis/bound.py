"""The stability bound of a start, Eq. 6-8 (after Kuzborskij & Lampert, ICML 2018, Theorem 4).

    g  = curvature + sqrt(R)           curvature: mean over images of ||Hess l(w, z_i)||_2,   R: mean of l(w, z_i)
    g+ = g + m^(-1/4),   g- = g - m^(-1/4)                                            R, curvature at the start w
    bound = (1 + 1 / (c g-)) * R^(c g+ / (1 + c g+)) * sqrt(log K) / m^(1 / (1 + c g+))

for m training images, K candidate sources and steps c/t.  With g- <= 0 it says nothing ("vacuous", infinite).  It is
not monotone in curvature: it falls with g at first, by its first factor, and rises later, by the power of m.

`python -m analysis.bound --init tatl` measures and prints it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from tatl.run import Recipe

SOURCES = 4
STEP = 0.01
PASSES = "one pass over the images without replacement, one image a step"


@dataclass(frozen=True)
class Bound:
    """Eq. 6 with every factor: value = stability * fit * candidates * sample (infinite where vacuous).

    stability   1 + 1 / (c g-)
    fit         R ** (c g+ / (1 + c g+))
    candidates  sqrt(log K)
    sample      m ** (-1 / (1 + c g+))
    """

    risk: float
    curvature: float
    m: int
    sources: int
    c: float
    g: float
    g_minus: float
    g_plus: float
    stability: float
    fit: float
    candidates: float
    sample: float
    value: float

    @property
    def vacuous(self) -> bool:
        """Whether g- <= 0, where the bound says nothing."""
        return self.g_minus <= 0

    @property
    def exponent(self) -> float:
        """c g+ / (1 + c g+): of the risk; one minus it is the exponent of 1/m."""
        return self.c * self.g_plus / (1 + self.c * self.g_plus)

    @property
    def rising(self) -> bool:
        """Whether a little more curvature at the same risk would raise the bound (False: it would lower it)."""
        return not self.vacuous and float(_slope(self)) > 0


def bound(risk: float, curvature: float, m: int, sources: int = SOURCES, c: float = STEP) -> Bound:
    """Eq. 6-8.

    Args:
        risk: mean loss at the start, in [0, 1]
        curvature: mean per-image spectral norm there, >= 0
        m: number of training images
        sources: K, number of candidate starts that the best is chosen from
        c: of the step sizes c/t

    Raises ValueError for m < 1, sources < 1, c <= 0, or a risk or curvature that cannot be.
    """
    _check(risk, curvature, m, sources, c)
    g, g_minus, g_plus = _g(risk, curvature, m)
    stability, fit, candidates, sample = (float(f) for f in _factors(risk, g_minus, g_plus, m, sources, c))
    value = stability * fit * candidates * sample if g_minus > 0 else np.inf
    return Bound(risk, curvature, m, sources, c, g, g_minus, g_plus, stability, fit, candidates, sample, value)


def bounds(risk: np.ndarray, curvature: np.ndarray, m: int, sources: int = SOURCES, c: float = STEP) -> np.ndarray:
    """The values of Eq. 6 for many risks and curvatures at once, infinite where vacuous; of one shape."""
    _check(risk, curvature, m, sources, c)
    _, g_minus, g_plus = _g(risk, curvature, m)
    stability, fit, candidates, sample = _factors(risk, g_minus, g_plus, m, sources, c)
    return np.where(g_minus > 0, np.where(g_minus > 0, stability, 1) * fit * candidates * sample, np.inf)


def _check(risk: Any, curvature: Any, m: int, sources: int, c: float) -> None:
    if m < 1:
        raise ValueError(f"m {m}: the bound needs at least one training image")
    if sources < 1:
        raise ValueError(f"sources {sources}: there is at least one candidate, the start itself")
    if not 0 < c < np.inf:
        raise ValueError(f"c {c} is the factor of the step sizes c/t: give a positive number")
    if not (np.all(np.asarray(risk) >= 0) and np.all(np.asarray(risk) <= 1)):
        raise ValueError(f"risk {np.asarray(risk).max()} is a mean loss: it lies in [0, 1]")
    if not np.all((np.asarray(curvature) >= 0) & np.isfinite(curvature)):
        raise ValueError(f"curvature {np.asarray(curvature).min()} is a mean of norms: it is finite and not negative")


def _g(risk: Any, curvature: Any, m: int) -> tuple:
    g = curvature + np.sqrt(risk)
    margin = m**-0.25
    return g, g - margin, g + margin


def _factors(
    risk: float | np.ndarray, g_minus: np.ndarray, g_plus: np.ndarray, m: int, sources: int, c: float
) -> tuple:
    exponent = c * g_plus / (1 + c * g_plus)
    with np.errstate(divide="ignore"):
        stability = np.where(g_minus > 0, 1 + 1 / (c * np.maximum(g_minus, 0)), np.inf)
        log_fit = np.log(risk)  # 0 ** exponent is 0: exp(-inf)
    fit = np.exp(exponent * log_fit)
    return stability, fit, np.sqrt(np.log(sources)), m ** -(1 - exponent)


def _slope(b: Bound) -> float:
    """d log(bound) / d g at fixed risk."""
    by_exponent = b.c / (1 + b.c * b.g_plus) ** 2
    log_risk = np.log(b.risk) if b.risk > 0 else -np.inf
    return by_exponent * (log_risk + np.log(b.m)) - 1 / (b.g_minus * (b.c * b.g_minus + 1))


def curve(risk: float, m: int, sources: int = SOURCES, c: float = STEP, points: int = 200) -> tuple[np.ndarray, ...]:
    """Eq. 6 over g at a fixed risk: g and the bound, logarithmically from where it is finite to a thousandfold."""
    margin = m**-0.25
    g = margin + np.geomspace(1e-2, 1e4, points)
    factors = _factors(risk, g - margin, g + margin, m, sources, c)
    return g, factors[0] * factors[1] * factors[2] * factors[3]


def lowest(risk: float, m: int, sources: int = SOURCES, c: float = STEP) -> float:
    """The g at which Eq. 6 is lowest at this risk: below it more curvature lowers the bound, above it raises it.

    Infinite where m times the risk is at most 1: the bound then only falls.
    """
    margin = m**-0.25
    if m * risk <= 1:
        return float("inf")

    def value(log_excess: float) -> float:
        g = margin + np.exp(log_excess)
        stability, fit, _, sample = _factors(risk, g - margin, g + margin, m, sources, c)
        return float(np.log(stability) + np.log(max(fit, 1e-300)) + np.log(sample))

    return margin + float(np.exp(minimize_scalar(value, bounds=(-10, 30), method="bounded").x))


@dataclass(frozen=True)
class Attribution:
    """log(bound of one / bound of another), and its parts by risk and by curvature (they add up; Shapley values)."""

    total: float
    by_risk: float
    by_curvature: float


def attribution(one: Bound, other: Bound) -> Attribution:
    """Why the bounds of two starts differ: each input's part, averaged over both orders of exchanging them.

    NaN where either bound, or one of the two mixed ones, is vacuous.
    """
    shared = (one.m, one.sources, one.c)
    if shared != (other.m, other.sources, other.c):
        raise ValueError("the two bounds have other m, sources or c: their difference is not of risk and curvature")

    def log(risk: float, curvature: float) -> float:
        value = bound(risk, curvature, *shared).value
        return float(np.log(value)) if 0 < value < np.inf else np.nan

    low, high = log(other.risk, other.curvature), log(one.risk, one.curvature)
    mixed_risk, mixed_curvature = log(one.risk, other.curvature), log(other.risk, one.curvature)
    by_risk = ((mixed_risk - low) + (high - mixed_curvature)) / 2
    return Attribution(high - low, by_risk, (high - low) - by_risk)


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


def audit(beta: float, m: int, c: float, recipe: Recipe, kinks: int, own_images: bool | None) -> list[Assumption]:
    """Which assumptions of Theorem 4 hold.

    Args:
        beta: largest |eigenvalue| seen; the true smoothness constant is at least that
        m: number of training images, and of steps T in one pass
        c: of the steps c/t
        recipe: how the target segmenters are really trained
        kinks: number of ReLU layers
        own_images: whether the start was made from the very training images that the bound is about; None: not known
    """
    allowed = largest_step(beta, m)
    optimiser = f"SGD with momentum {recipe.momentum}" if recipe.optimizer == "sgd" else "AdamW"
    return [
        Assumption("loss in [0, 1]", True, "half Tversky, half Jaccard: both lie in [0, 1)"),
        Assumption(
            "smooth, Hessian Lipschitz",
            False if kinks else None,
            f"{kinks} ReLU layers have kinks" if kinks else "no ReLU layer; constants are not known",
        ),
        Assumption(
            "c <= min(1/beta, 1/(4 (2 beta ln T)^2))",
            c <= allowed,
            f"c is {c:g}, at most {allowed:.1e} is allowed for beta >= {beta:.3g} (largest |eigenvalue| seen), T = {m}",
        ),
        Assumption("steps c/t", False, f"training has the constant rate {recipe.lr:g}"),
        Assumption(
            PASSES,
            recipe.epochs == 1 and recipe.batch == 1 and recipe.balance == 0,
            f"training has up to {recipe.epochs} epochs of mini-batches of {recipe.batch}",
        ),
        Assumption("plain SGD", recipe.optimizer == "sgd" and recipe.momentum == 0, f"training uses {optimiser}"),
        Assumption(
            "the start does not depend on the training images",
            None if own_images is None else not own_images,
            "what it was trained on is not known"
            if own_images is None
            else f"it was {'trained on these very images' if own_images else 'made without them'}",
        ),
    ]


if __name__ == "__main__":
    from analysis.commands import bound as command
    from analysis.commands import main

    sys.exit(main(command, "analysis.bound"))

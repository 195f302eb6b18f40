"""The stability bound of a start, Eq. 6-8 (after Kuzborskij & Lampert, ICML 2018, Theorem 4).

    g  = curvature + sqrt(R)           curvature: mean over images of ||Hess l(w, z_i)||_2,   R: mean of l(w, z_i)
    g+ = g + n^(-1/4),   g- = g - n^(-1/4)                                            R, curvature at the start w
    bound = (1 + 1 / (c g-)) * R^(c g+ / (1 + c g+)) * sqrt(log K) / m^(1 / (1 + c g+))

for m training images of which n were measured, K candidate sources and steps c/t.  The paper measures all, n = m.  With
g- <= 0 it says nothing ("vacuous", infinite).  It is not monotone in curvature: it falls with g at first, by its first
factor, and rises later, by the power of m.  It stands inside an O(.): its constant is not known, so that only ratios of
the bounds of two starts mean something.

`python -m analysis.bound --init tatl` measures and prints it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

CANDIDATES, STEP = 4, 0.01  # K and c of the paper


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
    n: int
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


def bound(
    risk: float, curvature: float, m: int, sources: int = CANDIDATES, c: float = STEP, n: int | None = None
) -> Bound:
    """Eq. 6-8.

    Args:
        risk: mean loss at the start, in [0, 1]
        curvature: mean per-image spectral norm there, >= 0
        m: number of training images
        sources: K, number of candidate starts that the best is chosen from
        c: of the step sizes c/t
        n: number of images that risk and curvature are means over, whose slack is n^(-1/4); None: m, as in the paper

    Raises ValueError for m < 1, n < 1, sources < 1, c <= 0, or a risk or curvature that cannot be.
    """
    n = m if n is None else n
    made = _made(risk, curvature, m, sources, c, n)
    return Bound(risk, curvature, m, n, sources, c, *(float(each) for each in made))


def bounds(
    risk: np.ndarray, curvature: np.ndarray, m: int, sources: int = CANDIDATES, c: float = STEP, n: int | None = None
) -> np.ndarray:
    """The values of Eq. 6 for many risks and curvatures at once, infinite where vacuous; of one shape."""
    return np.asarray(_made(risk, curvature, m, sources, c, m if n is None else n)[-1])


def _made(risk: Any, curvature: Any, m: int, sources: int, c: float, n: int) -> tuple[Any, ...]:
    """g, g-, g+, the four factors and the bound: what `Bound` ends with, of numbers or of arrays."""
    _check(risk, curvature, m, sources, c, n)
    g, slack = curvature + np.sqrt(risk), n**-0.25
    g_minus, g_plus = g - slack, g + slack
    exponent = c * g_plus / (1 + c * g_plus)
    with np.errstate(divide="ignore", invalid="ignore"):
        stability = np.where(g_minus > 0, 1 + 1 / (c * np.maximum(g_minus, 0)), np.inf)
        fit = np.exp(exponent * np.log(risk))  # 0 ** exponent is 0: exp(-inf)
        candidates, sample = np.sqrt(np.log(sources)), m ** -(1 - exponent)
        value = np.where(g_minus > 0, stability * fit * candidates * sample, np.inf)
    return g, g_minus, g_plus, stability, fit, candidates, sample, value


def _check(risk: Any, curvature: Any, m: int, sources: int, c: float, n: int) -> None:
    if m < 1 or n < 1:
        raise ValueError(f"m {m}, n {n}: the bound needs at least one training image, and one that is measured")
    if sources < 1:
        raise ValueError(f"sources {sources}: there is at least one candidate, the start itself")
    if not 0 < c < np.inf:
        raise ValueError(f"c {c} is the factor of the step sizes c/t: give a positive number")
    if not (np.all(np.asarray(risk) >= 0) and np.all(np.asarray(risk) <= 1)):
        raise ValueError(f"risk {np.asarray(risk).max()} is a mean loss: it lies in [0, 1]")
    if not np.all((np.asarray(curvature) >= 0) & np.isfinite(curvature)):
        raise ValueError(f"curvature {np.asarray(curvature).min()} is a mean of norms: it is finite and not negative")


def _slope(b: Bound) -> float:
    """d log(bound) / d g at fixed risk."""
    by_exponent = b.c / (1 + b.c * b.g_plus) ** 2
    log_risk = np.log(b.risk) if b.risk > 0 else -np.inf
    return by_exponent * (log_risk + np.log(b.m)) - 1 / (b.g_minus * (b.c * b.g_minus + 1))


def lowest(risk: float, m: int, c: float = STEP, n: int | None = None) -> float:
    """The g at which Eq. 6 is lowest at this risk: below it more curvature lowers the bound, above it raises it.

    With L = log(m R), mu = n^(-1/4), a = 1 + 2 c mu and y = c g-, the derivative of log(bound) is zero where

        L / (a + y)^2 = 1 / (y (1 + y)),   that is   (L - 1) y^2 + (L - 2 a) y - a^2 = 0

    which has one positive root where L > 1, and none elsewhere: for m R <= e the bound only falls (infinite).
    """
    mu = (m if n is None else n) ** -0.25
    log = np.log(m * risk) if risk > 0 else -np.inf
    if log <= 1:
        return float("inf")
    a = 1 + 2 * c * mu
    half, root = (log - 2 * a) / 2, np.sqrt(log * (log / 4 + a * (a - 1)))
    y = a**2 / (half + root) if half > 0 else (root - half) / (log - 1)  # either way nothing cancels
    return float(mu + y / c)


def largest_step(beta: float, steps: int) -> float:
    """The largest c that the theorem allows: min(1/beta, 1 / (4 (2 beta ln T)^2)); infinite for beta 0."""
    if beta <= 0:
        return float("inf")
    log = 2 * beta * np.log(steps)
    return float(min(1 / beta, 1 / (4 * log**2) if log > 0 else np.inf))


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
    shared = (one.m, one.sources, one.c, one.n)
    if shared != (other.m, other.sources, other.c, other.n):
        raise ValueError("the two bounds have other m, n, sources or c: their difference is not of risk and curvature")

    def log(risk: float, curvature: float) -> float:
        value = bound(risk, curvature, *shared).value
        return float(np.log(value)) if 0 < value < np.inf else np.nan

    low, high = log(other.risk, other.curvature), log(one.risk, one.curvature)
    mixed_risk, mixed_curvature = log(one.risk, other.curvature), log(other.risk, one.curvature)
    by_risk = ((mixed_risk - low) + (high - mixed_curvature)) / 2
    return Attribution(high - low, by_risk, (high - low) - by_risk)


def first_order(noise: float, m: int, c: float) -> float:
    """On-average stability to first order in the steps c/t: c H_m / m times the trace of gradients' covariance.

    H_m = 1 + 1/2 + .. + 1/m.  The baseline that a bound with curvature has to beat.
    """
    return c * float((1 / np.arange(1, m + 1)).sum()) / m * noise

"""Where to fork, and what forks tell.

The mean is over i uniform in 1 .. m, and to first order what a fork changes is c / i: the few first
steps make most of it.  Steps are therefore drawn with the density q(i) = (1/m + 1/(i H_m)) / 2, one in each of equal
strata of it, and weigh 1 / (m q(i)), at most 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import t as student

from analysis.curvature.replace_one.forks import Fork


@dataclass(frozen=True)
class Stability:
    """What the forks of passes tell, in units of the loss, float64 [forks] each; `weights` make the draw uniform.

    mean, error   on-average stability, and its standard error over forks
    interval      where Student's t with that error has 95 %
    largest       the largest |difference| seen: a lower end of uniform stability, the supremum
    """

    fresh: np.ndarray
    replaced: np.ndarray
    weights: np.ndarray

    @property
    def pairs(self) -> np.ndarray:
        """The estimate of each fork, weighted: of the fresh example, as Definition 1 has it.

        That of the replaced one has the same expectation only from a start that does not know it: one that was trained
        on the examples of the pass has smaller slopes there (half of the stability in a least-squares simulation).
        """
        return self.weights * self.fresh

    @property
    def mean(self) -> float:
        return float(self.pairs.mean())

    @property
    def error(self) -> float:
        return float(self.pairs.std(ddof=1) / math.sqrt(len(self.pairs))) if len(self.pairs) > 1 else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        reach = student.ppf(0.975, len(self.pairs) - 1) * self.error if len(self.pairs) > 1 else math.nan
        return self.mean - reach, self.mean + reach

    @property
    def largest(self) -> float:
        return float(np.abs(np.concatenate([self.fresh, self.replaced])).max())


@dataclass(frozen=True)
class Positions:
    """The density from which steps of a pass over m examples are drawn for forks; see the module."""

    m: int
    density: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        harmonic = 1 / np.arange(1, self.m + 1)
        object.__setattr__(self, "density", (1 / self.m + harmonic / harmonic.sum()) / 2)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Steps in their order, int [count]; ValueError for more than there are, or none."""
        if not 1 <= count <= self.m:
            raise ValueError(f"{count} forks of a pass over m = {self.m} examples: give 1 to {self.m}")
        places = (np.arange(count) + rng.random(count)) / count
        return np.minimum(np.searchsorted(np.cumsum(self.density), places) + 1, self.m)

    def weights(self, steps: np.ndarray, m: int) -> np.ndarray:
        """Of those of the drawn steps that are 1 .. m, for a mean over 1 .. m."""
        return self.density[:m].sum() / (m * self.density[np.asarray(steps) - 1])


def stability(found: Sequence[Fork], weights: np.ndarray | None = None) -> Stability:
    """What forks of passes over one m tell; `weights` [forks] of their steps, all alike by default.

    ValueError without forks.
    """
    if not found:
        raise ValueError("no fork is given: stability is read off one or more")
    fresh = np.array([fork.fresh_difference for fork in found])
    replaced = np.array([fork.replaced_difference for fork in found])
    return Stability(fresh, replaced, np.ones(len(found)) if weights is None else np.asarray(weights))

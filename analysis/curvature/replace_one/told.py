"""Where to fork, and what forks tell.

The mean is over i uniform in 1 .. m, and to first order what a fork changes is c / i: the few first
steps make most of it.  Steps are therefore drawn with the density q(i) = (1/m + 1/(i H_m)) / 2, one in each of equal
strata of it, and weigh 1 / (m q(i)), at most 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from analysis.curvature.replace_one.forks import Fork


class Stability(NamedTuple):
    """What the forks of passes tell, in units of the loss.

    mean, error   on-average stability, and its standard error over forks
    largest       the largest |difference| seen: a lower end of uniform stability, the supremum
    low, high     where Student's t with that error has 95 %
    """

    mean: float
    error: float
    largest: float
    low: float
    high: float


class Positions:
    """The density from which steps of a pass over m examples are drawn for forks; see the module."""

    def __init__(self, m: int) -> None:
        harmonic = 1 / np.arange(1, m + 1)
        self.m, self.density = m, (1 / m + harmonic / harmonic.sum()) / 2

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Steps in their order, int [count]; ValueError for more than there are, or none."""
        if not 1 <= count <= self.m:
            raise ValueError(f"{count} forks of a pass over m = {self.m} examples: give 1 to {self.m}")
        places = (np.arange(count) + rng.random(count)) / count
        return np.minimum(np.searchsorted(np.cumsum(self.density), places) + 1, self.m)

    def weights(self, steps: np.ndarray, m: int) -> np.ndarray:
        """Of those of the drawn steps that are 1 .. m, for a mean over 1 .. m."""
        return self.density[:m].sum() / (m * self.density[np.asarray(steps) - 1])


def stability(found: Sequence[Fork], weights: np.ndarray | float = 1.0) -> Stability:
    """What forks of passes over one m tell; `weights` [forks] of their steps make the draw uniform.

    Of the fresh examples, as Definition 1 has it.  The differences of the replaced ones have the same expectation only
    from a start that does not know them: one that was trained on the examples of the pass has smaller slopes there
    (half of the stability in a least-squares simulation).

    ValueError without forks.
    """
    if not found:
        raise ValueError("no fork is given: stability is read off one or more")
    fresh, replaced = np.array([(fork.fresh_difference, fork.replaced_difference) for fork in found]).T
    pairs, n = weights * fresh, len(found)
    mean, error = float(pairs.mean()), float(pairs.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    reach = student.ppf(0.975, n - 1) * error if n > 1 else math.nan
    return Stability(mean, error, float(np.abs([fresh, replaced]).max()), mean - reach, mean + reach)

"""What a difference between rows rests on, what it is called, and what would decide it where it is undecided.

interval     from the lower of both low ends to the higher of both high ends
word         "better" or "worse" where the interval lies on that side of zero; "undecided" otherwise, and with one
             fold, fewer than five trainings (folds times seeds), fewer than 20 groups or no positive; `needs` says
             what would decide
detectable   the smallest true difference that such a design calls better or worse in 80 % of cases: half the wider
             interval and .84 hypot(spread_images, spread_training)
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

LEVEL, POWER = 0.95, 0.8
RESAMPLES = 2000
FEWEST_GROUPS = 20
FEWEST_TRAININGS = 5  # folds times seeds: with fewer the spread of training is hardly seen
FEWEST_OF_FOLD = 4  # groups in a test fold that is worth having
TOO_MANY = 100  # times what is there: nobody will have them
BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"
RULE = (
    "Pooled Dice over all test folds: better or worse where the intervals over groups of images and over folds and "
    "seeds both lie on that side of zero, else undecided."
)


@dataclass(frozen=True)
class Effect:
    """One difference and what it rests on; NaN where it cannot be had.

    groups, positives  groups of images, and images that show the attribute (of `average`, their sum over attributes)
    seeds, folds       those that both rows have
    """

    difference: float
    low: float
    high: float
    folds_low: float
    folds_high: float
    spread_images: float
    spread_training: float
    groups: int
    positives: int
    folds: int
    seeds: int

    @property
    def interval(self) -> tuple[float, float]:
        """What both intervals reach to; of one where the other cannot be had."""
        return float(np.fmin(self.low, self.folds_low)), float(np.fmax(self.high, self.folds_high))

    @property
    def word(self) -> str:
        low, high = self.interval
        if self.lacks or low <= 0 <= high:
            return UNDECIDED
        return BETTER if low > 0 else WORSE

    @property
    def lacks(self) -> str:
        """Without what nothing can be decided, whatever the intervals are; empty where all is there."""
        wanting = {
            "a table of images": not self.groups,
            "an image that shows it": not self.positives,
            "more than one fold": self.folds < 2,
            f"{FEWEST_GROUPS} groups of images": self.groups < FEWEST_GROUPS,
            f"{FEWEST_TRAININGS} trainings (folds x seeds)": self.folds * self.seeds < FEWEST_TRAININGS,
            "images that show it in more than one fold": np.isnan(self.folds_low),
        }
        return next((what for what, so in wanting.items() if so), "")

    @property
    def needs(self) -> str:
        """What would decide; empty where it is decided."""
        if self.word != UNDECIDED or self.lacks:
            return self.lacks
        more = [
            f"{number:,.0f} {name}" for name, number in self.needed(self.difference).items()
            if vars(self)[name] < number < TOO_MANY * vars(self)[name]
        ]  # fmt: skip
        return " or ".join(more) or "more groups, folds and seeds together"

    @property
    def detectable(self) -> float:
        return self._detectable(self.groups, self.folds, self.seeds)

    def _detectable(self, groups: int, folds: int, seeds: int) -> float:
        """With other numbers of them: the wider half of both intervals, and .84 standard errors for 80 %."""
        if self.folds * self.seeds < 2:
            return np.nan
        images = self.spread_images * np.sqrt(self.groups / groups)
        training = self.spread_training * np.sqrt(self.folds * self.seeds / (folds * seeds))
        each = (self.folds_high - self.folds_low) / 2 / _reach(self.folds, self.seeds)
        own = max(each**2 - self.folds * self.spread_images**2, 0)  # of one training, beside its test images
        over_folds = _reach(folds, seeds) * np.sqrt(own + folds * images**2)
        widest = max(norm.ppf((1 + LEVEL) / 2) * images, over_folds)
        return float(widest + norm.ppf(POWER) * np.hypot(images, training))

    def needed(self, difference: float) -> dict[str, float]:
        """How many groups, folds or seeds, the others as they are, tell a true difference in 80 % of cases.

        Infinite where not even a hundred times as many do, or folds of four groups.
        """
        design = {name: vars(self)[name] for name in ("groups", "folds", "seeds")}
        found = {}
        for name, now in design.items():
            most = self.groups // FEWEST_OF_FOLD if name == "folds" else TOO_MANY * now
            numbers = range(now, max(most, now) + 1)
            at = bisect_left(numbers, True, key=lambda n: self._detectable(**design | {name: n}) <= abs(difference))
            found[name] = float(numbers[at]) if at < len(numbers) else np.inf
        return found


def resampled(n: int, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """Bootstrap indices int [resamples, n], drawn with replacement; the same for the same seed."""
    return np.random.default_rng([seed, n]).integers(0, n, (resamples, n))


def percentiles(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval of resampled values; these may be infinite."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)


def _reach(folds: int, seeds: int) -> float:
    """Half an interval over folds and seeds, in standard deviations (Nadeau and Bengio)."""
    return float(t.ppf((1 + LEVEL) / 2, folds * seeds - 1) * np.sqrt(1 / (folds * seeds) + 1 / max(folds - 1, 1)))


def without_images(difference: float, positives: int = 0) -> Effect:
    """Of tables that keep no images: neither an interval nor a word."""
    none = np.nan
    return Effect(difference, none, none, none, none, none, none, 0, positives, 0, 0)

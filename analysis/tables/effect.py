"""What a difference between rows rests on, what it is called, and what would decide it where it is undecided.

interval     from the lower of both low ends to the higher of both high ends
word         "better" or "worse" where the interval lies on that side of zero; "undecided" otherwise, and with one
             fold, fewer than 20 groups or no positive; `needs` says what would decide
detectable   the smallest true difference that such a design tells from zero in 80 % of cases, at 5 % (two-sided):
             2.8 sqrt(spread_images^2 + spread_training^2)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

LEVEL, POWER = 0.95, 0.8
FEWEST_GROUPS = 20
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
        return " or ".join(more) or "more groups and more seeds"

    @property
    def detectable(self) -> float:
        return _quantiles() * float(np.hypot(self.spread_images, self.spread_training))

    def needed(self, difference: float) -> dict[str, float]:
        """How many groups at these seeds, or seeds with these groups, tell a true difference in 80 % of cases.

        Infinite where what is held fixed alone hides it.
        """
        room = (difference / _quantiles()) ** 2
        left = {"groups": room - self.spread_training**2, "seeds": room - self.spread_images**2}
        now = {"groups": self.groups * self.spread_images**2, "seeds": self.seeds * self.spread_training**2}
        return {name: float(np.ceil(now[name] / left[name] - 1e-9)) if left[name] > 0 else np.inf for name in now}


def without_images(difference: float, positives: int = 0) -> Effect:
    """Of tables that keep no images: neither an interval nor a word."""
    none = np.nan
    return Effect(difference, none, none, none, none, none, none, 0, positives, 0, 0)


def _quantiles() -> float:
    return float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER))

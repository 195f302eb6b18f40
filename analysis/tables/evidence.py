"""Is one row of a study better than another, by how much, and would this design have seen it?

    difference   Dice(row) - Dice(reference), each pooled over the test images of all folds, so that every image counts
                 once a seed; the mean over seeds; `average` is the mean over attributes
    spread_images    which images there happen to be: the standard deviation over 2,000 resamples of whole groups (one
                 photograph, one patient), the same for both rows; `low` and `high` hold 95 % of the differences
    spread_training  which training it was: the standard deviation over seeds divided by sqrt(seeds); of one seed what
                 the folds differ by beyond their images
    folds_low,   t interval of the differences fold by fold, its variance s^2 (1/n + test/train) as folds share training
    folds_high   images (Nadeau & Bengio, Machine Learning 2003), n the pairs of fold and seed, test/train 1/(folds - 1)
    word         "better" or "worse" where both intervals lie on that side of zero; "undecided" otherwise, and with one
                 fold, fewer than 20 groups or no positive
    detectable   the smallest true difference that such a design tells from zero in 80 % of cases, at 5 % (two-sided):
                 2.8 sqrt(spread_images^2 + spread_training^2)

Source of the resampling in pairs: Efron & Tibshirani 1993; of what folds can tell: Bengio & Grandvalet, JMLR 2004.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from analysis.tables.read import of_shape
from tatl.names import AVERAGE, ENSEMBLE

RESAMPLES, LEVEL, POWER = 2000, 0.95, 0.8
FEWEST_GROUPS = 20
BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"
COUNTS = ["tp", "fp", "fn"]
PLACE = ["seed", "fold"]
SHOWN_EFFECTS = ["attribute", "variant", "difference", "low", "high", "folds_low", "folds_high", "word", "detectable",
                 "positives", "groups", "folds", "seeds"]  # fmt: skip
RULE = (
    "pooled Dice over all test folds: better or worse where the intervals over groups of images (low, high) and over "
    "folds and seeds lie on one side of zero, else undecided; detectable: what such a design sees in 80 % of cases"
)
NEEDED = ["variant", "shape", *PLACE, "image", "group", "attribute", *COUNTS]


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
    def word(self) -> str:
        if self.folds < 2 or self.groups < FEWEST_GROUPS or not self.positives:
            return UNDECIDED
        if self.low > 0 and self.folds_low > 0:  # of NaN neither holds
            return BETTER
        return WORSE if self.high < 0 and self.folds_high < 0 else UNDECIDED

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


def effects(
    images: pd.DataFrame, reference: str, shape: str = ENSEMBLE, rows: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row per attribute (and `average`) and row other than the reference: the fields of `Effect`, word, detectable.

    Args:
        images: a `<study>_images` table: variant, shape, seed, fold, image, group, attribute, tp, fp, fn
        reference: the row that the others are compared with
        shape: u, link, or mean (their averaged probabilities)
        rows: which to compare; None: all others

    Raises ValueError where a column, the shape, the reference or a row is not there, and where an image is there twice.
    """
    part = of_shape(images, NEEDED, shape, ["variant", "attribute", "seed", "image"])
    there = list(dict.fromkeys(part["variant"]))
    rows = [name for name in there if name != reference] if rows is None else rows
    if unknown := [name for name in (reference, *rows) if name not in there]:
        raise ValueError(f"row {', '.join(unknown)} is not there: choose of {', '.join(there)}")
    found = []
    for row in rows:
        for attribute, effect in _pair(part, row, reference).items():
            said = {"word": effect.word, "detectable": effect.detectable}
            found.append({"attribute": attribute, "variant": row, "reference": reference, **vars(effect), **said})
    return pd.DataFrame(found)


def _pair(part: pd.DataFrame, row: str, reference: str) -> dict[str, Effect]:
    """The effects on the seeds, folds and attributes that both rows have."""
    both = [part[part["variant"] == name] for name in (row, reference)]
    keys = [frame.set_index([*PLACE, "attribute"]).index for frame in both]
    shared = keys[0].unique().intersection(keys[1].unique())
    both = [frame[key.isin(shared)] for frame, key in zip(both, keys, strict=True)]
    groups = sorted(set(both[0]["group"]), key=str)
    drawn = np.random.default_rng([0, len(groups)]).multinomial(  # the same resamples for all attributes
        len(groups), np.full(len(groups), 1 / max(len(groups), 1)), RESAMPLES
    )
    single = {name: _Paired.of(*frames, groups, drawn) for name, frames in _by_attribute(both).items()}
    found = {name: paired.effect() for name, paired in single.items()}
    shown = [name for name, paired in single.items() if paired.positives]
    both = [frame[frame["attribute"].isin(shown)] for frame in both]
    counts = both[0].groupby(PLACE)["attribute"].nunique()
    everywhere = counts.index[counts == len(shown)]  # the average is over places that all attributes have
    both = [frame[frame.set_index(PLACE).index.isin(everywhere)] for frame in both]
    if len(shown) > 1 and len(everywhere):
        of_all = [_Paired.of(*frames, groups, drawn) for frames in _by_attribute(both).values()]
        found[AVERAGE] = _Paired.mean(of_all).effect()
    return found


def _by_attribute(both: Sequence[pd.DataFrame]) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    names = dict.fromkeys(both[0]["attribute"])
    one, other = both
    return {name: (one[one["attribute"] == name], other[other["attribute"] == name]) for name in names}


@dataclass(frozen=True)
class _Paired:
    """Differences of two rows on one attribute: as they are, by seed [S], by fold and seed [n], of resamples [B]."""

    by_seed: np.ndarray
    by_fold: np.ndarray
    resampled: np.ndarray
    ratio: float  # test over training images
    groups: int
    positives: int
    folds: int

    @classmethod
    def of(cls, one: pd.DataFrame, other: pd.DataFrame, names: Sequence[str], drawn: np.ndarray) -> _Paired:
        """Of one attribute; `drawn` int [B, G] says how often each of the groups `names` is in each resample."""
        seeds, folds = sorted(set(one["seed"])), sorted(set(one["fold"]))
        first, second = (_counts(frame, names, seeds) for frame in (one, other))  # [S, G, 3]
        differences = [_dice(np.einsum("bg,sgk->bsk", drawn, c)).mean(1) for c in (first, second)]
        by_fold = [_dice(frame.groupby(PLACE)[COUNTS].sum().sort_index().to_numpy(float)) for frame in (one, other)]
        shown = one.groupby(PLACE)[["tp", "fn"]].sum().sort_index().sum(axis=1).to_numpy() > 0
        images = one.drop_duplicates("image")
        return cls(
            _dice(first.sum(1)) - _dice(second.sum(1)), np.where(shown, by_fold[0] - by_fold[1], np.nan),
            differences[0] - differences[1], 1 / max(len(folds) - 1, 1), one["group"].nunique(),
            int((images["tp"] + images["fn"] > 0).sum()), len(folds),
        )  # fmt: skip

    @classmethod
    def mean(cls, several: Sequence[_Paired]) -> _Paired:
        first = several[0]
        by_fold = np.ma.masked_invalid([each.by_fold for each in several]).mean(0).filled(np.nan)
        return cls(
            np.mean([each.by_seed for each in several], axis=0), by_fold,
            np.mean([each.resampled for each in several], axis=0), first.ratio,
            max(each.groups for each in several), sum(each.positives for each in several), first.folds,
        )  # fmt: skip

    def effect(self) -> Effect:
        low, high = np.quantile(self.resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        images = float(self.resampled.std(ddof=1))
        seeds, told = len(self.by_seed), self.by_fold[np.isfinite(self.by_fold)]
        middle, width, spread = np.nan, np.nan, np.nan
        if len(told) > 1:
            spread = float(told.std(ddof=1))
            middle = float(told.mean())
            width = t.ppf((1 + LEVEL) / 2, len(told) - 1) * spread * np.sqrt(1 / len(told) + self.ratio)
        if seeds > 1:
            training = float(self.by_seed.std(ddof=1)) / np.sqrt(seeds)
        else:
            training = float(np.sqrt(max(spread**2 / max(len(told), 1) - images**2, 0)))
        return Effect(
            float(self.by_seed.mean()), float(low), float(high), middle - width, middle + width, images, training,
            self.groups, self.positives, self.folds, seeds,
        )  # fmt: skip


def _counts(frame: pd.DataFrame, names: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
    """Areas [S, G, 3] of true and false positives and false negatives by seed and group."""
    sums = frame.groupby(["seed", "group"])[COUNTS].sum()
    return (
        sums.reindex(pd.MultiIndex.from_product([seeds, names]), fill_value=0)
        .to_numpy(float)
        .reshape(len(seeds), len(names), 3)
    )


def _dice(counts: np.ndarray) -> np.ndarray:
    """Pooled Dice of areas [..., 3]; 1 where there is nothing and nothing was found (0/0 = 1)."""
    tp, fp, fn = np.moveaxis(counts, -1, 0)
    whole = 2 * tp + fp + fn
    return np.where(whole > 0, 2 * tp / np.where(whole > 0, whole, 1), 1.0)


def _quantiles() -> float:
    return float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER))

"""Is one row of a study better than another, by how much, and would this design have seen it?

    difference   Dice(row) - Dice(reference), each pooled over the test images of all folds, so that every image counts
                 once a seed; the mean over seeds; `average` is the mean over attributes
    spread_images    which images there happen to be: the standard deviation over 2,000 resamples of whole groups (one
                 photograph, one patient), the same for both rows; `low` and `high` hold 95 % of the differences
    spread_training  which training it was: the standard deviation over seeds divided by sqrt(seeds); of one seed what
                 the folds differ by beyond their images
    folds_low,   t interval of the differences fold by fold, its variance s^2 (1/n + test/train) as folds share training
    folds_high   images (Nadeau & Bengio, Machine Learning 2003), n the pairs of fold and seed, test/train 1/(folds - 1)

A contrast of several rows is the same with a weight for each.  Source of the resampling in pairs: Efron & Tibshirani
1993; of what folds can tell: Bengio & Grandvalet, JMLR 2004.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from analysis.tables.effect import LEVEL, Effect
from analysis.tables.read import command_of, of_shape, read_optional
from tatl.names import AVERAGE, ENSEMBLE

RESAMPLES = 2000
RARER = "rarer minus others"  # the mean over the rarer half of the attributes minus that over the others
COUNTS = ["tp", "fp", "fn"]
PLACE = ["seed", "fold"]
SHOWN_EFFECTS = ["attribute", "variant", "difference", "low", "high", "folds_low", "folds_high", "word", "detectable",
                 "positives", "groups", "folds", "seeds"]  # fmt: skip
NEEDED = ["variant", "shape", *PLACE, "image", "group", "attribute", *COUNTS]


def read_images(folder: Path, study: str) -> pd.DataFrame:
    """The areas of every test image; no rows where the study was written before they were kept."""
    return read_optional(folder / f"{study}_images.csv.gz", NEEDED, command_of(study))


def effects(
    images: pd.DataFrame, reference: str, shape: str = ENSEMBLE, rows: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row per attribute (and `average`) and row other than the reference: the fields of `Effect`, word, needs.

    Args:
        images: a `<study>_images` table: variant, shape, seed, fold, image, group, attribute, tp, fp, fn
        reference: the row that the others are compared with
        shape: u, link, or mean (their averaged probabilities)
        rows: which to compare; None: all others

    Raises ValueError where a column, the shape, the reference, a row or a number is not there, and where an image is
    there twice.
    """
    part = checked(images, shape)
    there = list(dict.fromkeys(part["variant"]))
    rows = [name for name in there if name != reference] if rows is None else rows
    if unknown := [name for name in (reference, *rows) if name not in there]:
        raise ValueError(f"row {', '.join(unknown)} is not there: choose of {', '.join(there)}")
    return pd.DataFrame([
        {"attribute": attribute, "variant": row, "reference": reference, **vars(effect), "word": effect.word,
         "detectable": effect.detectable, "needs": effect.needs}
        for row in rows
        for attribute, effect in contrast(part, {row: 1, reference: -1}).items()
        if attribute != RARER
    ])  # fmt: skip


def checked(images: pd.DataFrame, shape: str = ENSEMBLE) -> pd.DataFrame:
    """The rows of a shape; ValueError as `effects` says."""
    part = of_shape(images, NEEDED, shape, ["variant", "attribute", "seed", "image"])
    if lost := int(part[[*COUNTS, "group"]].isna().any(axis=1).sum()):
        raise ValueError(
            f"the table has {lost} images without an area or a group: write it again with `python -m tatl study`"
        )
    return part


def contrast(part: pd.DataFrame, weights: Mapping[str, float]) -> dict[str, Effect]:
    """The sum of weight times Dice over rows of `checked`, on the seeds, folds and attributes that all of them have.

    By attribute, and where several are shown by `average` and RARER; the first row's images are counted.
    """
    frames = [part[part["variant"] == name] for name in weights]
    keys = [frame.set_index([*PLACE, "attribute"]).index for frame in frames]
    shared = reduce(pd.Index.intersection, (key.unique() for key in keys))
    frames = [frame[key.isin(shared)] for frame, key in zip(frames, keys, strict=True)]
    groups = sorted(set(frames[0]["group"]), key=str)
    drawn = np.random.default_rng([0, len(groups)]).multinomial(  # the same resamples for all attributes
        len(groups), np.full(len(groups), 1 / max(len(groups), 1)), RESAMPLES
    )
    single = _by_attribute(frames, weights, groups, drawn)
    found = {name: paired.effect() for name, paired in single.items()}
    rarest = sorted((name for name, paired in single.items() if paired.positives), key=lambda n: single[n].positives)
    frames = [frame[frame["attribute"].isin(rarest)] for frame in frames]
    counts = frames[0].groupby(PLACE)["attribute"].nunique()
    everywhere = counts.index[counts == len(rarest)]  # the average is over places that all attributes have
    frames = [frame[frame.set_index(PLACE).index.isin(everywhere)] for frame in frames]
    if len(rarest) > 1 and len(everywhere):
        every = _by_attribute(frames, weights, groups, drawn)
        several, half = [every[name] for name in rarest], len(rarest) // 2
        found[AVERAGE] = _Measured.mean(several).effect()
        found[RARER] = _Measured.sum([1, -1], [_Measured.mean(several[:half]), _Measured.mean(several[half:])]).effect()
    return found


def _by_attribute(
    frames: Sequence[pd.DataFrame], weights: Mapping[str, float], groups: Sequence[str], drawn: np.ndarray
) -> dict[str, _Measured]:
    of = {name: [frame[frame["attribute"] == name] for frame in frames] for name in frames[0]["attribute"].unique()}
    rows = {name: [_Measured.of(frame, groups, drawn) for frame in each] for name, each in of.items()}
    return {name: _Measured.sum(list(weights.values()), each) for name, each in rows.items()}


@dataclass(frozen=True)
class _Measured:
    """Dice on one attribute, or a sum of several: as it is, by seed [S], by fold and seed [n], of resamples [B]."""

    by_seed: np.ndarray
    by_fold: np.ndarray
    resampled: np.ndarray
    ratio: float  # test over training images
    groups: int
    positives: int
    folds: int

    @classmethod
    def of(cls, frame: pd.DataFrame, names: Sequence[str], drawn: np.ndarray) -> _Measured:
        """Of one row; `drawn` int [B, G] says how often each of the groups `names` is in each resample."""
        seeds, folds = sorted(set(frame["seed"])), sorted(set(frame["fold"]))
        areas = _counts(frame, names, seeds)  # [S, G, 3]
        by_fold = frame.groupby(PLACE)[COUNTS].sum().to_numpy(float)
        shown = by_fold[:, [0, 2]].sum(axis=1) > 0
        images = frame.drop_duplicates("image")
        return cls(
            _dice(areas.sum(1)), np.where(shown, _dice(by_fold), np.nan),
            _dice(np.einsum("bg,sgk->bsk", drawn, areas)).mean(1), 1 / max(len(folds) - 1, 1),
            frame["group"].nunique(), int((images["tp"] + images["fn"] > 0).sum()), len(folds),
        )  # fmt: skip

    @classmethod
    def sum(cls, weights: Sequence[float], several: Sequence[_Measured]) -> _Measured:
        """Weighted; the first is counted."""
        by_seed, by_fold, resampled = (
            np.tensordot(weights, np.array([vars(each)[name] for each in several]), 1)
            for name in ("by_seed", "by_fold", "resampled")
        )
        return replace(several[0], by_seed=by_seed, by_fold=by_fold, resampled=resampled)

    @classmethod
    def mean(cls, several: Sequence[_Measured]) -> _Measured:
        """Over attributes; of a fold over those that it shows."""
        whole = cls.sum([1 / len(several)] * len(several), several)
        by_fold = np.ma.masked_invalid([each.by_fold for each in several]).mean(0).filled(np.nan)
        groups, positives = max(each.groups for each in several), sum(each.positives for each in several)
        return replace(whole, by_fold=by_fold, groups=groups, positives=positives)

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

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
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from analysis.tables.effect import LEVEL, RESAMPLES, Effect
from analysis.tables.read import command_of, of_shape, read_optional
from tatl.names import AVERAGE, ENSEMBLE
from tatl.training.metrics import dice

RARER = "rarer minus others"  # the mean over the rarer half of the attributes minus that over the others
COUNTS = ["tp", "fp", "fn"]
PLACE = ["seed", "fold"]
SHOWN_EFFECTS = ["attribute", "variant", "difference", "low", "high", "folds_low", "folds_high", "word", "detectable",
                 "positives", "groups", "folds", "seeds", "needs"]  # fmt: skip
NEEDED = ["variant", "shape", *PLACE, "image", "group", "attribute", *COUNTS]


def read_images(folder: Path, study: str) -> pd.DataFrame:
    """The areas of every test image; no rows where the study was written before they were kept."""
    return read_optional(folder / f"{study}_images.csv.gz", NEEDED, command_of(study))


def effects(images: pd.DataFrame, reference: str, shape: str = ENSEMBLE) -> pd.DataFrame:
    """One row per attribute (and `average`) and row other than the reference: the fields of `Effect`, word, needs.

    Args:
        images: a `<study>_images` table: variant, shape, seed, fold, image, group, attribute, tp, fp, fn
        reference: the row that the others are compared with
        shape: u, link, or mean (their averaged probabilities)

    Raises ValueError where a column, the shape, the reference or a number is not there, and where an image is there
    twice.
    """
    part = checked(images, shape)
    there = list(dict.fromkeys(part["variant"]))
    if reference not in there:
        raise ValueError(f"row {reference} is not there: choose of {', '.join(there)}")
    return pd.DataFrame([
        {"attribute": attribute, "variant": row, "reference": reference, **vars(effect), "word": effect.word,
         "detectable": effect.detectable, "needs": effect.needs}
        for row in there if row != reference
        for attribute, effect in contrast(part, {row: 1, reference: -1}).items()
        if attribute != RARER
    ])  # fmt: skip


def checked(images: pd.DataFrame, shape: str = ENSEMBLE) -> pd.DataFrame:
    """The rows of a shape; ValueError as `effects` says."""
    part = of_shape(images, NEEDED, shape, ["variant", "attribute", "seed", "image"])
    if lost := int(part[[*COUNTS, "group"]].isna().any(axis=1).sum()):
        what = f"the table has {lost} images without an area or a group"
        raise ValueError(f"{what}: write it again with `python -m tatl study`")
    return part


def contrast(part: pd.DataFrame, weights: Mapping[str, float]) -> dict[str, Effect]:
    """The sum of weight times Dice over rows of `checked`, on the seeds, folds and attributes that all of them have.

    By attribute, and where several are shown by `average` and RARER; the first row's images are counted.
    """
    of = _Rows.of(part[part["variant"].isin(weights)], weights)
    single = {name: of.measured(i, of.shared[i]) for i, name in enumerate(of.attributes) if of.shared[i].any()}
    found = {name: measured.effect() for name, measured in single.items()}
    rarest = sorted((name for name in single if single[name].positives), key=lambda name: single[name].positives)
    at, half = [of.attributes.index(name) for name in rarest], len(rarest) // 2
    everywhere = np.asarray(of.shared[at].all(0))  # the average is over places that all attributes have
    if half and everywhere.any():
        several = [of.measured(i, everywhere) for i in at]
        found[AVERAGE] = _Measured.mean(several).effect()
        found[RARER] = _Measured.sum([1, -1], [_Measured.mean(several[:half]), _Measured.mean(several[half:])]).effect()
    return found


@dataclass(frozen=True)
class _Rows:
    """Areas [V, A, S, F, G, 3] by row, attribute, seed, fold and group, and what of them is there."""

    attributes: list[str]
    weights: list[float]
    areas: np.ndarray
    groups: np.ndarray  # bool [A, S, F, G], of the first row
    positives: np.ndarray  # images that show the attribute, int [A, S, F], of the first row
    shared: np.ndarray  # places that all rows have, bool [A, S, F]
    drawn: np.ndarray  # how often each group is in each resample, the same for all attributes: [B, G]

    @classmethod
    def of(cls, frame: pd.DataFrame, weights: Mapping[str, float]) -> _Rows:
        axes = {"variant": list(weights), "attribute": list(dict.fromkeys(frame["attribute"]))}
        axes |= {name: sorted(set(frame[name])) for name in PLACE} | {"group": sorted(set(frame["group"]), key=str)}
        shape = [len(names) for names in axes.values()]
        at = tuple(pd.Categorical(frame[axis], names).codes for axis, names in axes.items())
        areas, there, positives = np.zeros([*shape, 3]), np.zeros(shape, bool), np.zeros(shape[:4], int)
        np.add.at(areas, at, frame[COUNTS].to_numpy(float))
        np.add.at(positives, at[:4], (frame["tp"] + frame["fn"] > 0).to_numpy(int))
        there[at] = True
        shared = np.asarray(there.any(-1).all(0))
        groups = there[0] & shared[..., None]
        used = groups.any((0, 1, 2))
        count = int(used.sum())
        drawn = np.random.default_rng([0, count]).multinomial(count, np.full(count, 1 / max(count, 1)), RESAMPLES)
        return cls(
            axes["attribute"], list(weights.values()), areas[..., used, :], groups[..., used], positives[0], shared,
            drawn.astype(float),
        )  # fmt: skip

    def measured(self, attribute: int, where: np.ndarray) -> _Measured:
        """The weighted sum on one attribute, at the places `where` [S, F] alone."""
        seeds, folds = where.any(1), where.any(0)
        areas = (self.areas[:, attribute] * where[..., None, None])[:, seeds][:, :, folds]  # [V, S, F, G, 3]
        by_fold = areas.sum(3)
        shown = by_fold[0][..., [0, 2]].sum(-1) > 0
        total = (
            np.tensordot(self.weights, each, 1)
            for each in (_dice(areas.sum((2, 3))), _dice(by_fold), _dice(self.drawn @ areas.sum(2)).mean(1))
        )
        by_seed, of_folds, resampled = total
        return _Measured(
            by_seed, np.where(shown, of_folds, np.nan).ravel(), resampled, 1 / max(int(folds.sum()) - 1, 1),
            int(self.groups[attribute][where].any(0).sum()),
            int((self.positives[attribute] * where).max(0).sum()), int(folds.sum()),
        )  # fmt: skip


@dataclass(frozen=True)
class _Measured:
    """A difference on one attribute or several: as it is, by seed [S], by fold and seed [n], of resamples [B]."""

    by_seed: np.ndarray
    by_fold: np.ndarray
    resampled: np.ndarray
    ratio: float  # test over training images
    groups: int
    positives: int
    folds: int

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


def _dice(counts: np.ndarray) -> np.ndarray:
    """Pooled Dice of areas [..., 3]: tp, fp, fn."""
    return dice(*np.moveaxis(counts, -1, 0))

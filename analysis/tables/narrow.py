"""Scores of some attributes alone: their average is taken anew, from the scores of each fold.

average(fold) = mean over the chosen attributes of score(fold); then mean and standard deviation (n - 1) over folds
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tatl.names import AVERAGE

KEYS = ["variant", "shape", "seed", "fold"]
MEANS = ["jaccard", "dice", "image_jaccard", "image_dice"]


def asked(text: str) -> list[str]:
    """`streaks, globules` as names; none where it is empty."""
    return [name.strip() for name in text.split(",") if name.strip()]


def narrowed(
    scores: pd.DataFrame, folds: pd.DataFrame, names: Sequence[str], own: Sequence[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores over folds, and fold by fold, of the attributes `names` and of their average; `own` columns are kept."""
    kept_folds = folds[folds["attribute"].isin(names)]
    kept = scores[scores["attribute"].isin(names)]
    average = _averaged(kept_folds, [*KEYS, *own])
    return _joined(kept, _over_folds(average, own)), _joined(kept_folds, average)


def _averaged(folds: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The unweighted mean over attributes of each variant, shape, seed and fold."""
    grouped = folds.groupby(list(keys), sort=False, dropna=False)
    mean = grouped[MEANS].mean()
    if "positives" in folds:
        mean = mean.join(grouped["positives"].sum())
    return mean.reset_index().assign(attribute=AVERAGE)


def _joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([first, second], ignore_index=True)


def _over_folds(average: pd.DataFrame, own: Sequence[str]) -> pd.DataFrame:
    """Mean, standard deviation (n - 1) and number of folds and seeds."""
    grouped = average.groupby(["variant", "shape", "attribute", *own], sort=False, dropna=False)
    table = grouped[MEANS].mean().join(grouped[["jaccard", "dice"]].std(ddof=1).add_suffix("_std"))
    return table.assign(folds=grouped.size()).reset_index()

"""Scores by the official definition of ISIC 2018 Task 2.

For each image and attribute the four confusion counts are divided by the image's area; they are *summed over
images*, then  J = TP / (TP + FP + FN)  and  D = 2 TP / (2 TP + FP + FN)  per attribute ("pooled", the headline);
0/0 counts as 1.  "average" is the unweighted mean of the pooled scores over attributes (the paper's tables),
"micro" sums over attributes too (the leaderboard), `image_*` is the mean of the scores of single images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tatl.names import AVERAGE, LESION, MICRO, SCORES, UNION

CONFUSION = ("tp", "fp", "fn", "tn")


def confusion(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """TP, FP, FN, TN as fractions of the area: bool [..., H, W] twice -> float64 [..., 4]."""
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    p, y = prediction.astype(bool), truth.astype(bool)
    counts = [np.count_nonzero(x, axis=(-2, -1)) for x in (p & y, p & ~y, ~p & y, ~p & ~y)]
    return np.stack(counts, axis=-1) / float(p.shape[-2] * p.shape[-1])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    whole = np.asarray(whole, float)
    return np.divide(part, whole, out=np.ones_like(whole), where=whole != 0)


def jaccard(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """TP / (TP + FP + FN), 1 where nothing is there and nothing was predicted."""
    return _ratio(tp, np.add(np.add(tp, fp), fn))


def dice(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN), 1 where nothing is there and nothing was predicted."""
    return _ratio(np.multiply(2, tp), np.add(np.add(np.multiply(2, tp), fp), fn))


def score_table(images: Sequence[str], attribute: str, fractions: np.ndarray) -> pd.DataFrame:
    """The tidy frame of `scores.csv`: image, attribute, tp, fp, fn, tn from fractions [n, 4]."""
    counted = dict(zip(CONFUSION, np.transpose(fractions), strict=True))
    return pd.DataFrame({"image": list(images), "attribute": attribute, **counted})


def _pooled(rows: pd.DataFrame) -> dict[str, float]:
    tp, fp, fn = (rows[name].to_numpy() for name in CONFUSION[:3])
    return {
        "jaccard": float(jaccard(tp.sum(), fp.sum(), fn.sum())),
        "dice": float(dice(tp.sum(), fp.sum(), fn.sum())),
        "image_jaccard": float(jaccard(tp, fp, fn).mean()),
        "image_dice": float(dice(tp, fp, fn).mean()),
        "images": rows["image"].nunique(),
        "positives": int(((tp + fn) > 0).sum()),
    }


def score_summary(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per mask, then "average" and "micro", from a frame as `score_table` makes.

    These two are over the attributes alone where there are any: the lesion and the union are left out.
    `images` counts images, `positives` the (image, attribute) pairs whose true mask is not empty.
    """
    if scores.empty:
        raise ValueError("there is no score to summarise: the table has no rows")
    attributes = scores[~scores["attribute"].isin([LESION, UNION])]
    rows = [{"attribute": name, **_pooled(part)} for name, part in scores.groupby("attribute", sort=False)]
    micro = {"attribute": MICRO} | _pooled(scores if attributes.empty else attributes)
    table = pd.DataFrame(rows)
    averaged = table if attributes.empty else table[table["attribute"].isin(attributes["attribute"])]
    average = micro | {"attribute": AVERAGE} | averaged[list(SCORES)].mean().to_dict()
    return pd.concat([table, pd.DataFrame([average, micro])], ignore_index=True)

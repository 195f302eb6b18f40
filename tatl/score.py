"""Scores of a folder of predicted masks against a folder of true ones, by the official definition (`tatl.metrics`).

Files are named `<id>_attribute_<name>.png` in both folders, as in ISIC 2018 Task 2.  A pixel is set where its level is
above 128, the challenge's threshold, so grey masks (probabilities) are binarised; masks of 0 and 1 alone are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from tatl.data.pictures import read_mask
from tatl.metrics import confusion, score_table, summary

NAME = re.compile(r"(?P<image>.+)_attribute_(?P<attribute>.+)\.png", re.IGNORECASE)

THRESHOLD = 128  # of the official score; prepare and every other reader of masks set what is above 127

Key = tuple[str, str]


def attribute_masks(folder: Path) -> dict[Key, Path]:
    """(image, attribute) -> file; FileNotFoundError if the folder is missing or holds none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: give one that holds <id>_attribute_<name>.png")
    found = {
        (match["image"], match["attribute"]): path
        for path in sorted(folder.iterdir())
        if (match := NAME.fullmatch(path.name))
    }
    if not found:
        raise FileNotFoundError(f"{folder} holds no <id>_attribute_<name>.png")
    return found


def score_folders(predictions: Path, truth: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary (one row per attribute, average, micro) and the per-image fractions.

    Every true mask needs a prediction of its size and the other way round: ValueError names what does not pair.
    """
    predicted, true = attribute_masks(predictions), attribute_masks(truth)
    _paired(true, predicted, f"true masks have no prediction in {predictions}")
    _paired(predicted, true, f"predictions have no true mask in {truth}")
    order = list(dict.fromkeys(attribute for _, attribute in true))
    keys = sorted(true, key=lambda key: (order.index(key[1]), key[0]))
    rows = [_score(key, predicted[key], true[key]) for key in keys]
    per_image = pd.concat(rows, ignore_index=True)
    return summary(per_image), per_image


def _paired(these: Iterable[Key], those: dict[Key, Path], what: str) -> None:
    alone = ["_attribute_".join(key) for key in these if key not in those]
    if alone:
        raise ValueError(f"{len(alone)} {what} (first: {', '.join(alone[:5])}): both folders need the same names")


def _score(key: Key, predicted: Path, true: Path) -> pd.DataFrame:
    p, y = read_mask(predicted, THRESHOLD), read_mask(true, THRESHOLD)
    if p.shape != y.shape:
        raise ValueError(
            f"{predicted.name} is {p.shape[0]}x{p.shape[1]} and its true mask {y.shape[0]}x{y.shape[1]} pixels: "
            "scores are taken at one size"
        )
    return score_table([key[0]], key[1], confusion(p, y)[None])

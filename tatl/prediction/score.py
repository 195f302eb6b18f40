"""Scores of a folder of predicted masks against one of true ones, by the official definition (`tatl.training.metrics`).

Files are named `<id>_attribute_<name>.png` in both folders, in any case, as in ISIC 2018 Task 2.  A pixel is set where
its level is above 128, the challenge's threshold, so grey predictions (probabilities) are binarised; masks of 0 and 1
alone are accepted.  A true mask of other levels is refused unless they are said to be labels, ignored or grey.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from tatl.data.images.files import composed
from tatl.data.images.masks import read_mask, read_part
from tatl.data.images.reading import AS_THEY_ARE, THRESHOLD, Reading
from tatl.data.prepare import problems
from tatl.training.metrics import confusion, score_summary, score_table

NAME = re.compile(r"(?P<image>.+)_attribute_(?P<attribute>.+)\.png", re.IGNORECASE)

Key = tuple[str, str]


def attribute_masks(folder: Path) -> dict[Key, Path]:
    """(image, attribute), in lower case -> file; hidden files are no masks.

    FileNotFoundError if the folder is missing or holds none, ValueError for names that differ in case alone.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: give one that holds <id>_attribute_<name>.png")
    found: dict[Key, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (match := NAME.fullmatch(path.name)):
            continue
        key = (composed(match["image"]).lower(), composed(match["attribute"]).lower())
        if key in found:
            raise ValueError(f"{folder} holds {found[key].name} and {path.name}: names must not differ in case alone")
        found[key] = path
    if not found:
        raise FileNotFoundError(f"{folder} holds no <id>_attribute_<name>.png{_hint(folder)}")
    return found


def _hint(folder: Path) -> str:
    """What a folder without masks may be instead."""
    if below := sorted({path.parent.name for path in folder.glob("*/*.png") if NAME.fullmatch(path.name)}):
        return f": give a folder in it, such as {folder / below[0]}"
    if suffixes := sorted({p.suffix for p in folder.iterdir() if NAME.fullmatch(p.with_suffix(".png").name)}):
        return f": its masks are {', '.join(suffixes)}, convert them to .png"
    images = [path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg")]
    return f": its {len(images)} .jpg are images and not masks" if images else ""


def score_folders(
    predictions: Path, truth: Path, only_predicted: bool = False, reading: Reading = AS_THEY_ARE
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary (one row per attribute, average, micro) and the per-image fractions.

    Every true mask needs a prediction of its size and the other way round: ValueError names what does not pair.
    With `only_predicted` images and attributes that have no prediction at all are left out, which is said.
    `reading` says what the levels of true masks mean; pixels that it ignores are background, which is said too.
    """
    predicted, true = attribute_masks(predictions), attribute_masks(truth)
    if only_predicted:
        true = _only(true, predicted)
    _paired(true, predicted, f"true masks have no prediction in {predictions}")
    _paired(predicted, true, f"predictions have no true mask in {truth}")
    reading.check(tuple(dict.fromkeys(attribute for _, attribute in true)))
    order = list(dict.fromkeys(attribute for _, attribute in true))
    keys = sorted(true, key=lambda key: (order.index(key[1]), key[0]))
    rows, notes = [], []
    for key in tqdm(keys, desc="score", unit="mask"):
        part = read_part(true[key], reading, key[1])
        rows.append(_score(key[1], predicted[key], true[key], part.whole()))
        notes += [f"{true[key].name}: {note}" for note in part.notes]
    for line in problems.by_kind(notes):
        print(f"note: {line}")
    per_image = pd.concat(rows, ignore_index=True)
    return score_summary(per_image), per_image


def _only(true: dict[Key, Path], predicted: dict[Key, Path]) -> dict[Key, Path]:
    """The true masks of the images and attributes that have predictions; what is left out is printed."""
    for place, what in enumerate(("images", "attributes")):
        every, there = {key[place] for key in true}, {key[place] for key in predicted}
        if left := sorted(every - there):
            print(f"left out, without a prediction: {len(left)} of {len(every)} {what} (first: {', '.join(left[:5])})")
        true = {key: path for key, path in true.items() if key[place] in there}
    return true


def _paired(these: dict[Key, Path], those: dict[Key, Path], what: str) -> None:
    alone = [path.stem for key, path in these.items() if key not in those]
    if alone:
        raise ValueError(f"{len(alone)} {what} (first: {', '.join(alone[:5])}): both folders need the same names")


def _score(attribute: str, predicted: Path, true: Path, y: np.ndarray) -> pd.DataFrame:
    p = read_mask(predicted, Reading(threshold=THRESHOLD))
    if p.shape != y.shape:
        raise ValueError(
            f"{predicted.name} is {p.shape[0]}x{p.shape[1]} and its true mask {y.shape[0]}x{y.shape[1]} pixels: "
            "scores are taken at one size"
        )
    image = true.stem[: true.stem.lower().rindex("_attribute_")]
    return score_table([image], attribute, confusion(p, y)[None])

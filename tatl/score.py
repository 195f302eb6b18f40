"""Scores of a folder of predicted masks against a folder of true ones, by the official definition (`tatl.metrics`).

Files are named `<id>_attribute_<name>.png` in both folders, in any case, as in ISIC 2018 Task 2.  A pixel is set where
its level is above 128, the challenge's threshold, so grey masks (probabilities) are binarised; masks of 0 and 1 alone
are accepted.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from tatl.data.pictures import read_mask
from tatl.metrics import confusion, score_table, summary

NAME = re.compile(r"(?P<image>.+)_attribute_(?P<attribute>.+)\.png", re.IGNORECASE)

THRESHOLD = 128  # of the official score; prepare and every other reader of masks set what is above 127

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
        key = (match["image"].lower(), match["attribute"].lower())
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


def score_folders(predictions: Path, truth: Path, only_predicted: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary (one row per attribute, average, micro) and the per-image fractions.

    Every true mask needs a prediction of its size and the other way round: ValueError names what does not pair.
    With `only_predicted` images and attributes that have no prediction at all are left out, which is said.
    """
    predicted, true = attribute_masks(predictions), attribute_masks(truth)
    if only_predicted:
        true = _only(true, predicted)
    _paired(true, predicted, f"true masks have no prediction in {predictions}")
    _paired(predicted, true, f"predictions have no true mask in {truth}")
    order = list(dict.fromkeys(attribute for _, attribute in true))
    keys = sorted(true, key=lambda key: (order.index(key[1]), key[0]))
    rows = [_score(key[1], predicted[key], true[key]) for key in tqdm(keys, desc="score", unit="mask")]
    per_image = pd.concat(rows, ignore_index=True)
    return summary(per_image), per_image


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


def _score(attribute: str, predicted: Path, true: Path) -> pd.DataFrame:
    p, y = read_mask(predicted, THRESHOLD), read_mask(true, THRESHOLD)
    if p.shape != y.shape:
        raise ValueError(
            f"{predicted.name} is {p.shape[0]}x{p.shape[1]} and its true mask {y.shape[0]}x{y.shape[1]} pixels: "
            "scores are taken at one size"
        )
    image = true.stem[: -len(f"_attribute_{attribute}")]
    return score_table([image], attribute, confusion(p, y)[None])

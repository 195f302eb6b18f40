"""Scores of a folder of predicted masks against one of true ones, by the official definition (`tatl.training.metrics`).

Files have ISIC's names (`tatl.prediction.masks`) in both folders.  A pixel is set where its level is above 128, the
challenge's threshold, so grey predictions (probabilities) are binarised; masks of 0 and 1 alone are accepted.  A true
mask of other levels is refused unless they are said to be labels, ignored or grey.

Every attribute counts for average and micro.  The lesion and the union are scored beside them where both folders have
them; the true union is the OR of all true attributes of an image, as Stage 2 learns it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from tatl.data.images.masks import Part, read_mask, read_part
from tatl.data.images.reading import AS_THEY_ARE, THRESHOLD, Reading
from tatl.data.prepare import problems
from tatl.names import LESION, UNION
from tatl.prediction.masks import Key, image_and_mask, mask_file, mask_files
from tatl.training.metrics import confusion, score_summary, score_table

_Masks = dict[Key, list[Path]]  # a mask is the OR of these files


def score_folders(
    predictions: Path, truth: Path, only_predicted: bool = False, reading: Reading = AS_THEY_ARE
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary (one row per mask, average, micro) and the per-image fractions.

    Every true attribute needs a prediction of its size and the other way round: ValueError names what does not pair.
    With `only_predicted` images and attributes that have no prediction at all are left out, which is said.
    `reading` says what the levels of true masks mean; pixels that it ignores are background, which is said too.
    """
    predicted: _Masks = {key: [path] for key, path in mask_files(predictions).items()}
    predicted, true = _where_both(predicted, _with_unions(mask_files(truth)))
    if only_predicted:
        true = _only(true, predicted)
    remedy = "both folders need the same names, or give --only-predicted if images or attributes were left out"
    _paired(true, predicted, f"true masks have no prediction in {predictions}", remedy)
    _paired(predicted, true, f"predictions have no true mask in {truth}", "both folders need the same names")
    order = list(dict.fromkeys(mask for _, mask in true))
    reading.check(tuple(order))
    rows, notes = [], []
    for key in tqdm(sorted(true, key=lambda key: (order.index(key[1]), key[0])), desc="score", unit="mask"):
        parts = {path: read_part(path, reading, image_and_mask(path)[1]) for path in true[key]}
        rows.append(_score(key[1], predicted[key][0], parts))
        if key[1] != UNION:  # whose parts are read for themselves
            notes += [f"{path.name}: {note}" for path, part in parts.items() for note in part.notes]
    for line in problems.by_kind(notes):
        print(f"note: {line}")
    per_image = pd.concat(rows, ignore_index=True)
    return score_summary(per_image), per_image


def _with_unions(true: dict[Key, Path]) -> _Masks:
    """True masks, and for every image with attributes their union, whatever file is called so."""
    found: _Masks = {key: [path] for key, path in true.items() if key[1] != UNION}
    for (image, mask), path in true.items():
        if mask not in (LESION, UNION):
            found.setdefault((image, UNION), []).append(path)
    return found


def _where_both(predicted: _Masks, true: _Masks) -> tuple[_Masks, _Masks]:
    """Without the lesion or the union where one of them lacks it altogether; a prediction that is left out is said."""
    there, known = ({mask for _, mask in each} for each in (predicted, true))
    alone = (there ^ known) & {LESION, UNION}
    for mask in sorted(alone & there):
        print(f"left out, without a true mask: {mask}")
    left, right = ({key: paths for key, paths in each.items() if key[1] not in alone} for each in (predicted, true))
    return left, right


def _only(true: _Masks, predicted: _Masks) -> _Masks:
    """The true masks of the images and attributes that have predictions; what is left out is printed."""
    for place, what in enumerate(("images", "attributes")):
        every, there = {key[place] for key in true}, {key[place] for key in predicted}
        if left := sorted(every - there):
            print(f"left out, without a prediction: {len(left)} of {len(every)} {what} (first: {', '.join(left[:5])})")
        true = {key: paths for key, paths in true.items() if key[place] in there}
    return true


def _paired(these: _Masks, those: _Masks, what: str, remedy: str) -> None:
    alone = [mask_file(image_and_mask(paths[0])[0], key[1]) for key, paths in these.items() if key not in those]
    if alone or not these:
        raise ValueError(f"{len(alone)} {what} (first: {', '.join(alone[:5]) or 'no mask is in both'}): {remedy}")


def _score(mask: str, predicted: Path, parts: dict[Path, Part]) -> pd.DataFrame:
    p = read_mask(predicted, Reading(threshold=THRESHOLD))
    for part in parts.values():
        if p.shape != part.shape:
            given, wanted = (f"{height}x{width}" for height, width in (p.shape, part.shape))
            raise ValueError(f"{predicted.name} is {given} and its true mask {wanted} pixels: give it at that size")
    y = np.logical_or.reduce([part.whole() for part in parts.values()])
    return score_table([image_and_mask(next(iter(parts)))[0]], mask, confusion(p, y)[None])

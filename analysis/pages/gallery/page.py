"""What do the networks find in single images?  Figures 8 and 9: image, truth, union map and prediction of each case.

The cases are test images of one variant and fold, chosen to show its attributes, rare ones first
(`tatl.studies.examples`): they say what errors look like, not how many there are, so that their pooled Dice

    D = 2 TP / (2 TP + FP + FN)      (fractions summed over the shown cases)

stands beside the mean over the test folds.  Maps are cut at 0.5, as where scores are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.pages import html
from analysis.pages.data import chosen_to_show
from analysis.pages.gallery.viewer import Layer, cover, outlines, viewer
from analysis.pages.html import Html
from analysis.pages.theme import BOX, PREDICTION, TRUTH
from analysis.tables.read import attributes_asked, read_arrays
from analysis.tables.study import StudyTables
from analysis.tables.words import counted, extremes, listed, origin, plain, score

_CUT = 128  # floor(256 p) of p = 0.5
_SIZES = {"image": 4, "truth": 3, "union": 3, "probability": 4, "boxes": 2, "ids": 1, "attributes": 1}
_SIZES |= dict.fromkeys(("variant", "fold", "seed"), 0)


@dataclass(frozen=True)
class Gallery:
    """The shown cases: n images of H x W, A attributes.

    image uint8 [n, H, W, 3]; truth and found bool [n, A, H, W]; union_map uint8 [n, H, W], floor(256 p), or None
    without Stage 2; union bool [n, H, W], all the store's attributes; boxes int [n, 4] (top, left, bottom, right) in
    pixels, or None without Stage 1; `wanted` are the attributes that the cases were chosen to show.
    """

    tables: StudyTables
    variant: str
    fold: int
    wanted: list[str]
    ids: list[str]
    attributes: list[str]
    image: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    union: np.ndarray
    union_map: np.ndarray | None
    boxes: np.ndarray | None

    @classmethod
    def read(cls, folder: str | Path, cases: int = 6, attributes: str = "", dataset: str = "") -> Gallery:
        """The first `cases` of gallery.npz and the attributes named with commas, or all; none where there is no file.

        `dataset` is what the page calls the data; empty: as the study recorded it.
        Raises FileNotFoundError or ValueError with the command that writes the tables, and for unknown attributes.
        """
        tables = StudyTables.read("variants", folder, dataset=dataset)
        arrays = _arrays(tables)
        names = [str(name) for name in arrays["attributes"]]
        asked = attributes_asked(attributes, names, tables.folder / "gallery.npz") if names else []
        some = {name: array[: max(0, cases)] for name, array in arrays.items() if array.ndim > 1 or name == "ids"}
        bits = np.array([tables.bit(name) for name in asked], np.uint16)[:, None, None]
        return cls(
            tables,
            str(arrays["variant"]),
            int(arrays["fold"]),
            [plain(name) for name in names],
            [str(name) for name in some["ids"]],
            asked,
            some["image"],
            some["truth"][:, None] & bits != 0,
            some["probability"][:, [names.index(name) for name in asked]] >= _CUT,
            some["truth"] >> 1 != 0,
            some["union"] if len(some["union"]) else None,
            some["boxes"] if len(some["boxes"]) else None,
        )

    @cached_property
    def names(self) -> list[str]:
        """The attributes in words."""
        return [plain(name) for name in self.attributes]

    @cached_property
    def dice(self) -> pd.Series:
        """Pooled Dice of the shown cases by attribute; NaN where there is nothing, neither true nor found."""
        each = [pooled_dice(self.truth[:, k], self.found[:, k]) for k in range(len(self.attributes))]
        return pd.Series(each, index=self.attributes, dtype=float)

    @cached_property
    def everywhere(self) -> pd.DataFrame:
        """dice and dice_std of the same variant over all its test folds, by attribute; NaN where not measured."""
        table = self.tables.measured
        mine = table[table["variant"] == self.variant].set_index("attribute")[["dice", "dice_std"]]
        return mine.reindex(self.attributes)

    @property
    def union_dice(self) -> float:
        """Pooled Dice of the union map; NaN without Stage 2."""
        return np.nan if self.union_map is None else pooled_dice(self.union, self.union_map >= _CUT)

    @property
    def nothing(self) -> str:
        """Why there is no case to show; empty where there is one."""
        if not (self.tables.folder / "gallery.npz").exists():
            return f"This study left no gallery.npz, so no case can be shown; `{self.tables.command}` writes it."
        if not self.ids or not self.attributes:
            return "No case was asked for, or gallery.npz holds none, so that there is nothing to show."
        return ""

    def reading(self) -> str:
        """Pooled Dice of the shown cases."""
        if self.nothing:
            return self.nothing
        many = counted(len(self.ids), "test image")
        return f"Pooled Dice of {self.variant} on {many} is {extremes(self.dice.rename(plain))}."

    def headline(self) -> Html:
        return html.paragraph(self.reading())

    def chosen(self) -> str:
        """How the cases were chosen."""
        return "" if self.nothing else f"{chosen_to_show(self.wanted, self.fold)} Maps cut at 0.5."

    def origin(self) -> Html:
        """How the cases were chosen, and where every number of the page comes from."""
        return html.caption(f"{self.chosen()} {origin(self.tables)}".strip())

    def cases(self) -> Html:
        """The viewer; a sentence where there is nothing to view."""
        if self.nothing:
            return html.paragraph(self.nothing)
        cases = {name: list(self.layers(case)) for case, name in enumerate(self.ids)}
        return Html(viewer(cases, self.names))

    def cover(self) -> Html:
        """The first case's prediction for the index, hidden on the page itself; empty without cases."""
        return Html("" if self.nothing else cover(list(self.layers(0))[-1]))

    def layers(self, case: int) -> Iterator[Layer]:
        """The layers of one case, in order; no union map without Stage 2."""
        image, truth, found = self.image[case], self.truth[case], self.found[case]
        top, left, bottom, right = (2 * int(edge) for edge in self.boxes[case]) if self.boxes is not None else (0,) * 4
        boxes = {} if self.boxes is None else {BOX: [f"M{left} {top}H{right}V{bottom}H{left}z"]}
        yield Layer("image", image, boxes, dict.fromkeys(boxes, "box of Stage 1, grown by the offset"))
        areas = [f"{name}: {_area(mask)}" for name, mask in zip(self.names, truth, strict=True)]
        true, predicted = {TRUTH: outlines(truth)}, {PREDICTION: outlines(found)}
        yield Layer("truth", image, true, {TRUTH: "truth, with its share of the image"}, areas, each=True)
        if self.union_map is not None:
            union, map_ = self.union[case], self.union_map[case]
            lines = {TRUTH: outlines([union]), PREDICTION: outlines([map_ >= _CUT])}
            keys = {TRUTH: "true union", PREDICTION: "map cut at 0.5"}
            yield Layer("union map", map_, lines, keys, [agreement(union, map_ >= _CUT)])
        scores = [f"{name}: {agreement(*both)}" for name, *both in zip(self.names, truth, found, strict=True)]
        keys = {TRUTH: "truth", PREDICTION: "prediction"}
        yield Layer("prediction", image, true | predicted, keys, scores, each=True)

    def numbers(self) -> Html:
        """By attribute: shown cases with it, pooled Dice of these cases, and mean Dice over the test folds."""
        rows = {
            "shown images with it": list(map(str, self.truth.any(axis=(2, 3)).sum(0))),
            "pooled Dice, shown images": [score(value) for value in self.dice],
            "Dice, all test images": [score(*pair) for pair in self.everywhere.to_numpy()],
        }
        table = pd.DataFrame(rows, index=self.names)
        if self.union_map is not None:
            table.loc["union map"] = [str(self.union.any(axis=(1, 2)).sum()), score(self.union_dice), ""]
        return html.table(table, reading=self._likeness())

    def _likeness(self) -> str:
        """For how many attributes the shown cases score above the whole test folds."""
        apart = (self.dice - self.everywhere["dice"]).dropna()
        if self.nothing or apart.empty:
            return self.nothing or f"variants.csv has no Dice of {self.variant} to compare with."
        above = f"{int((apart > 0).sum())} of {counted(len(apart), 'attribute')}"
        return f"Pooled Dice of the shown images is above that of all test images for {above}."

    def provenance(self) -> Html:
        return html.made_from(self.tables)


def _arrays(tables: StudyTables) -> dict[str, np.ndarray]:
    """gallery.npz, its arrays checked; no cases where the study left none."""
    path, again = tables.folder / "gallery.npz", f"write it again with `{tables.command}`"
    if not path.exists():
        return {name: np.zeros((0,) * size, np.uint16) for name, size in _SIZES.items()}
    arrays = read_arrays(path, tables.command)
    if wrong := [name for name, size in _SIZES.items() if name not in arrays or arrays[name].ndim != size]:
        raise ValueError(f"{path} lacks {listed(wrong)}, or has another shape: {again}")
    lengths = {name: len(arrays[name]) for name in ("image", "truth", "probability", "ids")}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"{path} has arrays of different lengths ({told}): {again}")
    return arrays


def pooled_dice(truth: np.ndarray, found: np.ndarray) -> float:
    """Dice of two masks of one shape, pooled over all their pixels; NaN where both are empty."""
    total = int(truth.sum()) + int(found.sum())
    return 2 * int((truth & found).sum()) / total if total else np.nan


def agreement(truth: np.ndarray, found: np.ndarray) -> str:
    """Dice 0.61; where there is no truth, what was found all the same."""
    if not truth.any():
        return f"none, {_area(found)} found"
    return f"Dice {pooled_dice(truth, found):.2f}{'' if found.any() else ' (none found)'}"


def _area(mask: np.ndarray) -> str:
    return f"{100 * mask.mean():.1f} %" if mask.any() else "none"

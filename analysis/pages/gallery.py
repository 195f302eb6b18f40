"""What do the networks find in single images?  Figures 8 and 9: image, truth, union map and prediction of each case.

The cases are test images of one variant and fold, chosen to show every attribute, rare ones first
(`tatl.studies.examples`): they say what errors look like, not how many there are, so that their pooled Dice

    D = 2 TP / (2 TP + FP + FN)      (fractions summed over the shown cases)

stands beside the mean over the test folds.  Maps are cut at 0.5, as where scores are taken.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.pages.text import counted, listed, origin, plain, score
from analysis.tables.read import attributes_asked, command_of
from analysis.tables.study import StudyTables

_COMMAND = command_of("variants")
CUT = 128  # floor(256 p) of p = 0.5
ARRAYS = {"image": 4, "truth": 3, "union": 3, "probability": 4, "boxes": 2, "ids": 1, "attributes": 1}
ARRAYS |= dict.fromkeys(("variant", "fold", "seed"), 0)
HOW = "chosen to show every attribute, rare ones first, and not at random"
MANY = 6  # attributes of which a sentence names each one


@dataclass(frozen=True)
class Cases:
    """The shown cases: n images of H x W, A attributes.

    image uint8 [n, H, W, 3]; truth and found bool [n, A, H, W]; union_map uint8 [n, H, W], floor(256 p), or None
    without Stage 2; union bool [n, H, W], all the store's attributes; boxes int [n, 4] (top, left, bottom, right) in
    pixels, or None without Stage 1.
    """

    study: StudyTables
    variant: str
    fold: int
    seed: int
    ids: list[str]
    attributes: list[str]
    image: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    union: np.ndarray
    union_map: np.ndarray | None
    boxes: np.ndarray | None

    @classmethod
    def read(cls, tables: str | Path, cases: int = 6, attributes: str = "", dataset: str = "") -> Cases:
        """The first `cases` of gallery.npz and the attributes named with commas, or all; none where there is no file.

        `dataset` is what captions call the data; empty: as the study recorded it.
        Raises FileNotFoundError or ValueError with the command that writes the tables, and for unknown attributes.
        """
        study = StudyTables.read("variants", tables, dataset=dataset)
        arrays = _arrays(study)
        names = [str(name) for name in arrays["attributes"]]
        asked = attributes_asked(attributes, names, study.folder / "gallery.npz") if names else []
        some = {name: array[: max(0, cases)] for name, array in arrays.items() if array.ndim > 1 or name == "ids"}
        bits = np.array([study.bit(name) for name in asked], np.uint16)[:, None, None]
        places = [names.index(name) for name in asked]
        return cls(
            study,
            str(arrays["variant"]),
            int(arrays["fold"]),
            int(arrays["seed"]),
            [str(name) for name in some["ids"]],
            asked,
            some["image"],
            some["truth"][:, None] & bits != 0,
            some["probability"][:, places] >= CUT,
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
        each = [dice(self.truth[:, k], self.found[:, k]) for k in range(len(self.attributes))]
        return pd.Series(each, index=self.attributes, dtype=float)

    @cached_property
    def everywhere(self) -> pd.DataFrame:
        """dice and dice_std of the same variant over all its test folds, by attribute; NaN where not measured."""
        table = self.study.measured
        mine = table[table["variant"] == self.variant].set_index("attribute")[["dice", "dice_std"]]
        return mine.reindex(self.attributes)

    @property
    def union_dice(self) -> float:
        """Pooled Dice of the union map; NaN without Stage 2."""
        return np.nan if self.union_map is None else dice(self.union, self.union_map >= CUT)


def _arrays(study: StudyTables) -> dict[str, np.ndarray]:
    """gallery.npz, its arrays checked; no cases where the study left none."""
    path = study.folder / "gallery.npz"
    try:
        arrays = study.gallery()
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}): write it again with `{_COMMAND}`") from None
    if arrays is None:
        return {name: np.zeros((0,) * size, np.uint16) for name, size in ARRAYS.items()}
    if wrong := [name for name, size in ARRAYS.items() if name not in arrays or arrays[name].ndim != size]:
        raise ValueError(f"{path} lacks {listed(wrong)}, or has another shape: write it again with `{_COMMAND}`")
    lengths = {name: len(arrays[name]) for name in ("image", "truth", "probability", "ids")}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"{path} has arrays of different lengths ({told}): write it again with `{_COMMAND}`")
    return arrays


def dice(truth: np.ndarray, found: np.ndarray) -> float:
    """Dice of two masks of one shape, pooled over all their pixels; NaN where both are empty."""
    total = int(truth.sum()) + int(found.sum())
    return 2 * int((truth & found).sum()) / total if total else np.nan


def nothing(shown: Cases) -> str:
    """Why there is no case to show; empty where there is one."""
    if not (shown.study.folder / "gallery.npz").exists():
        return f"This study left no gallery.npz, so no case can be shown; `{_COMMAND}` writes it."
    if not shown.ids or not shown.attributes:
        return "No case was asked for, or gallery.npz holds none, so that there is nothing to show."
    return ""


def headline(shown: Cases) -> str:
    """The range of the pooled Dice over attributes, in one line."""
    if none := nothing(shown):
        return none
    number = counted(len(shown.ids), "test image")
    return f"{shown.variant} on {number}, {HOW}: pooled Dice {_range(shown)}."


def reading(shown: Cases) -> str:
    """Pooled Dice of the shown cases by attribute and of the union map, and how the cases were chosen."""
    if none := nothing(shown):
        return none
    each = [f"{value:.3f} for {plain(name)}" for name, value in shown.dice.dropna().items()]
    said = listed(each) if 0 < len(each) <= MANY else _range(shown)
    number = counted(len(shown.ids), "test image")
    return f"{number}, {HOW}: on them the pooled Dice of {shown.variant} is {said}; {_union(shown)}."


def _union(shown: Cases) -> str:
    if shown.union_map is None:
        return f"{shown.variant} has no Stage 2, so there is no union map"
    if np.isnan(shown.union_dice):
        return "their union is empty, in truth and as found"
    return f"that of the union map is {shown.union_dice:.3f}"


def _range(shown: Cases) -> str:
    """0.125 (streaks) to 0.612 (globules)."""
    values = shown.dice.dropna()
    if values.empty:
        return "not defined (no attribute is in them, in truth or as found)"
    low, high = str(values.idxmin()), str(values.idxmax())
    if values[low] == values[high]:
        return f"{values[low]:.3f} ({listed([plain(name) for name in values.index])})"
    return f"{values[low]:.3f} ({plain(low)}) to {values[high]:.3f} ({plain(high)})"


def likeness(shown: Cases) -> str:
    """For how many attributes the shown cases score above the whole test folds, and where they differ most."""
    difference = (shown.dice - shown.everywhere["dice"]).dropna()
    if nothing(shown) or difference.empty:
        return nothing(shown) or f"variants.csv has no Dice of {shown.variant} to compare with."
    most = str(difference.abs().idxmax())
    if len(difference) == 1:
        here, there = shown.dice[most], shown.everywhere["dice"][most]
        return f"Pooled Dice for {plain(most)} is {here:.3f} on the shown images, {there:.3f} over the test folds."
    return (
        f"Pooled Dice of the shown images is above the mean over the test folds for {int((difference > 0).sum())} of "
        f"{counted(len(difference), 'attribute')}; they differ most for {plain(most)} ({difference[most]:+.3f})."
    )


def caption(shown: Cases) -> str:
    """Which network made the maps, and from what data."""
    made = f"Variant {shown.variant}, test fold {shown.fold}, seed {shown.seed}; maps cut at 0.5."
    return f"{made} {origin(shown.study)}"


def numbers(shown: Cases) -> pd.DataFrame:
    """By attribute: shown cases with it, pooled Dice of these cases, and mean Dice over the test folds."""
    present = shown.truth.any(axis=(2, 3)).sum(0)
    everywhere = shown.everywhere
    rows = {
        "shown images with it": list(map(str, present)),
        "pooled Dice, shown images": [score(value) for value in shown.dice],
        "Dice, all test images": [score(*pair) for pair in everywhere.to_numpy()],
    }
    table = pd.DataFrame(rows, index=shown.names)
    if shown.union_map is not None:
        table.loc["union map"] = [str(shown.union.any(axis=(1, 2)).sum()), score(shown.union_dice), ""]
    return table

"""The tables that `python -m analysis.bound` writes: checked, typed, of the chosen attributes, starts in one order.

Numbers are floats, flags are 1, 0 or NaN (not known), a vacuous bound is infinite.  `average` are the rows of bound.csv
over all attributes; they are left out where only some of several attributes are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.pages.theme import STYLES, Look
from analysis.pages.words import Told, counted, dataset, listed, warnings
from analysis.tables.paper import Origin
from analysis.tables.read import ordered, read_about, read_csv
from tatl.names import AVERAGE

COMMAND = "python -m analysis.bound --init all"
DISTANCE, SEEDS = "bound_distance", "bound_seeds"
KEYS = ["start", "attribute"]
FLAGS = ("vacuous", "positive", "converged", "holds")
TEXTS = (*KEYS, "varied", "setting", "reference", "assumption", "found")
COLUMNS = {
    "bound": [
        *KEYS, "seed", "seeds", "m", "images", "positives", "ratio", "ratio_seeds_low", "ratio_seeds_high",
        "ratio_images_low", "ratio_images_high", "risk", "curvature", "curvature_median", "curvature_largest",
        "curvature_largest_float64", "g", "bound", "bound_seeds_low", "bound_seeds_high", "bound_images_low",
        "bound_images_high", "bound_without_largest", "bound_slack_m", "vacuous", "unconverged", "lowest",
        "lowest_seeds",
    ],
    SEEDS: [*KEYS, "seed", "bound", "ratio"],
    "bound_images": [*KEYS, "seed", "positive", "norm", "residual", "products", "converged"],
    "bound_anatomy": [
        *KEYS, "g", "stability", "fit", "candidates", "sample", "bound", "turns_at", "reference", "log_ratio",
        "by_risk", "by_curvature",
    ],
    "bound_curve": [*KEYS, "g", "bound"],
    "bound_sensitivity": ["varied", "setting", *KEYS, "bound"],
    "bound_audit": ["start", "assumption", "holds", "found"],
    DISTANCE: [*KEYS, "m", "images", "length", "mean", "largest", "negative", "measure"],
}  # fmt: skip


def read_table(path: Path, wanted: Sequence[str], command: str = COMMAND) -> pd.DataFrame:
    """One CSV with at least the `wanted` columns; other columns stay words.

    Tables of before say init for start.  Raises FileNotFoundError or ValueError with the command that writes it.
    """
    frame = read_csv(path, wanted, command, before={"init": "start"}, dtype=str)
    try:
        return frame.assign(**{name: _typed(frame[name]) for name in wanted if name not in TEXTS})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} has a cell that cannot be ({error}): write it again with `{command}`") from None


def _typed(cells: pd.Series) -> pd.Series:
    """Floats; flags as 1, 0, and NaN where the cell is empty."""
    if cells.name in FLAGS:
        if odd := sorted(set(cells) - {"True", "False", ""}):
            raise ValueError(f"{odd[0]!r} in {cells.name}, which is True, False or empty")
        return cells.map({"True": 1.0, "False": 0.0, "": np.nan}).astype(float)
    return pd.to_numeric(cells.mask(cells.str.lower().isin(["", "nan"]))).astype(float)


@dataclass(frozen=True)
class Measured(Origin):
    """The tables of one folder; `tables` by the names of their files, `bound_distance` only where it was written."""

    folder: Path
    about: dict[str, Any]
    attributes: list[str]
    average: pd.DataFrame
    tables: dict[str, pd.DataFrame]

    @classmethod
    def read(cls, folder: str | Path, attributes: str = "", dataset: str = "") -> Measured:
        """Read a folder, absolute or relative to the working directory.

        Args:
            folder: where `python -m analysis.bound` wrote
            attributes: names with commas; empty: all that were measured
            dataset: what captions call the data; empty: as it was recorded

        Raises FileNotFoundError or ValueError with the command, ValueError for an attribute that was not measured.
        """
        folder = Path(folder).expanduser().resolve()
        about = read_about(folder / "bound.json", COMMAND) | ({"label": dataset} if dataset else {})
        there = [name for name in COLUMNS if name != DISTANCE or (folder / f"{name}.csv").exists()]
        tables = {name: read_table(folder / f"{name}.csv", COLUMNS[name]) for name in there}
        table = tables["bound"]
        if table.duplicated(KEYS).any():
            raise ValueError(f"{folder / 'bound.csv'} has a start and attribute twice: write it again with `{COMMAND}`")
        measured = [name for name in dict.fromkeys(table["attribute"]) if name != AVERAGE]
        asked = chosen(attributes, measured, folder)
        average = table[(table["attribute"] == AVERAGE) & (asked == measured)]
        rows = {name: [*asked, *average["attribute"].unique()] if name == SEEDS else asked for name in tables}
        return cls(folder, about, asked, average, {name: _of(frame, rows[name]) for name, frame in tables.items()})

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.tables[name]

    @cached_property
    def look(self) -> Look:
        """Every start of bound.csv with its colour and marker."""
        return Look.of(ordered([*self["bound"]["start"], *self.average["start"]], list(STYLES)), list(STYLES))

    @property
    def starts(self) -> list[str]:
        return self.look.names

    @property
    def seeds(self) -> int:
        """Of how many seeds the start of most is."""
        seeds = self["bound"]["seeds"].max()
        return 0 if np.isnan(seeds) else int(seeds)

    @cached_property
    def reference(self) -> str:
        """The start that others are compared with; empty where there is only one, or it was not measured."""
        names = [name for name in self["bound_anatomy"]["reference"].unique() if name in self.starts]
        return str(names[0]) if names and len(self.starts) > 1 else ""

    @cached_property
    def shown(self) -> pd.DataFrame:
        """The images of the seeds that the rows of bound.csv are of."""
        return self["bound_images"].merge(self["bound"][[*KEYS, "seed"]], on=[*KEYS, "seed"])

    @property
    def asked(self) -> dict[str, Any]:
        """What the bound was asked for: images, K (sources), c; empty where it is not recorded."""
        asked = self.about.get("question")
        return asked if isinstance(asked, dict) else {}

    def of(self, name: str, attribute: str) -> pd.DataFrame:
        """The rows of one attribute, starts in their order."""
        frame = self.average if attribute == AVERAGE else self[name][self[name]["attribute"] == attribute]
        return frame.sort_values("start", key=lambda s: s.map(self.starts.index), kind="stable")

    def wide(self, name: str, column: str) -> pd.DataFrame:
        """A column, attributes down and starts across, in their orders; NaN where there is no row."""
        frame = self[name].drop_duplicates(KEYS).pivot(index="attribute", columns="start", values=column)
        return frame.reindex(index=self.attributes, columns=self.starts).astype(float)


def chosen(attributes: str, measured: list[str], folder: Path) -> list[str]:
    """The attributes asked for, in the order of the table; ValueError for one that is not there."""
    asked = [name.strip() for name in attributes.split(",") if name.strip()]
    if unknown := [name for name in asked if name not in measured]:
        raise ValueError(
            f"attribute {listed(unknown)} is not in {folder}: choose of {', '.join(measured) or 'none'}, or leave it "
            "empty for all"
        )
    return [name for name in measured if name in asked] if asked else measured


def _of(frame: pd.DataFrame, attributes: list[str]) -> pd.DataFrame:
    if "attribute" not in frame:
        return frame
    return frame[frame["attribute"].isin(attributes)].reset_index(drop=True)


def scene(told: Told) -> str:
    """The store, the source domain, the networks, and how their statistics came about."""
    about = told.about
    crop = "crops" if about.get("crop") else "whole images"
    norm = f"BatchNorm statistics {'estimated' if about.get('calibrated', True) else 'as the start has them'}"
    words = [
        f"Measured: {dataset(told)}",
        f"source domain {about.get('source', 'not recorded')}",
        f"preset {about.get('preset', 'not recorded')}",
        f"{_seeds(about)}, fold {about.get('fold', '?')} of {about.get('n_folds', '?')}",
        f"{about.get('shape', '?')}, {about.get('backbone', '?')}, {crop}, {norm}",
    ]
    return "; ".join(words)


def _seeds(about: dict[str, Any]) -> str:
    """The seeds where several were measured (which the bound is), else the one."""
    seeds = about.get("seeds") if about.get("study") == "bound" else None
    return f"seeds {listed(seeds)}" if seeds and len(seeds) > 1 else f"seed {about.get('seed', '?')}"


def caption(measured: Measured) -> str:
    """Where the numbers of a table or figure come from."""
    asked = f"K = {measured.asked.get('sources', '?')}, c = {measured.asked.get('c', '?')}."
    return " ".join(["; ".join([scene(measured), images(measured), asked]), *warnings(measured)])


def images(measured: Measured) -> str:
    """How many training images each attribute was measured on, and m, the number they stand for."""
    pairs = measured["bound"][["images", "m"]].dropna().drop_duplicates().astype(int).to_numpy().tolist()
    if not pairs:
        return "no training image"
    if len(pairs) == 1:
        return f"{pairs[0][0]} of m = {counted(pairs[0][1], 'training image')}"
    few, many = min(pair[0] for pair in pairs), max(pair[0] for pair in pairs)
    return f"{few} to {many} training images per attribute"


def three(value: float) -> str:
    """Three digits; blank where nothing is known."""
    return "" if np.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def between(values: pd.Series | np.ndarray) -> str:
    """0.74 to 1.02; one number where the ends do not differ in three digits."""
    low, high = three(float(np.min(values))), three(float(np.max(values)))
    return low if low == high else f"{low} to {high}"


def percent(value: float) -> str:
    """A share in whole percent; blank where nothing is known."""
    return "" if np.isnan(value) else f"{value:.0%}"

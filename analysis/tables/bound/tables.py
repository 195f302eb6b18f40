"""The tables of `python -m analysis.bound` and `analysis.spectrum`: checked, typed, attributes and starts in one order.

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

from analysis.tables.paper import Origin
from analysis.tables.read import attributes_asked, ordered, read_about, read_table
from analysis.tables.words import counted, listed, measured_on
from tatl.names import AVERAGE, BOUND_STARTS
from tatl.studies.places import command_like

_COMMANDS = {"bound": "python -m analysis.bound --init all", "spectrum": "python -m analysis.spectrum --start all"}
_KEYS = ["start", "attribute"]
_SPREADS = [f"{of}_{by}_{end}" for of in ("bound", "ratio") for by in ("seeds", "images") for end in ("low", "high")]
BOUND_COLUMNS = {
    "bound": [
        *_KEYS, "seed", "seeds", "m", "images", "positives", "risk", "curvature", "curvature_median", "g", "bound",
        "curvature_largest", "curvature_largest_float64", "bound_without_largest", "bound_slack_m", "ratio", *_SPREADS,
        "vacuous", "unconverged", "lowest",
    ],
    "bound_seeds": [*_KEYS, "seed", "bound", "ratio"],
    "bound_images": [*_KEYS, "seed", "positive", "norm", "residual", "products", "converged"],
    "bound_anatomy": [
        *_KEYS, "g", "stability", "fit", "candidates", "sample", "bound", "turns_at", "reference", "log_ratio",
        "by_risk", "by_curvature",
    ],
    "bound_sensitivity": [*_KEYS, "varied", "setting", "bound"],
    "bound_audit": ["start", "assumption", "holds", "found"],
}  # fmt: skip
BOUND_OPTIONAL = {
    "bound_distance": [*_KEYS, "m", "length", "mean", "largest", "negative", "measure"],
    "spectrum": [
        *_KEYS, "images", "loss", "trace", "trace_error", "trace_by_density", "trace_by_density_error", "converged",
        "top1",
    ],
    "spectrum_density": [*_KEYS, "eigenvalue", "density", "error"],
}  # fmt: skip


def read_bound_table(folder: Path, name: str) -> pd.DataFrame:
    """One CSV with at least its columns above; numbers and flags are floats.  Tables of before say init for start.

    Errors name the command that writes them.
    """
    keys, command = _KEYS if name == "bound" else [], _COMMANDS[name.partition("_")[0]]
    wanted = (BOUND_COLUMNS | BOUND_OPTIONAL)[name]
    frame = read_table(folder / f"{name}.csv", wanted, command, keys, before={"init": "start"})
    return frame.astype(dict.fromkeys(frame.select_dtypes(["number", "bool"]), float))


@dataclass(frozen=True)
class BoundTables(Origin):
    """The tables of one folder by the names of their files; those of `BOUND_OPTIONAL` only where they were written."""

    folder: Path
    about: dict[str, Any]
    attributes: list[str]
    average: pd.DataFrame
    tables: dict[str, pd.DataFrame]

    @classmethod
    def read(cls, folder: str | Path, attributes: str = "", dataset: str = "") -> BoundTables:
        """Read a folder, absolute or relative to the working directory.

        Args:
            folder: where `python -m analysis.bound` wrote
            attributes: names with commas; empty: all that were measured
            dataset: what the data are called; empty: as it was recorded

        Raises FileNotFoundError or ValueError with the command, ValueError for an attribute that was not measured.
        """
        folder = Path(folder).expanduser().resolve()
        about = read_about(folder / "bound.json", _COMMANDS["bound"]) | ({"label": dataset} if dataset else {})
        there = [name for name in BOUND_OPTIONAL if (folder / f"{name}.csv").exists()]
        tables = {name: read_bound_table(folder, name) for name in [*BOUND_COLUMNS, *there]}
        measured = [name for name in dict.fromkeys(tables["bound"]["attribute"]) if name != AVERAGE]
        asked = attributes_asked(attributes, measured, folder)
        rows = [*asked, *([AVERAGE] if asked == measured else [])]
        tables = {name: _in_order(frame, rows) for name, frame in tables.items()}
        whole = tables["bound"]["attribute"] == AVERAGE
        average, tables["bound"] = tables["bound"][whole], tables["bound"][~whole].reset_index(drop=True)
        return cls(folder, about, asked, average, tables)

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.tables[name]

    @cached_property
    def starts(self) -> list[str]:
        """The starts of bound.csv, in one order."""
        return ordered([*self["bound"]["start"], *self.average["start"]], BOUND_STARTS)

    @property
    def groups(self) -> list[str]:
        """The attributes, and their average where it is there."""
        return [*self.attributes, *([AVERAGE] if len(self.average) else [])]

    @property
    def seeds(self) -> int:
        """Of how many seeds the start of most is."""
        return int(np.nan_to_num(self["bound"]["seeds"].max()))

    @cached_property
    def reference(self) -> str:
        """The start that others are compared with; empty where there is only one, or it was not measured."""
        names = [name for name in self["bound_anatomy"]["reference"].unique() if name in self.starts]
        return str(names[0]) if names and len(self.starts) > 1 else ""

    @cached_property
    def rows(self) -> pd.DataFrame:
        """bound.csv, the average last."""
        return pd.concat([self["bound"], self.average], ignore_index=True)

    @cached_property
    def shown(self) -> pd.DataFrame:
        """The images of the seeds that the rows of bound.csv are of."""
        return self["bound_images"].merge(self["bound"][[*_KEYS, "seed"]], on=[*_KEYS, "seed"])

    @cached_property
    def relative(self) -> pd.DataFrame:
        """bound.csv with the factors of Eq. 6, as multiples of the reference's (NaN where that is vacuous)."""
        factors = ["stability", "fit", "candidates", "sample"]
        table = self["bound"].merge(self["bound_anatomy"][[*_KEYS, *factors]], on=_KEYS, how="left")
        if not self.reference:
            return table
        names = ["risk", "curvature", "bound", *factors]
        theirs = table[table["start"] == self.reference].set_index("attribute")[names].replace(np.inf, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            table[names] = table[names] / theirs.reindex(table["attribute"]).to_numpy()
        return table

    @cached_property
    def compared(self) -> pd.DataFrame:
        """The rows of the anatomy that have a difference from the reference."""
        table = self["bound_anatomy"]
        known = table[["log_ratio", "by_risk", "by_curvature"]].notna().all(axis=1)
        return table[known & (table["start"] != table["reference"]) & table["start"].isin(self.starts)]

    @property
    def asked(self) -> dict[str, Any]:
        """What the bound was asked for: images, K (sources), c; empty where it is not recorded."""
        return dict(self.about.get("question", {}))

    @property
    def tolerance(self) -> float:
        """The relative residual at which an eigenvalue counts as found; NaN where it is not recorded."""
        return float(self.about.get("options", {}).get("tolerance", np.nan))

    def wide(self, name: str, column: str) -> pd.DataFrame:
        """A column, attributes down and starts across, in their orders; NaN where there is no row, or it is vacuous."""
        frame = self[name].drop_duplicates(_KEYS).pivot(index="attribute", columns="start", values=column)
        return frame.reindex(index=self.attributes, columns=self.starts).astype(float).replace(np.inf, np.nan)

    def origin(self) -> str:
        """One line: the store, the source domain, the networks, the images, and what these numbers are not."""
        pairs = self["bound"][["images", "m"]].dropna().drop_duplicates().astype(int).to_numpy().tolist()
        few, many = (min(pairs)[0], max(pairs)[0]) if pairs else (0, 0)
        images = f"{few} to {many} training images per attribute"
        if len(pairs) == 1:
            images = f"{pairs[0][0]} of m = {counted(pairs[0][1], 'training image')}"
        return origin_line(self, f"{images}; K = {self.asked.get('sources', '?')}, c = {self.asked.get('c', '?')}")

    def command(self, command: str) -> str:
        """A command on the same store, preset, runs and settings, into the same folder."""
        here = Path.cwd()
        folder = self.folder.relative_to(here) if here in self.folder.parents else self.folder
        return command_like(command, self.about, folder)


def origin_line(told: Origin, images: str) -> str:
    """The store, the source domain, the networks, fold and seeds, the `images`, and what these numbers are not."""
    about = told.about
    seeds = about.get("seeds") if about.get("study") in ("bound", "stability") else None
    several = f"seeds {listed(seeds)}" if seeds and len(seeds) > 1 else f"seed {about.get('seed', '?')}"
    return measured_on(
        told, f"{several}, fold {about.get('fold', '?')} of {about.get('n_folds', '?')}",
        f"{about.get('shape', '?')}, {about.get('backbone', '?')}, {'crops' if about.get('crop') else 'whole images'}",
        f"BatchNorm statistics {'estimated' if about.get('calibrated', True) else 'as the start has them'}", images,
    )  # fmt: skip


def _in_order(frame: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """The rows of these attributes in their order, starts in theirs; tables without attributes as they are."""
    if "attribute" not in frame:
        return frame
    kept = frame[frame["attribute"].isin(attributes)]
    place = {name: i for i, name in enumerate([*attributes, *ordered(kept["start"], BOUND_STARTS)])}
    keys = ["attribute", "start"]
    return kept.sort_values(keys, key=lambda s: s.map(place), kind="stable").reset_index(drop=True)

"""Figure 7: the bound of every start and attribute, how it spreads.

Two spreads are told apart: over the seeds that a start was trained with, and over resamples of the images, of the seed
whose bound is the median; neither is a confidence interval.  A vacuous bound (g- <= 0) says nothing and is drawn as
such, at the edge.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.pages.bound.lanes import BoundFigure, Lanes, kind, vacuous_kind
from analysis.pages.text import counted, wins
from analysis.pages.theme import INK, Style

_ENDS = [f"bound_{kind}_{end}" for kind in ("seeds", "images") for end in ("low", "high")]
_SPREADS: dict[str, Style] = {
    "images": {"linewidth": 0.9},
    "seeds": {"linewidth": 3.2, "alpha": 0.45},
}
_DOT: Style = {"linestyle": "none", "marker": "|", "markersize": 7, "markeredgewidth": 1.4}


class Figure7(BoundFigure):
    """The paper's Figure 7: bound x 100 of each start per attribute, with its spreads, and on average."""

    alt = "Bound of every attribute and start with its range over seeds and its spread over images."

    def draw(self) -> Figure:
        table, rows = self.tables.rows, self.tables.groups
        (lanes,) = self.lanes(rows)
        lanes.fit(100 * table[["bound", *_ENDS]].to_numpy().ravel())
        for row, y, colour in lanes.rows(table):
            self._spread(lanes, row, y, colour)
        lanes.points(table, "bound", times=100)
        if self.tables.attributes != rows:
            lanes.axes.axhline(len(rows) - 1.5, color=INK, linewidth=1)
        lanes.axes.set_xlabel("bound x 100 (Eq. 6, up to an unknown constant), lower is better")
        return self.legend(lanes.figure, *self._kinds(table))

    def _spread(self, lanes: Lanes, row: dict, y: float, colour: object) -> None:
        """Its range over seeds (thick, each seed a dot) and its spread over images (thin), open ends to the edge."""
        for name, style in _SPREADS.items():
            low, high = (100 * row[f"bound_{name}_{end}"] for end in ("low", "high"))
            if not np.isnan(low) and not np.isnan(high) and (name == "images" or row["seeds"] > 1):
                lanes.axes.plot(np.clip([low, high], *lanes.ends), [y, y], color=colour, solid_capstyle="butt", **style)
                if np.isinf(high):
                    lanes.axes.plot(lanes.ends[1], y, marker=">", color=colour, markersize=5, clip_on=False)
        seeds = self.tables["bound_seeds"]
        each = seeds["bound"][(seeds["start"] == row["start"]) & (seeds["attribute"] == row["attribute"])].dropna()
        lanes.axes.plot(np.clip(100 * each, *lanes.ends), np.full(len(each), y), color=colour, **_DOT)

    def _kinds(self, table: pd.DataFrame) -> list:
        several = bool((table["seeds"] > 1).any())
        kinds = [kind("range over seeds", linestyle="-", **_SPREADS["seeds"]), kind("each seed", **_DOT)] * several
        kinds += [
            kind("95 % of resamples of images", linestyle="-", **_SPREADS["images"]),
            *vacuous_kind(table["bound"]),
        ]
        open_ = np.isinf(table[["bound_images_high", "bound_seeds_high"]]).any(axis=None)
        return kinds + [kind("spread has no upper end", marker=">")] * bool(open_)

    def reading(self) -> str:
        """For how many attributes the first is lowest, whether seeds could turn that, how many bounds say nothing."""
        wide = self.tables.wide("bound", "bound").dropna(how="all")
        vacuous, unknown = int(np.isinf(self.table["bound"]).sum()), int(self.table["bound"].isna().sum())
        said = [wins(wide, "lowest", lowest=True), self._seeds(wide)] if len(wide) else ["No bound is finite"]
        said += [f"{vacuous} of {counted(len(self.table), 'bound')} are vacuous (g- <= 0)"] * bool(vacuous)
        return "; ".join([*said, *[f"{unknown} of {len(self.table)} are not known"] * bool(unknown)]) + "."

    def _seeds(self, wide: pd.DataFrame) -> str:
        """For how many attributes the range over seeds of the lowest start reaches that of the next."""
        if self.tables.seeds < 2:
            return "one seed: how far training moves them is not known"
        low, high = (self.tables.wide("bound", f"bound_seeds_{end}") for end in ("low", "high"))
        meets = []
        for name, values in wide[wide.notna().sum(axis=1) > 1].iterrows():
            first, second = values.nsmallest(2).index
            meets.append(bool(high[first][name] >= low[second][name]))
        return f"the ranges over seeds of the lowest two meet for {sum(meets)} of {len(meets)}"

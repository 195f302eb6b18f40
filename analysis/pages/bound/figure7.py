"""Figure 7, the bound of every start and attribute and how it spreads, and why bounds differ.

Two spreads are told apart: over the seeds that a start was trained with, and over resamples of the images, of the seed
whose bound is the median; neither is a confidence interval.  A vacuous bound (g- <= 0) says nothing and is drawn as
such, at the edge.

    bound = (1 + 1 / (c g-)) * R^e * sqrt(log K) * m^(e - 1),      e = c g+ / (1 + c g+)
            stability          fit   candidates    sample

It falls with g, by stability, until its lowest point, and rises beyond it, by sample: a sharper start may be on either
side.  The log ratio of two bounds is split into parts by risk and by curvature (Shapley values), which add up.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.pages.bound.lanes import BoundFigure, Lanes, kind, marked, vacuous_kind
from analysis.pages.theme import GREY, INK, Style
from analysis.tables.bound.frames import from_to
from analysis.tables.bound.tables import BoundTables
from analysis.tables.words import counted, wins

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


_PARTS = {
    "risk": "risk R",
    "curvature": "mean norm",
    "stability": "stability\n1 + 1/(c g⁻)",
    "fit": "fit\n$R^{\\,e}$",
    "sample": "sample\n$m^{\\,e-1}$",
    "bound": "bound",
}


class Factors(BoundFigure):
    """Each ingredient and factor of the bound in its own panel, relative to the reference (or as it is, if alone)."""

    alt = "Risk, mean norm and the factors of the bound of every start and attribute."

    def draw(self) -> Figure:
        table, beside = self.tables.relative, self.tables.reference
        drawn = self.lanes(panels=len(_PARTS), width=10.2)
        for lanes, (name, title) in zip(drawn, _PARTS.items(), strict=True):
            lanes.fit([*table[name], *([1.0] if beside else [])], log=True if beside else None)
            lanes.points(table, name, size=5.5)
            if lanes.axes.get_xscale() == "linear":
                lanes.axes.locator_params(axis="x", nbins=3)
            marked(lanes.axes, 1.0 if beside else np.nan, dotted=False)
            lanes.axes.set_title(title, fontsize=10)
            lanes.axes.tick_params(axis="x", labelsize=8)
        drawn[len(_PARTS) // 2].axes.set_xlabel(f"as a multiple of {beside}'s" if beside else "")
        return self.legend(drawn[0].figure, *vacuous_kind(table["bound"]))

    def reading(self) -> str:
        """How far the starts lie apart in risk and in curvature."""
        table, beside = self.tables.relative, self.tables.reference
        others = table[table["start"] != beside]
        risk, norm = from_to(others["risk"]), from_to(others["curvature"])
        of = f" times {beside}'s" if beside else ""
        return f"The risk is {risk}{of} and the mean norm {norm}{of}."


class Causes(BoundFigure):
    """How far risk alone and curvature alone move each bound away from the reference's; the dot is both."""

    alt = "Change of every bound from the reference's by risk and by curvature."
    empty = "There is no finite bound beside a reference's, so no difference to take apart."

    def __init__(self, tables: BoundTables) -> None:
        super().__init__(tables)
        self.table = tables.compared

    def draw(self) -> Figure:
        names = ["log_ratio", "by_risk", "by_curvature"]
        table = self.table.copy()
        table[names] = np.exp(table[names])
        (lanes,) = self.lanes()
        lanes.fit([*table[names].to_numpy().ravel(), 1.0], log=True)
        height = 0.36 / len(self.look.names)
        for row, y, colour in lanes.rows(table):
            styles: dict[str, Style] = {
                "by_risk": {"color": "none", "edgecolor": colour},
                "by_curvature": {"color": colour},
            }
            for (name, style), side in zip(styles.items(), (-1, 1), strict=True):
                lanes.axes.barh(y + side * height / 2, row[name] - 1, left=1, height=height, linewidth=1.0, **style)
        lanes.points(table, "log_ratio", size=5)
        marked(lanes.axes, 1.0, dotted=False)
        lanes.axes.set_xlabel(f"factor on the bound of {self.tables.reference}")
        kinds = [Patch(facecolor="none", edgecolor=GREY, label="by risk"), Patch(color=GREY, label="by curvature")]
        return self.legend(lanes.figure, *kinds, kind("both", marker="o"))

    def reading(self) -> str:
        """Does risk or curvature make most of the differences?"""
        table = self.table
        more = int((table["by_curvature"].abs() > table["by_risk"].abs() + 1e-9).sum())
        curvature, risk = (from_to(np.exp(table[name])) for name in ("by_curvature", "by_risk"))
        said = (
            f"more of the difference from {self.tables.reference} than risk in {more} of {counted(len(table), 'row')}"
        )
        return f"Curvature makes {said}: {curvature} times by curvature alone, {risk} times by risk alone."

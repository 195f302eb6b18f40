"""Why the bounds of starts differ: risk, curvature and the factors of Eq. 6 beside a reference.

    bound = (1 + 1 / (c g-)) * R^e * sqrt(log K) * m^(e - 1),      e = c g+ / (1 + c g+)
            stability          fit   candidates    sample

It falls with g, by stability, until its lowest point, and rises beyond it, by sample: a sharper start may be on either
side.  The log ratio of two bounds is split into parts by risk and by curvature (Shapley values), which add up.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.pages.bound.lanes import BoundFigure, kind, marked, vacuous_kind
from analysis.pages.text import counted
from analysis.pages.theme import GREY, Style
from analysis.tables.bound.frames import from_to
from analysis.tables.bound.tables import BoundTables

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
        return (
            f"Curvature makes more of the difference from {self.tables.reference} than risk in {more} of "
            f"{counted(len(table), 'row')}: {from_to(np.exp(table['by_curvature']))} times by curvature alone, "
            f"{from_to(np.exp(table['by_risk']))} times by risk alone."
        )

"""The single norms that a mean is made of, how well each eigenvalue was found, and the Hessian distance beside them.

A norm is the largest |eigenvalue| of the Hessian of one image's loss; its residual |H v - lambda v| / |lambda| says how
well it was found.  The distance is v^T H v along the way v that fine-tuning went (Ju, Li & Zhang 2022).
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from analysis.pages.bound.lanes import BoundFigure, fit_axis, kind, marked
from analysis.pages.theme import INK, Style
from analysis.tables.bound.frames import from_to
from analysis.tables.words import counted, extremes, plain, wins

_HALF = 0.5
_MEAN: Style = {"marker": "|", "color": INK, "markersize": 9, "markeredgewidth": 1.6}


class SingleNorms(BoundFigure):
    """Each image's norm: filled where it has the attribute; the line is the mean, which few large norms may make."""

    alt = "The Hessian norm of every image, per attribute and start, with the mean."

    def draw(self) -> Figure:
        table = self.tables.shown.dropna(subset="norm")
        (lanes,) = self.lanes()
        lanes.fit(table["norm"], log=True)
        for row, y, colour in lanes.rows(table):
            face = colour if row["positive"] == 1 else "none"
            at = np.clip(row["norm"], *lanes.ends)
            lanes.axes.scatter(at, y, s=15, facecolor=face, edgecolor=colour, linewidth=0.8)
        for row, y, _ in lanes.rows(self.table.dropna(subset="curvature")):
            lanes.axes.plot(np.clip(row["curvature"], *lanes.ends), y, **_MEAN)
        lanes.axes.set_xlabel("norm of one image's Hessian (largest |eigenvalue|)")
        kinds = [kind("image has it", marker="o"), kind("has it not", marker="o", markerfacecolor="none")]
        return self.legend(lanes.figure, *kinds, kind("mean", **_MEAN))

    def reading(self) -> str:
        """In how many rows one image makes more than half of the mean norm, and what the bound owes to the largest."""
        table = self.table
        share = (table["curvature_largest"] / (table["curvature"] * table["images"])).replace(np.inf, np.nan)
        named = share.set_axis([f"{row['start']} on {plain(row['attribute'])}" for row in table.to_dict("records")])
        apart = (table["curvature_largest"] / table["curvature_largest_float64"] - 1).abs().replace(np.inf, np.nan)
        without = (table["bound_without_largest"] / table["bound"]).replace(np.inf, np.nan)
        half = f"{(share > _HALF).sum()} of {counted(len(share), 'row')}"
        said = f"The share of the largest norm in the mean is {extremes(named)}, above a half in {half}; without it a"
        said += f" bound is {from_to(without)} times what it is"
        return f"{said}; in float64 the largest norms differ by factors of {from_to(1 + apart)}."


class Residuals(BoundFigure):
    """The share of eigenvalues found to within each relative residual, per start; dotted: what was asked for."""

    of = "bound_images"
    alt = "Share of eigenvalues within each relative residual, per start."

    def draw(self) -> Figure:
        figure = Figure(figsize=(5.8, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.grid(True, axis="both")
        fit_axis(axes, [*self.table["residual"], self.tables.tolerance], log=True)
        for start, residual in self.table.dropna(subset="residual").groupby("start")["residual"]:
            axes.ecdf(residual, color=self.look.colour[str(start)], linewidth=1.4)
        marked(axes, self.tables.tolerance)
        axes.set_xlabel("relative residual of the eigenvalue")
        axes.set_ylabel("share of images and attributes")
        return self.legend(figure, kind("asked for", color=INK, linestyle=":", linewidth=1))

    def reading(self) -> str:
        """How many eigenvalues were found, and to what residual."""
        table = self.table[self.table["residual"].notna()]
        asked = f" {self.tables.tolerance:g}" if np.isfinite(self.tables.tolerance) else ""
        found = f"{(table['converged'] == 1).sum()} of {counted(len(table), 'eigenvalue')}"
        residuals, products = from_to(table["residual"]), from_to(table["products"])
        said = f"{found} reached the relative residual{asked} asked for, or an error that their row's mean can bear"
        return f"{said} (residuals {residuals}), in {products} products each."


class DistanceTravelled(BoundFigure):
    """The measure of Ju, Li and Zhang, sqrt(max v^T H v / m), of the segmenters trained from every start."""

    of = "bound_distance"
    alt = "Hessian distance of the segmenters trained from every start, per attribute."

    def draw(self) -> Figure:
        (lanes,) = self.lanes()
        lanes.fit(self.table["measure"])
        lanes.points(self.table, "measure")
        lanes.axes.set_xlabel("√(max vᵀHv / m), v: the way from the start to the trained weights")
        return self.legend(lanes.figure)

    def reading(self) -> str:
        """Whose Hessian distance is lowest, and whether the bound says the same."""
        wide, bound = self.tables.wide(self.of, "measure").dropna(how="all"), self.tables.wide("bound", "bound")
        best, theirs = wide.idxmin(axis=1), bound.dropna(how="all").idxmin(axis=1).reindex(wide.index)
        same = int((best == theirs).sum())
        return f"By distance {wins(wide, 'lowest', lowest=True)}; the bound names the same start for {same}."

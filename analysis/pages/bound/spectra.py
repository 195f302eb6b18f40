"""Spectra of starts: density, trace and leading eigenvalues of the Hessian of the mean loss over images.

They are of *one* Hessian, that of the mean, whereas the bound speaks of the mean of per-image norms.  Eigenvalues are
signed and span decades, so axes are linear up to `_LINEAR` of the largest and logarithmic beyond (symlog).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.pages.bound.lanes import BoundFigure, kind, marked
from analysis.tables.bound.frames import from_to
from analysis.tables.words import counted, extremes, plain

_LINEAR = 1e-3
_FLOOR = 1e-6  # of the highest density, below which nothing is drawn
_SMEARED = 6.0  # steps of the grid that the smoothing of a density, two steps wide, spreads what is at 0
_AGREE = 2.0  # standard errors within which two estimates of a trace agree


class SpectralDensity(BoundFigure):
    """Spectral density of each start, with its standard error over random vectors: one panel per attribute."""

    of = "spectrum_density"
    alt = "Spectral density of the Hessian at every start, per attribute."

    def draw(self) -> Figure:
        table = self.table
        highest = float(table["density"].max())
        steps = [step for _, curve in self._curves() if (step := _spacing(curve["eigenvalue"])) > 0]
        figure, drawn = self.panels("eigenvalue", "density")
        for attribute, axes in drawn.items():
            for start, rows in table[table["attribute"] == attribute].sort_values("eigenvalue").groupby("start"):
                colour, value = self.look.colour[str(start)], rows["density"]
                low, high = ((value + side * rows["error"]).clip(lower=_FLOOR * highest) for side in (-1, 1))
                axes.fill_between(rows["eigenvalue"], low, high, color=colour, alpha=0.25, linewidth=0)
                axes.plot(rows["eigenvalue"], value, color=colour, linewidth=1.4)
            axes.set_yscale("log")
            axes.set_ylim(_FLOOR * highest, 3 * highest)
            _signed(axes, _SMEARED * min(steps, default=1.0), table["eigenvalue"])
        return self.legend(figure, linestyle="-", marker="", linewidth=2)

    def _curves(self) -> Iterable:
        return self.table.groupby(["start", "attribute"], sort=False)

    def reading(self) -> str:
        """How far the density reaches to either side, and how much of its weight is negative."""
        negative: dict[str, float] = {}
        for (start, attribute), rows in self._curves():
            below = rows["eigenvalue"] < -_SMEARED * _spacing(rows["eigenvalue"])
            negative[f"{start} on {plain(attribute)}"] = rows["density"][below].sum() / rows["density"].sum()
        reach = f"The density reaches from {from_to(self.table['eigenvalue'])}"
        return f"{reach}; the share below 0, beyond what smoothing spreads, is {extremes(pd.Series(negative))}."


class LeadingEigenvalues(BoundFigure):
    """The eigenvalues of largest magnitude (filled: the first), and the trace with its standard error (hollow)."""

    of = "spectrum"
    alt = "Leading eigenvalues and trace of the Hessian at every start, per attribute."

    def draw(self) -> Figure:
        table = self.table
        tops = [name for name in map(str, table) if name.startswith("top")]
        (lanes,) = self.lanes()
        for row, y, colour in lanes.rows(table):
            values = np.array([row[name] for name in tops])
            lanes.axes.plot(values, np.full(len(values), y), "|", color=colour, markersize=8, markeredgewidth=1.4)
            style = {"fmt": "D", "markersize": 6, "markerfacecolor": "none", "color": colour}
            lanes.axes.errorbar(row["trace"], y, xerr=row["trace_error"], **style)
        lanes.points(table, "top1", size=5)
        linear = _LINEAR * float(np.nanmax(table[tops].abs().to_numpy())) or 1.0
        _signed(lanes.axes, linear, table[[*tops, "trace"]].to_numpy().ravel())
        lanes.axes.set_xlabel("eigenvalues of largest magnitude, and their sum over all weights (trace)")
        kinds = [kind("largest", marker="o"), kind("next ones", marker="|", markeredgewidth=1.4)]
        return self.legend(lanes.figure, *kinds, kind("trace ± standard error", marker="D", markerfacecolor="none"))

    def reading(self) -> str:
        """Signs and sizes of the leading eigenvalues, whether they were found, and whether two traces agree."""
        table = self.table[self.table["top1"].notna()]
        negative = int((table["top1"] < 0).sum())
        error = np.hypot(table["trace_error"], table["trace_by_density_error"])
        agree = int(((table["trace"] - table["trace_by_density"]).abs() <= _AGREE * error).sum())
        rows, lost = counted(len(table), "row"), int((table["converged"] != 1).sum())
        said = f"The largest |eigenvalue| is {from_to(table['top1'].abs())}, negative in {negative} of {rows}"
        said += f"; two estimates of the trace agree within {_AGREE:g} standard errors in {agree}"
        return f"{said}; {lost} did not converge."


def _spacing(grid: pd.Series) -> float:
    """The largest step of a grid; 0 of a single point."""
    return float(grid.sort_values().diff().fillna(0).max())


def _signed(axes: Axes, linear: float, values: Iterable[float]) -> None:
    """Eigenvalues along x: linear up to `linear` round 0, logarithmic beyond; ticks at 0 and few powers."""
    largest = max([*(abs(value) for value in values if np.isfinite(value)), 10 * linear])
    axes.set_xscale("symlog", linthresh=linear)
    axes.set_xlim(-1.3 * largest, 1.3 * largest)
    low, high = int(np.floor(np.log10(linear))) + 1, int(np.floor(np.log10(largest)))
    powers = [high, *([high - 2] if high - 2 >= low else [])]
    axes.xaxis.set_major_locator(FixedLocator([0.0, *(sign * 10.0**power for power in powers for sign in (-1, 1))]))
    axes.xaxis.set_minor_locator(NullLocator())
    marked(axes, 0.0, dotted=False)

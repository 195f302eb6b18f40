"""How figures of starts are laid out: attributes down, a lane per start, or a panel per attribute; one look per start.

A value that a log axis cannot show (0) stands at its lower edge, a vacuous one (infinite) at its upper edge, hollow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from analysis.pages.drawing import WIDTH
from analysis.pages.theme import GREY, Look, Style, label

__all__ = ["WIDTH", "Lanes", "Look", "legend", "nothing", "panels", "span", "tall", "told"]

DECADES = 30  # largest by smallest value from which an axis is logarithmic
LEAST = 0.05  # room beyond the ends of an axis, as a share of the values
PER_LEGEND_LINE = 5
COLUMNS = 3


def legend(figure: Figure, look: Look, extra: Sequence[Line2D] = (), **more: Any) -> None:
    """The starts above the axes, what else is to be told apart below them."""
    style: Style = {"columnspacing": 1.2, "handletextpad": 0.4}
    columns = PER_LEGEND_LINE if max(map(len, look.names), default=0) < 15 else 3
    if look.names:
        figure.legend(handles=look.handles(**more), loc="outside upper center", ncols=columns, **style)
    if extra:
        figure.legend(handles=list(extra), loc="outside lower center", ncols=3, **style)


def told(text: str, **style: Any) -> Line2D:
    """A legend entry in grey."""
    whole: Style = {"color": GREY, "linestyle": "none", "markersize": 6} | style
    return Line2D([], [], label=text, **whole)


def tall(attributes: Sequence[str], look: Look) -> float:
    """The height in inches of a figure with lanes."""
    legend_lines = ceil(len(look.names) / PER_LEGEND_LINE)
    return 1.15 + 0.2 * legend_lines + max(0.5, 0.17 * len(look.names)) * max(1, len(attributes))


class Lanes:
    """Attributes as bands down an axis, within each a lane per start."""

    def __init__(self, axes: Axes, attributes: Sequence[str], look: Look) -> None:
        self.axes, self.attributes, self.look = axes, list(attributes), look
        axes.set_yticks(range(len(attributes)), [label(name) for name in attributes])
        axes.set_ylim(max(1, len(attributes)) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        for between in range(len(attributes) - 1):
            axes.axhline(between + 0.5, color=GREY, alpha=0.35, linewidth=0.6)
        if not attributes:
            nothing(axes)

    def y(self, attribute: str, start: str) -> float:
        step = 0.8 / max(1, len(self.look.names))
        return self.attributes.index(attribute) + step * (self.look.names.index(start) - (len(self.look.names) - 1) / 2)


def nothing(axes: Axes, text: str = "nothing was measured") -> None:
    """Say in the middle of an empty axes why it is empty."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)


def span(
    axes: Axes, values: Iterable[float], which: Literal["x", "y"] = "x", log: bool | None = None
) -> tuple[float, float]:
    """Fit an axis to the finite values, logarithmic where they span decades; returns its ends.

    `log` decides instead of the values; a logarithmic axis is fitted to the positive ones.
    """
    finite = np.array([value for value in values if np.isfinite(value)], float)
    positive = finite[finite > 0]
    if log is None:
        log = len(positive) == len(finite) > 0 and positive.max() > DECADES * positive.min()
    if log and len(positive):
        low, high = _widened(np.log(positive), LEAST)
        ends = (float(np.exp(low)), float(np.exp(high)))
        getattr(axes, f"set_{which}scale")("log")
        _ticks(axes, which, ends)
    else:
        ends = _widened(finite, LEAST * np.abs(finite).max() or 0.5) if len(finite) else (0.0, 1.0)
        axes.ticklabel_format(axis=which, useOffset=False)
    getattr(axes, f"set_{which}lim")(*ends)
    return ends


def _widened(values: np.ndarray, least: float) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = max(0.06 * (high - low), least)
    return low - room, high + room


def _ticks(axes: Axes, which: str, ends: tuple[float, float]) -> None:
    """Few and plain ticks on a logarithmic axis: round numbers over short spans, powers of ten over long ones."""
    decades = np.log10(ends[1] / ends[0])
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_minor_locator(NullLocator())
    if decades > 2.5:
        axis.set_major_locator(LogLocator(numticks=5))
        return
    spaced = LogLocator(subs=(1, 2, 5) if decades < 1.6 else (1, 3), numticks=12)
    axis.set_major_locator(spaced if decades > 0.7 else MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def panels(attributes: Sequence[str], x: str, y: str) -> tuple[Figure, dict[str, Axes]]:
    """A small axes per attribute with its name, all of one scale; one that says so where there is none.

    `x` and `y` name what the axes show.  Call it inside the theme.
    """
    count = max(1, len(attributes))
    columns = min(COLUMNS, count)
    rows = ceil(count / columns)
    figure = Figure(figsize=(WIDTH if columns > 1 else 5.2, 1.15 + 2.15 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for i, axes in enumerate(grid.ravel()):
        axes.set_visible(i < count)
        axes.grid(True, axis="both")
        if count - columns <= i < count:  # the lowest panel of its column
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(x)
        if i % columns == 0:
            axes.set_ylabel(y)
    if not attributes:
        nothing(grid[0, 0])
    drawn = dict(zip(attributes, grid.ravel(), strict=False))
    for name, axes in drawn.items():
        axes.set_title(label(name, 26), fontsize=9.5, pad=8)
    return figure, drawn

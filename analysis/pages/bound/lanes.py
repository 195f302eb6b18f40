"""How figures of the bound are laid out: attributes down with a lane per start, or a panel per attribute.

A value that a log axis cannot show (0) stands at its lower edge, a vacuous one (infinite) at its upper edge, hollow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from analysis.pages import html
from analysis.pages.drawing import axes_grid, legend, places, rows_axis
from analysis.pages.html import Html
from analysis.pages.theme import GREY, INK, STYLES, Look, Style, label, theme
from analysis.tables.bound.tables import BoundTables
from analysis.tables.read import ordered

_DECADES = 30  # largest by smallest value from which an axis is logarithmic
_LEAST = 0.05  # room beyond the ends of an axis, as a share of the values


class BoundFigure:
    """One figure of the page with the sentence that reads it.

    alt: what it shows; of: the table it is from; empty: what is said where that has no rows, and nothing is drawn
    """

    alt = ""
    of = "bound"
    empty = "{}.csv has no rows of these attributes."

    def __init__(self, tables: BoundTables) -> None:
        every = [name for frame in tables.tables.values() if "start" in frame for name in frame["start"]]
        names = ordered([*tables.starts, *every], list(STYLES))
        look, own = Look.of(names, list(STYLES)), {*tables[self.of]["start"]}
        self.tables, self.table = tables, tables[self.of]
        self.look = Look([name for name in names if name in own], look.colour, look.marker)

    def draw(self) -> Figure:
        """The figure of its table, which has rows; the theme is set."""
        raise NotImplementedError

    def reading(self) -> str:
        """What it shows, in one sentence computed from its table, which has rows."""
        raise NotImplementedError

    def say(self) -> str:
        return self.reading() if len(self.table) else self.empty.format(self.of)

    def figure(self) -> Figure:
        with theme():
            return self.draw()

    def html(self) -> Html:
        """The figure and its sentence; without rows the sentence alone."""
        return html.figure(self.figure(), self.alt, self.say()) if len(self.table) else html.paragraph(self.say())

    def lanes(self, groups: Sequence[str] | None = None, panels: int = 1, width: float = 7.6) -> list[Lanes]:
        """Axes side by side with the attributes, or other `groups`, down."""
        rows = self.tables.attributes if groups is None else groups
        height = 0.6 + max(0.5, 0.17 * len(self.look.names)) * len(rows)
        _, grid = axes_grid(panels, height, len(self.look.names), panels, width, sharey=True)
        return [Lanes(axes, rows, self.look) for axes in grid]

    def panels(self, x: str, y: str) -> tuple[Figure, dict[str, Axes]]:
        """A small axes per attribute with its name; `x` and `y` name what they show."""
        attributes = self.tables.attributes
        figure, grid = axes_grid(len(attributes), 2.15, len(self.look.names), sharey=True)
        for axes, attribute in zip(grid, attributes, strict=False):
            axes.grid(True, axis="both")
            axes.set_title(label(attribute, 26), fontsize=9.5)
        for axes in grid[-3:]:
            axes.set_xlabel(x)
        figure.supylabel(y, fontsize=9.5)
        return figure, dict(zip(attributes, grid, strict=False))

    def legend(self, figure: Figure, *kinds: Any, **more: Any) -> Figure:
        """The starts above the axes, what else is to be told apart below them; returns the figure."""
        legend(figure, self.look.handles(**more), kinds)
        return figure


class Lanes:
    """Attributes as bands down an axis, within each a lane per start."""

    def __init__(self, axes: Axes, attributes: Sequence[str], look: Look) -> None:
        self.axes, self.look = axes, look
        self.ends = (-np.inf, np.inf)
        self.places = places(attributes, look.names)
        rows_axis(axes, attributes)

    @property
    def figure(self) -> Figure:
        return self.axes.get_figure(root=True)  # type: ignore[return-value]

    def rows(self, table: pd.DataFrame) -> Iterator[tuple[dict[Any, Any], float, Any]]:
        """Each row with the height of its lane and the colour of its start."""
        for row in table.to_dict("records"):
            yield row, self.places[row["attribute"], row["start"]], self.look.colour[row["start"]]

    def fit(self, values: Iterable[float], log: bool | None = None) -> None:
        """Fit the axis to the values, which are clipped to its ends from now on."""
        self.ends = fit_axis(self.axes, values, "x", log)

    def points(self, table: pd.DataFrame, name: str, hollow: bool = False, size: float = 6, times: float = 1) -> None:
        """A marker per row; those that are infinite stand at the edge, hollow."""
        for row, y, _ in self.rows(table[table[name].notna()]):
            style = self.look.point(row["start"], hollow=hollow or bool(np.isinf(row[name])), size=size)
            self.axes.plot(np.clip(times * row[name], *self.ends), y, **style, clip_on=False, zorder=4)


def kind(text: str, **style: Any) -> Line2D:
    """A legend entry in grey."""
    whole: Style = {"color": GREY, "linestyle": "none", "markersize": 6} | style
    return Line2D([], [], label=text, **whole)


def vacuous_kind(bounds: pd.Series) -> list[Line2D]:
    """The legend entry of vacuous bounds, where there are any."""
    return [kind("vacuous: g⁻ ≤ 0", marker="o", markerfacecolor="none")] * bool(np.isinf(bounds).any())


def marked(axes: Axes, at: float, dotted: bool = True) -> None:
    """A vertical line in ink."""
    if np.isfinite(at):
        axes.axvline(at, color=INK, linestyle=":" if dotted else "-", linewidth=1, zorder=1)


def fit_axis(
    axes: Axes, values: Iterable[float], which: Literal["x", "y"] = "x", log: bool | None = None
) -> tuple[float, float]:
    """Fit an axis to the finite values, logarithmic where they span decades; returns its ends.

    `log` decides instead of the values; a logarithmic axis is fitted to the positive ones.
    """
    finite = np.array([value for value in values if np.isfinite(value)], float)
    positive = finite[finite > 0]
    if log is None:
        log = len(positive) == len(finite) > 0 and positive.max() > _DECADES * positive.min()
    if log and len(positive):
        low, high = np.exp(_widened(np.log(positive), _LEAST))
        getattr(axes, f"set_{which}scale")("log")
        _ticks(axes.xaxis if which == "x" else axes.yaxis, np.log10(high / low))
    else:
        low, high = _widened(finite, _LEAST * np.abs(finite).max() or 0.5) if len(finite) else (0.0, 1.0)
        axes.ticklabel_format(axis=which, useOffset=False)
    getattr(axes, f"set_{which}lim")(low, high)
    return float(low), float(high)


def _widened(values: np.ndarray, least: float) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = max(0.06 * (high - low), least)
    return low - room, high + room


def _ticks(axis: Any, decades: float) -> None:
    """Few and plain ticks on a logarithmic axis: round numbers over short spans, powers of ten over long ones."""
    axis.set_minor_locator(NullLocator())
    if decades > 2.5:
        return
    spaced = LogLocator(subs=(1, 2, 5) if decades < 1.6 else (1, 3), numticks=12)
    axis.set_major_locator(spaced if decades > 0.7 else MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

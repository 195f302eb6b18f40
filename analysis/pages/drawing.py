"""Three drawings that pages share: rows of points, lines over a number, bars; a panel per attribute.

Points are means over folds and seeds with bars of one standard deviation where there are several, small ink dots the
single ones, hollow marks what the paper prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.pages.theme import GREY, INK, Colour, Look, Style, label, theme
from tatl.names import AVERAGE

WIDTH = 7.6  # inches of a figure of several panels
_PANELS_IN_LINE = 3
_NAMES_IN_LINE = 4
_SMALL: Style = {
    "color": INK,
    "alpha": 0.5,
    "marker": "o",
    "markersize": 2.6,
    "markeredgewidth": 0,
    "linestyle": "none",
}
_DOT: Style = {"color": GREY, "marker": "o", "markersize": 6, "linestyle": "none"}


def points(
    frame: pd.DataFrame,
    panels: Sequence[str],
    rows: Sequence[str],
    look: Look,
    axis: str,
    *,
    singles: pd.DataFrame | None = None,
    hollow: pd.DataFrame | None = None,
    zero: bool = False,
    columns: int = _PANELS_IN_LINE,
) -> Figure:
    """Rows of points, a panel per name in `panels`; where lanes are not the rows themselves, a lane each in the row.

    Args:
        frame: panel, row, lane, value, and std or low and high
        panels: what the panels are, in order
        rows: down the vertical axis
        look: of the lanes
        axis: what the values are, below the horizontal axis
        singles: panel, row, lane, value of every fold and seed; shown where some point is the mean of several
        hollow: panel, row, lane, value of the paper
        zero: values are differences: mark zero instead of starting there
        columns: panels in a line, at most
    """
    lanes = [] if set(look.names) <= set(rows) else look.names
    frame, hollow, singles = (
        _placed(_finite(part, panels), rows, look.names, lanes)
        for part in (frame, hollow, _several(singles, ["panel", "row", "lane"]))
    )
    height = 0.5 + max(0.26 if len(rows) < 9 else 0.21, 0.15 * len(lanes)) * max(1, len(rows))
    with theme():
        figure, grid = _grid(len(panels), height, True, len(lanes), columns)
        for axes, panel in zip(grid, panels, strict=False):
            for name, part in _lanes(hollow, panel, look):
                axes.plot(part["value"], part["y"], linestyle="none", **look.point(name, hollow=True))
            for name, part in _lanes(frame, panel, look):
                style: Style = look.point(name) | {"linestyle": "none", "elinewidth": 1.6, "zorder": 4}
                axes.errorbar(part["value"], part["y"], xerr=_spread(part), **style)
            small = singles[singles["panel"] == panel]
            axes.plot(small["value"], small["y"], zorder=3.5, **_SMALL)
            _rows_axis(axes, rows, bool(lanes))
            _values_axis(axes, zero)
            axes.set_title("average over attributes" if panel == AVERAGE else label(panel, 26), fontsize=9.5)
        figure.supxlabel(axis, fontsize=9.5)
        _legend(figure, look.handles() if lanes else [], hollow, singles)
    return figure


def lines(
    frame: pd.DataFrame,
    panels: Sequence[str],
    look: Look,
    axes_names: tuple[str, str],
    *,
    singles: pd.DataFrame | None = None,
    hollow: pd.DataFrame | None = None,
    behind: pd.DataFrame | None = None,
    dense: bool = False,
) -> Figure:
    """A line per lane over `x`, a panel per name in `panels`.

    Args:
        frame: panel, lane, x, value, std
        panels: what the panels are, in order
        look: of the lanes
        axes_names: of the horizontal and the vertical axis
        singles: panel, lane, x, value of every fold and seed; shown where some point is the mean of several
        hollow: panel, lane, x, value of the paper, dashed
        behind: panel, lane, x, value of thin lines
        dense: many points: lines alone, without markers
    """
    singles = _several(singles, ["panel", "lane", "x"])
    frame, hollow, behind, singles = (_finite(part, panels) for part in (frame, hollow, behind, singles))
    if not dense:
        frame, singles = (_dodged(part, look.names, frame["x"]) for part in (frame, singles))
    dashes: Style = {"linestyle": (0, (2, 2)), "linewidth": 1}
    with theme():
        figure, grid = _grid(len(panels), 2.0, False, len(look.names))
        for axes, panel in zip(grid, panels, strict=False):
            for name, part in _lanes(hollow, panel, look):
                axes.plot(part["x"], part["value"], **dashes, **look.point(name, hollow=True, size=5))
            for name, part in _lanes(behind, panel, look):
                axes.plot(part["x"], part["value"], color=look.colour[name], linewidth=0.8, alpha=0.55)
            for name, part in _lanes(frame, panel, look):
                style = look.point(name, size=4 if dense else 6) | {"linewidth": 1.5, "elinewidth": 1.2, "zorder": 4}
                axes.errorbar(part["x"], part["value"], yerr=_spread(part), **style)
            small = singles[singles["panel"] == panel]
            axes.plot(small["x"], small["value"], zorder=3.5, **_SMALL)
            axes.set_title("average over attributes" if panel == AVERAGE else label(panel, 26), fontsize=9.5)
            axes.grid(True, axis="y")
        figure.supxlabel(axes_names[0], fontsize=9.5)
        figure.supylabel(axes_names[1], fontsize=9.5)
        _legend(figure, look.handles(linestyle="solid", linewidth=1.5), hollow, singles)
    return figure


def bars(
    names: Sequence[str],
    values: Sequence[float],
    texts: Sequence[str],
    colours: dict[str, Colour],
    axis: str,
    marks: dict[str, Sequence[float]],
) -> Figure:
    """A bar of percent per name with a text beside it, and below it a hollow mark per series of `marks`."""
    shown = [series for series in marks if np.isfinite(marks[series]).any()]
    hollow: Style = {"linestyle": "none", "markerfacecolor": "none", "color": INK, "markersize": 5}
    with theme():
        figure = Figure(figsize=(6.8, 1.15 + 0.34 * max(1, len(names))), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(names))
        axes.barh(places, np.nan_to_num(values), height=0.62, color=[colours[name] for name in names], alpha=0.85)
        for y, value, text in zip(places, np.nan_to_num(values), texts, strict=True):
            axes.annotate(text, (value, y), (5, 0), textcoords="offset points", va="center")
        handles: list[Any] = [Patch(color=GREY, label="this store")]
        for series, mark in zip(shown, "o^sD", strict=False):
            axes.plot(marks[series], places + 0.31, marker=mark, clip_on=False, zorder=5, **hollow)
            handles.append(Line2D([], [], marker=mark, label=f"published ({series})", **hollow))
        axes.set_yticks(places, [label(name, 28) for name in names])
        axes.set(ylim=(len(names) - 0.3, -0.6), xlim=(0, 108), xlabel=axis)
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _finite(part: pd.DataFrame | None, panels: Sequence[str]) -> pd.DataFrame:
    """The points of these panels that have a value."""
    if part is None:
        return pd.DataFrame(columns=["panel", "row", "lane", "x", "value"])
    return part[part["panel"].isin(panels) & np.isfinite(part["value"].astype(float))]


def _several(singles: pd.DataFrame | None, keys: list[str]) -> pd.DataFrame | None:
    """The single values, where some point is the mean of more than one."""
    if singles is None:
        return None
    counts = singles.groupby(keys, dropna=False)["value"].count()
    return singles if len(counts) and counts.max() > 1 else None


def _placed(part: pd.DataFrame, rows: Sequence[str], names: Sequence[str], lanes: Sequence[str]) -> pd.DataFrame:
    """`y` of every point that has a row and a lane."""
    part = part[part["row"].isin(rows) & part["lane"].isin(names)]
    y = part["row"].map({name: float(at) for at, name in enumerate(rows)})
    if lanes:
        y += part["lane"].map({name: 0.8 / len(lanes) * (at - (len(lanes) - 1) / 2) for at, name in enumerate(lanes)})
    return part.assign(y=y)


def _dodged(frame: pd.DataFrame, lanes: Sequence[str], x: pd.Series) -> pd.DataFrame:
    """Lanes a little apart, so that equal points are both seen."""
    place = frame["lane"].map({name: at - (len(lanes) - 1) / 2 for at, name in enumerate(lanes)}).astype(float)
    return frame.assign(x=frame["x"] + min(0.018, 0.08 / len(lanes)) * float(np.ptp(x)) * place) if len(x) else frame


def _lanes(frame: pd.DataFrame, panel: str, look: Look) -> Iterator[tuple[str, pd.DataFrame]]:
    """The points of a panel, name by name."""
    part = frame[frame["panel"] == panel]
    for name in look.names:
        if len(mine := part[part["lane"] == name]):
            yield name, mine.sort_values("x", kind="stable") if "x" in mine else mine


def _spread(part: pd.DataFrame) -> np.ndarray | None:
    """Lengths of the bars below and above each point: a standard deviation, or to low and high; None where unknown."""
    low, high = (part.get(name, pd.Series(np.nan, part.index)).astype(float) for name in ("low", "high"))
    std = part.get("std", pd.Series(np.nan, part.index)).astype(float)
    ends = np.array([std.fillna(part["value"] - low), std.fillna(high - part["value"])], float)
    return ends.clip(min=0) if np.isfinite(ends).any() else None


def _grid(
    panels: int, height: float, sharey: bool, named: int, columns: int = _PANELS_IN_LINE
) -> tuple[Figure, list[Axes]]:
    """Axes in lines of `columns` below a legend of `named` names; those that no panel needs are taken away."""
    columns = max(1, min(columns, panels))
    lines = max(1, ceil(panels / columns))
    legend = 0.2 * ceil((named + 3) / _NAMES_IN_LINE)
    size = (5.8 if columns == 1 else WIDTH, 0.5 + legend + height * lines + 0.2 * (lines - 1))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=sharey)
    for spare in grid.ravel()[max(1, panels) :]:
        spare.remove()
    return figure, list(grid.ravel()[: max(1, panels)])


def _rows_axis(axes: Axes, rows: Sequence[str], banded: bool) -> None:
    axes.set_yticks(range(len(rows)), [label(name, 20) for name in rows])
    axes.set_ylim(max(1, len(rows)) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    for between in range(len(rows) - 1) if banded else ():
        axes.axhline(between + 0.5, color=GREY, alpha=0.35, linewidth=0.6)


def _values_axis(axes: Axes, zero: bool) -> None:
    low, high = axes.get_xlim()
    if zero:
        axes.set_xlim(min(low, -0.1 * high, -1e-3), max(high, -0.1 * low, 1e-3))
        axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    else:
        axes.set_xlim(min(0, low) - 0.03 * high, high + 0.04 * (high - min(0, low)))


def _legend(figure: Figure, handles: list[Line2D], hollow: pd.DataFrame, singles: pd.DataFrame) -> None:
    """Above the axes: the lanes (if there are any), then what filled, hollow and small mean."""
    kinds = [Line2D([], [], label="measured", **_DOT)]
    if len(hollow):
        kinds.append(Line2D([], [], markerfacecolor="none", label="published", **_DOT))
    if len(singles):
        kinds.append(Line2D([], [], label="one fold and seed", **_SMALL))
    handles = handles + (kinds if len(kinds) > 1 else [])
    if handles:
        style: Style = {"columnspacing": 1.2, "handletextpad": 0.4, "fontsize": 9}
        figure.legend(handles=handles, loc="outside upper center", ncols=min(_NAMES_IN_LINE, len(handles)), **style)

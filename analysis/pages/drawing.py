"""Drawings that pages share: rows of points, and lines over a number; a panel per attribute.

Points are means over folds and seeds with bars of one standard deviation where there are several, small ink dots the
single ones, hollow marks what the paper prints.  Tables come as they are: which of their columns is the panel, the row,
the lane and the value is said by name; `<value>_std`, or std, or low and high are the spread.
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

from analysis.pages.theme import GREY, INK, Look, Style, label, theme
from tatl.names import AVERAGE

_WIDTH = 7.6  # inches of a figure of several panels
_PANELS_IN_LINE = 3
_ROW_LABEL = 20  # characters of a line of a row's name
_SMALL: Style = {
    "color": INK, "alpha": 0.5, "marker": "o", "markersize": 2.6, "markeredgewidth": 0, "linestyle": "none",
}  # fmt: skip
_DOT: Style = {"color": GREY, "marker": "o", "markersize": 6, "linestyle": "none"}


def points(
    frame: pd.DataFrame,
    panels: Sequence[str],
    rows: Sequence[str],
    look: Look,
    axis: str,
    *,
    columns: tuple[str, str, str, str] = ("attribute", "variant", "variant", "dice"),
    singles: pd.DataFrame | None = None,
    hollow: pd.DataFrame | None = None,
    zero: bool = False,
    in_line: int = _PANELS_IN_LINE,
) -> Figure:
    """Rows of points, a panel per name in `panels`; where lanes are not the rows themselves, a lane each in the row.

    Args:
        frame: the means
        panels: what the panels are, in order
        rows: down the vertical axis
        look: of the lanes
        axis: what the values are, below the horizontal axis
        columns: of panels (empty: all in one), rows, lanes and values
        singles: every fold and seed; shown where some point is the mean of several
        hollow: the paper's
        zero: values are differences: mark zero instead of starting there
        in_line: panels in a line, at most
    """
    names = dict(zip(("panel", "row", "lane", "value"), columns, strict=True))
    banded = not set(look.names) <= set(rows)
    at = places(rows, look.names if banded else [""])
    parts = []
    for part in (frame, hollow, _several(singles, names)):
        part = _tidy(part, panels, names)
        part = part[part["lane"].isin(look.names)]
        keys = zip(part["row"], part["lane"] if banded else [""] * len(part), strict=True)
        parts.append(part.assign(y=[at.get(key, np.nan) for key in keys]).dropna(subset="y"))
    broken = 0.12 * any("\n" in label(name, _ROW_LABEL) for name in rows)
    each = max((0.26 if len(rows) < 9 else 0.21) + broken, 0.15 * banded * len(look.names))
    height = 0.5 + each * max(1, len(rows))
    with theme():
        figure, grid = axes_grid(len(panels), height, banded * len(look.names), in_line, sharey=True)
        ours: Style = {"linestyle": "none", "elinewidth": 1.6, "zorder": 4}
        for axes, panel in zip(grid, panels, strict=False):
            _fill(axes, panel, look, ("value", "y"), parts, ours, {"linestyle": "none"})
            rows_axis(axes, rows, banded)
            _values_axis(axes, zero)
        figure.supxlabel(axis, fontsize=9.5)
        legend(figure, [*(look.handles() if banded else []), *_kinds(*parts[1:])])
    return figure


def lines(
    frame: pd.DataFrame,
    panels: Sequence[str],
    look: Look,
    titles: tuple[str, str],
    *,
    columns: tuple[str, str, str, str],
    singles: pd.DataFrame | None = None,
    hollow: pd.DataFrame | None = None,
) -> Figure:
    """A line per lane over a number, a panel per name in `panels`.

    Args:
        frame: the means
        panels: what the panels are, in order
        look: of the lanes
        titles: of the horizontal and the vertical axis
        columns: of panels, lanes, numbers across and values
        singles: every fold and seed; shown where some point is the mean of several
        hollow: the paper's, dashed
    """
    names = dict(zip(("panel", "lane", "x", "value"), columns, strict=True))
    parts = [_tidy(part, panels, names) for part in (frame, hollow, _several(singles, names))]
    parts[0], parts[2] = (_dodged(part, look.names, parts[0]["x"]) for part in (parts[0], parts[2]))
    ours: Style = {"linewidth": 1.5, "elinewidth": 1.2, "zorder": 4}
    with theme():
        figure, grid = axes_grid(len(panels), 2.0, len(look.names))
        for axes, panel in zip(grid, panels, strict=False):
            _fill(axes, panel, look, ("x", "value"), parts, ours, {"linestyle": (0, (2, 2)), "linewidth": 1})
            axes.grid(True, axis="y")
        figure.supxlabel(titles[0], fontsize=9.5)
        figure.supylabel(titles[1], fontsize=9.5)
        legend(figure, [*look.handles(linestyle="solid", linewidth=1.5), *_kinds(*parts[1:])])
    return figure


def axes_grid(
    panels: int, height: float, named: int, in_line: int = _PANELS_IN_LINE, width: float = _WIDTH, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Axes in lines of `in_line` below a legend of `named` names; those that no panel needs are taken away."""
    columns = max(1, min(in_line, panels))
    lines = max(1, ceil(panels / columns))
    size = (5.8 if columns == 1 < in_line else width, 0.5 + 0.05 * (named + 3) + height * lines + 0.2 * (lines - 1))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=sharey).ravel()
    for spare in grid[max(1, panels) :]:
        spare.remove()
    return figure, list(grid[: max(1, panels)])


def places(rows: Sequence[str], lanes: Sequence[str]) -> dict[tuple[str, str], float]:
    """The height of each lane of each row, from the top: rows are 1 apart, the lanes of one fill 0.8 of it."""
    middle, step = (len(lanes) - 1) / 2, 0.8 / max(1, len(lanes))
    return {(row, lane): i + step * (j - middle) for i, row in enumerate(rows) for j, lane in enumerate(lanes)}


def rows_axis(axes: Axes, rows: Sequence[str], banded: bool = True) -> None:
    """Names down the vertical axis; bands where each row has lanes."""
    axes.set_yticks(range(len(rows)), [label(name, _ROW_LABEL) for name in rows])
    axes.set_ylim(max(1, len(rows)) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    for between in range(len(rows) - 1) if banded else ():
        axes.axhline(between + 0.5, color=GREY, alpha=0.35, linewidth=0.6)


def legend(figure: Figure, names: Sequence[Any], kinds: Sequence[Any] = ()) -> None:
    """Names above the axes; `kinds` below them, where no label of the whole figure stands."""
    in_line = 4 if max((len(each.get_label()) for each in names), default=0) < 20 else 3
    for handles, where in ((names, "upper"), (kinds, "lower")):
        style: Style = {"loc": f"outside {where} center", "columnspacing": 1.2, "handletextpad": 0.4, "fontsize": 9}
        if handles:
            figure.legend(handles=list(handles), ncols=min(in_line, len(handles)), **style)


def _kinds(hollow: pd.DataFrame, singles: pd.DataFrame) -> list[Line2D]:
    """What filled, hollow and small marks mean, where there is more than one kind."""
    kinds = [Line2D([], [], markerfacecolor="none", label="published", **_DOT)] * bool(len(hollow))
    kinds += [Line2D([], [], label="one fold and seed", **_SMALL)] * bool(len(singles))
    return [Line2D([], [], label="measured", **_DOT), *kinds] if kinds else []


def _tidy(part: pd.DataFrame | None, panels: Sequence[str], names: dict[str, str]) -> pd.DataFrame:
    """The finite values of these panels, their columns as they are called here."""
    if part is None:
        return pd.DataFrame(columns=list(names))
    part = part.reset_index(drop=True).rename(columns={f"{names['value']}_std": "std"})
    found = part.reindex(columns=["std", "low", "high"]).astype(float)
    found = found.assign(**{own: part[name] if name else "" for own, name in names.items()})
    return found[found["panel"].isin(panels) & np.isfinite(found["value"].astype(float))]


def _several(singles: pd.DataFrame | None, names: dict[str, str]) -> pd.DataFrame | None:
    """The single values, where some point is the mean of more than one."""
    if singles is None or singles.empty:
        return None
    keys = [name for own, name in names.items() if name and own != "value"]
    counts = singles.groupby(list(dict.fromkeys(keys)), dropna=False)[names["value"]].count()
    return singles if counts.max() > 1 else None


def _fill(
    axes: Axes, panel: str, look: Look, at: tuple[str, str], parts: Sequence[pd.DataFrame], ours: Style, theirs: Style
) -> None:
    """One panel: means with their spreads, the paper's hollow, single ones small; `at` says what is across and up."""
    (across, up), (frame, hollow, singles) = at, parts
    for name, part in _lanes(hollow, panel, look):
        axes.plot(part[across], part[up], **look.point(name, hollow=True) | theirs)
    for name, part in _lanes(frame, panel, look):
        spread: Style = {"xerr" if across == "value" else "yerr": _spread(part)}
        axes.errorbar(part[across], part[up], **spread, **look.point(name) | ours)
    small = singles[singles["panel"] == panel]
    axes.plot(small[across], small[up], zorder=3.5, **_SMALL)
    panel_title(axes, panel)


def panel_title(axes: Axes, panel: str) -> None:
    axes.set_title("average over attributes" if panel == AVERAGE else label(panel, 26), fontsize=9.5)


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
    below, above = part["value"] - part["low"], part["high"] - part["value"]
    ends = np.array([part["std"].fillna(below), part["std"].fillna(above)], float)
    return ends.clip(min=0) if np.isfinite(ends).any() else None


def _values_axis(axes: Axes, zero: bool) -> None:
    low, high = axes.get_xlim()
    if zero:
        axes.set_xlim(min(low, -0.1 * high, -1e-3), max(high, -0.1 * low, 1e-3))
        axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    else:
        axes.set_xlim(min(0, low) - 0.03 * high, high + 0.04 * (high - min(0, low)))

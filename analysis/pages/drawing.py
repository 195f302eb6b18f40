"""Two drawings that the comparisons share: rows of dots, and lines over a number; a panel per attribute.

Points are means over folds and seeds with bars of one standard deviation where there are several, small ink dots the
single ones, hollow marks what the paper prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.pages.theme import GREY, INK, Colour, Style, label, markers, palette, theme
from tatl.names import AVERAGE

COLUMNS = 3
WIDTH = 7.6
LEGEND_LINE = 4


@dataclass(frozen=True)
class Look:
    """Names in their order with the colour and marker that each has in every figure."""

    names: list[str]
    colour: dict[str, Colour]
    marker: dict[str, str]

    @classmethod
    def of(cls, names: Sequence[str], first: Sequence[str]) -> Look:
        return cls(list(names), palette(names, first), markers(names, first))

    def point(self, name: str, hollow: bool = False, size: float = 6) -> Style:
        """A marker, edged with ink so that light colours are seen on white."""
        style: Style = {"color": self.colour[name], "marker": self.marker[name], "markersize": size}
        edge: Style = {"markerfacecolor": "none", "markeredgecolor": self.colour[name], "markeredgewidth": 1.2}
        return style | (edge if hollow else {"markeredgecolor": INK, "markeredgewidth": 0.5})

    def handles(self, **more: object) -> list[Line2D]:
        style: Style = {"linestyle": "none"} | more
        return [Line2D([], [], label=label(name, 24), **(self.point(name) | style)) for name in self.names]


def dots(
    frame: pd.DataFrame,
    panels: Sequence[str],
    rows: Sequence[str],
    look: Look,
    axis: str,
    *,
    singles: pd.DataFrame | None = None,
    hollow: pd.DataFrame | None = None,
    zero: bool = False,
    columns: int = COLUMNS,
) -> Figure:
    """Rows of dots, a panel per name in `panels`; where lanes are not the rows themselves, a lane each within the row.

    Args:
        frame: panel, row, lane, value, and std or low and high
        panels: what the panels are, in order
        rows: down the vertical axis
        look: of the lanes
        axis: what the values are, below the horizontal axis
        singles: panel, row, lane, value of every fold and seed
        hollow: panel, row, lane, value of the paper
        zero: values are differences: mark zero instead of starting there
        columns: panels in a line, at most
    """
    lanes = [] if set(look.names) <= set(rows) else look.names
    frame, singles, hollow = (_shown(part, panels, rows, look.names) for part in (frame, singles, hollow))
    height = 0.5 + max(0.26 if len(rows) < 9 else 0.21, 0.15 * len(lanes)) * max(1, len(rows))
    with theme():
        figure, grid = _grid(len(panels), height, True, len(lanes), columns)
        for axes, panel in zip(grid, panels, strict=False):
            for part, draw in ((hollow, _hollow), (frame, _point), (singles, _single)):
                for record in _records(part, panel):
                    draw(axes, record, _place(record, rows, lanes), look)
            _rows_axis(axes, rows, bool(lanes))
            _values_axis(axes, zero)
            axes.set_title(title(panel), fontsize=9.5)
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
        singles: panel, lane, x, value of every fold and seed
        hollow: panel, lane, x, value of the paper, dashed
        behind: panel, lane, x, value of thin lines
        dense: many points: lines alone, without markers
    """
    if not dense:
        singles = None if singles is None else _dodged(singles, look.names, frame["x"])
        frame = _dodged(frame, look.names, frame["x"])
    with theme():
        figure, grid = _grid(len(panels), 2.0, False, len(look.names))
        for axes, panel in zip(grid, panels, strict=False):
            for lane, part in _by_lane(hollow, panel, look):
                dashes: Style = {"linestyle": (0, (2, 2)), "linewidth": 1}
                axes.plot(part["x"], part["value"], **dashes, **look.point(lane, hollow=True, size=5))
            for lane, part in _by_lane(behind, panel, look):
                axes.plot(part["x"], part["value"], color=look.colour[lane], linewidth=0.8, alpha=0.55, zorder=2)
            for lane, part in _by_lane(frame, panel, look):
                _line(axes, part, look.point(lane, size=4 if dense else 6))
            for record in _records(singles, panel):
                axes.scatter(record["x"], record["value"], s=7, color=INK, alpha=0.5, linewidth=0, zorder=3.5)
            axes.set_title(title(panel), fontsize=9.5)
            axes.grid(True, axis="y")
        figure.supxlabel(axes_names[0], fontsize=9.5)
        figure.supylabel(axes_names[1], fontsize=9.5)
        _legend(figure, look.handles(linestyle="solid", linewidth=1.5), hollow, singles)
    return figure


def _dodged(frame: pd.DataFrame, lanes: Sequence[str], x: pd.Series) -> pd.DataFrame:
    """Lanes a little apart, so that equal points are both seen."""
    if x.dropna().empty:
        return frame
    place = frame["lane"].map({name: i - (len(lanes) - 1) / 2 for i, name in enumerate(lanes)}).astype(float)
    return frame.assign(x=frame["x"] + min(0.018, 0.08 / len(lanes)) * float(np.ptp(x.dropna())) * place)


def _grid(panels: int, height: float, sharey: bool, named: int, columns: int = COLUMNS) -> tuple[Figure, list[Axes]]:
    """Axes in lines of `columns` below a legend of `named` names; those that no panel needs are taken away."""
    columns = max(1, min(columns, panels))
    lines = max(1, ceil(panels / columns))
    legend = 0.2 * ceil((named + 3) / LEGEND_LINE)
    size = (5.8 if columns == 1 else WIDTH, 0.5 + legend + height * lines + 0.2 * (lines - 1))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=sharey)
    for spare in grid.ravel()[max(1, panels) :]:
        spare.remove()
    return figure, list(grid.ravel()[: max(1, panels)])


def _shown(part: pd.DataFrame | None, panels: Sequence[str], rows: Sequence[str], lanes: Sequence[str]) -> pd.DataFrame:
    """The points that have a place in the figure."""
    if part is None:
        return pd.DataFrame(columns=["panel", "row", "lane", "value"])
    return part[part["panel"].isin(panels) & part["row"].isin(rows) & part["lane"].isin(lanes)]


def _records(frame: pd.DataFrame | None, panel: str) -> Iterator[dict]:
    if frame is not None:
        part = frame[frame["panel"] == panel]
        yield from part[np.isfinite(part["value"].astype(float))].to_dict("records")


def _by_lane(frame: pd.DataFrame | None, panel: str, look: Look) -> Iterator[tuple[str, pd.DataFrame]]:
    if frame is not None:
        part = frame[(frame["panel"] == panel) & np.isfinite(frame["value"])]
        for lane in look.names:
            if (mine := part[part["lane"] == lane]).size:
                yield lane, mine.sort_values("x", kind="stable")


def _place(record: dict, rows: Sequence[str], lanes: Sequence[str]) -> float:
    y = float(list(rows).index(record["row"]))
    return y + (0.8 / len(lanes) * (lanes.index(record["lane"]) - (len(lanes) - 1) / 2) if lanes else 0)


def _point(axes: Axes, record: dict, y: float, look: Look) -> None:
    low, high = record.get("low", np.nan), record.get("high", np.nan)
    if np.isfinite(std := record.get("std", np.nan)):
        low, high = record["value"] - std, record["value"] + std
    if np.isfinite(low) and np.isfinite(high):
        axes.plot([low, high], [y, y], color=look.colour[record["lane"]], linewidth=1.6, zorder=3)
    axes.plot(record["value"], y, zorder=4, **look.point(record["lane"]))


def _hollow(axes: Axes, record: dict, y: float, look: Look) -> None:
    axes.plot(record["value"], y, zorder=3, **look.point(record["lane"], hollow=True))


def _single(axes: Axes, record: dict, y: float, look: Look) -> None:
    axes.scatter(record["value"], y, s=7, color=INK, alpha=0.5, linewidth=0, zorder=3.5)


def _line(axes: Axes, part: pd.DataFrame, style: Style) -> None:
    std = part.get("std", pd.Series(np.nan, index=part.index))
    error = std if np.isfinite(std).any() else None
    axes.errorbar(part["x"], part["value"], yerr=error, linewidth=1.5, elinewidth=1.2, zorder=4, **style)


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


def _legend(figure: Figure, handles: list[Line2D], hollow: pd.DataFrame | None, singles: pd.DataFrame | None) -> None:
    """Above the axes: the lanes (if there are any), then what filled, hollow and small mean."""
    dot: Style = {"color": GREY, "marker": "o", "linestyle": "none", "markersize": 6}
    kinds = [Line2D([], [], label="measured", **dot)]
    if hollow is not None and len(hollow):
        kinds.append(Line2D([], [], markerfacecolor="none", label="published", **dot))
    if singles is not None and len(singles):
        kinds.append(
            Line2D([], [], label="one fold and seed", **(dot | {"color": INK, "alpha": 0.5, "markersize": 2.6}))
        )
    handles = handles + (kinds if len(kinds) > 1 else [])
    if handles:
        style: Style = {"columnspacing": 1.2, "handletextpad": 0.4, "fontsize": 9}
        figure.legend(handles=handles, loc="outside upper center", ncols=min(LEGEND_LINE, len(handles)), **style)


def title(panel: str) -> str:
    return "average over attributes" if panel == AVERAGE else label(panel, 26)


def tidy(frame: pd.DataFrame, score: str, row: str, lane: str) -> pd.DataFrame:
    """A comparison's scores as `dots` and `lines` take them: panel, row, lane, value, std."""
    std = frame[f"{score}_std"] if f"{score}_std" in frame else pd.Series(np.nan, index=frame.index)
    return pd.DataFrame(
        {"panel": frame["attribute"], "row": frame[row], "lane": frame[lane], "value": frame[score], "std": std}
    )


def several(folds: pd.DataFrame, keys: Sequence[str] = ("panel", "row", "lane")) -> pd.DataFrame | None:
    """The single values, where some point is the mean of more than one."""
    counted = folds.groupby(list(keys), dropna=False)["value"].count()
    return folds if len(counted) and counted.max() > 1 else None

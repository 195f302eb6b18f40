"""The drawings of the data's page: pairs of attributes, areas, and images with outlines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.pages.drawing import bars
from analysis.pages.theme import GREY, INK, Style, label, palette, theme
from analysis.tables.paper import PUBLISHED
from tatl.names import LESION, SKIN_ATTRIBUTES, UNION
from tatl.prediction.contour import contour

MASKS = {LESION: "lesion", UNION: "union of attributes"}


def counted_masks(table: pd.DataFrame) -> Figure:
    """Table 2: share of images that show each mask, here (bars) and in the paper's data (hollow marks)."""
    colour = palette(list(table["mask"]), SKIN_ATTRIBUTES) | {name: to_rgb(GREY) for name in MASKS}
    named = table.assign(name=[MASKS.get(name, name) for name in table["mask"]])
    return bars(
        list(named["name"]),
        list(table["rate"]),
        [f"{row['present']:.0f}" if np.isfinite(row["rate"]) else "unknown" for row in table.to_dict("records")],
        {name: colour[mask] for name, mask in zip(named["name"], named["mask"], strict=True)},
        "images that show it (%, their number beside the bar)",
        {name: list(table[f"{name}_rate"]) for name in PUBLISHED},
    )


def heat(rate: pd.DataFrame, number: pd.DataFrame) -> Figure:
    """A square per pair, with the share in % and, where there is room, the number of images."""
    count, few = len(rate), len(rate) <= 8
    shares, numbers = rate.to_numpy(float), number.to_numpy(float)
    with theme():
        side = 0.82 if few else 0.46
        figure = Figure(figsize=(1.9 + side * count, 1.2 + side * 0.85 * count), layout="constrained")
        axes = figure.subplots()
        axes.pcolormesh(np.ma.masked_invalid(shares), cmap="cividis", vmin=0, vmax=100, edgecolors="none")
        for y in range(count):
            for x in range(count):
                _square(axes, x, y, shares[y, x], numbers[y, x], few)
        axes.set_xticks(
            np.arange(count) + 0.5, [label(name, 12 if few else 24) for name in rate.columns], rotation=0 if few else 90
        )
        axes.set_yticks(np.arange(count) + 0.5, [label(name, 20 if few else 26) for name in rate.index])
        axes.set(ylim=(count, 0), xlabel="also show", ylabel="of the images that show")
        axes.grid(False)
        axes.tick_params(length=0)
    return figure


def _square(axes: Axes, x: int, y: int, rate: float, number: float, few: bool) -> None:
    told = "none" if not np.isfinite(rate) else f"{rate:.0f} %\n{number:.0f}" if few else f"{rate:.0f}"
    colour = INK if not np.isfinite(rate) else "white" if rate < 60 else "black"
    axes.text(x + 0.5, y + 0.5, told, ha="center", va="center", fontsize=8 if few else 7, color=colour)


def ranges(frame: pd.DataFrame) -> Figure:
    colour = palette(list(frame["mask"]), SKIN_ATTRIBUTES) | dict.fromkeys(MASKS, GREY)  # type: ignore[operator]
    with theme():
        figure = Figure(figsize=(6.4, 1.15 + 0.32 * len(frame)), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(frame.to_dict("records")):
            axes.plot([row["area_min"], row["area_max"]], [y, y], color=colour[row["mask"]], linewidth=1.2)
            axes.plot(
                [row["area_q25"], row["area_q75"]],
                [y, y],
                color=colour[row["mask"]],
                linewidth=7,
                solid_capstyle="butt",
            )
            axes.plot(row["area_median"], y, marker="|", color=INK, markersize=11, markeredgewidth=2)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_yticks(range(len(frame)), [MASKS.get(name, label(name, 28)) for name in frame["mask"]])
        axes.set_ylim(len(frame) - 0.4, -0.6)
        axes.set_xlabel("% of the image (log), in images that show it")
        line: Style = {"color": GREY, "linewidth": 1.2}
        kinds = [
            Line2D([], [], color=INK, marker="|", linestyle="none", markersize=10, markeredgewidth=2, label="median"),
            Line2D([], [], label="quartiles", **(line | {"linewidth": 7})),
            Line2D([], [], label="smallest to largest", **line),
        ]
        figure.legend(handles=kinds, loc="outside upper center", ncols=3)
    return figure


def outlined(images: np.ndarray, truth: np.ndarray, ids: Sequence[str], bits: dict[str, int]) -> Figure:
    columns = min(3, len(images))
    lines = -(-len(images) // columns)
    colour = palette(list(bits), SKIN_ATTRIBUTES)
    height = 2.3 * lines * images.shape[1] / images.shape[2]
    with theme():
        legend = 0.25 * -(-len(bits) // 3)
        figure = Figure(figsize=(2.3 * columns, height + 0.2 * lines + legend + 0.1), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, image, mask, name in zip(grid, images, truth, ids, strict=False):
            axes.imshow(image)
            axes.set_title(name, fontsize=8, pad=2)
            for attribute, bit in bits.items():
                contour(axes, mask & bit != 0, colors=[colour[attribute]], linewidths=1.6)
        handles = [Line2D([], [], color=colour[name], linewidth=2, label=label(name, 24)) for name in bits]
        if handles:
            figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8)
    return figure

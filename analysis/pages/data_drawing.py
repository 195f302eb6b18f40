"""The drawings of the data's page: pairs of attributes, areas, and images with outlines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.pages.theme import GREY, INK, Style, label, palette, theme
from analysis.tables.paper import PUBLISHED
from tatl.names import LESION, SKIN_ATTRIBUTES, UNION
from tatl.prediction.contour import contour


def called(mask: str, width: int = 100) -> str:
    """A mask in words."""
    return "union of attributes" if mask == UNION else label(mask, width)


def _colours(masks: Iterable[str]) -> list[Any]:
    """The colour of each attribute; grey for the lesion and the union."""
    names = list(masks)
    colour = palette(names, SKIN_ATTRIBUTES)
    return [GREY if name in (LESION, UNION) else colour[name] for name in names]


def rates(table: pd.DataFrame) -> Figure:
    """A bar per mask with the number of images beside it, and below it a hollow mark per published share.

    table: mask, present, rate (%), and for each of `PUBLISHED` <name>_rate
    """
    hollow: Style = {"linestyle": "none", "markerfacecolor": "none", "color": INK, "markersize": 5}
    handles: list[Any] = [Patch(color=GREY, label="this store")]
    with theme():
        figure = Figure(figsize=(6.8, 1.15 + 0.34 * len(table)), layout="constrained")
        axes, places = figure.subplots(), np.arange(len(table))
        axes.barh(places, table["rate"].fillna(0), height=0.62, color=_colours(table["mask"]), alpha=0.85)
        for y, (rate, present) in zip(places, table[["rate", "present"]].to_numpy(float), strict=True):
            text = f"{present:.0f}" if np.isfinite(rate) else "unknown"
            axes.annotate(text, (np.nan_to_num(rate), y), (5, 0), textcoords="offset points", va="center")
        for name, mark in zip(PUBLISHED, "o^", strict=True):
            if table[f"{name}_rate"].notna().any():
                axes.plot(table[f"{name}_rate"], places + 0.31, marker=mark, clip_on=False, zorder=5, **hollow)
                handles.append(Line2D([], [], marker=mark, label=f"published ({name})", **hollow))
        axes.set_yticks(places, [called(name, 28) for name in table["mask"]])
        axes.set(ylim=(len(table) - 0.3, -0.6), xlim=(0, 108))
        axes.set_xlabel("images that show it (%, their number beside the bar)")
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def heat(table: pd.DataFrame, names: list[str]) -> Figure:
    """A square per pair of attributes, with its `rate` and, where there is room, the number of `images`.

    table: attribute (rows), other (columns), rate, images; blank where no image has the attribute
    """
    rate, number = (
        table.pivot_table(index="attribute", columns="other", values=name, sort=False, dropna=False)
        .reindex(index=names, columns=names)
        .astype(float)
        for name in ("rate", "images")
    )
    few = len(names) <= 8
    texts = rate.map("{:.0f}".format) + (" %\n" + number.map("{:.0f}".format) if few else "")
    side = 0.82 if few else 0.46
    with theme():
        figure = Figure(figsize=(1.9 + side * len(names), 1.2 + side * 0.85 * len(names)), layout="constrained")
        axes = figure.subplots()
        size = {"fontsize": 8 if few else 7}
        sns.heatmap(rate, vmin=0, vmax=100, cmap="cividis", annot=texts, fmt="", annot_kws=size, cbar=False, ax=axes)
        axes.set_xticklabels([label(name, 12 if few else 24) for name in names], rotation=0 if few else 90)
        axes.set_yticklabels([label(name, 20 if few else 26) for name in names], rotation=0)
        axes.set(xlabel="also show", ylabel="of the images that show")
        axes.tick_params(length=0)
    return figure


def ranges(frame: pd.DataFrame) -> Figure:
    """A box of quartiles per mask with its median, and a line from the smallest to the largest."""
    fields = {"area_min": "whislo", "area_q25": "q1", "area_median": "med", "area_q75": "q3", "area_max": "whishi"}
    boxes: list[dict[str, Any]] = [{key: row[name] for name, key in fields.items()} for row in frame.to_dict("records")]
    median = {"color": INK, "linewidth": 2}
    with theme():
        figure = Figure(figsize=(6.4, 1.15 + 0.32 * len(frame)), layout="constrained")
        axes = figure.subplots()
        for y, (colour, box) in enumerate(zip(_colours(frame["mask"]), boxes, strict=True)):
            line, fill = {"color": colour, "linewidth": 1.2}, {"facecolor": colour, "edgecolor": colour}
            axes.bxp(
                [box], [y], widths=0.4, orientation="horizontal", patch_artist=True, showfliers=False, showcaps=False,
                boxprops=fill, whiskerprops=line, medianprops=median,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_yticks(range(len(frame)), [called(name, 28) for name in frame["mask"]])
        axes.set_ylim(len(frame) - 0.4, -0.6)
        axes.set_xlabel("% of the image (log): smallest, quartiles, median, largest")
    return figure


def outlined(images: np.ndarray, truth: np.ndarray, ids: Sequence[str], bits: dict[str, int]) -> Figure:
    """Images uint8 [n, H, W, 3] with the outlines of their masks: truth [n, H, W] has a bit per attribute."""
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
        handles: list[Any] = [Line2D([], [], color=colour[name], linewidth=2, label=label(name, 24)) for name in bits]
        if handles:
            figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8)
    return figure

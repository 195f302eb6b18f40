"""The figures of the variants' page: one theme, one function per figure (`analysis.pages.theme` says the look)."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from analysis.pages.protocols import Counted
from analysis.pages.theme import GREY, INK, Style, label, markers, palette, theme
from analysis.tables import read as tables
from analysis.tables.read import Study
from tatl.names import AVERAGE, LESION, SKIN_ATTRIBUTES, UNION, VARIANTS
from tatl.prediction.contour import contour

TRUTH, PREDICTION, BOX = "#00c853", "#ff1744", "#ffd600"
MASKS = {LESION: "lesion", UNION: "union of attributes"}


def averages(study: Study, score: str = "dice") -> Figure:
    """Tables 3 and 4: the average of each variant, measured (filled, bars: ± std) and published (hollow)."""
    table = tables.averages(study)
    table = table[table["variant"].isin(study.variants)]
    names = list(table["variant"])
    with theme():
        figure = Figure(figsize=(5.6, 1.25 + 0.36 * max(1, len(names))), layout="constrained")
        axes = figure.subplots()
        for y, (_, row) in enumerate(table.iterrows()):
            _point(axes, row, y, score, palette(names, VARIANTS), markers(names))
            if np.isfinite(row[score]):
                axes.annotate(f"{row[score]:.3f}", (row[score], y), (0, 7), textcoords="offset points", ha="center")
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.75)
        _score_axis(axes, f"average {score.capitalize()} over attributes")
        _legend(figure, study, names, colours=False)
    return figure


def attributes(study: Study, score: str = "dice") -> Figure:
    """A.10-A.13: each attribute and variant, measured with its folds as dots, and published (hollow)."""
    table = tables.beside(study)
    table = table[table["variant"].isin(study.variants) & (table["attribute"] != AVERAGE)]
    names, step = study.variants, 0.8 / max(1, len(study.variants))
    with theme():
        height = 1.2 + max(0.55, 0.17 * len(names)) * max(1, len(study.attributes))
        figure = Figure(figsize=(7.6, height), layout="constrained")
        axes = figure.subplots()
        for _, row in table.iterrows():
            y = study.attributes.index(row["attribute"]) + step * (names.index(row["variant"]) - (len(names) - 1) / 2)
            _point(axes, row, y, score, palette(names, VARIANTS), markers(names))
            _fold_dots(axes, study, row, y, score)
        axes.set_yticks(range(len(study.attributes)), [label(name) for name in study.attributes])
        axes.set_ylim(len(study.attributes) - 0.45, -0.55)
        for between in range(len(study.attributes) - 1):
            axes.axhline(between + 0.5, color=GREY, alpha=0.35, linewidth=0.6)
        axes.tick_params(axis="y", length=0)
        _score_axis(axes, f"pooled {score.capitalize()}")
        _legend(figure, study, names, colours=True)
    return figure


def _point(axes: Axes, row: pd.Series, y: float, score: str, colour: dict, marker: dict) -> None:
    style: Style = {"color": colour[row["variant"]], "marker": marker[row["variant"]], "linestyle": "none"}
    std = row[f"{score}_std"]
    if np.isfinite(row[score]):
        error = std if np.isfinite(std) else None
        axes.errorbar(row[score], y, xerr=error, markersize=6, elinewidth=1.4, zorder=4, **style)
    if np.isfinite(row[f"published_{score}"]):
        hollow: Style = {"markerfacecolor": "none", "markeredgewidth": 1.1, "alpha": 0.9, "markersize": 6, "zorder": 3}
        axes.plot(row[f"published_{score}"], y, **style, **hollow)


def _fold_dots(axes: Axes, study: Study, row: pd.Series, y: float, score: str) -> None:
    folds = study.folds
    mine = folds[(folds["variant"] == row["variant"]) & (folds["attribute"] == row["attribute"])][score].dropna()
    if len(mine) > 1:
        axes.scatter(mine, np.full(len(mine), y), s=7, color=INK, alpha=0.55, linewidth=0, zorder=5)


def _score_axis(axes: Axes, text: str) -> None:
    axes.set_xlabel(text)
    axes.set_xlim(-0.02, max(0.5, axes.get_xlim()[1] + 0.03))


def _legend(figure: Figure, study: Study, names: Sequence[str], colours: bool) -> None:
    """Above the axes the variants (if asked for), below them what filled, hollow and small mean."""
    colour, marker = palette(names, VARIANTS), markers(names)
    line: Style = {"linestyle": "none", "markersize": 6}
    style: Style = {"columnspacing": 1.2, "handletextpad": 0.3}
    if colours:
        handles = [Line2D([], [], color=colour[name], marker=marker[name], label=name, **line) for name in names]
        figure.legend(handles=handles, loc="outside upper center", ncols=5, **style)
    kinds = [Line2D([], [], color=GREY, marker="o", label="measured", **line)]
    if study.reference:
        told = f"published ({study.reference})"
        kinds.append(Line2D([], [], color=GREY, marker="o", markerfacecolor="none", label=told, **line))
    if colours and len(study.folds) and study.folds.groupby(["variant", "attribute"]).size().max() > 1:
        kinds.append(Line2D([], [], color=INK, marker="o", alpha=0.55, label="one fold", linestyle="none", ms=2.6))
    figure.legend(handles=kinds, loc="outside lower center", ncols=3, **style)


def counts(study: Counted) -> Figure:
    """Table 2: share of images that show each mask, here (bars) and in the paper's data (hollow marks)."""
    table = tables.counts(study)
    colour = palette(list(table["mask"]), SKIN_ATTRIBUTES) | dict.fromkeys(MASKS, sns.color_palette([GREY])[0])
    with theme():
        figure = Figure(figsize=(6.8, 1.15 + 0.34 * max(1, len(table))), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(table.to_dict("records")):
            axes.barh(y, np.nan_to_num(row["rate"]), height=0.62, color=colour[row["mask"]], alpha=0.85)
            told = f"{row['present']:.0f}" if np.isfinite(row["rate"]) else "unknown"
            axes.annotate(told, (np.nan_to_num(row["rate"]), y), (5, 0), textcoords="offset points", va="center")
            for dataset, mark in zip(tables.PUBLISHED, "o^", strict=True):
                style: Style = {"marker": mark, "markerfacecolor": "none", "color": INK, "linestyle": "none"}
                axes.plot(row[f"{dataset}_rate"], y + 0.31, markersize=5, clip_on=False, zorder=5, **style)
        axes.set_yticks(range(len(table)), [MASKS.get(name, label(name, 28)) for name in table["mask"]])
        axes.set_ylim(len(table) - 0.3, -0.6)
        axes.set_xlim(0, 108)
        axes.set_xlabel("images that show it (%, their number beside the bar)")
        _counts_legend(figure, [name for name in tables.PUBLISHED if table[f"{name}_rate"].notna().any()])
    return figure


def _counts_legend(figure: Figure, datasets: Sequence[str]) -> None:
    hollow: Style = {"linestyle": "none", "markerfacecolor": "none", "color": INK, "markersize": 5}
    handles: list[Patch | Line2D] = [Patch(color=GREY, label="this store")]
    for dataset, mark in zip(tables.PUBLISHED, "o^", strict=True):
        if dataset in datasets:
            handles.append(Line2D([], [], marker=mark, label=f"published ({dataset})", **hollow))
    figure.legend(handles=handles, loc="outside upper center", ncols=3)


def gallery(study: Study, cases: int = 6, widest: int = 8) -> Figure:
    """Figures 8 and 9: a row per case: image with its Stage-1 box if any, true and predicted union, every attribute.

    Truth is solid green, prediction dashed red; more than `widest` panels take several lines per case.
    """
    arrays = study.gallery()
    if arrays is None or not len(arrays["image"]):
        raise ValueError("there is no gallery.npz to draw: the study left none")
    names = [str(name) for name in arrays["attributes"]]
    shown = min(cases, len(arrays["image"]))
    lines = ceil((3 + len(names)) / widest)
    columns = ceil((3 + len(names)) / lines)
    aspect = arrays["image"].shape[1] / arrays["image"].shape[2]
    every, width = shown * lines, 1.62
    titles = 0.25 * (1 if lines == 1 else every)
    height = every * ((width - 0.02) * aspect + 0.02) + titles + 0.38
    with theme():
        tight = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
        figure = Figure(figsize=(width * columns, height), layout=tight)
        grid = figure.subplots(every, columns, squeeze=False)
        for case in range(shown):
            panels = grid[case * lines : (case + 1) * lines].ravel()
            _case(panels, arrays, case, [study.bit(name) for name in names])
            if case == 0 or lines > 1:
                _titles(panels, names)
        _gallery_legend(figure, boxed=len(arrays["boxes"]) > 0)
    return figure


def _titles(panels: np.ndarray, names: Sequence[str]) -> None:
    for axes, title in zip(panels, ["image", "true union", "union map", *names], strict=False):
        axes.set_title(label(title, 19), fontsize=8.5, pad=3)


def _case(panels: np.ndarray, arrays: dict[str, np.ndarray], case: int, bits: Sequence[int]) -> None:
    image, truth = arrays["image"][case], arrays["truth"][case]
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(image)
    if len(arrays["boxes"]):
        _box(panels[0], arrays["boxes"][case])
    _note(panels[0], str(arrays["ids"][case]))
    panels[1].imshow(truth >> 1 != 0, cmap="gray", vmin=0, vmax=1)
    if len(arrays["union"]):
        panels[2].imshow(arrays["union"][case], cmap="gray", vmin=0, vmax=255)
    else:
        panels[2].text(0.5, 0.5, "no Stage 2", ha="center", va="center", transform=panels[2].transAxes)
    for axes, bit, probability in zip(panels[3:], bits, arrays["probability"][case], strict=False):
        _overlay(axes, image, truth & bit != 0, probability >= 128)


def _box(axes: Axes, box: np.ndarray) -> None:
    top, left, bottom, right = (int(edge) for edge in box)
    corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=BOX, linewidth=1.6))


def _overlay(axes: Axes, image: np.ndarray, truth: np.ndarray, found: np.ndarray) -> None:
    axes.imshow(image)
    for mask, colour, dashes in ((truth, TRUTH, "solid"), (found, PREDICTION, (0, (3, 1.2)))):
        contour(axes, mask, colors=[colour], linestyles=[dashes], linewidths=1.35)
    total = int(truth.sum() + found.sum())
    _note(axes, f"Dice {2 * int((truth & found).sum()) / total:.2f}" if total else "none, none found")


def _note(axes: Axes, text: str) -> None:
    """A word on the picture itself, in its lower left corner."""
    box = {"facecolor": "black", "alpha": 0.55, "linewidth": 0, "pad": 1.2}
    axes.text(0.02, 0.03, text, transform=axes.transAxes, color="white", fontsize=6.5, va="bottom", bbox=box)


def _gallery_legend(figure: Figure, boxed: bool) -> None:
    handles = [Line2D([], [], color=BOX, label="box of Stage 1, grown by the offset")] if boxed else []
    handles += [
        Line2D([], [], color=TRUTH, label="truth"),
        Line2D([], [], color=PREDICTION, linestyle=(0, (3, 1.2)), label="prediction"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=8.5)

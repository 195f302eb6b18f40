"""Figures 8 and 9 as the paper prints them: a row per case, truth solid green, prediction dashed red."""

from __future__ import annotations

from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from analysis.pages.gallery.page import Gallery, agreement
from analysis.pages.theme import BOX, PREDICTION, TRUTH, label, theme
from tatl.prediction.contour import contour

_WIDEST = 8  # panels in a line
_WIDTH = 1.62  # inches of a panel
_DASHES = (0, (3, 1.2))


def draw_cases(shown: Gallery) -> Figure:
    """Image with its Stage-1 box if any, true union, union map and every attribute; a case may take several lines."""
    titles = ["image", "true union", "union map", *shown.attributes]
    lines = ceil(len(titles) / _WIDEST)
    columns = ceil(len(titles) / lines)
    every = len(shown.ids) * lines
    aspect = shown.image.shape[1] / shown.image.shape[2]
    room = 0.25 * (1 if lines == 1 else every) + 0.38
    with theme():
        tight = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
        size = (_WIDTH * columns, every * ((_WIDTH - 0.02) * aspect + 0.02) + room)
        figure = Figure(figsize=size, layout=tight)
        grid = figure.subplots(every, columns, squeeze=False)
        for case in range(len(shown.ids)):
            panels = grid[case * lines : (case + 1) * lines].ravel()
            _case(panels, shown, case)
            for axes, title in zip(panels, titles if case == 0 or lines > 1 else [], strict=False):
                axes.set_title(label(title, 19), fontsize=8.5, pad=3)
        box = [Line2D([], [], color=BOX, label="box of Stage 1, grown by the offset")]
        truth = Line2D([], [], color=TRUTH, label="truth")
        found = Line2D([], [], color=PREDICTION, linestyle=_DASHES, label="prediction")
        handles = [*(box if shown.boxes is not None else []), truth, found]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=8.5)
    return figure


def _case(panels: np.ndarray, shown: Gallery, case: int) -> None:
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(shown.image[case])
    _note(panels[0], shown.ids[case])
    if shown.boxes is not None:
        top, left, bottom, right = map(int, shown.boxes[case])
        corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
        panels[0].add_patch(Rectangle(corner, *size, fill=False, edgecolor=BOX, linewidth=1.6))
    panels[1].imshow(shown.union[case], cmap="gray", vmin=0, vmax=1)
    if shown.union_map is None:
        panels[2].text(0.5, 0.5, "no Stage 2", ha="center", va="center", transform=panels[2].transAxes)
    else:
        panels[2].imshow(shown.union_map[case], cmap="gray", vmin=0, vmax=255)
    for axes, truth, found in zip(panels[3:], shown.truth[case], shown.found[case], strict=False):
        axes.imshow(shown.image[case])
        contour(axes, truth, colors=[TRUTH], linestyles=["solid"], linewidths=1.35)
        contour(axes, found, colors=[PREDICTION], linestyles=[_DASHES], linewidths=1.35)
        _note(axes, agreement(truth, found))


def _note(axes: Axes, text: str) -> None:
    """A word on the picture itself, in its lower left corner."""
    box = {"facecolor": "black", "alpha": 0.55, "linewidth": 0, "pad": 1.2}
    axes.text(0.02, 0.03, text, transform=axes.transAxes, color="white", fontsize=6.5, va="bottom", bbox=box)

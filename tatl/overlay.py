"""One picture for people: the image with its lesion box and union, then a panel per attribute.

Prediction red, truth (where it is given) green; a thin white line lies under each so that they show on dark skin.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from tatl.contour import DETAIL, contour
from tatl.data.store import UNION
from tatl.ensemble import Found

COLUMNS = 3
PANEL = 4.0  # inches
LONGEST = 3.0  # a panel's longer side over its shorter; longer pictures keep their shape inside of it
BOX, UNION_COLOUR, PREDICTION, TRUTH = "#ffd500", "#00b7ff", "#ff2020", "#19d94a"


def draw_overlay(image: np.ndarray, found: Found, truth: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a PNG of image uint8 [H, W, 3], what was found in it, and true masks bool [H, W] by name."""
    masks, attributes = found.masks, found.attributes
    rows = -(-(1 + len(attributes)) // COLUMNS)
    columns = min(COLUMNS, 1 + len(attributes))
    aspect = float(np.clip(image.shape[0] / image.shape[1], 1 / LONGEST, LONGEST))
    figure = Figure(figsize=(PANEL * columns, (PANEL * aspect + 0.3) * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    shown = _reduced(image)
    for panel in panels[: 1 + len(attributes)]:
        panel.imshow(shown, extent=(-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5))
    _first(panels[0], found)
    for panel, name in zip(panels[1:], attributes, strict=False):
        said = "" if masks[name].any() else ": none found"
        said += ", no truth given" if truth and name not in truth else ""
        panel.set_title(name.replace("_", " ") + said, fontsize=10)
        if name in truth:
            _outline(panel, truth[name], TRUTH)
        _outline(panel, masks[name], PREDICTION)
    figure.legend(handles=_legend(found, bool(truth)), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=100)


def _reduced(image: np.ndarray) -> np.ndarray:
    """At most `DETAIL` pixels a side, each the mean of a block."""
    height, width = (-(-side // DETAIL) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).reduce((width, height)))


def _first(panel: Axes, found: Found) -> None:
    words = {"found": ["lesion box"], "none found": ["no lesion found"], "not looked for": []}[found.lesion]
    panel.set_title(" and ".join([*words, found.union] if UNION in found.masks else words), fontsize=10)
    if found.lesion == "found":
        top, left, bottom, right = found.box
        panel.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec=BOX, lw=2))
    if UNION in found.masks:
        _outline(panel, found.masks[UNION], UNION_COLOUR)


def _outline(panel: Axes, mask: np.ndarray, colour: str) -> None:
    contour(panel, mask, colors="white", linewidths=2.4, alpha=0.5)
    contour(panel, mask, colors=colour, linewidths=1.3)


def _legend(found: Found, truth: bool) -> list[Line2D]:
    shown = [("prediction", PREDICTION)] if found.attributes else []
    shown += [("truth", TRUTH)] if truth else []
    shown += [("lesion box", BOX)] if found.lesion == "found" else []
    shown += [(found.union, UNION_COLOUR)] if UNION in found.masks else []
    return [Line2D([], [], color=colour, label=label) for label, colour in shown]

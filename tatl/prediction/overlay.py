"""Two pictures for people: panels, and one of an image's own size, where a spot of a few pixels still shows.

Of panels there is one each for the lesion with its box, the union, and every attribute: prediction dashed red, truth
(where it is given) solid green below it, so that both show where they are the same; a thin white line lies under each
so that they show on dark skin.  The other picture has every outline in the colour of its mask: prediction is a line of
one colour; truth lies wider below it, broken by black; the names stand below the image in their colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style as styles
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from tatl.names import LESION, UNION
from tatl.prediction.contour import DETAIL, contour
from tatl.prediction.ensemble import Prediction

_COLUMNS = 4
PANEL = 4.0  # inches
_LONGEST = 3.0  # a panel's longer side over its shorter; longer pictures keep their shape inside of it
BOX, PREDICTION, TRUTH = "#ffd500", "#ff2020", "#19d94a"
DASHES: dict[str, Any] = {BOX: "solid", PREDICTION: (0, (3, 2)), TRUTH: "solid"}

Masks = Mapping[str, np.ndarray]


def draw_overlay(image: np.ndarray, found: Prediction, truth: Masks, path: Path) -> None:
    """Write the picture that `overlay_figure` makes as a PNG, whatever a person's matplotlibrc says."""
    with styles.context("default"):
        overlay_figure(image, found, truth).savefig(path, dpi=100)


def overlay_figure(image: np.ndarray, found: Prediction, truth: Masks) -> Figure:
    """Image uint8 [H, W, 3], what was found in it, and the true masks bool [H, W] that are given, by name."""
    names, true = shown_masks(found), true_masks(found, truth)
    figure, panels = _panels(image, len(names))
    shown = _reduced(image)
    for panel, name in zip(panels, names, strict=True):
        panel.imshow(shown, extent=(-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5))
        panel.set_title(_title(found, name, true, len(_of_union(found, truth))), fontsize=10)
        _outlines(panel, found.masks[name], true.get(name))
    if found.lesion == "found":
        _box(panels[0], found)
    figure.legend(handles=_legend(found, true), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def shown_masks(found: Prediction) -> list[str]:
    """The masks in the order of panels: lesion, union, attributes."""
    return [name for name in (LESION, UNION, *found.attributes) if name in found.masks]


def true_masks(found: Prediction, truth: Masks) -> dict[str, np.ndarray]:
    """The truth of the masks that are shown, by name.

    That of the union is the OR of true attributes, whatever is given under its name: where Stage 2 finds it, of every
    one given; without it, of those that were looked for.
    """
    true = {name: truth[name] for name in shown_masks(found) if name in truth and name != UNION}
    of_union = _of_union(found, truth)
    return true | ({UNION: np.logical_or.reduce(of_union)} if of_union and UNION in found.masks else {})


def _of_union(found: Prediction, truth: Masks) -> list[np.ndarray]:
    counted = truth if UNION in found.probabilities else found.attributes
    return [truth[name] for name in counted if name in truth and name not in (LESION, UNION)]


def _panels(image: np.ndarray, number: int) -> tuple[Figure, list[Axes]]:
    """A figure with that many panels in the image's shape, in rows as even as they come."""
    rows = -(-number // _COLUMNS)
    columns = -(-number // rows)
    aspect = float(np.clip(image.shape[0] / image.shape[1], 1 / _LONGEST, _LONGEST))
    figure = Figure(figsize=(PANEL * columns, (PANEL * aspect + 0.3) * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    return figure, list(panels[:number])


def _reduced(image: np.ndarray) -> np.ndarray:
    """At most `DETAIL` pixels a side, each the mean of a block."""
    height, width = (-(-side // DETAIL) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).reduce((width, height)))


def _title(found: Prediction, name: str, true: Masks, attributes: int) -> str:
    """What a panel shows and what it lacks; `attributes` is the number whose truth makes the union's."""
    title = found.union if name == UNION else name.replace("_", " ")
    title += "" if found.masks[name].any() else ": none found"
    if not true:
        return title
    if name not in true:
        return f"{title}, no truth given"
    if not true[name].any():
        return f"{title}, none in truth"
    some = name == UNION and attributes != len(found.attributes)
    return f"{title}, truth of {attributes} attribute{'s' * (attributes != 1)}" if some else title


def _box(panel: Axes, found: Prediction) -> None:
    top, left, bottom, right = found.box
    panel.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec=BOX, lw=2))


def _outlines(panel: Axes, predicted: np.ndarray, true: np.ndarray | None) -> None:
    drawn = [(predicted, PREDICTION)] if true is None else [(true, TRUTH), (predicted, PREDICTION)]
    for mask, _ in drawn:
        contour(panel, mask, colors="white", linewidths=2.6, alpha=0.5)
    for mask, colour in drawn:
        contour(panel, mask, colors=colour, linestyles=[DASHES[colour]], linewidths=1.5)


def _legend(found: Prediction, true: Masks) -> list[Line2D]:
    """Of what is drawn: an empty mask has no outline."""
    shown = [("prediction", PREDICTION)] if any(mask.any() for mask in found.masks.values()) else []
    shown += [("truth", TRUTH)] if any(mask.any() for mask in true.values()) else []
    shown += [("lesion box", BOX)] if found.lesion == "found" else []
    return [Line2D([], [], color=colour, linestyle=DASHES[colour], label=label) for label, colour in shown]


COLOURS = ((255, 213, 0), (0, 229, 255), (255, 79, 216), (125, 255, 58), (255, 140, 26), (140, 155, 255))
PREDICTION_ALONE, WITH_TRUTH = "prediction", "line: prediction, broken by black: truth"


def draw_outlines(image: np.ndarray, prediction: Prediction, truth: Masks, path: Path) -> None:
    """Write the picture of an image uint8 [H, W, 3], with the true masks bool [H, W] that are given, by name."""
    true, pixels, legend = true_masks(prediction, truth), image.copy(), []
    width = max(1, min(image.shape[:2]) // 400)
    stripes = np.add.outer(*(np.arange(side) for side in image.shape[:2])) // (4 * width) % 2 == 1
    for name, colour in zip(shown_masks(prediction), cycle(COLOURS), strict=False):
        wide = _edge(true.get(name, np.zeros_like(stripes)), 2 * width)
        narrow = _edge(prediction.masks[name], width)
        pixels[wide | narrow] = colour
        pixels[wide & stripes & ~narrow] = 0
        if wide.any() or narrow.any():
            legend.append((name.replace("_", " "), colour))
    legend.append((WITH_TRUTH if true else PREDICTION_ALONE, (255, 255, 255)))
    _with_legend(pixels, legend).save(path)


def _edge(mask: np.ndarray, width: int) -> np.ndarray:
    """The outermost pixels of a mask bool [H, W] and `width` pixels outside; all of a mask of one pixel."""
    if not mask.any():
        return mask
    values = mask.astype(np.uint8)
    outside = ndimage.maximum_filter(values, 2 * width + 1)
    inside = ndimage.minimum_filter(values, 3, mode="constant")
    return (outside > inside).astype(bool)


def _with_legend(pixels: np.ndarray, legend: list[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    """The image, and a line of text a name on black below it; a narrow image is widened by black."""
    height, width = pixels.shape[:2]
    size = max(12, min(height, width) // 40)
    font = ImageFont.load_default(size)
    step = size * 3 // 2
    longest = max(int(font.getlength(text)) for text, _ in legend) + size
    canvas = Image.new("RGB", (max(width, longest), height + step * len(legend) + size // 2))
    canvas.paste(Image.fromarray(pixels))
    draw = ImageDraw.Draw(canvas)
    for line, (text, colour) in enumerate(legend):
        draw.text((size // 2, height + size // 2 + line * step), text, fill=colour, font=font)
    return canvas

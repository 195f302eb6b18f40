"""One picture of an image's own size, with every outline in the colour of its mask: a spot of a few pixels still shows.

Prediction is a line of one colour; truth, where it is given, lies wider below it, broken by black.  The names stand
below the image in their colours.
"""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from tatl.prediction.ensemble import Prediction
from tatl.prediction.overlay import Masks, shown_masks, true_masks

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

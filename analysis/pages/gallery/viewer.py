"""The viewer of the gallery: every case as layers, which a script lays over each other behind one slider.

Each layer is a picture with its outlines as SVG on top: truth solid, prediction dashed, a white line under both.
Without scripts, and in print, the layers of all cases stand side by side.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from analysis.pages import files
from analysis.pages.theme import PREDICTION
from tatl.prediction.contour import contour

LONGEST_SIDE = 640  # pixels of a picture, where there are no more than FEW_CASES
FEW_CASES = 8


@dataclass(frozen=True)
class Layer:
    """One layer of one case.

    picture uint8 [H, W] or [H, W, 3]; lines: by colour, SVG path data in half pixels; keys: by colour, what the lines
    are; says: a line per attribute, or one for all; each: lines and what they say are one per attribute, which can be
    chosen.
    """

    name: str
    picture: np.ndarray
    lines: dict[str, list[str]]
    keys: dict[str, str]
    says: list[str] = field(default_factory=list)
    each: bool = False


def viewer(cases: dict[str, list[Layer]], attributes: list[str]) -> str:
    """All cases with their controls, as HTML."""
    longest = longest_side(len(cases))
    pictures = {
        name: [files.address(f"{files.numbered('case')}.webp", _webp(layer.picture, longest)) for layer in layers]
        for name, layers in cases.items()
    }
    return str(_macros().viewer(cases, pictures, attributes, PREDICTION))


def cover(layer: Layer) -> str:
    """One layer as a single picture, hidden where it stands; SVG may load no file, so that this holds its picture."""
    data = files.data_address(".webp", _webp(layer.picture, LONGEST_SIDE))
    drawing = str(_macros().cover(layer, data, PREDICTION))
    return f'<div hidden><img alt="" src="{files.address("cover.svg", drawing.encode())}"></div>'


@cache
def _macros() -> Any:
    loader = PackageLoader("analysis.site", "templates")
    return Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("gallery.html.j2").module


def _webp(pixels: np.ndarray, longest: int) -> bytes:
    """Pixels uint8 [H, W] or [H, W, 3], made smaller where the longer side is above `longest`."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((longest, longest))
    image.save(file, "WEBP", quality=85)
    return file.getvalue()


def longest_side(cases: int) -> int:
    """So that the pictures of many cases together have no more pixels than those of FEW_CASES."""
    return round(LONGEST_SIDE * min(1, (FEW_CASES / cases) ** 0.5))


def outlines(masks: Iterable[np.ndarray]) -> list[str]:
    """The outline of each mask bool [H, W] as SVG path data in half pixels; an empty mask has none."""
    axes = Figure().add_subplot()
    return [_outline(axes, mask) if mask.any() else "" for mask in masks]


def _outline(axes: Axes, mask: np.ndarray) -> str:
    contour(axes, mask)
    polygons = (np.asarray(each) for path in axes.collections[-1].get_paths() for each in path.to_polygons())
    return "".join(_closed(np.rint(2 * polygon + 1).astype(int)) for polygon in polygons)


def _closed(points: np.ndarray) -> str:
    """A closed polygon int [N + 1, 2] whose last point is its first; points on a straight line are left out."""
    step = np.diff(points, axis=0)
    before = np.roll(step, 1, axis=0)
    corners = points[:-1][step[:, 0] * before[:, 1] != step[:, 1] * before[:, 0]]
    moves = np.diff(corners, axis=0)
    return f"M{corners[0, 0]} {corners[0, 1]}l{' '.join(f'{x} {y}' for x, y in moves)}z"

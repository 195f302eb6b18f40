"""Outlines are closed and complete, and the overlay is a picture of reasonable size whatever the image's shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from PIL import Image

from tatl.contour import DETAIL, contour
from tatl.data.store import LESION, UNION
from tatl.ensemble import Found
from tatl.overlay import draw_overlay


def lines(mask: np.ndarray) -> list[np.ndarray]:
    """The polygons [n, 2] of x and y that are drawn."""
    axes: Axes = Figure().subplots()
    contour(axes, mask)
    drawn = [each for each in axes.collections if isinstance(each, ContourSet)]
    return [polygon for each in drawn for path in each.get_paths() for polygon in path.to_polygons(closed_only=False)]


def test_an_outline_is_closed_where_the_mask_touches_the_edge() -> None:
    corner = np.zeros((20, 30), bool)
    corner[:5, 24:] = True
    for mask in (corner, np.ones((20, 30), bool), np.ones((1, 1), bool)):
        (line,) = lines(mask)
        assert np.array_equal(line[0], line[-1])
        rows, columns = np.nonzero(mask)
        assert np.allclose(line.min(0), [columns.min() - 0.5, rows.min() - 0.5])
        assert np.allclose(line.max(0), [columns.max() + 0.5, rows.max() + 0.5])
    assert lines(np.zeros((20, 30), bool)) == []


def test_no_region_vanishes_from_a_large_mask() -> None:
    mask = np.zeros((3 * DETAIL, 2 * DETAIL), bool)
    dots = [(1, 1), (1000, 1500), (2998, 3)]
    for y, x in dots:
        mask[y, x] = True
    found = lines(mask)
    assert len(found) == len(dots)
    for y, x in dots:
        assert any((line.min(0) <= (x, y)).all() and ((x, y) <= line.max(0)).all() for line in found)


@pytest.mark.parametrize("shape", [(5000, 4), (10, 3000), (1, 2500), (1, 1), (450, 600), (2100, 1400)])
def test_an_image_of_any_shape_is_drawn(shape: tuple[int, int], tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    half = np.zeros(shape, bool)
    half[: -(-shape[0] // 2)] = True
    found = {LESION: half, UNION: half, "disc": half, "dot": np.ones(shape, bool), "bar": np.zeros(shape, bool)}
    probabilities = {name: mask.astype(np.float32) for name, mask in found.items()}
    draw_overlay(image, Found(probabilities, (0, 0, *shape), "found"), {"disc": half}, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as drawn:
        assert min(drawn.size) > 200 and max(drawn.size) <= 2600

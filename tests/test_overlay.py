"""Outlines are closed, complete and where the masks are, and the overlay has a reasonable size whatever the image's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from tatl.names import LESION, UNION
from tatl.prediction.contour import DETAIL, contour
from tatl.prediction.ensemble import LesionFound, Prediction
from tatl.prediction.overlay import COLOURS as IN_COLOUR
from tatl.prediction.overlay import draw_outlines, draw_overlay, overlay_figure

COLOURS = {  # of three channels, told from grey by their distance to it
    "red": lambda r, g, b: np.minimum(r - g, r - b) > 80,
    "green": lambda r, g, b: np.minimum(g - r, g - b) > 80,
    "yellow": lambda r, g, b: np.minimum(r, g) - b > 80,
}


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
    draw_overlay(image, Prediction(probabilities, (0, 0, *shape), "found"), {"disc": half}, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as drawn:
        assert min(drawn.size) > 200 and max(drawn.size) <= 2600


def mask(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """A block in a frame of 60 x 80."""
    made = np.zeros((60, 80), bool)
    made[top:bottom, left:right] = True
    return made


def pictured(found: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> tuple[Figure, np.ndarray]:
    """The figure on flat grey, and its pixels [H, W, 3]."""
    probabilities = {name: each.astype(np.float32) for name, each in found.items()}
    lesion: LesionFound = "found" if LESION in found else "not looked for"
    figure = overlay_figure(
        np.full((60, 80, 3), 120, np.uint8), Prediction(probabilities, (3, 5, 55, 75), lesion), truth
    )
    figure.canvas.draw()
    return figure, np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def panel(figure: Figure, title: str) -> Axes:
    (found,) = (axes for axes in figure.axes if axes.get_title().startswith(title))
    return found


def within(axes: Axes, height: int) -> tuple[slice, slice]:
    """The rows and columns of the picture in which a panel lies."""
    left, bottom, right, top = (round(edge) for edge in axes.get_window_extent().extents)
    return slice(height - top, height - bottom), slice(left, right)


def border(axes: Axes, mask: np.ndarray, place: tuple[slice, slice], height: int) -> np.ndarray:
    """Bool: where in its place in the picture a panel should show the edge of a mask."""
    rows, columns = np.mgrid[place]
    points = np.stack([columns + 0.5, height - rows - 0.5], -1)
    x, y = np.round(axes.transData.inverted().transform(points.reshape(-1, 2))).astype(int).T
    inside = np.pad(mask, 1)[np.clip(y + 1, 0, 61), np.clip(x + 1, 0, 81)].reshape(rows.shape)
    return inside & ~ndimage.binary_erosion(inside)


def shows(axes: Axes, pixels: np.ndarray, colour: str, mask: np.ndarray, reach: int = 3) -> bool:
    """Does the colour lie in a panel along the edge of the mask, all of it and nowhere else, but for some pixels?"""
    place = within(axes, len(pixels))
    drawn, wanted = COLOURS[colour](*np.moveaxis(pixels[place], -1, 0)), border(axes, mask, place, len(pixels))
    near = (ndimage.binary_dilation(each, np.ones((2 * reach + 1, 2 * reach + 1))) for each in (drawn, wanted))
    return all((some <= there).all() for some, there in zip((wanted, drawn), near, strict=True))


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_prediction_is_red_and_truth_green_along_the_masks_edges() -> None:
    found = {LESION: mask(5, 10, 50, 70), UNION: mask(12, 18, 45, 60), "disc": mask(14, 20, 40, 44)}
    found |= {"dot": mask(20, 50, 30, 58)}
    truth = {LESION: mask(8, 14, 47, 64), "disc": mask(20, 26, 34, 38), "bar": mask(16, 46, 42, 56)}
    figure, pixels = pictured(found, truth)
    for title, name in (("lesion", LESION), ("union by Stage 2", UNION), ("disc", "disc"), ("dot", "dot")):
        assert shows(panel(figure, title), pixels, "red", found[name])
        true = truth["disc"] | truth["bar"] if name == UNION else truth.get(name, mask(0, 0, 0, 0))
        assert shows(panel(figure, title), pixels, "green", true)
        assert not shows(panel(figure, title), pixels, "green", found[name])
    assert shows(panel(figure, "lesion"), pixels, "yellow", mask(3, 5, 55, 75))
    assert not shows(panel(figure, "disc"), pixels, "yellow", mask(3, 5, 55, 75))
    assert panel(figure, "dot").get_title() == "dot, no truth given"
    assert labels(figure) == ["prediction", "truth", "lesion box"]


def test_the_true_union_is_of_what_the_union_is_of() -> None:
    truth = {"disc": mask(20, 26, 34, 38), "bar": mask(16, 46, 42, 56)}
    for union, true, title in (
        ({UNION: mask(12, 18, 45, 60)}, truth["disc"] | truth["bar"], "union by Stage 2, truth of 2 attributes"),
        ({}, truth["disc"], "union of the attributes"),
    ):
        figure, pixels = pictured({**union, "disc": mask(14, 20, 40, 60)}, truth)
        assert panel(figure, "union").get_title() == title
        assert shows(panel(figure, "union"), pixels, "green", true)


def test_the_lesion_alone_has_its_outline_and_its_truth() -> None:
    figure, pixels = pictured({LESION: mask(5, 10, 50, 70)}, {LESION: mask(15, 20, 40, 60)})
    (axes,) = figure.axes
    assert shows(axes, pixels, "red", mask(5, 10, 50, 70)) and shows(axes, pixels, "green", mask(15, 20, 40, 60))


def test_the_legend_names_what_is_drawn_alone() -> None:
    full, empty = mask(5, 10, 50, 70), mask(0, 0, 0, 0)
    figure, pixels = pictured({"disc": full}, {})
    assert labels(figure) == ["prediction"] and not COLOURS["green"](*np.moveaxis(pixels, -1, 0)).any()
    figure, pixels = pictured({"disc": full}, {"disc": empty})
    assert labels(figure) == ["prediction"] and not COLOURS["green"](*np.moveaxis(pixels, -1, 0)).any()
    assert panel(figure, "disc").get_title() == "disc, none in truth"
    figure, pixels = pictured({"disc": empty}, {"disc": full})
    assert labels(figure) == ["truth"] and not COLOURS["red"](*np.moveaxis(pixels, -1, 0)).any()
    assert panel(figure, "disc").get_title() == "disc: none found"


def test_truth_shows_where_prediction_is_the_same() -> None:
    same = mask(14, 20, 40, 60)
    figure, pixels = pictured({"disc": same}, {"disc": same})
    assert all(shows(panel(figure, "disc"), pixels, colour, same, reach=6) for colour in ("red", "green"))


def outlined(found: dict[str, np.ndarray], truth: dict[str, np.ndarray], path: Path) -> np.ndarray:
    """The pixels [H, W, 3] of the picture of the image's own size, without its legend."""
    shape = next(iter(found.values())).shape
    prediction = Prediction({name: each.astype(np.float32) for name, each in found.items()}, (0, 0, *shape), "found")
    draw_outlines(np.full((*shape, 3), 120, np.uint8), prediction, truth, path)
    with Image.open(path) as drawn:
        return np.array(drawn)[: shape[0], : shape[1]]


@pytest.mark.parametrize("shape", [(1200, 1600), (60, 80), (5, 3)])
def test_a_spot_of_one_pixel_shows_at_its_place_in_the_image_s_own_size(shape: tuple[int, int], tmp_path: Path) -> None:
    spot, nothing = np.zeros(shape, bool), np.zeros(shape, bool)
    at = (shape[0] // 2, shape[1] // 2)
    spot[at] = True
    drawn = outlined({LESION: nothing, "dot": spot}, {}, tmp_path / "a.png")
    assert tuple(drawn[at]) in IN_COLOUR
    changed = (drawn != 120).any(-1)
    assert changed[at] and np.abs(np.argwhere(changed) - at).max() <= max(1, min(shape) // 400)
    with Image.open(tmp_path / "a.png") as whole:
        assert whole.height > shape[0] and whole.width >= shape[1]


def test_truth_is_broken_by_black_round_the_prediction_s_line(tmp_path: Path) -> None:
    same = mask(14, 20, 40, 60)
    alone = outlined({"disc": same}, {}, tmp_path / "alone.png")
    both = outlined({"disc": same}, {"disc": same}, tmp_path / "both.png")
    line = (alone != 120).any(-1)
    assert not (alone == 0).all(-1).any() and np.array_equal(both[line], alone[line])
    around = (both != 120).any(-1) & ~line
    assert around.any() and (both[around] == 0).all(-1).any() and not (both[around] == 0).all(-1).all()


def test_a_mask_as_large_as_the_image_has_its_line_along_the_edge(tmp_path: Path) -> None:
    drawn = outlined({"disc": np.ones((60, 80), bool)}, {}, tmp_path / "a.png")
    changed = (drawn != 120).any(-1)
    assert changed[0].all() and changed[:, -1].all() and not changed[2:-2, 2:-2].any()

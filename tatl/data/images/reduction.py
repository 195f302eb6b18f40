"""Masks reduced so that small regions survive.

Each pixel of the reduced mask has a *coverage*, the exact share of its area that is set in the original.  Pixels with
coverage >= 1/2 are set.  Then every 8-connected region of touched pixels (coverage > 0) of which less than half the
area is set so gets its most-covered pixels instead, as many as its area comes to, and at least one: a dot stays a
dot, thin lines and nets keep their area, and no region vanishes.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, sparse

from tatl.data.case import Size


def reduce_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """Scale a mask bool [h, w] to `size` bool [H, W] so that small regions survive (see the module's docstring).

    Enlarging is the same formula: coverage >= 1/2, and never nothing.
    """
    return reduce_part(mask, (0, 0), mask.shape, size)


def reduce_part(part: np.ndarray, corner: tuple[int, int], shape: tuple[int, ...], size: Size) -> np.ndarray:
    """Reduce a mask of which only a part is given; nothing is set outside of it."""
    reduced = np.zeros(size, bool)
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    if len(rows) == 0:
        return reduced
    part = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = corner[0] + int(rows[0]), corner[1] + int(columns[0])
    if shape == tuple(size):
        reduced[top : top + part.shape[0], left : left + part.shape[1]] = part
        return reduced
    cells_y, weights_y = _overlap(shape[0], size[0], top, top + part.shape[0])
    cells_x, weights_x = _overlap(shape[1], size[1], left, left + part.shape[1])
    coverage = (weights_x @ (weights_y @ part.astype(np.float32)).T).T
    reduced[cells_y, cells_x] = _survive(coverage)
    return reduced


def _overlap(pixels: int, cells: int, first: int, last: int) -> tuple[slice, sparse.csr_array]:
    """Which cells the pixels first .. last-1 touch, and the share of each cell that each pixel covers.

    Lengths are counted in units of 1/cells of a pixel, so that all overlaps are integers and nothing is rounded:
    a pixel is `cells` long and a cell `pixels`.
    """
    low, high = first * cells // pixels, -(-last * cells // pixels)
    starts = np.arange(low, high) * pixels
    begin, end = starts // cells, -(-(starts + pixels) // cells)
    counts = end - begin
    cell = np.repeat(np.arange(high - low), counts)
    pixel = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - begin, counts)
    inside = (pixel >= first) & (pixel < last)
    cell, pixel = cell[inside], pixel[inside]
    length = np.minimum((pixel + 1) * cells, starts[cell] + pixels) - np.maximum(pixel * cells, starts[cell])
    share = (length / pixels).astype(np.float32)
    return slice(low, high), sparse.csr_array((share, (cell, pixel - first)), shape=(high - low, last - first))


def _survive(coverage: np.ndarray) -> np.ndarray:
    """Half-covered pixels, and for a region that these leave less than half of, its most-covered ones."""
    kept = coverage >= 0.5 - 1e-5
    regions, count = ndimage.label(coverage > 0, structure=np.ones((3, 3)))
    area = np.bincount(regions.ravel(), coverage.ravel(), count + 1)
    left = np.bincount(regions[kept], minlength=count + 1)
    lost = np.flatnonzero((left < area / 2) | (left == 0))
    boxes = ndimage.find_objects(regions)
    for number in lost[lost > 0]:  # 0 is the ground between the regions
        box = boxes[number - 1]
        covered = np.where(regions[box] == number, coverage[box], 0)
        order = np.argsort(-covered, axis=None, kind="stable")
        kept[box].flat[order[: max(1, round(area[number]))]] = True
    return kept

"""The crop round the lesion: mask -> box -> batch of crops at network size -> pasted back into the frame.

A box is (top, left, bottom, right) in pixels of the frame, bottom and right exclusive.  The box round the
predicted lesion is grown by `offset` pixels of the frame on every side and clipped to it; where no lesion is
found the box is the whole frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

Box = tuple[int, int, int, int]


def lesion_box(lesion: np.ndarray, offset: int) -> Box:
    """The box round the largest 8-connected region of a mask [H, W], grown by `offset` pixels.

    The largest region, because one stray pixel in a corner would otherwise undo the crop.
    """
    height, width = lesion.shape
    regions, count = ndimage.label(lesion, structure=np.ones((3, 3), int))
    if count == 0:
        return (0, 0, height, width)
    largest = 1 + int(np.argmax(np.bincount(regions.ravel())[1:]))
    rows, columns = ndimage.find_objects((regions == largest).astype(int))[0]
    return (
        max(0, rows.start - offset),
        max(0, columns.start - offset),
        min(height, rows.stop + offset),
        min(width, columns.stop + offset),
    )


def read_boxes(folder: Path) -> np.ndarray:
    """The Stage 1 boxes of every image of the store, int [N, 4], before the offset is added."""
    return pd.read_csv(folder / "boxes.csv")[["top", "left", "bottom", "right"]].to_numpy()


def grow(boxes: np.ndarray, offset: int, size: tuple[int, int]) -> np.ndarray:
    """Boxes [N, 4] grown by `offset` pixels on every side, clipped to the frame."""
    height, width = size
    grown = boxes + np.array([-offset, -offset, offset, offset])
    return np.clip(grown, 0, np.array([height, width, height, width]))


def scale(box: Box, size: tuple[int, int], other: tuple[int, int]) -> Box:
    """The same box in a frame of another size: edges rounded to pixels, at least one pixel a side."""
    (top, bottom), (left, right) = (
        (min(round(low * new / old), new - 1), max(round(high * new / old), 1))
        for low, high, old, new in zip(box[:2], box[2:], size, other, strict=True)
    )
    return (top, left, max(bottom, top + 1), max(right, left + 1))


def cut(frames: Tensor, boxes: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Cut each frame [B, C, H, W] to its box [B, 4] and scale to `size`; float in, float out.

    One `grid_sample` for the batch, on whatever device it is: output pixel centres are mapped to the box's
    pixel centres (`align_corners=False`), so a whole-frame box at the frame's size is the identity.
    """
    height, width = frames.shape[-2:]
    top, left, bottom, right = boxes.to(frames).unbind(1)
    theta = torch.zeros(len(frames), 2, 3, dtype=frames.dtype, device=frames.device)
    theta[:, 0, 0], theta[:, 0, 2] = (right - left) / width, (left + right) / width - 1
    theta[:, 1, 1], theta[:, 1, 2] = (bottom - top) / height, (top + bottom) / height - 1
    grid = F.affine_grid(theta, [len(frames), frames.shape[1], *size], align_corners=False)
    return F.grid_sample(frames, grid, mode=mode, padding_mode="border", align_corners=False)


def paste(crop: Tensor, box: Box, size: tuple[int, int]) -> Tensor:
    """Put a crop [C, h, w] back where its box lies in a frame of `size`; zero elsewhere."""
    top, left, bottom, right = (int(edge) for edge in box)
    frame = crop.new_zeros(crop.shape[0], *size)
    inside = F.interpolate(
        crop[None], (bottom - top, right - left), mode="bilinear", align_corners=False, antialias=True
    )
    frame[:, top:bottom, left:right] = inside[0]
    return frame

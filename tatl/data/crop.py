"""The crop round the lesion: mask -> box -> batch of crops at network size -> pasted back into the frame.

A box is (top, left, bottom, right) in pixels of the frame, bottom and right exclusive.  The box round the
predicted lesion is grown by `offset` pixels of the frame on every side and clipped to it; where no lesion is
found the box is the whole frame.  A box that is used has a least size (`grow`), so that no crop is magnified more than
ZOOM times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

Box = tuple[int, int, int, int]

# A lesion of three pixels says little about its surroundings, and pasting a crop back reduces it as often as it was
# magnified, which a GPU's antialiased reduction cannot do from about 90 times on: its block has too little memory.
ZOOM = 32


@contextmanager
def without_autocast() -> Iterator[None]:
    """Inside, or in a function that this decorates, arithmetic is that of the arguments whatever the caller's autocast.

    Autocast multiplies matrices in bfloat16, eight bits, and the matrices of geometry hold coordinates in pixels.
    """
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


def lesion_box(lesion: np.ndarray) -> Box:
    """The tight box round the largest 8-connected region of a mask [H, W]; without one, the whole frame.

    The largest region, because one stray pixel in a corner would otherwise undo the crop.
    """
    height, width = lesion.shape
    regions, count = ndimage.label(lesion, structure=np.ones((3, 3), int))
    if count == 0:
        return (0, 0, height, width)
    largest = 1 + int(np.argmax(np.bincount(regions.ravel())[1:]))
    rows, columns = ndimage.find_objects((regions == largest).astype(int))[0]
    return (rows.start, columns.start, rows.stop, columns.stop)


def read_boxes(folder: Path) -> np.ndarray:
    """The Stage 1 boxes of every image of the store, tight, int [N, 4]: `grow` makes of them what is cut."""
    return pd.read_csv(folder / "boxes.csv")[["top", "left", "bottom", "right"]].to_numpy()


def grow(boxes: np.ndarray, offset: int, size: tuple[int, int]) -> np.ndarray:
    """Tight boxes int [N, 4] grown by `offset` pixels on every side, clipped to the frame.

    A side that is then shorter than the frame's by more than ZOOM times is widened to that, round its middle where the
    frame has room; so the box that training, scoring and prediction use is one function of the tight box.
    """
    frame = np.array(size)
    low, high = np.maximum(boxes[:, :2] - offset, 0), np.minimum(boxes[:, 2:] + offset, frame)
    least = -(-frame // ZOOM)
    missing = np.maximum(least - (high - low), 0)
    low = np.clip(low - missing // 2, 0, frame - least)
    return np.concatenate([low, np.maximum(high, low + least)], axis=1)


def scale(box: Box, size: tuple[int, int], other: tuple[int, int]) -> Box:
    """The same box in a frame of another size: edges rounded to pixels, at least one pixel a side."""
    (top, bottom), (left, right) = (
        (min(round(low * new / old), new - 1), max(round(high * new / old), 1))
        for low, high, old, new in zip(box[:2], box[2:], size, other, strict=True)
    )
    return (top, left, max(bottom, top + 1), max(right, left + 1))


@without_autocast()
def cut(frames: Tensor, boxes: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Cut each frame [B, C, H, W] to its box [B, 4] and scale to `size`; float in, float out (float32 at least).

    One `grid_sample` for the batch, on whatever device it is: output pixel centres are mapped to the box's
    pixel centres (`align_corners=False`), so a whole-frame box at the frame's size is the identity.
    """
    frames = frames.to(torch.promote_types(frames.dtype, torch.float32))
    height, width = frames.shape[-2:]
    top, left, bottom, right = boxes.to(frames).unbind(1)
    theta = torch.zeros(len(frames), 2, 3, dtype=frames.dtype, device=frames.device)
    theta[:, 0, 0], theta[:, 0, 2] = (right - left) / width, (left + right) / width - 1
    theta[:, 1, 1], theta[:, 1, 2] = (bottom - top) / height, (top + bottom) / height - 1
    grid = F.affine_grid(theta, [len(frames), frames.shape[1], *size], align_corners=False)
    return F.grid_sample(frames, grid, mode=mode, padding_mode="border", align_corners=False)


@without_autocast()
def paste(crop: Tensor, box: Box, size: tuple[int, int]) -> Tensor:
    """Put a crop [C, h, w] back where its box lies in a frame of `size`; zero elsewhere."""
    top, left, bottom, right = (int(edge) for edge in box)
    frame = crop.new_zeros(crop.shape[0], *size)
    frame[:, top:bottom, left:right] = resample(crop[None], (bottom - top, right - left))[0]
    return frame


def resample(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames [B, C, H, W] at another size, antialiased; to less than a ZOOM-th first by plain means."""
    if frames.shape[-2:] == tuple(size):
        return frames
    height, width = (min(old, ZOOM * new) for old, new in zip(frames.shape[-2:], size, strict=True))
    if (height, width) != frames.shape[-2:]:  # of a box in a tiny original
        frames = F.interpolate(frames, (height, width), mode="area")
    return F.interpolate(frames, tuple(size), mode="bilinear", align_corners=False, antialias=True)

"""Batches from a store: which images an epoch visits, and how they reach the device.

The store is decoded once; an epoch gathers rows of its memory map.  On a GPU the whole store moves to the device, once
for all masks and feeds, when it takes less than half of the free memory; a batch is then one indexing kernel.  What a
step needs beside it (which images, boxes, means) is on the device before the step, so that no step waits for a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

import numpy as np
import torch
from torch import Tensor

from tatl.data.crop import cut, without_autocast
from tatl.data.store import Store

# Per-channel centring and scaling by ImageNet's statistics, which its weights expect; RGB, for values 0 .. 255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
EVALUATION_BATCH = 16


def balanced_batches(positive: np.ndarray, batch: int, balance: float, rng: np.random.Generator) -> np.ndarray:
    """One epoch: positions into `positive` (bool [n]), int [steps, batch], about n of them.

    At least `balance` of each batch is positive where there are positives; each kind is drawn in shuffled passes,
    so that none comes twice before all of its kind came once.  Where positives are that frequent anyway an epoch
    is one plain shuffled pass.
    """
    n, steps = len(positive), ceil(len(positive) / batch)
    if positive.mean() >= balance or not positive.any():
        return _passes(np.arange(n), steps * batch, rng).reshape(steps, batch)
    rich = ceil(balance * batch)
    drawn = _passes(np.flatnonzero(positive), steps * rich, rng).reshape(steps, rich)
    if rich == batch:
        return drawn
    rest = _passes(np.flatnonzero(~positive), steps * (batch - rich), rng).reshape(steps, batch - rich)
    return np.concatenate([drawn, rest], axis=1)


def _passes(items: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    passes = [rng.permutation(items) for _ in range(ceil(count / len(items)))]
    return np.concatenate(passes)[:count]


def chunks(indices: np.ndarray, size: int = EVALUATION_BATCH) -> list[np.ndarray]:
    """Consecutive pieces of at most `size`."""
    return [indices[i : i + size] for i in range(0, len(indices), size)]


def even_chunks(indices: np.ndarray, size: int = EVALUATION_BATCH) -> list[np.ndarray]:
    """As few pieces of at most `size` as `chunks` makes, of one length or nearly so."""
    return np.array_split(indices, ceil(len(indices) / size))


def send(array: np.ndarray, device: torch.device) -> Tensor:
    """An array on a device; nobody waits for a GPU, where a plain copy waits for all that it has to do before."""
    here = torch.from_numpy(array if array.flags.writeable else array.copy())
    if device.type == "cuda" and torch.cuda.is_available():
        here = here.pin_memory()
    return here.to(device, non_blocking=True)


@lru_cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers per channel as float32 [1, C, 1, 1], sent to a device once."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)


class Sent(np.ndarray):
    """Indices of images, int [B], that are on a device too: `there`; what is computed from them is not."""

    there: Tensor | None = None


def sent(batches: Sequence[np.ndarray], device: torch.device) -> list[np.ndarray]:
    """Batches of indices that a `Feed` finds on the device, sent there together."""
    if device.type == "cpu" or not len(batches):
        return list(batches)
    together = send(np.concatenate(batches), device).split([len(batch) for batch in batches])
    made = [batch.view(Sent) for batch in batches]
    for batch, there in zip(made, together, strict=True):
        batch.there, batch.flags.writeable = there, False
    return list(made)


def placed(indices: np.ndarray, device: torch.device) -> Tensor:
    """Indices on the device, where they may be already."""
    there = getattr(indices, "there", None)
    return send(indices, device) if there is None or there.device != device else there


def normalise(images: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to centred float32 [B, 3, H, W] in channels-last order."""
    mean, std = constant(MEAN, images.device), constant(STD, images.device)
    return (images.permute(0, 3, 1, 2).float() - mean) / std


def exact(device: torch.device | str) -> torch.device:
    """The device with its number: `cuda` is this process's current one."""
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


class Feed:
    """Images and masks of a store, one or several, cut to boxes: `feed(indices, device)`.

    Returns images float32 [B, 3, H, W], normalised, and masks float32 [B, masks, H, W] of zeros and ones, both at
    the store's size, whatever autocast the caller is in.  `boxes` int [N, 4] (tatl.data.crop), or None for whole
    frames. `lender` int [N] names for every image the one whose mask it gets; None: its own.
    """

    def __init__(
        self, store: Store, mask: str | Sequence[str], boxes: np.ndarray | None = None, lender: np.ndarray | None = None
    ) -> None:
        self.store, self.boxes, self.lender = store, boxes, lender
        self.names = (mask,) if isinstance(mask, str) else tuple(mask)
        self._tables: dict[tuple[str, torch.device], Tensor] = {}

    @without_autocast()
    def __call__(self, indices: np.ndarray, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        device = exact(device)
        images, masks = self._gather(indices, device)
        shown = self._cut(normalise(images), indices).contiguous(memory_format=torch.channels_last)
        return shown, self._mask(masks, indices)

    @without_autocast()
    def masks(self, indices: np.ndarray) -> Tensor:
        """The masks alone, as a call gives them; images are not read."""
        lenders = indices if self.lender is None else self.lender[indices]
        return self._mask(torch.from_numpy(_bits(self.store.masks[lenders])), indices)

    def _mask(self, bits: Tensor, indices: np.ndarray) -> Tensor:
        """Zeros and ones float32 [B, masks, H, W] of the store's bits [B, H, W]."""
        asked = [int(_bits(np.array(self.store.bits(name), np.uint16))) for name in self.names]
        return self._cut(torch.stack([(bits & each) != 0 for each in asked], dim=1).float(), indices, "nearest")

    def _cut(self, frames: Tensor, indices: np.ndarray, mode: str = "bilinear") -> Tensor:
        if self.boxes is None:
            return frames
        boxes = self._table("boxes", self.boxes, frames.device)[placed(indices, frames.device)]
        return cut(frames, boxes, self.store.size, mode)

    def _table(self, name: str, rows: np.ndarray, device: torch.device) -> Tensor:
        """One row per image of the store, sent to a device once."""
        key = (name, device)
        if key not in self._tables:
            self._tables[key] = send(rows, device)
        return self._tables[key]

    def _gather(self, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images uint8 [B, H, W, 3] and the bits of all masks int16 [B, H, W]."""
        if (held := _resident(self.store, device)) is not None:
            at = placed(indices, device)
            there = at if self.lender is None else self._table("lender", self.lender, device)[at]
            return held[0][at], held[1][there]
        lenders = indices if self.lender is None else self.lender[indices]
        return send(self.store.images[indices], device), send(_bits(self.store.masks[lenders]), device)


def _bits(masks: np.ndarray) -> np.ndarray:
    """uint16 as int16 of the same bits, which every device can `&`."""
    return masks.view(np.int16)


@lru_cache(maxsize=1)
def _resident(store: Store, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Images and masks' bits of the whole store on a GPU, or None where they do not fit and on a CPU."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    if store.images.nbytes + store.masks.nbytes > free // 2:
        return None
    images, masks = (torch.from_numpy(np.array(each)).to(device) for each in (store.images, _bits(store.masks)))
    return images, masks

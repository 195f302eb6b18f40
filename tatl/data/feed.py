"""Batches from a store: which images an epoch visits, and how they reach the device.

The store is decoded once; an epoch gathers rows of its memory map.  On a GPU the whole store moves to the device
when it takes less than half of the free memory, and a batch is then one indexing kernel.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np
import torch
from torch import Tensor

from tatl.crop import cut
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


def normalise(images: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to centred float32 [B, 3, H, W] in channels-last order."""
    mean, std = (images.new_tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images.permute(0, 3, 1, 2).float() - mean) / std


class Feed:
    """Images and one mask of a store, cut to boxes: `feed(indices, device)`.

    Returns images float32 [B, 3, H, W], normalised, and masks float32 [B, 1, H, W] of zeros and ones, both at
    the store's size.  `boxes` int [N, 4] (tatl.crop), or None for whole frames.  `lender` int [N] names for every
    image the one whose mask it gets; None: its own.
    """

    def __init__(
        self, store: Store, mask: str, boxes: np.ndarray | None = None, lender: np.ndarray | None = None
    ) -> None:
        self.store, self.mask, self.boxes, self.lender = store, mask, boxes, lender

    def __call__(self, indices: np.ndarray, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        images, masks = self._gather(indices, torch.device(device))
        x, y = normalise(images), masks[:, None].float()
        if self.boxes is not None:
            boxes = torch.as_tensor(self.boxes[indices], device=x.device)
            x, y = cut(x, boxes, self.store.size), cut(y, boxes, self.store.size, mode="nearest")
        return x.contiguous(memory_format=torch.channels_last), y

    def masks(self, indices: np.ndarray) -> Tensor:
        """The masks alone, as a call gives them; images are not read."""
        lenders = indices if self.lender is None else self.lender[indices]
        y = torch.from_numpy((self.store.masks[lenders] & self.store.bits(self.mask)) != 0)[:, None].float()
        if self.boxes is None:
            return y
        return cut(y, torch.as_tensor(self.boxes[indices]), self.store.size, mode="nearest")

    def _gather(self, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        lenders = indices if self.lender is None else self.lender[indices]
        if device.type == "cuda" and (held := _resident(self.store, self.mask, device)) is not None:
            at, there = (torch.as_tensor(each, device=device) for each in (indices, lenders))
            return held[0][at], held[1][there]
        images = torch.from_numpy(self.store.images[indices])
        masks = torch.from_numpy((self.store.masks[lenders] & self.store.bits(self.mask)) != 0)
        return images.to(device, non_blocking=True), masks.to(device, non_blocking=True)


@lru_cache(maxsize=1)
def _resident(store: Store, mask: str, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """The whole store on the device, or None where it does not fit."""
    free, _ = torch.cuda.mem_get_info(device)
    if store.images.nbytes * 4 // 3 > free // 2:
        return None
    masks = np.stack([(row & store.bits(mask)) != 0 for row in store.masks])
    return torch.from_numpy(np.array(store.images)).to(device), torch.from_numpy(masks).to(device)

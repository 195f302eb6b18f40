"""Features of frozen encoders: computed once per image and shared by all networks that stand on the same encoder.

A frozen encoder makes the same features of an image in every step, every epoch and for every attribute.  So they are
kept for as many images as there is room for, and all targets of a fold train from one pass of the encoder over these.
Which images are kept is a matter of room alone, and each of them passes by itself: so what a network learns depends
neither on what was trained before it nor on where training was stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from tatl.data.feed import Feed

Features = Callable[[Tensor], Sequence[Tensor]]  # images [B, 3, H, W] to [B, C, h, w] per level

ROOM = 1e9  # bytes of features kept per encoder in a CPU's memory: 500 images of 96x128 under EfficientNet-b0
ENCODERS = 4  # kept at once: two shapes, each in training's precision and in evaluation's


class Kept:
    """Features of the first of `count` images, as many as fit into `room` bytes."""

    def __init__(self, count: int, room: float) -> None:
        self.count, self.room = count, room
        self.levels: list[Tensor] = []  # [capacity, h, w, C] each: channels last
        self.known = np.zeros(0, bool)  # [capacity]

    @torch.no_grad()
    def __call__(self, indices: np.ndarray, images: Tensor, features: Features) -> list[Tensor]:
        """Features [B, C, h, w] per level of `images` [B, 3, H, W], which are those of `indices` int [B]."""
        if not self.levels:
            self._make_room([_channels_last(level) for level in features(images[:1])])
        kept = indices < len(self.known)
        for at in np.flatnonzero(kept):
            if not self.known[indices[at]]:
                for level, values in zip(self.levels, features(images[at : at + 1]), strict=True):
                    level[indices[at]] = _channels_last(values)[0]
                self.known[indices[at]] = True
        there = [level[indices[kept]] for level in self.levels]
        if not kept.all():
            others = [_channels_last(level) for level in features(images[~kept])]
            order = np.argsort(np.concatenate([np.flatnonzero(kept), np.flatnonzero(~kept)]))
            there = [torch.cat(pair)[order] for pair in zip(there, others, strict=True)]
        return [level.permute(0, 3, 1, 2) for level in there]

    def _make_room(self, one: list[Tensor]) -> None:
        capacity = min(self.count, int(self.room // sum(level.numel() * level.element_size() for level in one)))
        self.levels = [level.new_empty(capacity, *level.shape[1:]) for level in one]
        self.known = np.zeros(capacity, bool)


def _channels_last(level: Tensor) -> Tensor:
    return level.permute(0, 2, 3, 1)


def digest(encoder: nn.Module) -> str:
    """A checksum of an encoder's weights and running statistics, equal for equal encoders."""
    checksum = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            checksum.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return checksum.hexdigest()


class Frozen:
    """The features that one frozen encoder makes of the images of a feed, shared with all equal encoders and feeds."""

    def __init__(self, encoder: nn.Module, feed: Feed) -> None:
        boxes = b"" if feed.boxes is None else np.ascontiguousarray(feed.boxes).tobytes()
        self.identity = (digest(encoder), feed.store.digest, str(feed.store.size), hashlib.sha256(boxes).hexdigest())
        self.count = len(feed.store)

    def __call__(self, indices: np.ndarray, images: Tensor, features: Features) -> list[Tensor]:
        """As `Kept`, kept per device and precision."""
        place = images.device
        return _kept(self.identity, self.count, place, torch.is_autocast_enabled(place.type))(indices, images, features)


@lru_cache(maxsize=ENCODERS)
def _kept(identity: tuple[str, ...], count: int, device: torch.device, autocast: bool) -> Kept:
    """One store of features per encoder, images, device and precision; the least recently used is forgotten."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return Kept(count, free / (2 * ENCODERS))
    return Kept(count, ROOM)

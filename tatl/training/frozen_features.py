"""Features of frozen encoders: computed once per image and shared by all networks that stand on the same encoder.

A frozen encoder makes the same features of an image in every step, every epoch and for every attribute.  So they are
kept for as many images as there is room for, and all targets of a fold train from one pass of the encoder over these.
Which images are kept is a matter of room alone, and each image passes by itself, kept or not: so what a network learns
depends neither on the room, nor on what was trained before it, nor on where training was stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tatl.data.batches import Feed, placed, send
from tatl.machine.processes import cores

Features = Callable[[Tensor], Sequence[Tensor]]  # images [B, 3, H, W] to [B, C, h, w] per level

ROOM = 2e9  # bytes of features kept in a CPU's memory by all processes: 1000 images of 96x128 under EfficientNet-b0


class Kept:
    """Features of the first images in `order` (int [N], a permutation), as many as fit into `room` bytes."""

    def __init__(self, order: np.ndarray, room: float) -> None:
        self.room = room
        self.ranks = np.argsort(order)
        self.levels: list[Tensor] = []  # [capacity, h, w, C] each: channels last
        self.known = np.zeros(len(order), bool)  # by rank
        self._sent: Tensor | None = None

    @property
    def nbytes(self) -> int:
        return sum(level.nbytes for level in self.levels)

    @torch.no_grad()
    def __call__(self, indices: np.ndarray, images: Tensor, features: Features) -> list[Tensor]:
        """Features [B, C, h, w] per level of `images` [B, 3, H, W], which are those of `indices` int [B]."""
        ranks = self.ranks[indices]
        if self.known[ranks].all():
            at = self._there(images.device)[placed(indices, images.device)]
            rows = [level[at] for level in self.levels]
        else:
            each = [self._one(rank, images[i : i + 1], features) for i, rank in enumerate(ranks.tolist())]
            rows = [torch.cat(level) for level in zip(*each, strict=True)]
        return [level.permute(0, 3, 1, 2) for level in rows]

    def _one(self, rank: int, image: Tensor, features: Features) -> list[Tensor]:
        """Of one image [1, h, w, C] per level, kept where there is room."""
        if self.known[rank]:
            return [level[rank : rank + 1] for level in self.levels]
        made = [level.permute(0, 2, 3, 1) for level in features(image)]
        if not self.levels:
            capacity = min(len(self.ranks), int(max(self.room, 0) // sum(level.nbytes for level in made)))
            self.levels = [level.new_empty(capacity, *level.shape[1:]) for level in made]
        if rank < len(self.levels[0]):
            for level, values in zip(self.levels, made, strict=True):
                level[rank : rank + 1] = values
            self.known[rank] = True
        return made

    def _there(self, device: torch.device) -> Tensor:
        """The ranks on the device, sent there once."""
        if self._sent is None:
            self._sent = send(self.ranks, device)
        return self._sent


def encoder_digest(encoder: nn.Module) -> str:
    """A checksum of an encoder's weights and running statistics, equal for equal encoders."""
    checksum = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            checksum.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return checksum.hexdigest()


class Frozen:
    """The features that one frozen encoder makes of the images of a feed, shared with all equal encoders and feeds.

    Room goes to the images of `first` (training's, which are visited most) before the others.
    """

    def __init__(self, encoder: nn.Module, feed: Feed, first: np.ndarray) -> None:
        boxes = b"" if feed.boxes is None else np.ascontiguousarray(feed.boxes).tobytes()
        self.identity = encoder_digest(encoder), feed.store.digest, hashlib.sha256(boxes).hexdigest()
        self.order = np.concatenate([first, np.setdiff1d(np.arange(len(feed.store)), first)])

    def __call__(self, indices: np.ndarray, images: Tensor, features: Features) -> list[Tensor]:
        """As `Kept`, per device and precision, until they are released or another encoder's need what room there is."""
        place = images.device
        key = (*self.identity, place, torch.is_autocast_enabled(place.type))
        if key not in _kept:
            if _room(place) < _taken():
                for other in [other for other in _kept if other[: len(self.identity)] != self.identity]:
                    del _kept[other]
            _kept[key] = Kept(self.order, _room(place))
        return _kept[key](indices, images, features)


_kept: dict[tuple[object, ...], Kept] = {}


def release() -> None:
    """Forget all features, for when no more runs of this process stand on them."""
    _kept.clear()


def _room(device: torch.device) -> float:
    """Bytes for one more store of features: half of a GPU's free memory, or what is left of this process's part.

    Processes that train at once share a CPU's memory as they share its cores (`Machine.share`).
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free / 2
    part = ROOM * min(1, torch.get_num_threads() / cores())
    return part - _taken()


def _taken() -> int:
    return sum(kept.nbytes for kept in _kept.values())

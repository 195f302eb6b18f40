"""Pretexts: what a network can learn without any attribute mask.

textures  which of a dozen drawn textures is it?  Makes the `textures` source domain, an offline stand-in for ImageNet.
rotation  by which quarter turn was the picture rotated?  (Gidaris et al. 2018)  Trains the encoder, told from every
          level of it (`Classifier`); theirs is told from the top level alone.
context   which patches were swapped with which?  (Chen et al. 2019)  Trains encoder and decoder.

Rotation and context restoration are the paper's self-supervised rivals: they replace Stages 1 and 2, start from the
source domain, and see the training images of the fold without their masks.

Two controls are segmentations (tatl.training.tasks): the lesion in place of the union, and the union masks of *other*
images ("shuffled-union"), which keeps their sizes and shapes and takes away where they belong.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tatl.data.batches import Feed, normalise, placed, send
from tatl.data.case import Size
from tatl.data.crop import without_autocast
from tatl.data.phantom.textures import CLASSES, draw_textures
from tatl.data.store import Store
from tatl.models.encoders import Classifier
from tatl.models.starts import seeded
from tatl.names import UNION
from tatl.run import Run
from tatl.run.textures import DRAWN, HELD
from tatl.training.base import StoreTask, TrainingTask, with_count

ANGLES = (0, 90, 180, 270)

# TorchIO's defaults: the paper's own number of swaps is not known.  The patch is 15 px of an image 384 px high.
SWAPS = 100
PATCH = 15 / 384


class Classification(TrainingTask):
    """What a `Classifier` tells of pictures that are called anew: turned, or drawn.

    `kinds` [classes] are what it tells apart.
    """

    kinds: np.ndarray

    def answers(self, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Logits [levels, k B, classes] and labels int [k B] of these images, k pictures of each, kind by kind."""
        raise NotImplementedError

    def classified(self, pictures: Tensor) -> Tensor:
        return cast(Tensor, self.model(pictures.contiguous(memory_format=torch.channels_last)).float())

    def forward(self, indices: np.ndarray, device: torch.device) -> Tensor:
        return self.answers(indices, device)[0]

    def loss(self, indices: np.ndarray, device: torch.device) -> Tensor:
        """Cross-entropy averaged over the heads of all levels."""
        logits, labels = self.answers(indices, device)
        return F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))

    def validation_sums(self, indices: np.ndarray, device: torch.device) -> Tensor:
        logits, labels = self.answers(indices, device)
        return with_count(F.cross_entropy(logits.mean(0), labels, reduction="sum"), len(labels))

    def scores(self, indices: np.ndarray, device: torch.device) -> pd.DataFrame:
        """Columns image, label, predicted."""
        logits, labels = self.answers(indices, device)
        said, asked = (self.kinds[each.cpu().numpy()] for each in (logits.mean(0).argmax(1), labels))
        images = np.tile(self.ids[indices], len(asked) // len(indices))
        return pd.DataFrame({"image": images, "label": asked, "predicted": said})


class TextureClassification(Classification):
    """Which of a dozen drawn textures is it?  Trains the encoder of the `textures` source domain."""

    kinds = np.array(list(CLASSES))
    evaluation_batch = 64

    def __init__(self, run: Run) -> None:
        ids = np.arange(DRAWN + HELD)
        super().__init__(run, ids, ids[:DRAWN], ids[DRAWN:])
        self.tested = self.validation
        self.model = seeded(lambda: Classifier(run.backbone, len(CLASSES)), run.seed)
        self.pictures, self.labels = draw_textures(len(ids), Size.parse(run.size).height, run.seed)
        self._there: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def answers(self, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._there:
            self._there[device] = send(self.pictures, device), send(self.labels, device)
        pictures, labels = (each[placed(indices, device)] for each in self._there[device])
        return self.classified(normalise(pictures)), labels


class Rotation(StoreTask, Classification):
    """All four quarter turns of every image's central square, classified from every level of the encoder.

    Gidaris et al. (2018) classify the mean of the top level alone.  Here each level has a head of its own, because the
    levels below are what a segmenter's skips carry, and its input is their standard deviation too.  Masks are not read.
    """

    kinds = np.array(ANGLES)

    def __init__(self, run: Run, store: Store, model: nn.Module) -> None:
        super().__init__(run, store)
        self.model, self.feed = model, Feed(store, UNION)

    def answers(self, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Turn by turn: logits [levels, 4 B, 4] and labels int [4 B]."""
        turned = quarter_turns(central_square(self.feed(indices, device)[0]))
        return self.classified(turned), torch.arange(len(ANGLES), device=device).repeat_interleave(len(indices))


def central_square(images: Tensor) -> Tensor:
    """The largest central square: [B, C, H, W] to [B, C, S, S], S = min(H, W)."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]


def quarter_turns(images: Tensor) -> Tensor:
    """[B, C, S, S] to [4 B, C, S, S]: all images at 0 degrees, then all at 90, 180 and 270, counter-clockwise."""
    return torch.cat([torch.rot90(images, turn, (-2, -1)) for turn in range(len(ANGLES))])


class ContextRestoration(StoreTask):
    """Patches are swapped; the network gives the image back (L2 in normalised intensities).  Masks are not read."""

    def __init__(self, run: Run, store: Store, model: nn.Module) -> None:
        super().__init__(run, store)
        self.model, self.feed = model, Feed(store, UNION)

    def _forward(self, indices: np.ndarray, device: torch.device, fresh: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Restored, original and corrupted images [B, 3, H, W].

        An image's swaps are fixed, or `fresh`: drawn from torch's generator, which `fit` seeds with every epoch.
        """
        images = self.feed(indices, device)[0]
        seeds = torch.randint(2**62, (len(indices),)).tolist() if fresh else indices.tolist()
        corrupted = swapped(images, [np.random.default_rng([self.run.seed, seed]) for seed in seeds])
        return self.model(corrupted.contiguous(memory_format=torch.channels_last)).float(), images, corrupted

    def forward(self, indices: np.ndarray, device: torch.device) -> Tensor:
        return self._forward(indices, device)[0]

    def loss(self, indices: np.ndarray, device: torch.device) -> Tensor:
        restored, images, _ = self._forward(indices, device, fresh=True)
        return F.mse_loss(restored, images)

    def validation_sums(self, indices: np.ndarray, device: torch.device) -> Tensor:
        restored, images, _ = self._forward(indices, device)
        return with_count(F.mse_loss(restored, images) * len(images), len(images))

    def scores(self, indices: np.ndarray, device: torch.device) -> pd.DataFrame:
        """Columns image, and the mean squared errors of the restored and of the corrupted one."""
        restored, images, corrupted = self._forward(indices, device)
        errors = [((made - images) ** 2).flatten(1).mean(1).cpu().numpy() for made in (restored, corrupted)]
        return pd.DataFrame({"image": self.ids[indices], "restored": errors[0], "corrupted": errors[1]})


@without_autocast()
def swapped(images: Tensor, draws: list[np.random.Generator], swaps: int = SWAPS) -> Tensor:
    """Images [B, C, H, W] with `swaps` pairs of small square patches exchanged, one after another; a new tensor.

    The patches are drawn image by image and exchanged in all images at once, where these are.
    """
    height, width = images.shape[-2:]
    side = max(2, round(PATCH * height))
    corners = np.stack([_corners(height, width, side, swaps, draw) for draw in draws])
    first = send(corners @ np.array([width, 1]), images.device)[..., None]  # [B, swaps, 2, 1], counted along the rows
    patch = torch.arange(side, device=images.device)
    places = first + (width * patch[:, None] + patch).flatten()
    made = images.clone(memory_format=torch.contiguous_format).flatten(2)
    for pair in places.unbind(1):
        here, there = (at.flatten(1)[:, None].expand(-1, images.shape[1], -1) for at in (pair, pair.flip(1)))
        made.scatter_(2, here, made.gather(2, there))
    return made.view(images.shape)


def _corners(height: int, width: int, side: int, swaps: int, draw: np.random.Generator) -> np.ndarray:
    """Top left corners of `swaps` pairs of patches that do not overlap: int [swaps, 2, 2]."""
    if max(height, width) < 2 * side:
        raise ValueError(f"an image of {height}x{width} has no room for two patches of {side} px")
    pairs = np.zeros((0, 2, 2), int)
    while left := swaps - len(pairs):
        corners = draw.integers(0, (height - side + 1, width - side + 1), (left, 2, 2))
        apart = (np.abs(corners[:, 0] - corners[:, 1]) >= side).any(axis=1)
        pairs = np.concatenate([pairs, corners[apart]])
    return pairs

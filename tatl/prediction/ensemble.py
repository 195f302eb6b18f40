"""Trained networks as one: from a frame of network size to the averaged probabilities of every mask, and the box.

The lesion box comes from the averaged Stage 1 networks; the crop is cut from the frame at network size, as in
training; probabilities of all shapes, folds and seeds are averaged and pasted into the box in the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from tatl.data.batches import normalise
from tatl.data.case import Size
from tatl.data.crop import Box, cut, grow, lesion_box, paste, resample, scale
from tatl.models import Segmenter, build
from tatl.models.starts import load_exactly, read_weights
from tatl.names import LESION, UNION
from tatl.prediction.select import parts
from tatl.run import Run
from tatl.training.frozen_features import encoder_digest

LesionFound = Literal["found", "none found", "not looked for"]


@dataclass(frozen=True)
class Prediction:
    """In an image's own pixels: probabilities float32 [H, W] by mask name, zero outside of the box.

    `lesion` says whether Stage 1 looked for the lesion and found it; where not, the box is the whole image.
    """

    probabilities: dict[str, np.ndarray]
    box: Box
    lesion: LesionFound

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """Bool [H, W] by name, set where the probability is >= 1/2; without Stage 2 the union is the attributes' OR."""
        masks = {name: p >= 0.5 for name, p in self.probabilities.items()}
        if UNION not in masks and self.attributes:
            masks[UNION] = np.logical_or.reduce([masks[name] for name in self.attributes])
        return masks

    @property
    def union(self) -> str:
        """What the union mask is, for people."""
        return "union by Stage 2" if UNION in self.probabilities else "union of the attributes"

    @property
    def attributes(self) -> list[str]:
        return [name for name in self.probabilities if name not in (LESION, UNION)]


@dataclass(frozen=True)
class Ensemble:
    """Networks by the mask that they find, Stage 1's (lesion) and Stage 2's (union) among them; each list is averaged.

    `offset` grows the lesion box, in pixels of the frame, whose size is the networks'.
    """

    size: Size
    offset: int
    networks: dict[str, list[Segmenter]]
    device: torch.device

    @classmethod
    def load(cls, runs: Sequence[Run], root: Path, device: torch.device) -> Ensemble:
        """Load every network once; ValueError where a weights file is damaged."""
        networks = {name: [network(run, root, device) for run in each] for name, each in parts(runs).items()}
        share_encoders([model for each in networks.values() for model in each])
        return cls(Size.parse(runs[0].size), runs[0].offset, networks, device)

    def __call__(self, image: np.ndarray, original: tuple[int, int]) -> Prediction:
        """What is found in a frame of network size, uint8 [H, W, 3], of an image of the size `original`."""
        frame = normalise(torch.from_numpy(image)[None].to(self.device))
        probabilities: dict[str, Tensor] = {}
        box: Box = (0, 0, *self.size)
        said: LesionFound = "not looked for"
        if LESION in self.networks:
            lesion = mean_probabilities({LESION: self.networks[LESION]}, frame)[LESION]
            mask = (lesion[0, 0] >= 0.5).cpu().numpy()
            said, tight = "found" if mask.any() else "none found", np.array([lesion_box(mask)])
            box = cast(Box, tuple(grow(tight, self.offset, self.size)[0].tolist()))
            probabilities[LESION] = resample(lesion, original)[0]
        crop = cut(frame, torch.tensor([box], device=self.device), self.size)
        box = scale(box, self.size, original)
        others = {name: models for name, models in self.networks.items() if name != LESION}
        probabilities |= {name: paste(p[0], box, original) for name, p in mean_probabilities(others, crop).items()}
        return Prediction({name: p[0].cpu().numpy() for name, p in probabilities.items()}, box, said)


def network(run: Run, root: Path, device: torch.device) -> Segmenter:
    """A run's trained network, in evaluation mode."""
    model = build(run.shape, run.backbone)
    load_exactly(model, read_weights(run.folder(root) / "weights.safetensors"), run.title())
    return model.to(device).to(memory_format=torch.channels_last).eval()


def share_encoders(models: Sequence[Segmenter]) -> None:
    """Equal encoders, such as TATL-Freeze leaves them, become one module: held once, and asked once an image."""
    known: dict[str, nn.Module] = {}
    for model in models:
        model.encoder = known.setdefault(encoder_digest(model.encoder), model.encoder)


@torch.no_grad()
def mean_probabilities(networks: Mapping[str, Sequence[Segmenter]], images: Tensor) -> dict[str, Tensor]:
    """The mean probabilities [B, 1, H, W] of each name's networks, in evaluation mode; an encoder is asked once."""
    images = images.contiguous(memory_format=torch.channels_last)
    standing: dict[nn.Module, list[tuple[str, Segmenter]]] = {}
    for name, models in networks.items():
        for model in models:
            standing.setdefault(model.encoder, []).append((name, model))
    sums = {name: torch.zeros_like(images[:, :1]) for name in networks}
    for users in standing.values():
        features = users[0][1].features(images)
        for name, model in users:
            sums[name] += torch.sigmoid(model.decode(images, features).float())
    return {name: total / len(networks[name]) for name, total in sums.items()}

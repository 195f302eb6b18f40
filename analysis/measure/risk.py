"""Empirical risk: the mean per-image loss in evaluation mode, and its spread over resamples of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from analysis.curvature.bootstrap import RESAMPLES, interval, resampled
from analysis.curvature.evaluation import evaluation, exactly, out_of_memory
from analysis.curvature.products import Loss, per_image

BATCH = 16

Batch = tuple[Tensor, Tensor]


class ImageError(Exception):
    """An error at one image; `index` says which."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


class NotFinite(ImageError, FloatingPointError):
    """A loss is infinite or not a number."""


class NoRoom(ImageError, MemoryError):
    """Memory ran out at an image that was alone in its batch."""


@dataclass(frozen=True)
class Risk:
    """The mean of `losses` [n], and where 95 % of the means of its resamples lie (a spread)."""

    value: float
    low: float
    high: float
    losses: np.ndarray


def risk(
    model: nn.Module,
    images: Sequence[Tensor] | Tensor,
    masks: Sequence[Tensor] | Tensor,
    loss: Loss,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Risk:
    """Mean loss of images [C, H, W] and their masks, and its spread; read a batch at a time.

    Images are drawn again, `resamples` times; the network stays.  Where few images have most of the loss, the spread
    holds the risk of new images less often than 95 % says.

    Args:
        model: any module; its mode is restored
        loss: (model(images [B, ...]), masks [B, ...]) -> one loss per image [B]; what the model gives may be a dict,
            a list or anything else

    Raises:
        ValueError: images and masks differ in number, or there are none; the loss is not one number per image
        FloatingPointError: a loss is not finite
    """
    if len(images) != len(masks) or not len(images):
        raise ValueError(f"{len(images)} images and {len(masks)} masks are given: give one mask per image, and some")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def batch(indices: np.ndarray) -> Batch:
        x, y = (torch.stack([source[int(i)] for i in indices]).to(device) for source in (images, masks))
        return x, y

    losses = per_image_losses(model, batch, np.arange(len(images)), loss)
    low, high = interval(losses[resampled(len(losses), seed, resamples)].mean(axis=1))
    return Risk(float(losses.mean()), low, high, losses)


def per_image_losses(
    model: nn.Module, feed: Callable[[np.ndarray], Batch], indices: np.ndarray, loss: Loss, batch: int = BATCH
) -> np.ndarray:
    """Loss of each index, float64 [n]; `feed(indices)` gives images and masks.  Halves the batch where memory ends."""
    with evaluation(model), exactly(), torch.no_grad():
        losses = np.concatenate([part.double().cpu().numpy() for part in _parts(model, feed, indices, loss, batch)])
    if not np.isfinite(losses).all():
        first = int(np.flatnonzero(~np.isfinite(losses))[0])
        at = int(indices[first])
        raise NotFinite(f"the loss of image {at} is {losses[first]}: look at the weights and at it", at)
    return losses


def _parts(
    model: nn.Module, feed: Callable[[np.ndarray], Batch], indices: np.ndarray, loss: Loss, batch: int
) -> Iterator[Tensor]:
    at = 0
    while at < len(indices):
        try:
            images, masks = feed(indices[at : at + batch])
            yield per_image(loss(model(images), masks), len(images))
            at += batch
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if batch == 1:
                raise NoRoom(f"memory ran out at image {indices[at]}, alone in its batch", int(indices[at])) from error
            batch = max(1, batch // 2)

"""Gradient noise at one set of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from analysis.curvature.evaluation import ImageFeed, Loss, evaluation, exactly, per_image


@dataclass(frozen=True)
class GradientNoise:
    """Of per-image gradients at one set of weights: |mean|^2, and the trace of their covariance (n - 1)."""

    squared_mean: float
    trace: float


def gradient_noise(model: nn.Module, feed: ImageFeed, loss: Loss, indices: Sequence[int]) -> GradientNoise:
    """Of two or more examples, one gradient at a time, in float64 sums; ValueError for fewer."""
    if len(indices) < 2:
        raise ValueError(f"{len(indices)} examples have no covariance: give two or more")
    weights = [w for w in model.parameters() if w.requires_grad]
    total: list[Tensor] = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights]
    squares = 0.0
    with evaluation(model), exactly():
        for index in indices:
            images, masks = feed(np.array([index]))
            slopes = torch.autograd.grad(per_image(loss(model(images), masks), 1)[0], weights, allow_unused=True)
            for held, slope in zip(total, slopes, strict=True):
                if slope is not None:
                    held.add_(slope)
                    squares += float(slope.double().square().sum())
    n = len(indices)
    mean = sum(float((held / n).square().sum()) for held in total)
    return GradientNoise(mean, (squares - n * mean) / (n - 1))

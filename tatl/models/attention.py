"""Attention gates on skips: the decoder says where in a skip to look (Oktay et al. 2018, arXiv 1804.03999).

    alpha = sigmoid(psi(relu(theta(x) + up(phi(g)))))        gate(x, g) = out(up(alpha) * x)

x is the skip and g the next coarser output of the decoder.  theta is a 2x2 convolution of stride 2 without bias, phi
and psi are 1x1, out is 1x1 with BatchNorm, up is bilinear.  Between them are half as many channels as the skip has,
the default of the authors' module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def up(x: Tensor, like: Tensor) -> Tensor:
    """`x` at the height and width of `like`, bilinearly."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class Gate(nn.Module):
    """Skip [B, skip, H, W] and signal [B, signal, h, w] to the gated skip, of the skip's shape."""

    def __init__(self, skip: int, signal: int) -> None:
        super().__init__()
        between = max(1, skip // 2)
        self.theta = nn.Conv2d(skip, between, 2, stride=2, bias=False)
        self.phi = nn.Conv2d(signal, between, 1)
        self.relu, self.psi = nn.ReLU(), nn.Conv2d(between, 1, 1)
        self.out = nn.Sequential(nn.Conv2d(skip, skip, 1), nn.BatchNorm2d(skip))

    def alpha(self, x: Tensor, g: Tensor) -> Tensor:
        """How much of each pixel passes, in (0, 1): [B, 1, H/2, W/2]."""
        theta = self.theta(x)
        return torch.sigmoid(self.psi(self.relu(theta + up(self.phi(g), theta))))

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return cast(Tensor, self.out(up(self.alpha(x, g), x) * x))


class Open(nn.Module):
    """No gate: the skip as it is."""

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return x


def gates(skips: Sequence[int], signals: Sequence[int], gated: bool) -> nn.ModuleList:
    """A gate for each skip, both given by their channels from coarse to fine.

    The finest is open, as in the paper, and all are where the decoder is not `gated`.
    """
    finest = len(skips) - 1
    pairs = enumerate(zip(skips, signals, strict=True))
    return nn.ModuleList(Gate(x, g) if gated and level < finest else Open() for level, (x, g) in pairs)

"""Segmenters: encoder, decoder and a 3x3 head; logits at the size of the image, whatever that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from tatl.models.decoders import DECODERS, OUT_CHANNELS
from tatl.models.encoders import STRIDE, encoder
from tatl.run import SHAPES


class Segmenter(nn.Module):
    """Image [B, 3, H, W], normalised, to logits [B, classes, H, W].

    Pads the right and bottom edges to a multiple of 32 (by replication) and crops the logits back.
    """

    def __init__(self, shape: str, backbone: str, classes: int = 1) -> None:
        super().__init__()
        self.encoder = encoder(backbone)
        self.decoder = DECODERS[shape](cast(Sequence[int], self.encoder.channels))
        self.head = nn.Conv2d(OUT_CHANNELS, classes, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        bottom, right = -height % STRIDE, -width % STRIDE
        if bottom or right:
            image = F.pad(image, (0, right, 0, bottom), mode="replicate")
        logits = self.head(self.decoder(image, self.encoder(image)))
        return cast(Tensor, logits[..., :height, :width])


def build(shape: str, backbone: str = "efficientnet-b0", classes: int = 1) -> Segmenter:
    """A segmenter at random weights, built without network access.

    `shape` is "u" or "link"; with "efficientnet-b0" these are the paper's networks (Table 7: 10,115,501 and
    6,096,333).  Raises ValueError for an unknown shape or backbone.
    """
    if shape not in DECODERS:
        raise ValueError(f"shape {shape!r} is unknown: choose one of {', '.join(SHAPES)}")
    return Segmenter(shape, backbone, classes)


def count_parameters(model: nn.Module) -> int:
    """Parameters plus BatchNorm running means and variances, counted as Table 7 of the paper does."""
    statistics = sum(b.numel() for b in model.buffers() if b.is_floating_point())
    return sum(p.numel() for p in model.parameters()) + statistics

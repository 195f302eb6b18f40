"""`build`: every network by its shape and backbone, at random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import nn

from tatl.models.decoders import DECODERS, OUT_CHANNELS
from tatl.models.encoders import encoder
from tatl.models.rivals import NETWORKS
from tatl.models.segmenter import Segmenter
from tatl.names import B0, RIVALS


def build(shape: str, backbone: str | None = None, classes: int = 1) -> Segmenter:
    """A segmenter at random weights, built without network access.

    `shape` is a decoder of `SHAPES`, for any backbone (EfficientNet-b0 where none is given), with a 3x3 head;
    "u" and "link" on "efficientnet-b0" are the paper's networks (Table 7: 10,115,501 and 6,096,333).  Or it is one of
    `RIVALS`, which have one backbone each.  Raises ValueError for an unknown shape or backbone, and for
    another backbone than a rival's own.
    """
    if shape in RIVALS:
        if backbone not in (None, own := RIVALS[shape]):
            raise ValueError(f"{shape} is made of one backbone: give {own!r} instead of {backbone!r}, or leave it out")
        return NETWORKS[shape](classes)
    if shape not in DECODERS:
        raise ValueError(f"shape {shape!r} is unknown: choose one of {', '.join([*DECODERS, *RIVALS])}")
    features = encoder(B0 if backbone is None else backbone)
    decoder = DECODERS[shape](cast(Sequence[int], features.channels))
    return Segmenter(features, decoder, nn.Conv2d(OUT_CHANNELS, classes, 3, padding=1))


def count_parameters(model: nn.Module) -> int:
    """Parameters plus BatchNorm running means and variances, counted as Table 7 of the paper does."""
    return sum(v.numel() for v in model.state_dict().values() if v.is_floating_point())

"""Backbones as feature pyramids: an image [B, 3, H, W] becomes features at 1/2, 1/4, 1/8, 1/16 and 1/32.

Nothing here reaches for the network: weights arrive through `tatl.models.starts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from tatl.data.batches import MEAN, STD
from tatl.names import B0, LITE0

STRIDE = 32
REMEDY = "choose another backbone, such as efficientnet-b0 or resnet50"


class _EfficientNet(nn.Module):
    """The stem and the stages of one of timm's; `whole` is that network."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.conv_stem: nn.Module = whole.conv_stem
        self.bn1: nn.Module = whole.bn1
        self.blocks: nn.Sequential = whole.blocks


class EfficientNetB0(_EfficientNet):
    """EfficientNet-b0 as in the paper: skips are the *expanded* activations, the top is the 1280-channel head.

    Each skip is taken after the first 1x1 convolution (with its norm and SiLU) of the block that halves the
    resolution, where the features are widest: 96, 144, 240 and 672 channels at 1/2, 1/4, 1/8 and 1/16.  With
    the running statistics of its BatchNorms it holds 4,049,564 numbers, which makes the totals of Table 7.
    """

    channels = (96, 144, 240, 672, 1280)

    def __init__(self) -> None:
        whole: Any = timm.create_model("efficientnet_b0", pretrained=False)
        super().__init__(whole)
        self.conv_head: nn.Module = whole.conv_head
        self.bn2: nn.Module = whole.bn2

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        x = self.bn1(self.conv_stem(x))
        for stage in self.blocks:
            first, *rest = cast(Any, stage)
            if first.conv_dw.stride == (2, 2):
                x = first.bn1(first.conv_pw(x))
                features.append(x)
                x = first.se(first.bn2(first.conv_dw(x)))
                x = first.bn3(first.conv_pwl(x))
            else:
                x = first(x)
            for block in rest:
                x = block(x)
        return [*features, self.bn2(self.conv_head(x))]


class EfficientNetLite0(_EfficientNet):
    """EfficientNet-Lite0: ReLU6, no squeeze-and-excitation, half of b0's time a step; features are block outputs.

    The expanded activations, as b0 has them, cost 1.6 times as much a step and reach no lower a validation loss in
    that time (the union of coffee leaves, Link shape).  Its weights expect (x - 127.5) / 127.5 of an 8-bit value x;
    statistics belong to the weights, so the network takes what every network here is given
    (`tatl.data.batches.normalise`: ImageNet's usual ones) and converts it.
    """

    channels = (16, 24, 40, 112, 320)
    levels = (0, 1, 2, 4, 6)  # stages that end at 1/2 to 1/32
    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__(timm.create_model("tf_efficientnet_lite0", pretrained=False))
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
        self.register_buffer("scale", std / 127.5, persistent=False)
        self.register_buffer("shift", (mean - 127.5) / 127.5, persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        x = self.bn1(self.conv_stem(x * self.scale + self.shift))
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in self.levels:
                features.append(x)
        return features


class SmpEncoder(nn.Module):
    """Any encoder of segmentation-models-pytorch, at random weights.

    Those of Table 8 use all they hold; smp's efficientnet-b1 to b7 also carry `_conv_head` and `_bn1`, which no
    feature passes, so that smp's own weight files fit.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(name, weights=None)
        self.channels = tuple(self.encoder.out_channels[1:])

    def forward(self, x: Tensor) -> list[Tensor]:
        return cast(list[Tensor], self.encoder(x)[1:])


def encoder(backbone: str) -> nn.Module:
    """The encoder called `backbone`, with `.channels` from fine to coarse.

    ValueError for an unknown name, and for an encoder that lacks features at one of 1/2 to 1/32.
    """
    if backbone == B0:
        return EfficientNetB0()
    if backbone == LITE0:
        return EfficientNetLite0()
    registered: Any = smp.encoders.encoders.get(backbone, {"params": {}})
    _check_levels(backbone, registered["params"].get("out_channels", ()))
    try:
        made = SmpEncoder(backbone)
    except (KeyError, RuntimeError) as error:
        known = f"{LITE0}, {', '.join(smp.encoders.get_encoder_names())}, or tu- and the name of a timm model"
        raise ValueError(f"backbone {backbone!r} is unknown: choose one of {known}") from error
    except ValueError as error:  # of a timm model that does not halve the image step by step
        raise ValueError(f"backbone {backbone!r} is no feature pyramid ({error}): {REMEDY}") from error
    _check_levels(backbone, made.channels)
    return made


def _check_levels(backbone: str, channels: Sequence[int]) -> None:
    """ValueError where a level is empty, as smp makes the first of encoders that reduce an image to 1/4 at once."""
    if 0 in channels:
        raise ValueError(f"backbone {backbone!r} has no features at 1/2 of the image, which shapes need: {REMEDY}")


class Classifier(nn.Module):
    """An encoder with a linear classifier on every level: logits [levels, B, classes].

    Each head sees the mean and standard deviation of its level's channels.  Supervising all levels trains the
    shallow ones, which a segmenter's skips carry, within a few hundred steps.
    """

    def __init__(self, backbone: str, classes: int) -> None:
        super().__init__()
        self.encoder = encoder(backbone)
        channels = cast(tuple[int, ...], self.encoder.channels)
        self.head = nn.ModuleList(nn.Linear(2 * c, classes) for c in channels)

    def forward(self, x: Tensor) -> Tensor:
        levels = [f.flatten(2) for f in self.encoder(x)]
        pooled = [torch.cat([f.mean(2), f.std(2, correction=0)], 1) for f in levels]
        return torch.stack([head(p) for head, p in zip(self.head, pooled, strict=True)])

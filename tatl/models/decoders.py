"""Decoders: a feature pyramid becomes a 16-channel map at the input's resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from tatl.run import SHAPES

OUT_CHANNELS = 16


class UDecoder(nn.Module):
    """The U shape: up-sample (nearest), concatenate the skip, two 3x3 convolutions; five times.

    segmentation-models-pytorch's decoder at 256, 128, 64, 32, 16 channels; the last block has no skip.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.decoder = UnetDecoder(encoder_channels=(3, *channels), decoder_channels=(256, 128, 64, 32, OUT_CHANNELS))

    def forward(self, image: Tensor, features: list[Tensor]) -> Tensor:
        return cast(Tensor, self.decoder([image, *features]))


def conv_bn_relu(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def link_block(inputs: int, outputs: int) -> nn.Sequential:
    """Narrow to a quarter, double the resolution, convolve, widen to `outputs`."""
    narrow = inputs // 4
    return nn.Sequential(
        conv_bn_relu(inputs, narrow, 1),
        nn.Upsample(scale_factor=2),
        conv_bn_relu(narrow, narrow, 3),
        conv_bn_relu(narrow, outputs, 1),
    )


class LinkDecoder(nn.Module):
    """The Link shape (Chaurasia & Culurciello 2017): skips are added, not concatenated.

    Up-sampling by nearest neighbour where smp's `Linknet` has transposed convolutions: the parameter count of
    Table 7 is met this way only.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        *skips, top = channels
        inputs = [top, *reversed(skips)]
        outputs = [*reversed(skips), OUT_CHANNELS]
        self.blocks = nn.ModuleList(link_block(a, b) for a, b in zip(inputs, outputs, strict=True))

    def forward(self, image: Tensor, features: list[Tensor]) -> Tensor:
        *skips, x = features
        for block, skip in zip(self.blocks, reversed(skips), strict=False):
            x = block(x) + skip
        return cast(Tensor, self.blocks[-1](x))


DECODERS = dict(zip(SHAPES, (UDecoder, LinkDecoder), strict=True))

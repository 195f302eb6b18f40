"""Decoders: a feature pyramid becomes a 16-channel map at the input's resolution.

Attention gates on skips say where in a skip to look (Oktay et al. 2018, arXiv 1804.03999):

    alpha = sigmoid(psi(relu(theta(x) + up(phi(g)))))        gate(x, g) = out(up(alpha) * x)

x is the skip and g the next coarser output of the decoder.  theta is a 2x2 convolution of stride 2 without bias, phi
and psi are 1x1, out is 1x1 with BatchNorm, up is bilinear.  Between them are half as many channels as the skip has,
the default of the authors' module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn
from torch.nn import functional as F

from tatl.names import SHAPES

OUT_CHANNELS = 16
U_CHANNELS = (256, 128, 64, 32, OUT_CHANNELS)


class UDecoder(nn.Module):
    """The U shape: up-sample (nearest), concatenate the skip, two 3x3 convolutions; five times.

    segmentation-models-pytorch's decoder at 256, 128, 64, 32, 16 channels; the last block has no skip.  Where it is
    `gated`, skips pass attention gates first.
    """

    def __init__(self, channels: Sequence[int], gated: bool = False) -> None:
        super().__init__()
        *skips, top = channels
        self.decoder = UnetDecoder(encoder_channels=(3, *channels), decoder_channels=U_CHANNELS)
        self.gates = gates(skips[::-1], (top, *U_CHANNELS[:3]), gated)

    def forward(self, image: Tensor, features: list[Tensor]) -> Tensor:
        return self.levels(image, features)[-1]

    def levels(self, image: Tensor, features: list[Tensor]) -> list[Tensor]:
        """What each of the five blocks makes, at 1/16 to 1 of the image."""
        *skips, x = features
        outputs = []
        for block, gate, skip in zip(self.decoder.blocks, self.gates, reversed(skips), strict=False):
            x = block(x, *skip.shape[-2:], skip_connection=gate(skip, x))
            outputs.append(x)
        return [*outputs, self.decoder.blocks[-1](x, *image.shape[-2:])]


def conv_bn_relu(inputs: int, outputs: int, kernel: int, bias: bool = False) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
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
    Table 7 is met this way only.  Where it is `gated`, skips pass attention gates first.
    """

    def __init__(self, channels: Sequence[int], gated: bool = False) -> None:
        super().__init__()
        *skips, top = channels
        inputs = [top, *reversed(skips)]
        outputs = [*reversed(skips), OUT_CHANNELS]
        self.blocks = nn.ModuleList(link_block(a, b) for a, b in zip(inputs, outputs, strict=True))
        self.gates = gates(outputs[:-1], inputs[:-1], gated)

    def forward(self, image: Tensor, features: list[Tensor]) -> Tensor:
        *skips, x = features
        for block, gate, skip in zip(self.blocks, self.gates, reversed(skips), strict=False):
            x = block(x) + gate(skip, x)
        return cast(Tensor, self.blocks[-1](x))


class PyramidDecoder(nn.Module):
    """The U shape with pyramid pooling: all of its five levels, not the last alone, make the output.

    Each is narrowed to 16 channels (1x1) and up-sampled to the image (bilinear); together they pass a 3x3
    convolution.  So the ISIC 2018 winner combines scales (Koohbanani et al., arXiv 1809.10243); the widths are ours.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.u = UDecoder(channels)
        self.narrow = nn.ModuleList(conv_bn_relu(width, OUT_CHANNELS, 1) for width in U_CHANNELS)
        self.fuse = conv_bn_relu(len(U_CHANNELS) * OUT_CHANNELS, OUT_CHANNELS, 3)

    def forward(self, image: Tensor, features: list[Tensor]) -> Tensor:
        levels = zip(self.narrow, self.u.levels(image, features), strict=True)
        return cast(Tensor, self.fuse(torch.cat([up(narrow(x), image) for narrow, x in levels], dim=1)))


DECODERS: dict[str, Callable[[Sequence[int]], nn.Module]] = dict(
    zip(
        SHAPES,
        (UDecoder, LinkDecoder, partial(UDecoder, gated=True), partial(LinkDecoder, gated=True), PyramidDecoder),
        strict=True,
    )
)


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

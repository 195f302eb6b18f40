"""Networks the paper compares with, each made of one backbone: `tatl.names.RIVALS` names both.

    isic2017-winner  VGG16; maps of six depths resized to the image and joined by one 1x1 convolution
    segnet           VGG16 with BatchNorm; the decoder puts values back where the encoder's pooling found them
    unet             the plain U-Net, of no backbone but its own
    mask-rcnn        boxes, then a mask in each: tatl.models.mask_rcnn

Each has `encoder`, `decoder` and `head` as every segmenter has, and the encoders of a known backbone are named as
segmentation-models-pytorch names them, so that every start of `tatl.models.starts` fits.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tatl.losses import negative_dice
from tatl.models.decoders import conv_bn_relu, up
from tatl.models.encoders import SmpEncoder
from tatl.models.mask_rcnn import MaskRCNN
from tatl.models.segmenter import Segmenter
from tatl.names import RIVALS

TAPS = (64, 128, 256, 512, 512, 512)


class Vgg16Taps(SmpEncoder):
    """The last activation of VGG16's five blocks and the last pooling's: 1 to 1/32 of the image, six maps."""

    def __init__(self) -> None:
        super().__init__("vgg16")
        self.channels = TAPS

    def forward(self, x: Tensor) -> list[Tensor]:
        return cast(list[Tensor], self.encoder(x))


class Narrow(nn.Module):
    """The three coarse taps narrowed to 64, 32 and 32 channels by a 1x1 convolution with ReLU: 576 in all."""

    widths = (64, 128, 256, 64, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        coarse = zip(TAPS[3:], self.widths[3:], strict=True)
        self.narrow = nn.ModuleList(nn.Sequential(nn.Conv2d(a, b, 1), nn.ReLU(inplace=True)) for a, b in coarse)

    def forward(self, image: Tensor, taps: list[Tensor]) -> list[Tensor]:
        return [*taps[:3], *(narrow(tap) for narrow, tap in zip(self.narrow, taps[3:], strict=True))]


class Labels(nn.Module):
    """Maps resized to the first one's size, concatenated, and joined by a 1x1 convolution: [B, classes, H, W].

    Convolved before they are resized, which gives the same numbers (both are linear, and the weights of bilinear
    resizing sum to one) without ever holding 576 channels at the size of the image.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(sum(Narrow.widths), classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        parts = self.conv.weight.split([m.shape[1] for m in maps], dim=1)
        first, *votes = [F.conv2d(m, w) for m, w in zip(maps, parts, strict=True)]
        total = first + cast(Tensor, self.conv.bias)[:, None, None]
        for vote in votes:
            total = total + up(vote, first)
        return total


class Isic2017Winner(Segmenter):
    """Kawahara & Hamarneh (JBHI 2019, arXiv 1703.04559): 14,780,929 parameters with one label (Table 7).

    Trained by its own loss.  Theirs saw 336x336 images; here an image is padded to multiples of 32 as for all.
    """

    def __init__(self, classes: int = 1) -> None:
        super().__init__(Vgg16Taps(), Narrow(), Labels(classes))

    def training_loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Minus the Dice of the whole mini-batch, averaged over labels: a scalar in [-1, 0]."""
        return negative_dice(self(images), masks)


class PoolingVgg16(SmpEncoder):
    """VGG16 with BatchNorm: where its five poolings found their maxima, from fine to coarse, then the top."""

    def __init__(self) -> None:
        super().__init__("vgg16_bn")

    def forward(self, x: Tensor) -> list[Tensor]:
        indices = []
        for layer in cast(nn.Sequential, self.encoder.features):
            if isinstance(layer, nn.MaxPool2d):
                x, index = F.max_pool2d_with_indices(x, (2, 2))
                indices.append(index)
            else:
                x = layer(x)
        return [*indices, x]


class Unpooling(nn.Module):
    """VGG16 mirrored: a maximum goes back to where it was found, zeros elsewhere, then 3x3 convolutions."""

    widths = ((512, 512, 512, 512), (512, 512, 512, 256), (256, 256, 256, 128), (128, 128, 64), (64, 64))

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(*(conv_bn_relu(a, b, 3, bias=True) for a, b in pairwise(widths))) for widths in self.widths
        )

    def forward(self, image: Tensor, features: list[Tensor]) -> Tensor:
        *indices, x = features
        for block, index in zip(self.blocks, reversed(indices), strict=True):
            x = block(F.max_unpool2d(x, index, (2, 2)))
        return x


def segnet(classes: int = 1) -> Segmenter:
    """SegNet (Badrinarayanan et al. 2017): 29,443,585 parameters with one class, running statistics aside."""
    return Segmenter(PoolingVgg16(), Unpooling(), nn.Conv2d(64, classes, 3, padding=1))


WIDTHS = (64, 128, 256, 512, 1024)


def double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv_bn_relu(inputs, outputs, 3), conv_bn_relu(outputs, outputs, 3))


class PlainEncoder(nn.Module):
    """Two 3x3 convolutions, five times, halving between: 64 to 1024 channels at 1 to 1/16 of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(double(a, b) for a, b in pairwise((3, *WIDTHS)))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.blocks[0](x)]
        for block in self.blocks[1:]:
            features.append(block(F.max_pool2d(features[-1], 2)))
        return features


class PlainDecoder(nn.Module):
    """Transposed 2x2 convolution, concatenate the skip, two 3x3 convolutions; four times."""

    def __init__(self) -> None:
        super().__init__()
        steps = list(pairwise(reversed(WIDTHS)))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in steps)
        self.blocks = nn.ModuleList(double(a, b) for a, b in steps)

    def forward(self, image: Tensor, features: list[Tensor]) -> Tensor:
        *skips, x = features
        for widen, block, skip in zip(self.ups, self.blocks, reversed(skips), strict=True):
            x = block(torch.cat([skip, widen(x)], dim=1))
        return x


def unet(classes: int = 1) -> Segmenter:
    """The U-Net of Ronneberger et al. (2015) with padded convolutions and BatchNorm: 31,037,633 parameters."""
    return Segmenter(PlainEncoder(), PlainDecoder(), nn.Conv2d(WIDTHS[0], classes, 1), stride=16)


NETWORKS: dict[str, Callable[[int], Segmenter]] = dict(
    zip(RIVALS, (Isic2017Winner, segnet, unet, MaskRCNN), strict=True)
)

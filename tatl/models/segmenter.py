"""What every segmenter is: an encoder, a decoder and a head; logits at the size of the image, whatever that is."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

from torch import Tensor, nn
from torch.nn import functional as F

from tatl.models.encoders import STRIDE


class Segmenter(nn.Module):
    """Image [B, 3, H, W], normalised, to logits [B, classes, H, W].

    Pads the right and bottom edges to a multiple of `stride` (by replication) and crops the logits back.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, head: nn.Module, stride: int = STRIDE) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head, self.stride = encoder, decoder, head, stride

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(image, self.features(image))

    def features(self, image: Tensor) -> list[Tensor]:
        """What the encoder makes of an image [B, 3, H, W], from fine to coarse."""
        return cast(list[Tensor], self.encoder(pad(image, self.stride)))

    def decode(self, image: Tensor, features: list[Tensor]) -> Tensor:
        """Logits [B, classes, H, W] of an image whose features are known: networks with one encoder may share them."""
        height, width = image.shape[-2:]
        return self.logits(pad(image, self.stride), features)[..., :height, :width]

    def logits(self, image: Tensor, features: list[Tensor]) -> Tensor:
        """Of an image whose sides are multiples of `stride`."""
        return cast(Tensor, self.head(self.decoder(image, features)))


@runtime_checkable
class OwnLoss(Protocol):
    """A network that is not trained by `tatl.losses.segmentation_loss`."""

    def training_loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Images [B, 3, H, W] and masks [B, classes, H, W] to a scalar."""


def pad(image: Tensor, stride: int) -> Tensor:
    """Right and bottom edges replicated until height and width are multiples of `stride`."""
    height, width = image.shape[-2:]
    bottom, right = -height % stride, -width % stride
    if bottom or right:
        image = F.pad(image, (0, right, 0, bottom), mode="replicate")
    return image

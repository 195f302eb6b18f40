"""The augmentation paradigm (Table 9): every training image turned, flipped, shifted, zoomed and brightened at random.

torchvision's transforms, image and mask together, where the images are (on the GPU when the store is there).  What a
turn or a shift brings in from outside has the colour that normalising makes zero, and no mask.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from tatl.data.feed import MEAN, STD

TRANSFORM = v2.Compose([
    v2.RandomHorizontalFlip(),
    v2.RandomVerticalFlip(),
    v2.RandomAffine(
        degrees=180,
        translate=(0.1, 0.1),
        scale=(0.8, 1.25),
        interpolation=v2.InterpolationMode.BILINEAR,
        fill={tv_tensors.Image: [value / 255 for value in MEAN], tv_tensors.Mask: 0},
    ),
    v2.ColorJitter(brightness=0.2),
])  # fmt: skip


def augmented(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Images [B, 3, H, W], normalised, and masks [B, 1, H, W], each pair by a draw of its own; new tensors.

    Draws are torch's global generator's, which an epoch seeds.
    """
    mean, std = (images.new_tensor(v).view(3, 1, 1) / 255 for v in (MEAN, STD))
    pairs = [
        TRANSFORM(tv_tensors.Image((image * std + mean).clamp(0, 1)), tv_tensors.Mask(mask))
        for image, mask in zip(images, masks, strict=True)
    ]
    colours = torch.stack([image.as_subclass(Tensor) for image, _ in pairs])
    moved = torch.stack([mask.as_subclass(Tensor) for _, mask in pairs])
    return ((colours - mean) / std).contiguous(memory_format=torch.channels_last), moved

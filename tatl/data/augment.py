"""The augmentation paradigm (Table 9): every training image turned, flipped, shifted, zoomed and brightened at random.

torchvision's transforms, drawn image by image and applied to the whole batch, image and mask together, where the images
are (on the GPU when the store is there).  What a turn or a shift brings in from outside has the colour that normalising
makes zero, and no mask.
"""

from __future__ import annotations

from math import cos, radians, sin

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms import v2

from tatl.data.batches import MEAN, STD, constant, send
from tatl.data.crop import without_autocast

FLIPPED = 0.5
AFFINE = v2.RandomAffine(degrees=180, translate=(0.1, 0.1), scale=(0.8, 1.25))
BRIGHTNESS = v2.ColorJitter(brightness=0.2)


@without_autocast()
def augmented(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Images [B, 3, H, W], normalised, and masks [B, labels, H, W], each pair by a draw of its own; new tensors.

    Draws are torch's global generator's, which an epoch seeds.
    """
    draws = [_draw(image) for image in images]
    drawn = send(np.array([numbers for _, numbers in draws], np.float32), images.device)
    brightness, theta = drawn[:, :1, None, None], drawn[:, 1:].view(-1, 2, 3)
    mean, std = (constant(v, images.device) / 255 for v in (MEAN, STD))
    frames = torch.cat([(images * std).add_(mean).clamp_(0, 1), torch.ones_like(masks[:, :1]), masks], dim=1)
    frames = torch.stack([frame.flip(axes) for frame, (axes, _) in zip(frames, draws, strict=True)])
    grid = _grid(theta, *images.shape[-2:])
    colours, inside = grid_sample(frames[:, :4], grid, align_corners=False).split([3, 1], dim=1)
    colours.sub_(mean).mul_(inside).add_(mean).mul_(brightness).clamp_(0, 1).sub_(mean).div_(std)
    moved = grid_sample(frames[:, 4:], grid, mode="nearest", align_corners=False)
    return colours.contiguous(memory_format=torch.channels_last), moved


def _draw(image: Tensor) -> tuple[list[int], list[float]]:
    """The axes that are flipped, and the brightness with the inverse affine matrix [2, 3] in pixels, row by row."""
    axes = [axis for axis in (-1, -2) if torch.rand(1) < FLIPPED]
    affine, colour = AFFINE.make_params([image]), BRIGHTNESS.make_params([image])
    turn, (right, down) = radians(affine["angle"]), affine["translate"]
    a, b = cos(turn) / affine["scale"], sin(turn) / affine["scale"]
    return axes, [colour["brightness_factor"], a, b, -a * right - b * down, -b, a, b * right - a * down]


def _grid(theta: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel comes from [B, H, W, 2], as `grid_sample` counts, by matrices [B, 2, 3] in pixels."""
    y, x = (torch.arange(n, device=theta.device) - (n - 1) / 2 for n in (height, width))
    places = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(height, width, device=theta.device)], dim=-1)
    half = torch.stack([theta.new_full((), width / 2), theta.new_full((), height / 2)])
    return (places.view(1, -1, 3) @ (theta.transpose(1, 2) / half)).view(-1, height, width, 2)

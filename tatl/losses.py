"""The segmentation loss, half Tversky and half soft Jaccard (Eq. 1-3).

    T = 1 - (a + <y,p>) / (a + <y,p> + b <1-p,y> + (1-b) <p,1-y>)
    J = 1 - (a + <y,p>) / (a + |y| + |p| - <y,p>)          loss = (T + J) / 2,   a = 1, b = 0.6

Sums run over the pixels of one image (`pool="image"`: one loss per image, which the theory speaks of) or over
all pixels of the mini-batch (`pool="batch"`, which training uses: with a loss per image any false positive on an
image without the attribute costs almost 1, and a rare attribute collapses to "predict nothing").
Both terms lie in [0, 1), so the loss does; sums are taken in float32 where the logits have fewer bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

ALPHA = 1.0
BETA = 0.6
POOLS = ("batch", "image")
TINY = 1e-6  # keeps 0/0 out where nothing is predicted and nothing is there


def overlaps(logits: Tensor, masks: Tensor) -> Tensor:
    """Per image <y,p>, |p| and |y| [B, 3], from logits and masks [B, 1, H, W]; float64 for float64 logits."""
    return label_overlaps(logits.flatten(1)[:, None], masks.flatten(1)[:, None])[:, 0]


def label_overlaps(logits: Tensor, masks: Tensor) -> Tensor:
    """Per image and label <y,p>, |p| and |y| [B, labels, 3], from logits and masks [B, labels, ...]."""
    p = torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32))).flatten(2)
    y = masks.to(p.dtype).flatten(2)
    return torch.stack([(y * p).sum(2), p.sum(2), y.sum(2)], dim=2)


def loss_from_overlaps(sums: Tensor, alpha: float = ALPHA, beta: float = BETA) -> Tensor:
    """Eq. 1-3 from <y,p>, |p|, |y| in the last dimension [..., 3] -> [...]."""
    both, predicted, true = sums.unbind(-1)
    missed, false = (true - both).clamp_min(0), (predicted - both).clamp_min(0)
    hit = alpha + both
    tversky = (beta * missed + (1 - beta) * false) / (hit + beta * missed + (1 - beta) * false)
    jaccard = (missed + false) / (hit + missed + false)
    return (tversky + jaccard) / 2


def segmentation_loss(
    logits: Tensor, masks: Tensor, pool: str = "batch", alpha: float = ALPHA, beta: float = BETA
) -> Tensor:
    """Eq. 3 for logits and masks [B, 1, H, W]: a scalar (`pool="batch"`) or one loss per image [B] (`"image"`).

    Finite with finite gradients for empty and full masks, in float32 and bf16.  Raises ValueError where the
    shapes differ or `pool` is unknown.
    """
    _check_shapes(logits, masks)
    if pool not in POOLS:
        raise ValueError(f"pool {pool!r} is unknown: choose one of {', '.join(POOLS)}")
    sums = overlaps(logits, masks)
    return loss_from_overlaps(sums.sum(0) if pool == "batch" else sums, alpha, beta)


def negative_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """-2 <y,p> / (|y| + |p|) for logits and masks [B, labels, H, W]: a scalar in [-1, 0].

    Sums run over all pixels of the mini-batch, one Dice per label, then the mean over labels (Kawahara & Hamarneh
    2019).  A label that no image of the batch has gives 0 and no gradient.  Raises ValueError where the shapes differ.
    """
    _check_shapes(logits, masks)
    per_label = overlaps(logits.transpose(0, 1), masks.transpose(0, 1))
    both, predicted, true = per_label.unbind(1)
    return -(2 * both / (predicted + true).clamp_min(TINY)).mean()


def _check_shapes(logits: Tensor, masks: Tensor) -> None:
    if logits.shape != masks.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and masks {tuple(masks.shape)} differ in shape")

"""From a trained network to probability maps: evaluation mode, and eight bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from tatl.data.case import Size
from tatl.data.images.reduction import reduce_mask
from tatl.data.store import Store


@torch.no_grad()
def infer(model: nn.Module, images: Tensor, logits: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Probabilities [B, 1, H, W] in evaluation mode; the mode it found is restored.

    `logits` is another way than calling the model to its logits, such as from features that are known.
    """
    training = model.training
    model.eval()
    try:
        return torch.sigmoid((logits or model)(images).float())
    finally:
        model.train(training)


def quantise(probabilities: Tensor) -> np.ndarray:
    """floor(256 p) as uint8, so that p >= 0.5 is exactly a value >= 128."""
    return (probabilities * 256).clamp(0, 255).to(torch.uint8).cpu().numpy()


def truth(store: Store, mask: str, indices: np.ndarray, size: Size) -> np.ndarray:
    """True masks bool [n, h, w] at `size`."""
    masks = store.mask(mask, indices)
    return masks if size == store.size else np.stack([reduce_mask(m, size) for m in masks])

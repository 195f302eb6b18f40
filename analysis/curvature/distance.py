"""The Hessian distance of a fine-tuned network (after Ju, Li & Zhang, ICML 2022), a second opinion on a start.

    h_i = v^T Hess l(w, z_i) v,    v = w - w_start        w: the weights after fine-tuning, z_i: a training image

Their bound on the generalisation gap of fine-tuning grows as sqrt(C max_i h_i+ / m), for a loss in [0, C], here C = 1:
far travel along flat directions is cheap, a short way across a ravine is not.  They take the sum over layers of
truncated, layer-wise Hessians; here v^T H v is taken whole, signed, and its negative values are counted as 0 where a
root is drawn.  Read it as a ranking of starts, not as a bound.

Beside it how far features are apart (Kornblith et al. 2019), which no training is needed for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from analysis.curvature.evaluation import ImageFeed, Loss
from analysis.curvature.products import Hessians, flatten


@dataclass(frozen=True)
class HessianDistance:
    """Per image v^T H v [n] (signed), and |v|, the plain distance."""

    values: np.ndarray
    length: float

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def largest(self) -> float:
        return float(self.values.max())

    def measure(self, m: int) -> float:
        """sqrt(max_i h_i+ / m) for m training images."""
        return float(np.sqrt(max(self.largest, 0.0) / m))


def hessian_distance(
    model: nn.Module, start: nn.Module, feed: ImageFeed, indices: np.ndarray, loss: Loss
) -> HessianDistance:
    """v^T H v of each image, v the way from `start` to `model`; one product an image.

    Args:
        model: after fine-tuning; in evaluation mode for this
        start: before it, the same network
        feed: indices int [1] -> an image [1, C, H, W] and its mask
        indices: int [n]
        loss: (model(images), masks) -> one loss per image

    Raises ValueError where the two are not the same network, or no image is given.
    """
    if not len(indices):
        raise ValueError("no image is given")
    before, after = (dict(m.named_parameters()) for m in (start, model))
    if [(k, p.shape) for k, p in before.items()] != [(k, p.shape) for k, p in after.items()]:
        raise ValueError("the start and the fine-tuned network are not the same network: there is no way between them")
    hessians = Hessians(model, loss)
    way = flatten([(after[name] - before[name]).detach() for name in hessians.weights])
    values = [float(way @ hessians.at(*feed(np.array([index])))(way)) for index in indices]
    return HessianDistance(np.array(values), float(way.norm()))


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """Centred kernel alignment of features [n, .] and [n, .] of the same n images (Kornblith et al. 2019): 0 to 1."""
    x, y = one - one.mean(0), other - other.mean(0)
    gram, beside = x @ x.T, y @ y.T
    return float((gram * beside).sum() / (np.linalg.norm(gram) * np.linalg.norm(beside)))

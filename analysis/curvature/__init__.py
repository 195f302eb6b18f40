"""Curvature of the loss of single images: products, spectral norms, densities, and the bound made of them.

A library of its own: it works on any module and any loss per image, and imports neither tatl nor pandas.

    import torch
    from torch import nn
    from torch.nn import functional as F

    from analysis.curvature import bound, per_image_losses, spectral_norms

    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(), nn.LazyLinear(10))
    images, labels = torch.randn(6, 3, 16, 16), torch.tensor([3, 1, 4, 1, 5, 9])
    classifier(images)  # the lazy layer takes its size


    def loss(logits, labels):
        return 1 - F.softmax(logits, 1).gather(1, labels[:, None])[:, 0]  # one number per image, here in [0, 1]
        # or F.cross_entropy(logits, labels, reduction="none"), which has norms, and no bound


    norms = spectral_norms(classifier, images, labels, loss)  # one Hessian norm per image, with its evidence
    assert norms.converged.all() and norms.note == ""
    risk = per_image_losses(classifier, lambda i: (images[i], labels[i]), torch.arange(6).numpy(), loss).mean()
    print(bound(risk, norms.values.mean(), m=6))  # Eq. 6 with every factor
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.curvature.distance import hessian_distance
    from analysis.curvature.evaluation import per_image_losses
    from analysis.curvature.norms import Options, SpectralNorms, spectral_norms
    from analysis.curvature.products import Hessians
    from analysis.curvature.spectrum import MeanHessian
    from analysis.curvature.stability import bound

__all__ = [
    "Hessians", "MeanHessian", "Options", "SpectralNorms", "bound", "hessian_distance", "per_image_losses",
    "spectral_norms",
]  # fmt: skip
_WHERE = {
    "Hessians": "products", "MeanHessian": "spectrum", "bound": "stability", "hessian_distance": "distance",
    "per_image_losses": "evaluation",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Torch takes seconds to import, and the formulas of the bound need none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE.get(name, 'norms')}"), name)

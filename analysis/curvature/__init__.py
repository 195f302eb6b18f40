"""Curvature of the loss of single images: products, spectral norms, densities, and the bound made of them.

`spectral_norms(model, images, masks, loss)` works on any module and any loss per image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.curvature.norms import Options, SpectralNorms, spectral_norms

__all__ = ["Options", "SpectralNorms", "spectral_norms"]


def __getattr__(name: str) -> Any:
    """Torch takes seconds to import, and the formulas of the bound need none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analysis.curvature import norms

    return getattr(norms, name)

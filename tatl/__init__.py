"""TATL: Task Agnostic Transfer Learning for skin-lesion attributes.

A lesion network crops (Stage 1), an attribute-agnostic segmenter learns the union of all attribute masks
(Stage 2), and one target segmenter per attribute starts from it (Stage 3).

    Store, prepare                 images and masks, decoded once           tatl.data.store
    build, count_parameters        networks                                 tatl.models
    segmentation_loss              half Tversky, half Jaccard               tatl.losses
    Recipe, Run                    what makes one trained network           tatl.run; tatl.training.trainer trains it
    Settings, Planner, STUDIES     what a comparison trains                 tatl.studies.settings, .planner, .catalogue
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_ROOMS = {
    "Store": "data.store", "prepare": "data.store", "build": "models", "count_parameters": "models",
    "segmentation_loss": "losses", "Recipe": "run", "Run": "run", "Settings": "studies.settings",
    "Planner": "studies.planner", "STUDIES": "studies.catalogue",
}  # fmt: skip
__all__ = list(_ROOMS)


def __getattr__(name: str) -> Any:
    """Public names are imported when they are asked for: torch takes seconds, and --help does not need it."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'tatl' has no attribute {name!r}")
    return getattr(import_module(f"tatl.{_ROOMS[name]}"), name)

"""Networks: `build` makes one, `count_parameters` counts it as the paper does.  They are imported when asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tatl.names import RIVALS, SHAPES

if TYPE_CHECKING:
    from tatl.models.networks import build, count_parameters
    from tatl.models.segmenter import OwnLoss, Segmenter

__all__ = ["RIVALS", "SHAPES", "OwnLoss", "Segmenter", "build", "count_parameters"]
_HOMES = {"build": "networks", "count_parameters": "networks", "OwnLoss": "segmenter", "Segmenter": "segmenter"}


def __getattr__(name: str) -> Any:
    """torch and what it carries take seconds to import, which a plan or --help need not wait for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"tatl.models.{_HOMES[name]}"), name)

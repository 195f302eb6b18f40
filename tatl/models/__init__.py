"""Networks: `build` makes one, `count_parameters` counts it as the paper does."""

from tatl.models.networks import build, count_parameters
from tatl.models.segmenter import OwnLoss, Segmenter
from tatl.names import RIVALS, SHAPES

__all__ = ["RIVALS", "SHAPES", "OwnLoss", "Segmenter", "build", "count_parameters"]

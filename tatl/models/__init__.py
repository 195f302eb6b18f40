"""Networks: `build` makes one, `count_parameters` counts it as the paper does."""

from tatl.models.networks import SHAPES, Segmenter, build, count_parameters

__all__ = ["SHAPES", "Segmenter", "build", "count_parameters"]

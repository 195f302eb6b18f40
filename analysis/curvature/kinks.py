"""Operations of a network whose derivatives jump, met in one forward pass: each time one is applied counts.

A pass is watched, and not its modules: a function called in `forward` has kinks like a layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

# Of aten; ReLU6 is a hardtanh, CELU and SELU are ELUs (whose second derivative jumps), PReLU has a kernel of its own.
ACTIVATIONS = {
    "relu", "hardtanh", "leaky_relu", "_prelu_kernel", "rrelu_with_noise", "hardswish", "hardsigmoid", "threshold",
    "elu", "celu", "hardshrink", "softshrink", "clamp", "clamp_min", "clamp_max", "abs", "maximum", "minimum",
}  # fmt: skip
POOLINGS = {
    "max", "min", "amax", "amin", "max_pool1d", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "fractional_max_pool2d", "fractional_max_pool3d",
}  # fmt: skip
KINKED = ACTIVATIONS | POOLINGS


class _Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.count += name in KINKED or (name.endswith("_") and name[:-1] in KINKED)
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def kinks(model: nn.Module, images: Tensor) -> int:
    """How many operations with kinks `model(images)` applies."""
    with _Counter() as counter:
        model(images)
    return counter.count

"""A GPU that is not there: tensors on it have shapes and no values, and what crosses to it and back is written down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tatl.data import batches as feed

GPU = torch.device("cuda:0")
Shapes = list[tuple[int, ...]]


class Crossings(TorchDispatchMode):
    """Shapes of what an operation took from the CPU to the GPU, and from the GPU to the CPU.

    A read of a value (`.item()`, `nonzero`) raises in any case, as there is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent: Shapes = []
        self.read: Shapes = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given, out = ([x for x in tree_leaves(each) if isinstance(x, Tensor)] for each in ((args, kwargs), made))
        there = any(x.device.type == "cuda" for x in [*given, *out])
        # Numbers of the CPU travel with an operation's arguments; arrays are copied first.
        self.sent += [tuple(x.shape) for x in given if x.device.type == "cpu" and x.dim() and there]
        self.read += [tuple(x.shape) for x in out if x.device.type == "cpu" and there]
        return made


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch, free: float = 1e12) -> Iterator[None]:
    """Inside, a device called `cuda` with so much free memory; nothing that is kept there outlives it."""
    kept = (feed.constant, feed._resident)
    with monkeypatch.context() as patch, FakeTensorMode():
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(torch.cuda, "is_available", lambda: False)  # there is no memory to pin
        patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (int(free), int(free)))
        for each in kept:
            each.cache_clear()
        try:
            yield
        finally:
            for each in kept:
                each.cache_clear()


def move(model: nn.Module) -> None:
    """`model.to(GPU)`, which tensors without values do not support."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = nn.Parameter(value.detach().to(GPU))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(GPU)

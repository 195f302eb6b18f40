"""Where a run is trained: which device, in which precision, and with kernels that repeat themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tatl.run import Run

if TYPE_CHECKING:
    import torch

DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/proc/driver/nvidia")  # NVIDIA's, WSL's, AMD's


def usual_precision(kind: str) -> str:
    """What precision "auto" is there: bf16 autocast on a GPU (cuda), float32 on a CPU."""
    return "bf16" if kind == "cuda" else "32"


def device_kind(name: str = "auto") -> str:
    """cpu or cuda, as `pick_device` says; without torch, which takes seconds to import, where there is no driver."""
    bare = sys.platform == "linux" and "torch" not in sys.modules and not any(Path(each).exists() for each in DRIVERS)
    return "cpu" if name == "cpu" or (name == "auto" and bare) else pick_device(name).type


def lightning_precision(run: Run) -> Any:
    """Lightning's name of the precision."""
    return {"32": "32-true", "bf16": "bf16-mixed"}[run.recipe.precision]


def pick_device(name: str = "auto") -> torch.device:
    """`auto`, `cpu` or `cuda`; ValueError where CUDA is asked for and absent."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is unknown: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda was asked for and PyTorch sees none: use --device cpu")
    return torch.device(name)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Inside, CUDA's kernels are those that repeat themselves to the bit, where PyTorch has such; a CPU's all are."""
    if device.type != "cuda":
        yield
        return
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    cudnn, memory = torch.backends.cudnn, cast(Any, torch.utils.deterministic)
    flags = cudnn.deterministic, cudnn.benchmark, memory.fill_uninitialized_memory
    before = torch.get_deterministic_debug_mode()
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.deterministic, cudnn.benchmark, memory.fill_uninitialized_memory = True, False, False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        cudnn.deterministic, cudnn.benchmark, memory.fill_uninitialized_memory = flags

"""BatchNorm statistics for evaluation, estimated in one label-free pass.

Running averages lag behind weights that move fast: with few steps they can turn a network that fits its training
batches into one that predicts nothing (evaluation Dice 0 beside a falling training loss).  So before every
evaluation the means and variances are taken afresh over some training images at the current weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def several_values() -> Iterator[None]:
    """Training mode has no variance of one image whose coarsest level is one pixel: ValueError that says what to do."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        remedy = "give --batch and --calibration 2 or more, more training images, or prepare them with a larger --size"
        raise ValueError(f"one image this small gives BatchNorm no variance: {remedy}") from error


@torch.no_grad()
def calibrate(model: nn.Module, forward: Callable[[np.ndarray], object], batches: Iterable[np.ndarray]) -> None:
    """Replace running means and variances by their plain averages over `batches`, passed to `forward` in turn.

    Only norms in training mode are touched, so a frozen encoder keeps its own.  The model must be in training mode.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    for number, batch in enumerate(batches, 1):
        for norm in norms:
            norm.momentum = 1 / number  # a cumulative average, as momentum None makes by reading a GPU's counter
        with several_values():
            forward(batch)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum

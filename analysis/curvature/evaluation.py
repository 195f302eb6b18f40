"""How a model is run where its numbers are to be those of its weights: evaluation mode, IEEE float32, eager kernels.

A loss is (what the model gives, masks) -> one number per image [B]; what it gives may be a dict, a list or anything.

What a caller has switched on round the call (autocast, TF32, inference mode) is off inside and as before afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel

Loss = Callable[[Any, Tensor], Tensor]
ImageFeed = Callable[[np.ndarray], tuple[Tensor, Tensor]]  # indices int [B] -> images [B, ...] and masks [B, ...]

WRAPPERS = (nn.DataParallel, DistributedDataParallel)
EXACT = (torch.float32, torch.float64)


@contextmanager
def ieee() -> Iterator[None]:
    """Float32 as IEEE has it: convolutions and products of matrices may otherwise be made in TF32 or bf16 (1e-3)."""
    switches: tuple[Any, ...] = (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)  # type: ignore[attr-defined]
    if torch.cuda.is_available():
        switches += (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, kept in zip(switches, before, strict=True):
            switch.fp32_precision = kept


@contextmanager
def exactly() -> Iterator[None]:
    """Nothing but the model decides its numbers, and all of it can be differentiated twice.

    Autocast and inference mode are off, float32 is IEEE's, attention is made of its formula (its fused kernels have
    no second derivative), and what torch.compile made runs uncompiled (its graphs lose second derivatives silently).
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for kind in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if "torch._dynamo" in sys.modules:  # slow to load, and without it nothing is compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(ieee())
        yield


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; every module's own mode is restored.

    ValueError where a module in training mode has a train() or eval() of its own: what it does beside could not be
    taken back.
    """
    modes = [(module, module.training) for module in model.modules()]
    for module, mode in modes:
        kind = type(module)
        if mode and (kind.train is not nn.Module.train or kind.eval is not nn.Module.eval):
            what = f"{kind.__name__} has a train() or eval() of its own, which may change more than the mode"
            raise ValueError(f"{what}: call model.eval() before")
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside torch.compile's and data-parallel wrappers.

    Raises ValueError for what has no second derivative to be seen, or none that is exact enough: TorchScript,
    data-parallel wrappers inside the model, weights in half precision.
    """
    while isinstance(model, WRAPPERS) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, WRAPPERS) else model._orig_mod  # type: ignore[assignment]
    for name, module in model.named_modules():
        where = f"{name or 'the model'} is a {type(module).__name__}"
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"{where}, whose graphs may lose second derivatives: give the module it came from")
        if isinstance(module, WRAPPERS):
            raise ValueError(f"{where}, which copies its weights: put the module inside it (its .module) in its place")
    for name, weight in model.named_parameters():
        if weight.requires_grad and weight.dtype not in EXACT:
            what = f"{name} is {str(weight.dtype).removeprefix('torch.')}, too coarse for second derivatives"
            raise ValueError(f"{what}: give model.float() and float images")
    return model


def memory_ran_out(error: BaseException) -> bool:
    """Whether memory has run out, on a GPU or (where PyTorch has no error of its own for it) on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def per_image(losses: Tensor, count: int) -> Tensor:
    """The losses; ValueError where they are not one number per image."""
    if losses.shape != (count,):
        what = f"the loss of {count} images has shape {tuple(losses.shape)}, and one number per image is needed"
        remedy = 'give F.cross_entropy and its like reduction="none", and take the mean over each image of a map'
        raise ValueError(f"{what}: {remedy}")
    return losses


def per_image_losses(
    model: nn.Module,
    feed: ImageFeed,
    indices: np.ndarray,
    loss: Loss,
    batch: int = 16,
    name: Callable[[int], str] = "image {}".format,
) -> np.ndarray:
    """Loss of each index, float64 [n], a batch at a time; half as many where memory ends.

    FloatingPointError where a loss is not finite, MemoryError where an image alone does not fit; `name` names it.
    """
    with evaluation(model), exactly(), torch.no_grad():
        losses = np.concatenate(list(_in_batches(model, feed, indices, loss, batch, name)))
    if not np.isfinite(losses).all():
        first = int(np.flatnonzero(~np.isfinite(losses))[0])
        what = f"the loss of {name(int(indices[first]))} is {losses[first]}"
        raise FloatingPointError(f"{what}: look at the weights and at it")
    return losses


def _in_batches(
    model: nn.Module, feed: ImageFeed, indices: np.ndarray, loss: Loss, batch: int, name: Callable[[int], str]
) -> Iterator[np.ndarray]:
    at = 0
    while at < len(indices):
        try:
            images, masks = feed(indices[at : at + batch])
            yield per_image(loss(model(images), masks), len(images)).double().cpu().numpy()
            at += batch
        except RuntimeError as error:
            if not memory_ran_out(error):
                raise
            if batch == 1:
                raise MemoryError(f"memory ran out at {name(int(indices[at]))}, alone in its batch") from error
            batch = max(1, batch // 2)

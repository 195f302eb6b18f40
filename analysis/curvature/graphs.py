"""Hessian products on CUDA as captured graphs: one for the forward pass, one for the gradient, one for the product.

A product of EfficientNet-b0 launches some thousands of small kernels; at one image the card waits for the launches.
A graph is captured once per shape of input and replayed for every image, its inputs copied into place.

The first capture is checked against the product it stands for; where it fails or differs, products are made one
kernel at a time as before, and `.note` says why.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from analysis.curvature.evaluation import Loss, exactly
from analysis.curvature.products import HessianProduct, Hessians, alike, finite, flatten, same

_WARM_UP = 3
_AGREEMENT = 1e-3  # largest relative difference of a replayed product


class Captured(Hessians):
    """`Hessians` whose product is valid until the next `at`, and an error after it: it lives in the graphs' memory."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__(model, loss)
        self.note = ""
        self._replay: Replay | None = None

    def at(self, images: Tensor, masks: Tensor) -> HessianProduct:
        if self.note or images.device.type != "cuda":
            return super().at(images, masks)
        with torch.cuda.device(images.device):
            if self._replay is None or not self._replay.fits(images, masks):
                self._replay = None  # its memory goes before the next one comes
                self._replay = self._captured(images, masks)
            return super().at(images, masks) if self._replay is None else self._replay.at(images, masks)

    def _captured(self, images: Tensor, masks: Tensor) -> Replay | None:
        """The graphs, or None where they cannot be had, with a note."""
        plain = super().at(images, masks)
        expected = plain(plain.gradient)
        self._images = self._output = None
        del plain
        replay, self.note = self._attempt(images, masks, expected)
        if replay is None:
            self._recover(images, masks, expected)
        return replay

    def _attempt(self, images: Tensor, masks: Tensor, expected: Tensor) -> tuple[Replay | None, str]:
        try:
            replay = Replay(self, images, masks)
            at = replay.at(images, masks)
            difference = _relative(at(at.gradient), expected)
        except torch.OutOfMemoryError:
            return None, "CUDA graphs do not fit into memory: one kernel at a time"
        except RuntimeError as error:
            return None, f"CUDA graphs could not be captured ({str(error).splitlines()[0]}): one kernel at a time"
        if difference <= _AGREEMENT:  # not where it is not a number
            return replay, ""
        return None, f"a replayed product differed by {difference:.1e} of its length: one kernel at a time"

    def _recover(self, images: Tensor, masks: Tensor, expected: Tensor) -> None:
        """Clear what a capture that failed has left; RuntimeError where eager products are others than before it."""
        gc.collect()  # an error holds the frames it passed, and these the graphs' memory
        torch.cuda.synchronize(images.device)
        torch.cuda.empty_cache()
        self._images = self._output = None
        plain = super().at(images, masks)
        difference = _relative(plain(plain.gradient), expected)
        if not difference <= _AGREEMENT:
            what = f"an eager product differs by {difference:.1e} of its length from the one before"
            raise RuntimeError(f"after CUDA graphs failed, {what}: this process cannot go on, start it again")


def _relative(found: Tensor, expected: Tensor) -> float:
    """The difference as a share of what was expected."""
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


class Replay:
    """Three graphs over tensors that stay in place."""

    def __init__(self, hessians: Hessians, images: Tensor, masks: Tensor) -> None:
        self.images, self.masks = images.clone(), masks.clone()
        self._ran = False
        self._turn = 0
        with exactly():
            self._capture(hessians)

    def _capture(self, hessians: Hessians) -> None:
        _warm_up(lambda: self._once(hessians))
        # One pool and one stream, on this device: what the later graphs read stays where the earlier ones put it.
        place: dict[str, Any] = {"pool": torch.cuda.graph_pool_handle(), "stream": torch.cuda.Stream()}
        self._forward, self._gradient, self._product = (torch.cuda.CUDAGraph() for _ in range(3))
        with torch.cuda.graph(self._forward, **place):
            self._output = hessians.output(self.images)
        with torch.cuda.graph(self._gradient, **place):
            self._loss, self._gradients = hessians.gradients(self._output, self.masks, len(self.images))
            self._flat = flatten(self._gradients).detach()
        self._v = torch.zeros_like(self._flat)
        with torch.cuda.graph(self._product, **place):
            self._made = hessians.product(self._gradients, self._v)

    def _once(self, hessians: Hessians) -> None:
        _, gradients = hessians.gradients(hessians.output(self.images), self.masks, len(self.images))
        hessians.product(gradients, flatten(gradients).detach())

    def fits(self, images: Tensor, masks: Tensor) -> bool:
        return alike(self.images, images) and alike(self.masks, masks)

    def at(self, images: Tensor, masks: Tensor) -> HessianProduct:
        if not self._ran or not same(self.images, images):
            self.images.copy_(images)
            self._forward.replay()
            self._ran = True
        self.masks.copy_(masks)
        self._gradient.replay()
        self._turn += 1
        turn = self._turn
        return HessianProduct(finite(self._loss.clone()), self._flat.clone(), lambda v: self._apply(v, turn))

    def _apply(self, v: Tensor, turn: int) -> Tensor:
        if turn != self._turn:
            raise RuntimeError("this product's memory went to a later point: make its products before the next")
        self._v.copy_(v)
        with torch.cuda.device(v.device):
            self._product.replay()
        return self._made.clone()


def _warm_up(once: Callable[[], None]) -> None:
    """Run on a side stream before capture, as CUDA graphs ask for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            once()
    torch.cuda.current_stream().wait_stream(stream)

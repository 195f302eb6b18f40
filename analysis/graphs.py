"""Hessian products on CUDA as captured graphs: one for the forward pass, one for the gradient, one for the product.

A product of EfficientNet-b0 launches some thousands of small kernels; at one image the card waits for the launches.
A graph is captured once per shape of input and replayed for every image, its inputs copied into place.

The first capture is checked against the product it stands for; where it fails or differs, products are made one
kernel at a time as before, and `.note` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from analysis.products import HessianProduct, Hessians, Loss, flatten

WARM_UP = 3
AGREEMENT = 1e-3  # largest relative difference of a replayed product


class Captured(Hessians):
    """`Hessians` whose product is valid until the next `at`: it lives in the graphs' memory."""

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
        try:
            replay = Replay(self, images, masks)
            at = replay.at(images, masks)
            difference = float((at(at.gradient) - expected).norm() / expected.norm().clamp_min(1e-30))
        except torch.OutOfMemoryError:
            self.note = "CUDA graphs do not fit into memory: one kernel at a time"
            return None
        except RuntimeError as error:
            self.note = f"CUDA graphs could not be captured ({str(error).splitlines()[0]}): one kernel at a time"
            return None
        if difference > AGREEMENT:
            self.note = f"a replayed product differed by {difference:.1e} of its length: one kernel at a time"
            return None
        return replay


class Replay:
    """Three graphs over tensors that stay in place."""

    def __init__(self, hessians: Hessians, images: Tensor, masks: Tensor) -> None:
        self.images, self.masks = images.clone(), masks.clone()
        self._given: Tensor | None = None
        _warm_up(lambda: self._once(hessians))
        # One pool and one stream, on this device: what the later graphs read stays where the earlier ones put it.
        place: dict[str, Any] = {"pool": torch.cuda.graph_pool_handle(), "stream": torch.cuda.Stream()}
        self._forward, self._gradient, self._product = (torch.cuda.CUDAGraph() for _ in range(3))
        with torch.cuda.graph(self._forward, **place):
            self._output = hessians.output(self.images)
        with torch.cuda.graph(self._gradient, **place):
            self._loss, self._gradients = hessians._gradients(self._output, self.masks)
            self._flat = flatten(self._gradients).detach()
        self._v = torch.zeros_like(self._flat)
        with torch.cuda.graph(self._product, **place):
            self._made = hessians._product(self._gradients, self._v)

    def _once(self, hessians: Hessians) -> None:
        _, gradients = hessians._gradients(hessians.output(self.images), self.masks)
        hessians._product(gradients, flatten(gradients).detach())

    def fits(self, images: Tensor, masks: Tensor) -> bool:
        here, there = (self.images, self.masks), (images, masks)
        return all(
            (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device) for a, b in zip(here, there, strict=True)
        )

    def at(self, images: Tensor, masks: Tensor) -> HessianProduct:
        if images is not self._given:
            self.images.copy_(images)
            self._forward.replay()
            self._given = images
        self.masks.copy_(masks)
        self._gradient.replay()
        loss = self._loss.clone()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {float(loss)}: look at the weights and at this image")
        return HessianProduct(loss, self._flat.clone(), self._apply)

    def _apply(self, v: Tensor) -> Tensor:
        self._v.copy_(v)
        with torch.cuda.device(v.device):
            self._product.replay()
        return self._made.clone()


def _warm_up(once: Callable[[], None]) -> None:
    """Run on a side stream before capture, as CUDA graphs ask for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            once()
    torch.cuda.current_stream().wait_stream(stream)

"""Hessian-vector products by double backward.

    H v = d/dw <dL/dw, v>,      L the mean of `loss(model(images), masks)`, which gives one loss per image

Convolutions are made so that this is fast (analysis.curvature.kernels), and the model is run exactly
(analysis.curvature.evaluation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from analysis.curvature.evaluation import Loss, evaluation, exactly, per_image, unwrapped
from analysis.curvature.kernels import native_kernels


@dataclass(frozen=True)
class HessianProduct:
    """v [n] -> H v [n] at one point, with the loss there and its gradient [n]."""

    loss: Tensor
    gradient: Tensor
    apply: Callable[[Tensor], Tensor]

    def __call__(self, v: Tensor) -> Tensor:
        return self.apply(v)


class Hessians:
    """The Hessian product of a model's loss, at one input after another: `hessians.at(images, masks)`.

    Over the parameters that require a gradient.  Which of them enter the loss is seen at each input anew, and those
    that do not have zeros there; `.unused` names those that have entered none (None before the first input).  The model
    is left as it was: evaluation mode is entered for each forward pass only, and the weights are read through views, so
    that flags and `.grad` stay.  Masks of the same images share one forward pass.

    With a `dtype` weights and statistics are read in it, and inputs are to be given so.

    Raises ValueError where the model cannot be differentiated twice (analysis.curvature.evaluation) or has nothing to
    train.
    """

    def __init__(self, model: nn.Module, loss: Loss, dtype: torch.dtype | None = None) -> None:
        self.model, self.loss = unwrapped(model), loss
        own = dict(self.model.named_parameters())
        self.weights = {k: p.detach().to(dtype).requires_grad_() for k, p in own.items() if p.requires_grad}
        rest = {k: p for k, p in [*own.items(), *self.model.named_buffers()] if k not in self.weights and dtype}
        self._rest = {k: t.detach().to(dtype) if t.is_floating_point() else t for k, t in rest.items()}
        if not self.weights:
            raise ValueError("no parameter of the model requires a gradient, so its Hessian is empty")
        self.unused: list[str] | None = None
        self._images: Tensor | None = None
        self._output: Any = None

    def at(self, images: Tensor, masks: Tensor) -> HessianProduct:
        """The product at images [B, ...] and masks [B, ...]; FloatingPointError where the loss is not finite."""
        if self._images is None or not same(self._images, images):
            self._images = images.clone()  # the caller may fill its tensor again
            self._output = self.output(self._images)
        value, gradients = self.gradients(self._output, masks.clone(), len(images))
        return HessianProduct(finite(value), flatten(gradients).detach(), lambda v: self.product(gradients, v))

    def output(self, images: Tensor) -> Any:
        """What the model gives in evaluation mode, ready for double backward."""
        with evaluation(self.model), exactly(), torch.enable_grad(), native_kernels():
            return functional_call(self.model, self._rest | self.weights, (images,))

    def gradients(self, output: Any, masks: Tensor, count: int) -> tuple[Tensor, list[Tensor]]:
        """The mean loss of `count` images, and its gradients, ready for `product`."""
        weights = list(self.weights.values())
        with exactly(), torch.enable_grad(), native_kernels(), twice():
            loss = per_image(self.loss(output, masks), count).mean()
            made: Sequence[Tensor | None] = [None] * len(weights)
            if loss.requires_grad:  # some weight enters
                made = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
        seen = set(self.weights) - set(self.weights if self.unused is None else self.unused)
        self.unused = [k for k, g in zip(self.weights, made, strict=True) if g is None and k not in seen]
        return loss.detach(), [torch.zeros_like(w) if g is None else g for g, w in zip(made, weights, strict=True)]

    def product(self, gradients: list[Tensor], v: Tensor) -> Tensor:
        """H v [n] from the gradients at a point."""
        weights = list(self.weights.values())
        pieces = unflatten(v, weights)
        curved = [(g, piece) for g, piece in zip(gradients, pieces, strict=True) if g.requires_grad]
        if not curved:
            return torch.zeros_like(v)
        ends, directions = zip(*curved, strict=True)
        with exactly(), twice():
            made = torch.autograd.grad(ends, weights, directions, retain_graph=True, materialize_grads=True)
        return flatten(made).detach()

    def moved(self, images: Tensor, masks: Tensor, step: Tensor) -> Tensor:
        """The gradient [n] at weights w + step, by PyTorch's own kernels: what products are checked against."""
        pieces = unflatten(step, list(self.weights.values()))
        weights = {k: (w.detach() + p).requires_grad_() for (k, w), p in zip(self.weights.items(), pieces, strict=True)}
        with evaluation(self.model), exactly(), torch.enable_grad():
            output = functional_call(self.model, self._rest | weights, (images,))
            loss = per_image(self.loss(output, masks), len(images)).mean()
            if not loss.requires_grad:
                return torch.zeros_like(step)
            made = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
        return flatten(made)


def finite(loss: Tensor) -> Tensor:
    """The loss; FloatingPointError where it is not a finite number."""
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {float(loss)}: look at the weights and at this image")
    return loss


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are of one kind and content: a tensor may have been filled again since it was seen."""
    return alike(one, other) and torch.equal(one, other)


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape, type and device."""
    return (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)


@contextmanager
def twice() -> Iterator[None]:
    """ValueError where an operation of the model has no second derivative."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in ("is not implemented", "differentiate twice")):
            raise
        what = f"the model or the loss has an operation that PyTorch cannot differentiate twice ({error})"
        raise ValueError(f"{what}: put one of simple operations in its place") from error


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """One vector [n] of all entries, in order."""
    return torch.cat([t.reshape(-1) for t in tensors])


def unflatten(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The vector [n] cut into tensors of the shapes of `like`."""
    pieces = vector.split([t.numel() for t in like])
    return [piece.view(t.shape) for piece, t in zip(pieces, like, strict=True)]

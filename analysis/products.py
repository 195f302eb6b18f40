"""Hessian-vector products by double backward, fast on grouped convolutions.

    H v = d/dw <dL/dw, v>,      L the mean of `loss(model(images), masks)`, which gives one loss per image

PyTorch's double backward of a grouped convolution loops over its groups: thousands of small convolutions a product
for EfficientNet.  A convolution y = C(x, w) has two more maps, the input gradient I(g, w) and the weight gradient
W(x, g); all three are bilinear, and differentiating one gives the other two.  So here a convolution is an autograd
function whose backward and double backward call the native kernels of these maps: the same product, to rounding.

Where a network has ReLUs, two float32 evaluations that round differently put a few of them on different sides of
their kink, and the products differ by those pieces (as gradients do); with smooth activations they agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Geometry:
    """What a convolution does beside its tensors."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    def convolve(self, x: Tensor, w: Tensor) -> Tensor:
        """C(x, w)."""
        options = (self.stride, self.padding, self.dilation, False, [0, 0], self.groups)
        return torch.ops.aten.convolution(x, w, None, *options)  # type: ignore[no-any-return]

    def gradients(self, g: Tensor, x: Tensor, w: Tensor, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """I(g, w) and W(x, g), None where not wanted."""
        options = (self.stride, self.padding, self.dilation, False, [0, 0], self.groups)
        made = torch.ops.aten.convolution_backward(g, x, w, None, *options, [*wanted, False])
        return made[0], made[1]


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.geometry = geometry
        return geometry.convolve(x, w)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, w = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            return (*_Gradients.apply(g, x, w, ctx.geometry, wanted), None)
        return (*ctx.geometry.gradients(g, x, w, wanted), None)


class _Gradients(Function):
    """(g, x, w) to I(g, w) and W(x, g); its own backward needs two convolutions and one more such pair."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w: Tensor, geometry: Geometry, wanted: Sequence[bool]) -> Any:
        ctx.save_for_backward(g, x, w)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return geometry.gradients(g, x, w, wanted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None) -> tuple[Tensor | None, ...]:
        """u has the shape of x, v that of w: the tangents of the two outputs."""
        g, x, w = ctx.saved_tensors
        of_g, of_x, of_w = ctx.needs_input_grad[:3]
        geometry = ctx.geometry
        terms = []
        if of_g and u is not None:
            terms.append(geometry.convolve(u, w))
        if of_g and v is not None:
            terms.append(geometry.convolve(x, v))
        wanted = (of_x and v is not None, of_w and u is not None)
        made: tuple[Tensor | None, Tensor | None] = (None, None)
        if any(wanted):
            made = geometry.gradients(g, x if u is None else u, w if v is None else v, wanted)
        return (terms[0].add_(terms[1]) if len(terms) == 2 else terms[0] if terms else None, *made, None, None)


def _convolve(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """torch.nn.functional.conv2d through `_Convolution`."""
    y = _Convolution.apply(x, w, Geometry(_pair(stride), _pair(padding), _pair(dilation), groups))
    return y if bias is None else y + bias[:, None, None]  # type: ignore[no-any-return]


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value) * (2 // len(value))


class native_convolutions(TorchFunctionMode):
    """While it is entered, 2D convolutions are made so that their double backward calls native kernels.

    `padding="same"` and unbatched inputs are left to PyTorch, as all other operations are.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv2d and args and args[0].ndim == 4:
            padding = kwargs.get("padding", args[4] if len(args) > 4 else 0)
            if not isinstance(padding, str):
                return _convolve(*args, **kwargs)
        return func(*args, **kwargs)


@contextmanager
def ieee() -> Iterator[None]:
    """Float32 as IEEE has it: on CUDA convolutions and products of matrices may otherwise be made in TF32 (1e-3)."""
    if not torch.cuda.is_available():
        yield
        return
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, kept in zip(switches, before, strict=True):
            switch.fp32_precision = kept


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; every module's own mode is restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


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

    Over the parameters that require a gradient; those that do not enter the loss are left out and named in
    `.unused`.  The model is left as it was: evaluation mode is entered for each forward pass only, and the weights
    are read through views, so that flags and `.grad` stay.  Masks of the same images tensor share one forward pass.
    """

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        self.model, self.loss = model, loss
        self.weights = {k: p.detach().requires_grad_() for k, p in model.named_parameters() if p.requires_grad}
        if not self.weights:
            raise ValueError("no parameter of the model requires a gradient, so its Hessian is empty")
        self.unused: list[str] | None = None
        self._images: Tensor | None = None
        self._output: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of weights; known after the first `at`."""
        return sum(w.numel() for w in self.weights.values())

    def output(self, images: Tensor) -> Tensor:
        """The model's output in evaluation mode, ready for double backward."""
        with torch.enable_grad(), evaluation(self.model), ieee(), native_convolutions():
            return functional_call(self.model, self.weights, (images,))  # type: ignore[no-any-return]

    def at(self, images: Tensor, masks: Tensor) -> HessianProduct:
        """The product at images [B, ...] and masks [B, ...]; FloatingPointError where the loss is not finite."""
        if images is not self._images or self._output is None:
            self._images, self._output = images, self.output(images)
        value, gradients = self._gradients(self._output, masks)
        if not torch.isfinite(value):
            raise FloatingPointError(f"the loss is {float(value)}: look at the weights and at this image")
        return HessianProduct(value, flatten(gradients).detach(), lambda v: self._product(gradients, v))

    def _gradients(self, output: Tensor, masks: Tensor) -> tuple[Tensor, list[Tensor]]:
        with torch.enable_grad(), ieee(), native_convolutions():
            losses = self.loss(output, masks)
            if losses.shape != (len(output),):
                shape = tuple(losses.shape)
                raise ValueError(f"the loss of {len(output)} images has shape {shape}: give one number per image")
            loss = losses.mean()
            made = torch.autograd.grad(loss, list(self.weights.values()), create_graph=True, allow_unused=True)
        if self.unused is None:
            self.unused = [name for name, g in zip(self.weights, made, strict=True) if g is None]
            self.weights = {name: w for name, w in self.weights.items() if name not in self.unused}
        return loss.detach(), [g for g in made if g is not None]

    def _product(self, gradients: list[Tensor], v: Tensor) -> Tensor:
        weights = list(self.weights.values())
        pieces = unflatten(v, weights)
        curved = [(g, piece) for g, piece in zip(gradients, pieces, strict=True) if g.requires_grad]
        if not curved:
            return torch.zeros_like(v)
        ends, directions = zip(*curved, strict=True)
        with ieee():
            made = torch.autograd.grad(ends, weights, directions, retain_graph=True, materialize_grads=True)
        return flatten(made).detach()


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """One vector [n] of all entries, in order."""
    return torch.cat([t.reshape(-1) for t in tensors])


def unflatten(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The vector [n] cut into tensors of the shapes of `like`."""
    pieces = vector.split([t.numel() for t in like])
    return [piece.view(t.shape) for piece, t in zip(pieces, like, strict=True)]

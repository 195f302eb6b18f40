"""Convolutions whose double backward is fast, grouped ones too.

PyTorch's double backward of a grouped convolution loops over its groups: thousands of small convolutions a product
for EfficientNet.  A convolution y = C(x, w) has two more maps, the input gradient I(g, w) and the weight gradient
W(x, g); all three are bilinear, and differentiating one gives the other two.  So here a convolution is an autograd
function whose backward and double backward call the native kernels of these maps: the same product, to rounding.
That holds for one to three dimensions, and for transposed convolutions as for plain ones.

Where a network has ReLUs, two float32 evaluations that round differently put a few of them on different sides of
their kink, and the products differ by those pieces (as gradients do); with smooth activations they agree to rounding.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


@dataclass(frozen=True)
class Geometry:
    """What a convolution does beside its tensors."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int

    @property
    def options(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.transposed, self.output_padding, self.groups

    def convolve(self, x: Tensor, w: Tensor) -> Tensor:
        """C(x, w)."""
        return torch.ops.aten.convolution(x, w, None, *self.options)  # type: ignore[no-any-return]

    def gradients(self, g: Tensor, x: Tensor, w: Tensor, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """I(g, w) and W(x, g), None where not wanted."""
        made = torch.ops.aten.convolution_backward(g, x, w, None, *self.options, [*wanted, False])
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


def _plain(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """torch.nn.functional.conv1d, conv2d and conv3d."""
    d = weight.ndim - 2
    if isinstance(padding, str):
        input, padding = _padded(input, weight, padding, _each(dilation, d))
    geometry = Geometry(_each(stride, d), _each(padding, d), _each(dilation, d), False, [0] * d, groups)
    return _convolved(input, weight, bias, geometry)


def _transposed(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """torch.nn.functional.conv_transpose1d, conv_transpose2d and conv_transpose3d."""
    d = weight.ndim - 2
    sides = _each(stride, d), _each(padding, d), _each(dilation, d)
    return _convolved(input, weight, bias, Geometry(*sides, True, _each(output_padding, d), groups))


def _convolved(x: Tensor, w: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    if x.ndim == w.ndim - 1:  # one image without its batch
        return _convolved(x[None], w, bias, geometry)[0]
    y = _Convolution.apply(x, w, geometry)
    return y if bias is None else y + bias.view(-1, *[1] * (w.ndim - 2))  # type: ignore[no-any-return]


def _padded(x: Tensor, w: Tensor, padding: str, dilation: list[int]) -> tuple[Tensor, list[int]]:
    """The input and the padding that "same" (an odd pixel goes to the far side, as in PyTorch) or "valid" mean."""
    total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, w.shape[2:], strict=True)]
    near = [t // 2 for t in total]
    if all(t % 2 == 0 for t in total):
        return x, near
    sides = [side for t, n in zip(total, near, strict=True) for side in (t - n, n)]
    return F.pad(x, sides[::-1]), [0] * len(total)


def _each(value: Any, dimensions: int) -> list[int]:
    """One integer per dimension, whatever kind of integer or sequence was given."""
    values = list(value) if isinstance(value, Sequence | torch.Size) else [value]
    return [operator.index(v) for v in values] * (dimensions // len(values))


NATIVE: dict[Callable[..., Tensor], Callable[..., Tensor]] = {
    torch.conv1d: _plain,
    torch.conv2d: _plain,
    torch.conv3d: _plain,
    torch.conv_transpose1d: _transposed,
    torch.conv_transpose2d: _transposed,
    torch.conv_transpose3d: _transposed,
}


class native_convolutions(TorchFunctionMode):
    """While it is entered, convolutions are made so that their double backward calls native kernels.

    Inside a model's own autocast they are left to PyTorch, as all other operations are; recurrent layers are made
    without cuDNN, whose kernels have no second derivative.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in NATIVE and not _autocast(*args, *kwargs.values()):
            return NATIVE[func](*args, **kwargs)
        if getattr(func, "__name__", "") in RECURRENT:
            with _without_cudnn():
                return func(*args, **kwargs)
        return func(*args, **kwargs)


@contextmanager
def _without_cudnn() -> Iterator[None]:
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def _autocast(*arguments: Any) -> bool:
    return any(isinstance(a, Tensor) and torch.is_autocast_enabled(a.device.type) for a in arguments)

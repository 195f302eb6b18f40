"""Convolutions, evaluation-mode BatchNorm and SiLU whose double backward is fast.

PyTorch's double backward of a grouped convolution loops over its groups: thousands of small convolutions a product
for EfficientNet.  A convolution y = C(x, w) has two more maps, the input gradient I(g, w) and the weight gradient
W(x, g); all three are bilinear, and differentiating one gives the other two.  So here a convolution is an autograd
function whose backward and double backward call the native kernels of these maps: the same product, to rounding.
That holds for one to three dimensions, and for transposed convolutions as for plain ones.

In evaluation mode BatchNorm is one affine map a x + s per channel, and SiLU's double backward needs its second
derivative alone, which stays the same from product to product at a point.  Of 3,519 kernels of a product of U-shape
EfficientNet-b0 at 96x128 2,124 are left, and of 1.37 GB that they touch .93.

Where a network has ReLUs, two float32 evaluations that round differently put a few of them on different sides of
their kink, and the products differ by those pieces (as gradients do); with smooth activations they agree to rounding.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
Geometry = tuple[list[int], list[int], list[int], bool, list[int], int]  # the arguments of aten.convolution that follow

# The arguments of torch.conv1d, conv2d, conv3d and of conv_transpose1d, ... in their order, and their defaults.
_ARGUMENTS = {
    False: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    True: ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
}
_DEFAULTS = {"bias": None, "stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
NATIVE = {getattr(torch, f"conv{d}d"): False for d in (1, 2, 3)}
NATIVE |= {getattr(torch, f"conv_transpose{d}d"): True for d in (1, 2, 3)}


def _map(x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
    """C(x, w)."""
    return torch.ops.aten.convolution(x, w, None, *geometry)  # type: ignore[no-any-return]


def _gradients(g: Tensor, x: Tensor, w: Tensor, geometry: Geometry, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """I(g, w) and W(x, g), None where not wanted."""
    made = torch.ops.aten.convolution_backward(g, x, w, None, *geometry, [*wanted, False])
    return made[0], made[1]


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.geometry = geometry
        return _map(x, w, geometry)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradients: Any = _Gradients.apply if torch.is_grad_enabled() else _gradients
        return (*gradients(g, *ctx.saved_tensors, ctx.geometry, ctx.needs_input_grad[:2]), None)


class _Gradients(Function):
    """(g, x, w) to I(g, w) and W(x, g); its own backward needs two convolutions and one more such pair."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w: Tensor, geometry: Geometry, wanted: Sequence[bool]) -> Any:
        ctx.save_for_backward(g, x, w)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return _gradients(g, x, w, geometry, wanted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None) -> tuple[Tensor | None, ...]:
        """u has the shape of x, v that of w: the tangents of the two outputs."""
        g, x, w = ctx.saved_tensors
        of_g, of_x, of_w = ctx.needs_input_grad[:3]
        pairs = [(u, w), (x, v)] if of_g else []
        terms = [_map(*pair, ctx.geometry) for pair in pairs if pair[0] is not None and pair[1] is not None]
        wanted = (of_x and v is not None, of_w and u is not None)
        made: tuple[Tensor | None, Tensor | None] = (None, None)
        if any(wanted):
            made = _gradients(g, x if u is None else u, w if v is None else v, ctx.geometry, wanted)
        return (terms[0].add_(terms[1]) if len(terms) == 2 else terms[0] if terms else None, *made, None, None)


def _norm_gradients(g: Tensor, x: Tensor, w: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Any:
    """Gradients of evaluation-mode BatchNorm for x, weight and bias."""
    return torch.ops.aten.native_batch_norm_backward(g, x, w, mean, variance, None, None, False, eps, [True] * 3)


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, w, mean, variance)
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, w, b, eps=eps)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradients: Any = _NormGradients.apply if torch.is_grad_enabled() else _norm_gradients
        return (*gradients(g, *ctx.saved_tensors, ctx.eps), None, None, None)


class _NormGradients(Function):
    """(g, x, w) to a g, sum g (x - mean) / d and sum g, where a = w / d, d^2 = variance + eps."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Any:
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(g, x, w * scale, scale, mean)
        return _norm_gradients(g, x, w, mean, variance, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor | None, ...]:
        """u has the shape of x, v and t those of weight and bias: the tangents of the three outputs."""
        g, x, a, scale, mean = ctx.saved_tensors
        v = v * scale
        shape = (-1, *[1] * (x.ndim - 2))
        of_g = torch.addcmul((t - v * mean).view(shape), x, v.view(shape)).addcmul_(u, a.view(shape))
        of_w = scale * (u * g).sum([0, *range(2, x.ndim)])
        return of_g, g * v.view(shape), of_w, None, None, None


def _normalised(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """What F.batch_norm makes of the same arguments."""
    given = (input, weight, bias, running_mean, running_var)
    if training or any(t is None or t.dtype != input.dtype for t in given) or input.ndim < 2:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return _Norm.apply(*given, eps)  # type: ignore[no-any-return]


class _Silu(Function):
    """x sigmoid(x), put in place of another tensor if one is given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, place: Tensor | None) -> Tensor:
        ctx.save_for_backward(x)
        if place is None:
            return F.silu(x)
        ctx.mark_dirty(place)
        return torch.ops.aten.silu.out(x, out=place)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return (_SiluGradient.apply(g, x) if torch.is_grad_enabled() else torch.ops.aten.silu_backward(g, x)), None


class _SiluGradient(Function):
    """(g, x) to g silu'(x)."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        ctx.save_for_backward(x, x.mul(1 - 2 * s).add_(2).mul_(s).mul_(1 - s).mul_(g))  # g silu''(x)
        return torch.ops.aten.silu_backward(g, x)  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, Tensor]:
        x, bend = ctx.saved_tensors
        return torch.ops.aten.silu_backward(u, x), u * bend


def _activated(input: Tensor, inplace: bool = False) -> Tensor:
    """What F.silu makes of the same arguments."""
    return _Silu.apply(*((input.clone(), input) if inplace else (input, None)))  # type: ignore[no-any-return]


OWN: dict[Any, Callable[..., Tensor]] = {F.batch_norm: _normalised, F.silu: _activated}


def _convolved(transposed: bool, *args: Any, **kwargs: Any) -> Tensor:
    """What torch.conv1d and its like (`NATIVE`) make of the same arguments."""
    given = _DEFAULTS | dict(zip(_ARGUMENTS[transposed], args, strict=False)) | kwargs
    x, w, bias, padding = (given[name] for name in ("input", "weight", "bias", "padding"))
    d = w.ndim - 2
    stride, dilation, output_padding = (_each(given[name], d) for name in ("stride", "dilation", "output_padding"))
    if isinstance(padding, str) and not transposed:
        x, padding = _padded(x, w, padding, dilation)
    single = x.ndim == w.ndim - 1  # one image without its batch
    geometry = (stride, _each(padding, d), dilation, transposed, output_padding, given["groups"])
    y = _Convolution.apply(x[None] if single else x, w, geometry)
    y = y if bias is None else y + bias.view(-1, *[1] * d)
    return y[0] if single else y  # type: ignore[no-any-return]


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


class native_kernels(TorchFunctionMode):
    """While it is entered, convolutions, BatchNorm and SiLU are made so that their double backward is fast.

    Inside a model's own autocast they are left to PyTorch, as all other operations are; recurrent layers are made
    without cuDNN, whose kernels have no second derivative.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (func in NATIVE or func in OWN) and not _autocast(*args, *kwargs.values()):
            return OWN[func](*args, **kwargs) if func in OWN else _convolved(NATIVE[func], *args, **kwargs)
        recurrent = getattr(func, "__name__", "") in RECURRENT
        with _without_cudnn() if recurrent else nullcontext():
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

"""Whether a product is that of a Hessian, asked once per kind of input and before a number is believed.

    (g(w + h v) - g(w - h v)) / 2 h = H v,     <u, H v> = <v, H u>,     g by PyTorch's own kernels

In float64: in float32 a step large enough to be seen crosses kinks of ReLUs, and differences of gradients are then
anything (factors of 2 to 20 on EfficientNet segmenters, where float64 agrees to 1e-9).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from analysis.curvature.evaluation import memory_ran_out
from analysis.curvature.lanczos import mixed
from analysis.curvature.products import HessianProduct, Hessians, flatten

_REPEATS = 1e-3  # largest relative difference of two evaluations of one gradient
_AGREEMENT = 1e-2  # of H v and a difference of gradients, and of <u, H v> and <v, H u>
_ROUNDING = 0.1  # of H v in float32 and in float64, which differ by ReLUs on the other side of their kink
_STEPS = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5)  # of |w|; those after the first are for what rounds to float32
_LOWER = (torch.float32, torch.float16, torch.bfloat16)
_FLAT = 1e-6  # curvature below |g| / |w| times this is none
_SINGLE = 1e-3  # the same of what float32 makes


def check(hessians: Hessians, images: Tensor, masks: Tensor, seed: int = 0) -> str:
    """What could not be checked, in words, empty where all was.

    Raises ValueError where two evaluations of one gradient differ, or the product is not that of a Hessian.
    """
    at = hessians.at(images, masks)
    if not bool(torch.isfinite(at.gradient).all()):
        raise FloatingPointError("the gradient of the loss is not finite: look at the weights and at this image")
    one, other = (hessians.moved(images, masks, torch.zeros_like(at.gradient)) for _ in range(2))
    if not _difference(one, other) <= _REPEATS:  # nor where it is not a number
        what = f"two evaluations of one gradient differ by {_difference(one, other):.1e} of its length"
        raise ValueError(f"{what}: the model is random in evaluation mode, and has no one Hessian")
    v = mixed(at.gradient, torch.Generator(images.device).manual_seed(seed))
    found = at(v)
    try:
        double = Hessians(hessians.model, hessians.loss, torch.float64)
        x, y = (t.double() if t.is_floating_point() else t for t in (images, masks))
        return _in_double(double, x, y, v.double(), found.double(), seed)
    except (RuntimeError, MemoryError) as error:
        why = "memory ran out" if memory_ran_out(error) else str(error).splitlines()[0]
        return f"products could not be checked in float64 ({why})"


def _in_double(double: Hessians, x: Tensor, y: Tensor, v: Tensor, found: Tensor, seed: int) -> str:
    """As `check`, of the product `found` of v; RuntimeError or MemoryError where float64 cannot be had."""
    with _Leaving() as leaving:
        truth = double.at(x, y)
    expected = truth(v)
    rounded, apart = "", _difference(found, expected)
    if not apart <= _ROUNDING and _curved(found - expected, truth.gradient, _length(double), _SINGLE):
        rounded = f"a product in this precision differs by {apart:.1e} of its length from the same in float64"
        rounded += ", and so may norms: model.double() and images in float64 tell"
    _symmetric(truth, v, expected, seed)
    unsure = _differences(double, x, y, v, expected, truth.gradient, not leaving.met)
    return "; ".join(part for part in (rounded, unsure) if part)


class _Leaving(TorchDispatchMode):
    """Sees whether something is made of float64 in a lower precision, as of `logits.float()`.

    Small steps vanish in its rounding: differences of gradients settle at what is left, and that is not H v.
    """

    met = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if any(isinstance(t, Tensor) and t.dtype == torch.float64 for t in tree_leaves((args, kwargs))):
            self.met |= any(isinstance(t, Tensor) and t.dtype in _LOWER for t in tree_leaves(made))
        return made


def _symmetric(product: HessianProduct, v: Tensor, hv: Tensor, seed: int) -> None:
    u = torch.randn(len(v), generator=torch.Generator(v.device).manual_seed(seed + 1), dtype=v.dtype, device=v.device)
    hu = product(u)
    one, other = float(u @ hv), float(v @ hu)
    if not abs(one - other) <= _AGREEMENT * float(u.norm() * hv.norm() + v.norm() * hu.norm()) / len(v) ** 0.5:
        what = f"the product is not symmetric: <u, H v> = {one:.3e} and <v, H u> = {other:.3e}"
        raise ValueError(f"{what}, so some operation of the model has a wrong second derivative")


def _differences(double: Hessians, x: Tensor, y: Tensor, v: Tensor, hv: Tensor, gradient: Tensor, exact: bool) -> str:
    """A step at which differences of gradients are H v; ValueError where two steps agree on something else.

    Where they are not `exact`, since something is rounded to a lower precision, they can confirm and not refute.
    """
    length = _length(double)
    before = None
    for step in _STEPS:
        h = step * length * v
        slope = (double.moved(x, y, h) - double.moved(x, y, -h)) / (2 * step * length)
        if _difference(slope, hv) <= _AGREEMENT or not _curved(slope - hv, gradient, length):
            return ""
        if exact and before is not None and _difference(slope, before) <= _AGREEMENT:
            apart = f"{_difference(hv, slope):.1e} of their length"
            why = "some operation of the model loses its second derivative, or the weights lie on a kink"
            raise ValueError(f"the Hessian product and differences of gradients disagree by {apart}: {why}")
        before = slope
    why = "do not settle" if exact else "are rounded, since the model or the loss leaves it"
    return f"products could not be checked: differences of gradients in float64 {why}"


def _length(hessians: Hessians) -> float:
    return float(flatten(list(hessians.weights.values())).detach().norm()) or 1.0


def _curved(change: Tensor, gradient: Tensor, length: float, flat: float = _FLAT) -> bool:
    """Whether a change of the gradient per unit step is more than rounding."""
    return bool(change.norm() * length > flat * gradient.norm())


def _difference(one: Tensor, other: Tensor) -> float:
    """Relative to the longer; 0 where both are 0, NaN where a number is not one."""
    apart = float((one - other).norm())
    return apart / float(torch.maximum(one.norm(), other.norm())) if apart else apart

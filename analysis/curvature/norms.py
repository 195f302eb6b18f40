"""Per-image spectral norms ||Hess l(w, z)||_2: the largest |eigenvalue| of the Hessian of one image's loss.

In evaluation mode, over the weights that require a gradient and enter the loss.  Each distinct (image, mask) is
solved once: all images without an attribute share the mask of no attribute, and masks of one image its forward pass.

Every solve starts from its own gradient and a little noise.  On EfficientNet segmenters that takes 10-25 % fewer
products than starting from the previous image's eigenvector, and makes every solve a function of its own input:
results do not depend on the order of the images, on how they are spread over processes, or on where a run was stopped.

On CUDA the products are captured as graphs (analysis.curvature.graphs).

What is made of a module:
    fast       convolutions of one to three dimensions, plain, grouped or transposed, with any padding and arguments
    as it is   what PyTorch differentiates twice: attention by its formula, recurrent layers without cuDNN, grids
    slow       convolutions inside an autocast of the model's own (a caller's autocast is off here)
    unwrapped  DataParallel, DistributedDataParallel; what torch.compile made runs uncompiled
    refused    TorchScript; data-parallel wrappers inside the model; weights in half precision; modules in training
               mode that have a train() or eval() of their own; operations without a second derivative
Before the first number of each kind of input the product is compared with differences of gradients
(analysis.curvature.guards). "converged" says that an eigenvalue is as near as the residual, not that none is larger:
one that the gradient does not see and that is hardly larger than the largest seen (.5 beside .31 in 10^5 weights) may
stay hidden.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.curvature.evaluation import Loss, exactly, memory_ran_out
from analysis.curvature.graphs import Captured
from analysis.curvature.guards import check
from analysis.curvature.lanczos import Basis, Extreme, lanczos, power
from analysis.curvature.products import Hessians

ENGINE = 3  # part of what identifies a measured norm: raised where the numbers of the engine change
METHODS: dict[str, Callable[..., Extreme]] = {"lanczos": lanczos, "power": power}
FOUND = ["value", "residual", "error", "products", "converged"]  # what is kept of an `Extreme`
FIRST_VECTORS = ("gradient", "random")


@dataclass(frozen=True)
class Options:
    """How an eigenvalue is sought.

    tolerance     relative residual |H x - t x| / |t| at which a solve stops
    max_products  Hessian-vector products at most per solve; where they do not suffice `converged` is False
    seed          of random vectors: the noise in every first vector, and those used where a space is exhausted
    method        "lanczos", or "power" iteration as in the paper
    start         first vector: the "gradient", or a "random" one
    absolute      error of t (analysis.curvature.lanczos) at which it stops too: what a mean of norms can bear
    """

    tolerance: float = 1e-2
    max_products: int = 64
    seed: int = 0
    method: str = "lanczos"
    start: str = "gradient"
    absolute: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance {self.tolerance} is a relative residual: give a number between 0 and 1")
        if not self.absolute >= 0:
            raise ValueError(f"absolute {self.absolute} is an error of an eigenvalue: give 0 or a positive number")
        if self.max_products < 1:
            raise ValueError(f"max_products {self.max_products} must be at least 1")
        for name, known in (("method", METHODS), ("start", FIRST_VECTORS)):
            if (given := getattr(self, name)) not in known:
                raise ValueError(f"{name} {given!r} is unknown: choose one of {', '.join(known)}")


@dataclass(frozen=True)
class SpectralNorms:
    """One entry per image: |lambda|, its relative residual and error, products, whether converged, sign of lambda.

    Images that share a solve share its entries; `solves` counts the distinct ones, `unused` names the parameters
    that enter the loss of none, `note` says what could not be checked.
    """

    values: np.ndarray
    residuals: np.ndarray
    errors: np.ndarray
    products: np.ndarray
    converged: np.ndarray
    signs: np.ndarray
    solves: int
    unused: tuple[str, ...]
    note: str = ""


def spectral_norms(
    model: nn.Module,
    images: Sequence[Tensor] | Tensor,
    masks: Sequence[Tensor] | Tensor,
    loss: Loss,
    *,
    tolerance: float = 1e-2,
    max_products: int = 64,
    seed: int = 0,
    method: str = "lanczos",
    start: str = "gradient",
    absolute: float = 0.0,
) -> SpectralNorms:
    """The spectral norm of the Hessian of the loss of each (image, mask).

    Args:
        model: any module; its mode, flags, gradients and buffers are left as they are
        images: n inputs [C, H, W] of the model, a sequence (read one at a time) or a tensor [n, C, H, W]
        masks: n targets, one per image
        loss: (model(images [1, C, H, W]), masks [1, ...]) -> one loss per image [1]
        tolerance, max_products, seed, method, start, absolute: as `Options` has them

    Raises:
        ValueError: images and masks differ in number or there are none; the loss is not one number per image; two
            evaluations differ (the model is random in evaluation mode); no parameter requires a gradient; the product
            is not that of a Hessian, or the model is refused (above)
        FloatingPointError: the loss is not finite
        MemoryError: an image does not fit on the device
    """
    if len(images) != len(masks) or not len(images):
        raise ValueError(f"{len(images)} images and {len(masks)} masks are given: give one mask per image, and some")
    solver = Solver(model, loss, Options(tolerance, max_products, seed, method, start, absolute))
    keys = [(tensor_digest(image), tensor_digest(mask)) for image, mask in zip(images, masks, strict=True)]
    first = [image for image, _ in keys].index
    found: dict[tuple[str, str], Extreme] = {}
    for at in sorted(range(len(keys)), key=lambda at: first(keys[at][0])):  # masks of one image after each other
        if keys[at] not in found:
            found[keys[at]] = solver(images[at], masks[at], f"image {at}")
    each = [found[key] for key in keys]
    value, residual, error, products, converged = (np.array([getattr(made, name) for made in each]) for name in FOUND)
    signs, unused = np.sign(value), tuple(solver.hessians.unused or ())
    return SpectralNorms(np.abs(value), residual, error, products, converged, signs, len(found), unused, solver.note)


class Solver:
    """Solves one (image, mask) after another: `solver(image, mask, name)`; the same image twice shares its forward.

    `checked` holds the kinds of input that were compared with differences of gradients; who solves one architecture at
    many weights hands it on, since the comparison, in float64, takes as long as several solves.  A `trusted`
    architecture is compared no more: another process has done it.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, options: Options, checked: set[Any] | None = None, trusted: bool = False
    ) -> None:
        self.options, self.device = options, next((p.device for p in model.parameters()), torch.device("cpu"))
        self.hessians, self.basis = (Captured if self.device.type == "cuda" else Hessians)(model, loss), Basis()
        self._checked = set[Any]() if checked is None else checked
        self._unsure, self._trusted = "", trusted

    @property
    def note(self) -> str:
        """What to know of how products were made: unused parameters, what could not be captured, or not checked."""
        unused = self.hessians.unused
        left = f"{len(unused)} parameters have not entered the loss: {', '.join(unused[:5])}" if unused else ""
        return "; ".join(part for part in (left, getattr(self.hessians, "note", ""), self._unsure) if part)

    def __call__(self, image: Tensor, mask: Tensor, name: str = "the image", absolute: float | None = None) -> Extreme:
        """The extreme eigenvalue for an image [C, H, W] and a mask; `name` is for errors, `absolute` for this one."""
        try:
            with exactly():
                return self._solve(image, mask, self.options.absolute if absolute is None else absolute)
        except FloatingPointError as error:
            raise FloatingPointError(f"{name}: {error}") from error
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not memory_ran_out(error):
                raise
            what = f"memory ran out at {name} of {'x'.join(map(str, image.shape[-2:]))} on {self.device}"
            remedy = "choose a smaller size, backbone or shape, or fewer workers; what was computed is kept"
            raise MemoryError(f"{what}: images are taken one at a time already, so {remedy}") from error

    def _solve(self, image: Tensor, mask: Tensor, absolute: float) -> Extreme:
        x, y = image[None].to(self.device).contiguous(), mask[None].to(self.device)
        kind = (x.shape, x.dtype, y.shape, y.dtype)
        if not self._trusted and kind not in self._checked:
            self._unsure = check(self.hessians, x, y, self.options.seed)
            self._checked.add(kind)
        at = self.hessians.at(x, y)
        limits = {name: getattr(self.options, name) for name in ("tolerance", "max_products", "seed")}
        limits["absolute"] = absolute
        if self.options.method == "lanczos":
            limits["basis"] = self.basis
        # zeros are replaced by a random vector, drawn from the seed
        vector = at.gradient if self.options.start == "gradient" else torch.zeros_like(at.gradient)
        return METHODS[self.options.method](at, vector, **limits)


def tensor_digest(tensor: Tensor) -> str:
    """A checksum of shape and content."""
    array = tensor.detach().cpu().contiguous()
    content = hashlib.sha256(f"{array.dtype}{tuple(array.shape)}".encode())
    content.update(array.reshape(-1).view(torch.uint8).numpy())  # flat: a side of one may have any stride
    return content.hexdigest()[:16]


def weights_digest(model: nn.Module) -> str:
    """A checksum of all weights and statistics, by name."""
    content = hashlib.sha256()
    for name, value in model.state_dict().items():
        content.update(f"{name} {tensor_digest(value)}\n".encode())
    return content.hexdigest()[:12]

"""Hessian products against dense Hessians and PyTorch's own double backward."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from analysis.curvature.kernels import native_kernels
from analysis.curvature.norms import spectral_norms
from analysis.curvature.products import Hessians, flatten
from small_networks import Unused, dense_hessian, example, image_loss, networks
from tatl.losses import segmentation_loss
from tatl.models import build

NETWORKS = networks()


@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_those_of_the_dense_hessian(name: str) -> None:
    model, (image, mask) = NETWORKS[name], example()
    at = Hessians(model, image_loss).at(image, mask)
    matrix = dense_hessian(model, image, mask)
    v = torch.randn(len(matrix), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(at(v), matrix @ v, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(at(matrix @ v), matrix @ (matrix @ v), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", ["u", "link"])
def test_products_of_the_segmenters_are_the_stock_ones(shape: str) -> None:
    torch.manual_seed(0)
    model = build(shape).double()
    model(torch.randn(4, 3, 32, 64, dtype=torch.float64))  # BatchNorm statistics that are not placeholders
    model.eval()
    image = torch.randn(1, 3, 32, 64, dtype=torch.float64)
    mask = torch.zeros(1, 1, 32, 64, dtype=torch.float64)
    mask[..., 8:20, 10:40] = 1

    def loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return segmentation_loss(logits, masks, pool="image")

    weights = list(model.parameters())
    v = [torch.randn_like(w) for w in weights]
    gradients = torch.autograd.grad(loss(model(image), mask).mean(), weights, create_graph=True)
    stock = flatten(torch.autograd.grad(gradients, weights, v))
    at = Hessians(model, loss).at(image, mask)
    assert float((at(flatten(v)) - stock).norm() / stock.norm()) < 1e-12
    assert float((at.gradient - flatten(gradients).detach()).norm() / at.gradient.norm()) < 1e-12


PLAIN: list[dict] = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": np.int64(2), "padding": np.int64(1)},
    {"groups": 2, "bias": False},
    {"padding": "same", "dilation": 2},
    {"padding": "same", "kernel_size": 4},
    {"padding": "valid"},
    {"padding": 1, "padding_mode": "replicate"},
]
KINDS = [
    *((kind, options) for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d) for options in PLAIN),
    (nn.Conv2d, {"stride": (2, 1), "padding": (0, 2), "dilation": (2, 1)}),
    *(
        (kind, options)
        for kind in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
        for options in (
            {},
            {"stride": 2, "output_padding": 1, "groups": 2},
            {"dilation": 2, "padding": 1, "bias": False},
        )
    ),
]


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)
@pytest.mark.parametrize("batched", [True, False])
def test_all_kinds_of_convolutions_agree_with_pytorch(kind: type[nn.Module], options: dict, batched: bool) -> None:
    layer = kind(4, 6, **{"kernel_size": 3, **options}).double()
    sides = (9, 8, 5)[: layer.weight.ndim - 2]
    x = torch.randn(*([2] if batched else []), 4, *sides, dtype=torch.float64, requires_grad=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*even kernel lengths")
        plain = layer(x)
    with native_kernels():
        ours = layer(x)
    torch.testing.assert_close(ours, plain)
    inputs = [x, *layer.parameters()]
    both = []
    for y in (plain, ours):
        first = torch.autograd.grad(y.tanh().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), inputs)
        both.append([*first, *second])
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(b, a)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, "bare", nn.SiLU, "in place"])
def test_pointwise_layers_agree_with_pytorch_twice_over(kind: Any) -> None:
    """BatchNorm in evaluation mode, without weights too, and SiLU, to float64's rounding."""
    named = {"bare": nn.BatchNorm2d(4, affine=False), "in place": nn.SiLU(inplace=True)}
    layer = (named[kind] if kind in named else kind() if kind is nn.SiLU else kind(4)).double().eval()
    for values in layer.state_dict().values():
        if values.is_floating_point():
            values.uniform_(0.5, 1.5)
    x = torch.randn(2, 4, *(5, 3, 2)[: {nn.BatchNorm1d: 1, nn.BatchNorm3d: 3}.get(kind, 2)]).double().requires_grad_()
    inputs, both = [x, *layer.parameters()], []
    for mode in (nullcontext(), native_kernels()):
        with mode:
            made = 2 * x
            y = layer(made)
        assert (y is made) == (kind == "in place")
        first = torch.autograd.grad((y.tanh() + made**2).sum(), inputs, create_graph=True)
        both.append([y, *first, *torch.autograd.grad(sum((g**3).sum() for g in first), inputs)])
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)


class Calls(TorchDispatchMode):
    """Counts convolutions, forward and backward."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "convolution" in str(func)
        return func(*args, **(kwargs or {}))


GROUPED = [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]


@pytest.mark.parametrize("kind", GROUPED)
def test_a_product_of_a_grouped_convolution_does_not_loop_over_groups(kind: type[nn.Module]) -> None:
    layer = kind(32, 32, 3, groups=32).double()
    image = torch.randn(1, 32, *(7, 6, 5)[: layer.weight.ndim - 2], dtype=torch.float64)
    at = Hessians(layer, lambda y, _: (y**3).flatten(1).mean(1)).at(image, torch.zeros(1))
    with Calls() as calls:
        at(torch.ones_like(at.gradient))
    assert 0 < calls.count <= 4


def test_keyword_calls_are_convolutions_too() -> None:
    x, w = torch.randn(1, 3, 8, 8), torch.randn(2, 3, 3, 3)
    with native_kernels():
        torch.testing.assert_close(F.conv2d(x, weight=w, padding=1), F.conv2d(input=x, weight=w, padding=1))
        assert F.conv2d(input=x, weight=w.requires_grad_()).grad_fn.name() == "_ConvolutionBackward"


def test_the_model_is_left_as_it_was() -> None:
    model = networks()["norm"]
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    hessians = Hessians(model, image_loss)
    at = hessians.at(*example())
    at(torch.ones_like(at.gradient))
    assert model.training and not model[1].training and model[3].training
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True]
    assert torch.equal(model[4].weight.grad, torch.ones_like(model[4].weight)) and model[1].weight.grad is None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert len(at.gradient) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert not list(model[1]._forward_hooks) and type(model[0].forward).__name__ == "method"


def test_unused_parameters_have_zeros_and_are_named() -> None:
    model = Unused().double()
    hessians = Hessians(model, image_loss)
    at = hessians.at(*example())
    assert hessians.unused == ["spare.weight", "spare.bias"]
    assert len(at.gradient) == 3 * 9 + 1 + 10
    assert not at.gradient[-10:].any() and not at(torch.ones_like(at.gradient))[-10:].any()
    assert at(torch.ones_like(at.gradient))[:-10].any()


class Branch(nn.Module):
    """A second convolution for bright images, a constant for black ones."""

    def __init__(self) -> None:
        super().__init__()
        self.all, self.bright = nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not x.any():
            return x[:, :1]
        return self.all(x) + (self.bright(5 * x) if x.mean() > 0 else 0)


def test_what_enters_the_loss_is_seen_per_image() -> None:
    torch.manual_seed(0)
    model, (image, mask) = Branch().double(), example()
    hessians = Hessians(model, image_loss)
    black = hessians.at(torch.zeros_like(image), mask)
    assert not black.gradient.any() and not black(torch.ones_like(black.gradient)).any()
    assert hessians.unused == ["all.weight", "all.bias", "bright.weight", "bright.bias"]
    dark, bright = image - image.mean() - 1, image - image.mean() + 1
    v = torch.randn(len(black.gradient), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    product = hessians.at(dark, mask)(v)
    assert hessians.unused == ["bright.weight", "bright.bias"] and not product[4:].any() and product[:4].any()
    matrix = dense_hessian(model, bright, mask)
    torch.testing.assert_close(hessians.at(bright, mask)(v), matrix @ v, rtol=1e-10, atol=1e-12)
    assert hessians.unused == []


def test_a_tensor_that_is_filled_again_is_another_image() -> None:
    model, hessians = networks()["silu"], Hessians(networks()["silu"], image_loss)
    (first, mask), (second, _) = example(0), example(1)
    array = first.numpy().copy()
    buffer = torch.from_numpy(array)  # filled through NumPy, PyTorch sees no new version of it
    before = hessians.at(buffer, mask)
    array[:] = second.numpy()
    after = hessians.at(buffer, mask)
    for at, image in ((before, first), (after, second)):
        v = torch.ones_like(at.gradient)
        torch.testing.assert_close(at(v), dense_hessian(model, image, mask) @ v, rtol=1e-10, atol=1e-12)


def test_masks_of_one_image_share_its_forward_pass() -> None:
    model, (image, mask) = networks()["conv"], example()
    passes: list[int] = []
    model.register_forward_hook(lambda *_: passes.append(1))
    hessians = Hessians(model, image_loss)
    first, second = hessians.at(image, mask), hessians.at(image, 1 - mask)
    v = torch.ones_like(first.gradient)
    assert len(passes) == 1
    torch.testing.assert_close(second(v), dense_hessian(model, image, 1 - mask) @ v, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(first(v), dense_hessian(model, image, mask) @ v, rtol=1e-10, atol=1e-12)


def test_a_linear_loss_has_a_zero_hessian() -> None:
    model = nn.Conv2d(3, 1, 1).double()
    image, mask = example()
    at = Hessians(model, lambda logits, masks: (logits * masks).flatten(1).mean(1)).at(image, mask)
    assert torch.equal(at(torch.ones_like(at.gradient)), torch.zeros(4, dtype=torch.float64))


def test_wrong_input_is_refused() -> None:
    image, mask = example()
    with pytest.raises(ValueError, match="no parameter"):
        Hessians(networks()["conv"].requires_grad_(False), image_loss)
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        Hessians(networks()["conv"], image_loss).at(image * float("nan"), mask)


def by_pyhessian(model: nn.Module, image: torch.Tensor, mask: torch.Tensor, loss: Any) -> float:
    from pyhessian import hessian

    theirs = hessian(model, lambda p, y: loss(p, y).mean(), data=(image, mask), cuda=False)
    return theirs.eigenvalues(maxIter=200, tol=1e-5)[0][0]


@pytest.mark.filterwarnings("ignore:Using backward")  # PyHessian's backward(create_graph=True)
@pytest.mark.parametrize("name", NETWORKS)
def test_norms_are_pyhessian_s_where_it_converges(name: str) -> None:
    """Its power iteration on one image, against ours on the same network, within 1 %."""
    model, (image, mask) = networks()[name].eval(), example()
    ours = spectral_norms(model, image, mask, image_loss, tolerance=1e-4, max_products=100)
    torch.manual_seed(0)
    assert ours.converged.all() and abs(by_pyhessian(model, image, mask, image_loss)) == pytest.approx(
        ours.values[0], rel=0.01
    )


@pytest.mark.large
@pytest.mark.filterwarnings("ignore:Using backward")
def test_norms_of_a_segmenter_are_pyhessian_s() -> None:
    torch.manual_seed(0)
    model = build("u")
    model(torch.randn(4, 3, 32, 64))
    model.eval()
    image, mask = torch.randn(1, 3, 32, 64), torch.zeros(1, 1, 32, 64)
    mask[..., 8:20, 10:40] = 1

    def loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return segmentation_loss(logits, masks, pool="image")

    ours = spectral_norms(model, image, mask, loss, tolerance=1e-4, max_products=100)
    assert ours.converged.all()
    assert abs(by_pyhessian(model, image, mask, loss)) == pytest.approx(ours.values[0], rel=0.01)

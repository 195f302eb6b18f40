"""Spectral norms of what people have: each row of the table of the engine, and faults that are caught."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis.curvature.norms import spectral_norms
from analysis.curvature.products import Hessians
from small_networks import dense_hessian, image_loss, networks


def data(n: int = 2) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    images = torch.randn(n, 3, 8, 8, generator=draw, dtype=torch.float64)
    return images, (torch.rand(n, 1, 8, 8, generator=draw) > 0.7).double()


def norms(model: nn.Module, loss: Callable = image_loss, **options: Any) -> np.ndarray:
    found = spectral_norms(model, *data(), loss, tolerance=1e-8, max_products=300, **options)
    assert found.converged.all() and found.note == ""
    return found.values


def truth(model: nn.Module) -> list[float]:
    with sdpa_kernel(SDPBackend.MATH):
        pairs = zip(*data(), strict=True)
        return [float(torch.linalg.eigvalsh(dense_hessian(model, x[None], y[None])).abs().max()) for x, y in pairs]


def drawn(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().double()


class Attention(nn.Module):
    """A layer of self-attention over patches, and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, 4, 4, 4), nn.ConvTranspose2d(4, 1, 4, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x)
        return self.head(self.layer(y.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(y.shape))


class Rows(nn.Module):
    """Rows as a sequence."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rows = kind(24, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows(x.permute(0, 2, 1, 3).flatten(2))[0][:, None]


class Grid(nn.Module):
    """A small spatial transformer before a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.where, self.conv = nn.Linear(3, 6), nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.where(x.mean((2, 3))).view(-1, 2, 3) + torch.eye(2, 3)
        return self.conv(F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False)))


AS_THEY_ARE = {
    "attention": Attention,
    "lstm": lambda: Rows(nn.LSTM),
    "gru": lambda: Rows(nn.GRU),
}


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_norms_are_those_of_dense_hessians(name: str) -> None:
    model = drawn(AS_THEY_ARE[name])
    assert norms(model) == pytest.approx(truth(model), rel=1e-6)


@pytest.mark.filterwarnings("ignore:Default grid_sample")
def test_sampling_grids() -> None:
    model = drawn(Grid)
    try:
        found = norms(model)
    except ValueError as error:
        assert "grid_sampler_2d_backward is not implemented" in str(error)  # the error of an older PyTorch, 2.11
        return
    assert found == pytest.approx(truth(model), rel=1e-6)


def test_compiled_modules_are_run_uncompiled() -> None:
    expected = norms(networks()["silu"])
    whole = torch.compile(networks()["silu"], backend="eager")
    nested, own = networks()["silu"], networks()["silu"]
    nested[0] = torch.compile(nested[0], backend="eager")
    own.compile(backend="eager")
    for model in (whole, nested, own):
        assert norms(model) == pytest.approx(expected, rel=1e-6)


def test_data_parallel_wrappers_are_taken_off_and_inside_the_model_refused() -> None:
    model = networks()["silu"]
    assert norms(nn.DataParallel(model)) == pytest.approx(norms(model), rel=1e-9)
    model[0] = nn.DataParallel(model[0])
    with pytest.raises(ValueError, match="0 is a DataParallel"):
        norms(model)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_refused_wherever_it_is() -> None:
    model = networks()["silu"]
    for given in (torch.jit.script(model), torch.jit.trace(model, data()[0]), nn.Sequential(torch.jit.script(model))):
        with pytest.raises(ValueError, match="give the module it came from"):
            norms(given)


def test_half_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0.weight is bfloat16.*give model.float\(\)"):
        spectral_norms(networks()["silu"].bfloat16(), *(t.bfloat16() for t in data()), image_loss)


def test_what_surrounds_the_call_does_not_change_it() -> None:
    model, (images, masks) = networks()["grouped"].float(), (t.float() for t in data())
    expected = spectral_norms(model, images, masks, image_loss).values
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(spectral_norms(model, images, masks, image_loss).values, expected)
        assert torch.is_autocast_enabled("cpu")
    with torch.inference_mode():
        assert np.array_equal(spectral_norms(model, images, masks, image_loss).values, expected)


def test_autocast_inside_the_model_is_the_model_s() -> None:
    class Coarse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = networks()["grouped"].float()

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.net(x).float()

    images, masks = (t.float() for t in data())
    model = Coarse()
    fine = spectral_norms(model.net, images, masks, image_loss).values
    np.testing.assert_allclose(spectral_norms(model, images, masks, image_loss).values, fine, rtol=0.1)


class Merging(nn.Sequential):
    """Changes its weights where evaluation begins, as some adapters do."""

    def train(self, mode: bool = True) -> Merging:
        if not mode:
            self[0].weight.data += 1
        return super().train(mode)


def test_a_module_whose_eval_does_more_is_to_be_put_there_by_its_owner() -> None:
    model = Merging(nn.Conv2d(3, 1, 1)).double()
    before = model[0].weight.clone()
    with pytest.raises(ValueError, match=r"Merging has a train\(\) or eval\(\) of its own.*call model.eval\(\)"):
        norms(model)
    assert torch.equal(model[0].weight, before) and model.training
    norms(model.eval())
    assert torch.equal(model[0].weight, before + 1)


@contextmanager
def refusal(words: str) -> Iterator[None]:
    with pytest.raises(ValueError, match=words):
        yield


class Once(Function):
    """x squared, differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * g


class Loses(Once):
    """x squared, whose backward hides from autograd that it depends on x."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0].detach() * g


class Lopsided(Function):
    """2 x g, whose derivative by x is put in the wrong places."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(g, x)
        return 2 * x * g

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, Tensor]:
        g, x = ctx.saved_tensors
        return 2 * x * u, 2 * (g * u).flip(-1)


class Wrong(Once):
    """x squared, whose second derivative puts entries in each other's place."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return Lopsided.apply(g, ctx.saved_tensors[0])


class Applied(nn.Module):
    """A convolution and then an autograd function."""

    def __init__(self, function: type[Function]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 1, 3, padding=1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(self.conv(x))


class Fused(Applied):
    """Attention that insists on a fused kernel, whose backward PyTorch cannot differentiate."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(y, y, y)


def test_operations_without_a_second_derivative_are_refused() -> None:
    with refusal("cannot differentiate twice"):
        norms(drawn(lambda: Fused(Once)))


@pytest.mark.parametrize("function", [Once, Loses])
def test_a_second_derivative_that_is_lost_is_seen(function: type[Function]) -> None:
    with refusal("differences of gradients disagree|differentiate twice"):
        norms(drawn(lambda: Applied(function)))


def test_a_product_that_is_not_symmetric_is_seen() -> None:
    with refusal("not symmetric"):
        norms(drawn(lambda: Applied(Wrong)))


def test_a_branch_of_a_later_image_counts() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.all, self.bright, self.spare = nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 3, padding=1), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.all(x) + (self.bright(5 * x) if x.mean() > 0 else 0)

    model, (images, masks) = drawn(Branch), data()
    images[0] -= images[0].mean() + 1
    images[1] -= images[1].mean() - 1
    found = spectral_norms(model, images, masks, image_loss, tolerance=1e-8, max_products=200)
    alone = [spectral_norms(model, images[i : i + 1], masks[i : i + 1], image_loss, tolerance=1e-8) for i in range(2)]
    np.testing.assert_allclose(found.values, [each.values[0] for each in alone], rtol=1e-6)
    assert found.unused == ("spare.weight", "spare.bias") and "bright.weight" in alone[0].unused


def test_curvature_that_the_gradient_does_not_see_is_found() -> None:
    class Blind(nn.Module):
        """100 u v at u = v = 0: neither the gradient nor anything that H makes of it leaves the network's weights."""

        def __init__(self) -> None:
            super().__init__()
            self.net, self.u, self.v = networks()["silu"], nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) + 100 * self.u * self.v

    model, (images, masks) = Blind().double(), data()
    found = spectral_norms(model, images, masks, image_loss)
    with torch.no_grad():
        expected = 100 * (torch.sigmoid(model.net(images)) - masks).mean((1, 2, 3)).abs()
    assert found.values == pytest.approx(expected.numpy(), rel=1e-2)


PACKED: dict[str, tuple[Callable, Callable]] = {
    "dict": (lambda a: {"out": a}, lambda made, y: image_loss(made["out"], y)),
    "dict of two": (lambda a: {"out": a, "aux": 0 * a}, lambda made, y: image_loss(made["out"] + made["aux"], y)),
    "list": (lambda a: [a, a], lambda made, y: image_loss(made[0], y)),
    "tuple": (lambda a: (a, {"deep": [a]}, a), lambda made, y: image_loss(made[1]["deep"][0], y)),
}


@pytest.mark.parametrize("name", PACKED)
def test_outputs_of_any_structure_reach_the_loss(name: str) -> None:
    pack, loss = PACKED[name]

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = networks()["silu"]

        def forward(self, x: Tensor) -> Any:
            return pack(self.net(x))

    assert norms(Packed(), loss) == pytest.approx(norms(networks()["silu"]), rel=1e-6)


def test_a_loss_that_is_a_mean_over_images_is_told_what_to_do() -> None:
    with refusal('loss of 1 images has shape .*reduction="none"'):
        norms(networks()["silu"], F.binary_cross_entropy_with_logits)


def test_what_float64_cannot_run_is_said() -> None:
    class Fixed(nn.Module):
        """Converts to float32 on the way, so that its weights have to be float32."""

        def __init__(self) -> None:
            super().__init__()
            self.net = networks()["silu"].float()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.float())

    found = spectral_norms(Fixed(), *(t.float() for t in data()), image_loss)
    assert "could not be checked in float64" in found.note
    np.testing.assert_allclose(found.values, norms(networks()["silu"]), rtol=1e-2)


ROUNDED = (
    "products could not be checked: differences of gradients in float64 are rounded, since the model or the loss "
    "leaves it"
)


class Pooled(nn.Module):
    """One number per image, made in float32 whatever comes in where `inside`."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.head, self.inside = nn.Linear(3, 1), inside

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x.mean((2, 3)))
        return y.float().type_as(y) if self.inside else y


@pytest.mark.parametrize("inside", [True, False])
def test_what_rounds_to_float32_on_the_way_is_not_taken_for_a_wrong_derivative(inside: bool) -> None:
    """Steps that are small enough in float64 vanish in its rounding, and two such differences agree on too little."""

    def loss(made: Tensor, _: Tensor) -> Tensor:
        return F.softplus(made if inside else made.float()).flatten(1).mean(1)

    images, masks = (t.float() for t in data(1))
    for seed in range(8):
        torch.manual_seed(seed)
        model = Pooled(inside)
        x, p = images.mean((2, 3))[0], torch.sigmoid(model.head(images.mean((2, 3)))).item()
        found = spectral_norms(model, images, masks, loss)
        assert found.values[0] == pytest.approx(p * (1 - p) * (float(x @ x) + 1), rel=1e-4)
        assert found.note in ("", ROUNDED)


def test_memory_that_ends_within_the_check_does_not_end_the_solve(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check needs several times what a solve does."""
    moved = Hessians.moved

    def full(self: Hessians, *given: Any) -> Tensor:
        if given[0].dtype == torch.float64:
            raise torch.OutOfMemoryError("no room")
        return moved(self, *given)

    monkeypatch.setattr(Hessians, "moved", full)
    found = spectral_norms(networks()["silu"].float(), *(t.float() for t in data()), image_loss)
    assert found.note == "products could not be checked in float64 (memory ran out)"
    np.testing.assert_allclose(found.values, truth(networks()["silu"]), rtol=1e-2)


class Coarse(nn.Module):
    """Rounds to multiples of eight in float32, before its curvature is decided."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cos((3 * self.conv(x) + 1e8) - 1e8)


def test_products_that_float32_cannot_hold_are_said_and_no_end() -> None:
    torch.manual_seed(0)
    images, masks = data()
    found = spectral_norms(Coarse(), images.float(), masks.float(), image_loss)
    assert "in this precision differs" in found.note and "model.double()" in found.note
    assert "differs" not in spectral_norms(Coarse().double(), images, masks, image_loss).note

"""Per-image spectral norms: right, solved once each, and guarded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.curvature.norms import spectral_norms, tensor_digest
from small_networks import Unused, dense_hessian, image_loss, networks


def data(n: int = 5) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    images = torch.randn(n, 3, 8, 8, generator=draw, dtype=torch.float64)
    return images, (torch.rand(n, 1, 8, 8, generator=draw) > 0.7).double()


@pytest.mark.parametrize("start", ["gradient", "random"])
@pytest.mark.parametrize("name", networks())
def test_values_and_signs_are_those_of_dense_hessians(name: str, start: str) -> None:
    model, (images, masks) = networks()[name], data()
    found = spectral_norms(model, images, masks, image_loss, tolerance=1e-8, max_products=300, start=start)
    for i in range(len(images)):
        truth = torch.linalg.eigvalsh(dense_hessian(model, images[i : i + 1], masks[i : i + 1]))
        assert found.values[i] == pytest.approx(float(truth.abs().max()), rel=1e-6)
        assert float((truth - found.signs[i] * found.values[i]).abs().min()) < 1e-6 * found.values[i]
    assert found.converged.all() and (found.residuals <= 1e-8).all() and (found.products >= 3).all()
    assert found.unused == () and found.solves == 5


def test_power_iteration_agrees() -> None:
    model, (images, masks) = networks()["silu"], data(3)
    one = spectral_norms(model, images, masks, image_loss, tolerance=1e-6, max_products=500)
    other = spectral_norms(model, images, masks, image_loss, tolerance=1e-3, max_products=500, method="power")
    np.testing.assert_allclose(other.values[other.converged], one.values[other.converged], rtol=1e-4)
    assert other.converged.any()


def test_each_distinct_pair_is_solved_once_and_results_do_not_depend_on_the_order() -> None:
    model, (images, masks) = networks()["conv"], data(3)
    empty = torch.zeros_like(masks[0])
    pairs = [(0, masks[0]), (1, empty), (0, empty), (2, masks[2]), (1, empty.clone()), (0, empty)]
    passes: list[int] = []
    model.register_forward_hook(lambda *_: passes.append(1))

    def solve(order: list[int]) -> Any:
        return spectral_norms(model, [images[pairs[i][0]] for i in order], [pairs[i][1] for i in order], image_loss)

    found = solve([0, 1, 2, 3, 4, 5])
    assert found.solves == 4 and len(passes) == 3 + 5  # one per image, five of the first for the check
    assert found.values[2] == found.values[5] and found.values[1] == found.values[4] != found.values[0]
    turned = solve([5, 4, 3, 2, 1, 0])
    assert np.array_equal(turned.values[::-1], found.values)


def test_mode_flags_gradients_and_statistics_stay() -> None:
    model, (images, masks) = networks()["norm"], data(2)
    model.train()
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = spectral_norms(model, images, masks, image_loss)
    assert model.training and model[3].training and not model[0].weight.requires_grad
    assert bool((model[4].weight.grad == 1).all())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model[0].weight.requires_grad_(True)
    assert not np.allclose(found.values, spectral_norms(model, images, masks, image_loss).values)


def test_parameters_that_do_not_enter_are_named() -> None:
    found = spectral_norms(Unused().double(), *data(2), image_loss)
    assert found.unused == ("spare.weight", "spare.bias")


class Noisy(nn.Module):
    """Random in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1).double()

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x), 0.5, training=True)


def test_a_model_that_is_random_in_evaluation_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="random in evaluation mode"):
        spectral_norms(Noisy(), *data(2), image_loss)


def test_a_loss_that_is_not_one_number_per_image_is_refused() -> None:
    with pytest.raises(ValueError, match="one number per image"):
        spectral_norms(networks()["conv"], *data(2), lambda logits, masks: F.mse_loss(logits, masks))


def test_wrong_input_is_refused() -> None:
    model, (images, masks) = networks()["conv"], data(3)
    with pytest.raises(ValueError, match="3 images and 2 masks"):
        spectral_norms(model, images, masks[:2], image_loss)
    with pytest.raises(ValueError, match="0 images and 0 masks"):
        spectral_norms(model, images[:0], masks[:0], image_loss)
    for options, words in (
        ({"tolerance": 0.0}, "between 0 and 1"),
        ({"max_products": 0}, "at least 1"),
        ({"absolute": -1.0}, "0 or a positive number"),
        ({"method": "qr"}, "choose one of lanczos, power"),
        ({"start": "ones"}, "choose one of gradient"),
    ):
        with pytest.raises(ValueError, match=words):
            spectral_norms(model, images, masks, image_loss, **options)  # type: ignore[arg-type]
    images[1] = float("nan")
    with pytest.raises(FloatingPointError, match="image 1: the loss is nan"):
        spectral_norms(model, images, masks, image_loss)


def test_memory_that_ends_names_the_image_and_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr("analysis.curvature.products.Hessians.at", full)
    with pytest.raises(MemoryError, match="memory ran out at image 0 of 8x8 on cpu"):
        spectral_norms(networks()["conv"], *data(2), image_loss)


def test_a_digest_is_of_shape_and_content() -> None:
    a = torch.arange(12.0).view(3, 4)
    assert tensor_digest(a) == tensor_digest(a.clone()) == tensor_digest(a.t().contiguous().t())
    assert len({tensor_digest(x) for x in (a, a.view(4, 3), a + 1, a.double(), a > 3, torch.tensor(1.0))}) == 6

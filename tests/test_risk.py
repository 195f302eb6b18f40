"""Losses of single images in evaluation mode, and the spread of their mean over resamples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis.curvature.evaluation import Loss, per_image_losses
from analysis.tables.effect import percentiles, resampled
from small_networks import image_loss, networks


def data(n: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(4)
    images = torch.randn(n, 3, 8, 8, generator=draw, dtype=torch.float64)
    return images, (torch.rand(n, 1, 8, 8, generator=draw) > 0.5).double()


def losses_of(model: nn.Module, images: torch.Tensor, masks: torch.Tensor, loss: Loss = image_loss) -> np.ndarray:
    return per_image_losses(model, lambda indices: (images[indices], masks[indices]), np.arange(len(images)), loss)


def test_losses_in_evaluation_mode() -> None:
    model, (images, masks) = networks()["norm"].train(), data()
    found = losses_of(model, images, masks)
    assert model.training
    with torch.no_grad():
        expected = image_loss(model.eval()(images), masks).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_of_bounded_losses_the_spread_covers_the_mean_as_often_as_95_percent_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        losses = rng.beta(2, 5, 60)
        low, high = percentiles(losses[resampled(60, seed=trial, resamples=400)].mean(axis=1))
        hits += low <= 2 / 7 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_infinite_values_have_an_interval() -> None:
    assert percentiles(np.array([1.0] * 50 + [np.inf] * 50)) == (1.0, np.inf)


def test_memory_that_ends_halves_the_batch() -> None:
    images, masks = data(11)
    model, sizes = networks()["conv"], []

    def feed(indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        if len(indices) > 3:
            raise torch.OutOfMemoryError("no room")
        sizes.append(len(indices))
        return images[indices], masks[indices]

    losses = per_image_losses(model, feed, np.arange(11), image_loss)
    np.testing.assert_allclose(losses, losses_of(model, images, masks), rtol=1e-12)
    assert max(sizes) == 2 and sum(sizes) == 11

    def hopeless(indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(MemoryError, match="image 3, alone"):
        per_image_losses(model, hopeless, np.arange(3, 11), image_loss)


def test_precision_and_autocast_of_the_caller_do_not_change_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (images, masks) = networks()["conv"].float(), data(4)
    seen = []
    switches = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.conv
    model.register_forward_hook(lambda *_: seen.append([switch.fp32_precision for switch in switches]))
    expected = losses_of(model, images.float(), masks.float())
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    before = [switch.fp32_precision for switch in switches]
    with torch.autocast("cpu", torch.bfloat16):
        found = losses_of(model, images.float(), masks.float())
    assert np.array_equal(found, expected) and found.dtype == float
    assert seen[-1] == ["ieee"] * 3 and [switch.fp32_precision for switch in switches] == before


def test_outputs_of_any_structure_reach_the_loss() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = networks()["conv"]

        def forward(self, x: torch.Tensor) -> dict:
            return {"out": self.net(x), "aux": [self.net(x)]}

    images, masks = data(4)
    found = losses_of(
        Several(), images, masks, lambda made, y: image_loss(made["out"], y) + image_loss(made["aux"][0], y)
    )
    np.testing.assert_allclose(found, 2 * losses_of(networks()["conv"], images, masks))


def test_wrong_input_is_refused() -> None:
    images, masks = data(4)
    with pytest.raises(ValueError, match=r'loss of 4 images has shape .* reduction="none"'):
        losses_of(networks()["conv"], images, masks, F.mse_loss)
    images[2] = float("nan")
    with pytest.raises(FloatingPointError, match="image 2 is nan"):
        losses_of(networks()["conv"], images, masks)

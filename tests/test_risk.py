"""Mean losses in evaluation mode, and their interval."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.bootstrap import interval, resampled
from analysis.risk import per_image_losses, risk
from small_networks import image_loss, networks


def data(n: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(4)
    images = torch.randn(n, 3, 8, 8, generator=draw, dtype=torch.float64)
    return images, (torch.rand(n, 1, 8, 8, generator=draw) > 0.5).double()


def test_the_mean_of_losses_in_evaluation_mode() -> None:
    model, (images, masks) = networks()["norm"].train(), data()
    found = risk(model, images, masks, image_loss)
    assert model.training
    with torch.no_grad():
        expected = image_loss(model.eval()(images), masks).numpy()
    np.testing.assert_allclose(found.losses, expected, rtol=1e-12)
    assert found.value == pytest.approx(expected.mean())
    assert found.low < found.value < found.high
    listed = risk(model, list(images), list(masks), image_loss)
    assert (listed.value, listed.low, listed.high) == pytest.approx((found.value, found.low, found.high))


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        losses = rng.beta(2, 5, 60)
        low, high = interval(losses[resampled(60, seed=trial, resamples=400)].mean(axis=1))
        hits += low <= 2 / 7 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_infinite_values_have_an_interval() -> None:
    assert interval(np.array([1.0] * 50 + [np.inf] * 50)) == (1.0, np.inf)


def test_memory_that_ends_halves_the_batch() -> None:
    images, masks = data(11)
    model, sizes = networks()["conv"], []

    def feed(indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        if len(indices) > 3:
            raise torch.OutOfMemoryError("no room")
        sizes.append(len(indices))
        return images[indices], masks[indices]

    losses = per_image_losses(model, feed, np.arange(11), image_loss)
    np.testing.assert_allclose(losses, risk(model, images, masks, image_loss).losses, rtol=1e-12)
    assert max(sizes) == 2 and sum(sizes) == 11

    def hopeless(indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(MemoryError, match="image 3, alone"):
        per_image_losses(model, hopeless, np.arange(3, 11), image_loss)


def test_wrong_input_is_refused() -> None:
    images, masks = data(4)
    with pytest.raises(ValueError, match="4 images and 3 masks"):
        risk(networks()["conv"], images, masks[:3], image_loss)
    images[2] = float("nan")
    with pytest.raises(FloatingPointError, match="image 2 is nan"):
        risk(networks()["conv"], images, masks, image_loss)

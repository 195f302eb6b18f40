"""Stability by coupled pairs: against algebra on a quadratic, against trainings apart, and its guards."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analysis.curvature.replace_one import Diverged, forks, gradient_noise, one_pass, stability


class Mean(nn.Module):
    """l(w, z) = (w - z)^2 / 2 in float64: every step of its SGD is known."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return self.weight - z


def half_square(difference: Tensor, _: Tensor) -> Tensor:
    return difference.square() / 2


VALUES = np.random.default_rng(0).normal(size=4000)


def feed(indices: np.ndarray) -> tuple[Tensor, Tensor]:
    z = torch.tensor(VALUES[indices])
    return z, z


def by_hand(order: list[int], c: float, start: float = 0.0) -> float:
    w = start
    for t, index in enumerate(order, start=1):
        w -= c / t * (w - VALUES[index])
    return w


@pytest.mark.parametrize("c", [0.01, 0.5, 1.0])
def test_a_fork_is_the_training_with_one_example_changed(c: float) -> None:
    order, swaps = list(range(12)), [(12, 103), (1, 100), (5, 101), (5, 102)]
    model = Mean(2.0)
    found = list(forks(model, feed, half_square, order, swaps, c))
    assert model.weight.item() == pytest.approx(by_hand(order, c, 2.0), rel=1e-12)
    assert [(fork.step, fork.replaced, fork.fresh) for fork in found] == [(s, s - 1, z) for s, z in sorted(swaps)]
    for fork, (fresh, replaced) in zip(found, _differences(model, found), strict=True):
        other = by_hand([fork.fresh if i == fork.replaced else i for i in order], c, 2.0)
        end, z, z_i = by_hand(order, c, 2.0), VALUES[fork.fresh], VALUES[fork.replaced]
        assert fresh == pytest.approx(((end - z) ** 2 - (other - z) ** 2) / 2, rel=1e-9, abs=1e-15)
        assert replaced == pytest.approx(((other - z_i) ** 2 - (end - z_i) ** 2) / 2, rel=1e-9, abs=1e-15)


def _differences(model: nn.Module, found: list) -> list[tuple[float, float]]:  # type: ignore[type-arg]
    told = stability(model, feed, half_square, found)
    return list(zip(told.fresh, told.replaced, strict=True))


def test_the_mean_of_m_numbers_has_the_stability_variance_over_m() -> None:
    """With c = 1 the pass ends at the mean: E l(A_S, z) - l(A_S(i), z) = sigma^2 / m."""
    rng, m, estimates, gaps = np.random.default_rng(1), 20, [], []
    for _ in range(60):
        drawn = rng.permutation(len(VALUES))
        order, fresh = drawn[:m].tolist(), drawn[m : m + 8].tolist()
        steps = rng.choice(np.arange(1, m + 1), 8, replace=False).tolist()
        model = Mean()
        found = list(forks(model, feed, half_square, order, list(zip(steps, fresh, strict=True)), 1.0))
        estimates.append(stability(model, feed, half_square, found).mean)
        end = model.weight.item()
        gaps.append(np.mean((end - VALUES[drawn[m:]]) ** 2 - 1) / 2 - np.mean((end - VALUES[order]) ** 2 - 1) / 2)
    error = np.std(estimates, ddof=1) / math.sqrt(60)
    assert error < 0.3 * VALUES.var() / m
    assert np.mean(estimates) == pytest.approx(VALUES.var() / m, abs=3 * float(error))
    assert np.mean(gaps) == pytest.approx(np.mean(estimates), abs=4 * float(np.std(gaps, ddof=1)) / math.sqrt(60))


def test_trainings_that_share_nothing_differ_by_far_more() -> None:
    rng, m, c = np.random.default_rng(2), 200, 0.5
    coupled, apart = [], []
    for _ in range(40):
        drawn = rng.permutation(2000)
        order = drawn[:m].tolist()
        fresh, step = int(rng.integers(2000, 4000)), int(rng.integers(1, m + 1))
        model = Mean()
        found = list(forks(model, feed, half_square, order, [(step, fresh)], c))
        coupled.append(stability(model, feed, half_square, found).fresh[0])
        other = Mean()
        one_pass(other, feed, half_square, drawn[m : 2 * m].tolist(), c)
        z = VALUES[fresh]
        apart.append(((model.weight.item() - z) ** 2 - (other.weight.item() - z) ** 2) / 2)
    assert np.median(np.abs(apart)) > 10 * np.median(np.abs(coupled))


def test_batch_norm_keeps_its_statistics_and_modes_are_restored() -> None:
    torch.manual_seed(0)
    first, norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
    model = nn.Sequential(first, norm, nn.Flatten(), nn.Linear(18, 1)).double().train()
    images = torch.randn(9, 1, 5, 5, dtype=torch.float64)

    def pictures(indices: np.ndarray) -> tuple[Tensor, Tensor]:
        return images[indices], images[indices, 0, 0, 0]

    def loss(found: Tensor, wanted: Tensor) -> Tensor:
        return torch.sigmoid((found[:, 0] - wanted).square())

    before = {name: value.clone() for name, value in model.named_buffers()}
    moved = first.weight.detach().clone()
    list(forks(model, pictures, loss, range(6), [(2, 7), (6, 8)], 0.1))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert model.training and norm.training and not torch.equal(first.weight, moved)


def test_gradient_noise_is_that_of_the_stacked_gradients() -> None:
    noise = gradient_noise(Mean(0.3), feed, half_square, range(50))
    slopes = 0.3 - VALUES[:50]
    assert noise.squared_mean == pytest.approx(slopes.mean() ** 2, rel=1e-9)
    assert noise.trace == pytest.approx(slopes.var(ddof=1), rel=1e-9)
    assert noise.first_order(0.01, 3) == pytest.approx(0.01 * (1 + 1 / 2 + 1 / 3) / 3 * noise.trace)


def test_to_first_order_small_steps_are_as_stable_as_gradient_noise_says() -> None:
    rng, m, c, told = np.random.default_rng(3), 10, 1e-3, []
    for _ in range(200):
        drawn = rng.permutation(len(VALUES)).tolist()
        model, swaps = Mean(), [(t, drawn[m + t]) for t in range(1, m + 1)]
        found = list(forks(model, feed, half_square, drawn[:m], swaps, c))
        told.append(stability(model, feed, half_square, found).mean)
    expected = gradient_noise(Mean(), feed, half_square, range(len(VALUES))).first_order(c, m)
    assert np.mean(told) == pytest.approx(expected, abs=3 * float(np.std(told, ddof=1)) / math.sqrt(200))


@pytest.mark.parametrize(
    ("swaps", "c", "said"),
    [([(0, 20)], 0.1, "step 0"), ([(11, 20)], 0.1, "step 11"), ([(3, 4)], 0.1, "example 4"), ([(3, 20)], 0.0, "c 0")],
)
def test_what_cannot_be_meant_is_refused(swaps: list[tuple[int, int]], c: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        list(forks(Mean(), feed, half_square, range(10), swaps, c))


def test_a_pass_that_diverges_says_where() -> None:
    def steep(difference: Tensor, _: Tensor) -> Tensor:
        return difference.square() ** 8

    with pytest.raises(Diverged, match="step") as error:
        one_pass(Mean(100.0), feed, steep, range(50), 1e3)
    assert 1 < error.value.step <= 50


def test_no_fork_has_no_stability() -> None:
    with pytest.raises(ValueError, match="no fork"):
        stability(Mean(), feed, half_square, [])

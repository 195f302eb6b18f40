"""Stability by coupled pairs: against algebra on a quadratic, against trainings apart, and its guards."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analysis.curvature.replace_one import (
    Descent,
    Diverged,
    Positions,
    forks,
    gradient_noise,
    stability,
    within_unit,
)  # fmt: skip
from analysis.curvature.stability import first_order


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
    order, swaps, ends = list(range(12)), [(12, 103), (1, 100), (5, 101), (5, 102)], {}
    model = Mean(2.0)
    found = list(
        forks(model, feed, half_square, order, swaps, c, (4, 7, 12), lambda m: ends.update({m: model.weight.item()}))
    )
    assert ends == pytest.approx({m: by_hand(order[:m], c, 2.0) for m in (4, 7, 12)}, rel=1e-12)
    wanted = [(m, s, s - 1, z) for m in (4, 7, 12) for s, z in sorted(swaps) if s <= m]
    assert [(fork.m, fork.step, fork.replaced, fork.fresh) for fork in found] == wanted
    for fork in found:
        other = by_hand([fork.fresh if i == fork.replaced else i for i in order[: fork.m]], c, 2.0)
        end, z, z_i = ends[fork.m], VALUES[fork.fresh], VALUES[fork.replaced]
        assert fork.fresh_difference == pytest.approx(((end - z) ** 2 - (other - z) ** 2) / 2, rel=1e-9, abs=1e-15)
        assert fork.replaced_difference == pytest.approx(
            ((other - z_i) ** 2 - (end - z_i) ** 2) / 2, rel=1e-9, abs=1e-15
        )


def test_the_mean_of_m_numbers_has_the_stability_variance_over_m() -> None:
    """With c = 1 the pass ends at the mean: E l(A_S, z) - l(A_S(i), z) = sigma^2 / m."""
    rng, m, estimates, gaps = np.random.default_rng(1), 20, [], []
    for _ in range(60):
        drawn = rng.permutation(len(VALUES))
        order, fresh = drawn[:m].tolist(), drawn[m : m + 8].tolist()
        steps = rng.choice(np.arange(1, m + 1), 8, replace=False).tolist()
        model = Mean()
        found = list(forks(model, feed, half_square, order, list(zip(steps, fresh, strict=True)), 1.0))
        estimates.append(stability(found).mean)
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
        coupled.append(found[0].fresh_difference)
        other = Mean()
        Descent(other, feed, half_square, c).follow(drawn[m : 2 * m].tolist())
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
    assert first_order(noise.trace, 3, 0.01) == pytest.approx(0.01 * (1 + 1 / 2 + 1 / 3) / 3 * noise.trace)


def test_to_first_order_small_steps_are_as_stable_as_gradient_noise_says() -> None:
    rng, m, c, told = np.random.default_rng(3), 10, 1e-3, []
    for _ in range(200):
        drawn = rng.permutation(len(VALUES)).tolist()
        model, swaps = Mean(), [(t, drawn[m + t]) for t in range(1, m + 1)]
        found = list(forks(model, feed, half_square, drawn[:m], swaps, c))
        told.append(stability(found).mean)
    expected = first_order(gradient_noise(Mean(), feed, half_square, range(len(VALUES))).trace, m, c)
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
        Descent(Mean(100.0), feed, steep, 1e3).follow(range(50))
    assert 1 < error.value.step <= 50


def test_a_fork_that_diverges_says_where_and_the_pass_goes_on() -> None:
    """Of (w - z)^16 with z = 0 nothing moves; the one example far away sends the fork that takes it out of bounds."""

    def far(indices: np.ndarray) -> tuple[Tensor, Tensor]:
        z = torch.tensor(np.where(indices == 99, 1e3, 0.0))
        return z, z

    def steep(difference: Tensor, _: Tensor) -> Tensor:
        return difference.square() ** 8

    model = Mean()
    found = list(forks(model, far, steep, range(9), [(2, 99), (3, 50)], 1.0, (1, 6, 9)))
    assert [(fork.step, fork.m) for fork in found] == [(2, 6), (3, 6), (2, 9), (3, 9)]
    assert [fork.diverged_at for fork in found if fork.step == 2] == [3, 3] and model.weight == 0
    assert all(math.isnan(fork.diverged_at) and fork.fresh_difference == 0 for fork in found if fork.step == 3)


def test_weights_are_kept_in_float64_whatever_the_model_computes_in() -> None:
    """A thousand steps of 1e-9 from 1, each of which float32 would round away."""

    def linear(w: Tensor, _: Tensor) -> Tensor:
        return w

    model = Mean(1.0).float()
    descent = Descent(model, lambda i: (torch.zeros(1), torch.zeros(1)), linear, 1e-9)
    descent.follow(range(1000))
    assert descent.losses([0])[0] - 1 == pytest.approx(-1e-9 * (1 / np.arange(1, 1001)).sum(), rel=1e-6)
    assert model.weight.dtype == torch.float32 and model.weight.item() == pytest.approx(1)


def test_steps_drawn_for_forks_weigh_to_a_mean_over_all() -> None:
    m, rng = 50, np.random.default_rng(0)
    positions, steps = Positions(m), 1 / np.arange(1, m + 1)
    for of in (50, 20):
        told = []
        for _ in range(500):
            drawn = positions.draw(16, rng)
            there = drawn[drawn <= of]
            told.append((positions.weights(there, of) * steps[there - 1]).mean())
        assert np.mean(told) == pytest.approx(steps[:of].mean(), rel=0.02)
        assert np.std(told) < 0.25 * np.mean(told)
    assert (positions.weights(np.arange(1, m + 1), m) <= 2).all()
    with pytest.raises(ValueError, match="51 forks of a pass over m = 50"):
        positions.draw(51, rng)


def test_a_loss_outside_the_definition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Descent(Mean(5.0), feed, within_unit(half_square), 0.1).follow([0])


def test_no_fork_has_no_stability() -> None:
    with pytest.raises(ValueError, match="no fork"):
        stability([])

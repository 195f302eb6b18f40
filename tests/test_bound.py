"""Eq. 6-8 by hand, their shape, and the honesty of what stands round them."""

from __future__ import annotations

from math import exp, inf, log, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analysis.curvature.assumptions import Training, audit, kinks
from analysis.curvature.stability import attribution, bound, bounds, largest_step, lowest

MOMENTUM = Training("SGD with momentum 0.9", 0.01, 40, 16, drawn=True)


def curve(risk: float, m: int, c: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """g, from where the bound is not vacuous, and Eq. 6 there."""
    norms = max(0, m**-0.25 - sqrt(risk)) + np.geomspace(1e-2, 1e4, 200)
    return norms + sqrt(risk), bounds(np.full(200, risk), norms, m, c=c)


def test_every_factor_by_hand() -> None:
    b = bound(risk=0.25, curvature=2.0, m=16, sources=4, c=0.1)
    assert (b.g, b.g_minus, b.g_plus) == (2.5, 2.0, 3.0)  # 16 ** -0.25 is 0.5
    assert b.stability == pytest.approx(1 + 1 / 0.2)
    assert b.exponent == pytest.approx(0.3 / 1.3)
    assert b.fit == pytest.approx(0.25 ** (0.3 / 1.3))
    assert b.candidates == pytest.approx(sqrt(log(4)))
    assert b.sample == pytest.approx(16 ** (-1 / 1.3))
    assert b.value == pytest.approx(6 * 0.25 ** (0.3 / 1.3) * sqrt(log(4)) / 16 ** (1 / 1.3))
    assert not b.vacuous


def test_vacuous_is_said_and_never_a_number() -> None:
    """m = 80: g must exceed 0.334."""
    b = bound(risk=0.01, curvature=0.2, m=80)
    assert b.g_minus == pytest.approx(0.3 - 80**-0.25) and b.g_minus < 0
    assert b.vacuous and b.value == inf and not b.rising
    assert bound(risk=0.01, curvature=0.2345, m=80).value < inf
    assert bound(risk=0.0, curvature=0.5, m=16, sources=1).value == inf  # g- is exactly 0; no 0 * infinity
    assert bounds(np.array([0.0, 0.0]), np.array([0.5, 0.6]), 16, sources=1).tolist() == [inf, 0.0]


def test_many_at_once_are_the_same() -> None:
    rng = np.random.default_rng(0)
    risks, norms = rng.uniform(0, 1, 50), rng.exponential(1.0, 50)
    expected = [bound(r, n, 115, 4, 0.01).value for r, n in zip(risks, norms, strict=True)]
    np.testing.assert_allclose(bounds(risks, norms, 115, 4, 0.01), expected, rtol=1e-14)


def test_the_slack_of_g_is_of_the_images_measured_and_the_sample_factor_of_m() -> None:
    """16 of 256 images: a mean over 16 is uncertain by 16^(-1/4) = 1/2, whatever it stands for."""
    b = bound(risk=0.25, curvature=2.0, m=256, c=0.1, n=16)
    assert (b.n, b.m, b.g, b.g_minus, b.g_plus) == (16, 256, 2.5, 2.0, 3.0)
    assert b.sample == pytest.approx(256 ** (-1 / 1.3)) and b.stability == pytest.approx(6)
    paper = bound(risk=0.25, curvature=2.0, m=256, c=0.1)
    assert paper.g_minus == 2.25 and paper == bound(0.25, 2.0, 256, c=0.1, n=256)
    few, many = bound(0.04, 0.2, 256, n=4), bound(0.04, 0.2, 256)
    assert few.vacuous and few.value == inf and many.value < inf
    assert bounds(np.array([0.25, 0.04]), np.array([2.0, 0.2]), 256, c=0.1, n=16).tolist() == [b.value, inf]
    with pytest.raises(ValueError, match="n 0: the bound needs"):
        bound(0.5, 1, 10, n=0)


@pytest.mark.parametrize(("m", "risk"), [(100, 0.01), (100, 0.02), (10, 0.2), (10, 0.27), (100, exp(1) / 100), (9, 0)])
def test_up_to_m_times_risk_of_e_the_bound_only_falls(m: int, risk: float) -> None:
    assert m * risk <= exp(1) and lowest(risk, m) == inf
    _, value = curve(risk, m)
    assert (np.diff(value) <= 0).all() and (np.diff(value)[value[1:] > 0] < 0).all()
    assert not bound(risk, 1e9, m).rising


def test_the_lowest_point_is_that_of_a_fine_grid() -> None:
    """Over risks, m, n and c: no point of a grid of g is lower, and the grid's lowest is beside it."""
    rng = np.random.default_rng(0)
    turning = 0
    for _ in range(300):
        m, c = int(np.exp(rng.uniform(0, 9))), float(np.exp(rng.uniform(-14, 2)))
        n, risk = int(rng.integers(1, m + 1)), float(rng.uniform(0, 1) ** rng.choice([1, 4]))

        def log_bound(x: Any, m: int = m, c: float = c, n: int = n, risk: float = risk) -> Any:
            rest = 1 / (1 + c * (x + 2 * n**-0.25))
            return np.log1p(1 / (c * x)) + (1 - rest) * np.log(risk) - rest * np.log(m)

        grid = np.geomspace(1e-6, 1e12, 40001) / c
        value, found = log_bound(grid), lowest(risk, m, c, n) - n**-0.25
        if m * risk <= exp(1):
            assert found == inf
        elif found * c < 1e9:  # beyond, the curve is flat to the last bit
            turning += 1
            assert log_bound(found) <= value.min() + 1e-12
            assert found == pytest.approx(grid[value.argmin()], rel=5e-2)
    assert turning > 150


@pytest.mark.parametrize(("risk", "m", "c"), [(0.3, 115, 0.01), (0.95, 2594, 0.01), (0.6, 115, 1.0), (0.9, 40, 1e-4)])
def test_the_bound_falls_with_curvature_and_then_rises(risk: float, m: int, c: float) -> None:
    g, value = curve(risk, m, c=c)
    turn = lowest(risk, m, c=c)
    assert g[0] < turn < g[-1] * 1e3
    inside = g[1:] < turn * 0.99
    assert (np.diff(value)[inside] < 0).all()
    beyond = g[:-1] > turn * 1.01
    assert (np.diff(value)[beyond] > 0).all()
    for at, rises in ((turn * 0.9, False), (turn * 1.1, True)):
        assert bound(risk, at - sqrt(risk), m, c=c).rising is rises


def test_the_difference_of_two_bounds_adds_up() -> None:
    one, other = bound(0.4, 50, 115), bound(0.9, 5, 115)
    parts = attribution(one, other)
    assert parts.total == pytest.approx(log(one.value / other.value))
    assert parts.by_risk + parts.by_curvature == pytest.approx(parts.total)
    only_risk = attribution(bound(0.4, 50, 115), bound(0.9, 50, 115))
    assert only_risk.by_curvature == pytest.approx(0) and exp(only_risk.by_risk) < 1
    back = attribution(other, one)
    assert back.by_risk == pytest.approx(-parts.by_risk)
    assert np.isnan(attribution(bound(0.01, 0.1, 80), other if other.m == 80 else bound(0.9, 5, 80)).total)
    with pytest.raises(ValueError, match="other m"):
        attribution(one, bound(0.9, 5, 116))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"m": 0}, "at least one training image"),
        ({"sources": 0}, "at least one candidate"),
        ({"c": 0.0}, "positive number"),
        ({"c": -1.0}, "positive number"),
        ({"c": float("nan")}, "positive number"),
        ({"risk": 1.1}, r"in \[0, 1\]"),
        ({"risk": float("nan")}, r"in \[0, 1\]"),
        ({"curvature": -1.0}, "not negative"),
        ({"curvature": float("inf")}, "finite"),
    ],
)
def test_impossible_input_is_refused(values: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bound(**({"risk": 0.5, "curvature": 1.0, "m": 10} | values))


def test_the_largest_step_of_the_theorem() -> None:
    assert largest_step(50, 2594) == pytest.approx(4e-7, rel=0.05)  # far below the paper's 0.01
    assert largest_step(0, 100) == inf
    assert largest_step(4.0, 1) == 0.25  # one step: only 1/beta limits
    assert largest_step(1e-3, 3) == 1e3 < 1 / (4 * (2e-3 * log(3)) ** 2)


def test_the_audit_says_what_holds() -> None:
    paper = {a.name: a for a in audit(50, 2594, 0.01, MOMENTUM, kinks=10, own_images=True)}
    assert [a.holds for a in paper.values()] == [True, *[False] * 8]
    assert "4.0e-07" in paper["c <= min(1/beta, 1/(4 (2 beta ln T)^2))"].found
    assert "momentum 0.9" in paper["plain SGD"].found
    plain = {a.name: a for a in audit(50, 2594, 1e-7, Training("SGD", 0.01, 40, 8), kinks=0, own_images=None)}
    assert [a.holds for a in plain.values()] == [True, None, True, False, False, True, None, False, False]
    one = audit(1, 10, 1, Training("SGD", 0.01, 1, 1), 0, None)
    assert one[4].holds is True and one[3].holds is False
    assert "AdamW" in audit(1, 10, 1, Training("AdamW", 0.01, 1, 1, drawn=True), 1, False)[5].found


def test_the_audit_says_what_the_formula_drops() -> None:
    found = {a.name: a.found for a in audit(50, 115, 0.01, MOMENTUM, kinks=10, own_images=False)}
    assert "O(.)" in found["Eq. 6 is the whole bound"] and "gradient noise" in found["Eq. 6 is the whole bound"]
    assert "add up to 0.053" in found["steps c/t"]  # c times the 115th harmonic number
    assert "a^-2" in found["norms do not depend on the scale of weights"]


def test_a_start_whose_statistics_saw_the_images_was_not_made_without_them() -> None:
    name = "the start does not depend on the training images"

    def said(own: bool | None, calibrated: int) -> tuple[bool | None, str]:
        ((holds, found),) = (
            (a.holds, a.found) for a in audit(1, 115, 0.01, MOMENTUM, 0, own, calibrated) if a.name == name
        )
        return holds, found

    statistics = "; its BatchNorm statistics were estimated on 48 of them"
    assert said(False, 48) == (False, "its weights were made without them" + statistics)
    assert said(False, 0) == (True, "its weights were made without them")
    assert said(None, 0)[0] is None and said(None, 48)[0] is False
    assert said(True, 48) == (False, "it was trained on these very images" + statistics)


class Kinked(nn.Module):
    """Functions in `forward`, as many networks have them."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(nn.functional.relu6(x), 2) + x.clamp(min=0).mean()


class Extremes(nn.Module):
    """The least of each channel, and of all."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amin((2, 3)) + x.min()


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (nn.Sequential(nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.PReLU(), nn.Hardtanh()), 5),
        (nn.Sequential(nn.Hardswish(), nn.Hardsigmoid(), nn.Threshold(0.1, 0), nn.ReLU(inplace=True)), 4),
        (nn.Sequential(nn.ELU(), nn.SELU(), nn.CELU(), nn.Softshrink(), nn.Hardshrink()), 5),
        (nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(2)), 2),
        (nn.Sequential(nn.Conv2d(3, 3, 3), nn.SiLU(), nn.GELU(), nn.Sigmoid(), nn.AvgPool2d(2), nn.BatchNorm2d(3)), 0),
        (Kinked(), 3),
        (Extremes(), 2),
    ],
)  # fmt: skip
def test_every_operation_with_a_kink_counts(model: nn.Module, count: int) -> None:
    assert kinks(model.eval(), torch.randn(1, 3, 8, 8)) == count

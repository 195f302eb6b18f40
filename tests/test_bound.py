"""Eq. 6-8 by hand, their shape, and the honesty of what stands round them."""

from __future__ import annotations

from math import exp, inf, log, sqrt

import numpy as np
import pytest

from analysis.bound import attribution, audit, bound, bounds, curve, largest_step, lowest
from tatl.run import Recipe


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


def test_with_little_risk_and_few_images_the_bound_only_falls() -> None:
    assert lowest(0.01, 100) == inf and lowest(0.02, 100) < inf
    _, value = curve(0.01, 100)
    assert (np.diff(value) < 0).all()


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
    paper = {a.name: a for a in audit(50, 2594, 0.01, Recipe(), kinks=10, own_images=True)}
    assert [a.holds for a in paper.values()] == [True, False, False, False, False, False, False]
    assert "4.0e-07" in paper["c <= min(1/beta, 1/(4 (2 beta ln T)^2))"].found
    assert "momentum 0.9" in paper["plain SGD"].found
    plain = {a.name: a for a in audit(50, 2594, 1e-7, Recipe(momentum=0.0), kinks=0, own_images=None)}
    assert [a.holds for a in plain.values()] == [True, None, True, False, False, True, None]
    one = audit(1, 10, 1, Recipe(epochs=1, batch=1, balance=0.0), 0, None)
    assert one[4].holds is True and one[3].holds is False
    assert "AdamW" in audit(1, 10, 1, Recipe(optimizer="adamw"), 1, False)[5].found

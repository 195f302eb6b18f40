"""What percentiles of resamples are, and are not: how often intervals for the mean of heavy-tailed norms cover it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from analysis.tables.effect import percentiles, resampled

TRIALS, RESAMPLES = 400, 400
Intervals = Callable[[np.ndarray], np.ndarray]
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def percentile(x: np.ndarray) -> np.ndarray:
    """What stands in the tables, of every row of x [trials, n]."""
    picks = resampled(x.shape[1], resamples=RESAMPLES)
    return np.array([percentiles(row[picks].mean(axis=1)) for row in x])


def bootstrap_t(x: np.ndarray) -> np.ndarray:
    """Of the logarithm of the mean, its standard error by the delta method."""

    def log_mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = values.mean(axis=-1)
        return np.log(mean), values.std(axis=-1, ddof=1) / np.sqrt(x.shape[1]) / mean

    found = []
    for row in x:
        (value, error), (values, errors) = log_mean(row), log_mean(row[resampled(x.shape[1], resamples=RESAMPLES)])
        quantiles = np.quantile((values - value) / np.maximum(errors, 1e-12), [0.975, 0.025])
        found.append(np.exp(value - quantiles * error))
    return np.array(found)


def cox(x: np.ndarray) -> np.ndarray:
    """Cox's method with t (Olsson 2005): of a lognormal, log mean = mu + s^2 / 2."""
    n, logs = x.shape[1], np.log(x)
    variance = logs.var(axis=1, ddof=1)
    half = stats.t.ppf(0.975, n - 1) * np.sqrt(variance / n + variance**2 / (2 * (n - 1)))
    centre = logs.mean(axis=1) + variance / 2
    return np.exp(np.stack([centre - half, centre + half], axis=1))


def lognormal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Logarithms as norms have them, with a standard deviation of 3; the mean is 1."""
    return rng.lognormal(-4.5, 3, shape)


def capped(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Logarithms of the same standard deviation that end at a largest norm: 4 e^(-3 E), whose mean is 1."""
    return 4 * np.exp(-3 * rng.exponential(1, shape))


def coverage(method: Intervals, draw: Draw, n: int) -> float:
    """How often the mean, 1, lies between the ends."""
    low, high = method(draw(np.random.default_rng(0), (TRIALS, n))).T
    return float(((low <= 1) & (high >= 1)).mean())


@pytest.mark.parametrize("n", [12, 64])
def test_percentiles_of_heavy_tails_are_a_spread_and_no_interval(n: int) -> None:
    assert coverage(percentile, lognormal, n) < 0.6


def test_percentiles_of_a_normal_mean_are_an_interval() -> None:
    assert coverage(percentile, lambda rng, shape: rng.normal(1, 1, shape), 64) > 0.9


@pytest.mark.parametrize("n", [12, 64])
def test_no_method_that_assumes_no_law_covers(n: int) -> None:
    assert coverage(bootstrap_t, lognormal, n) < 0.8


def test_the_method_that_covers_does_so_for_its_own_law_alone() -> None:
    """Cox's interval needs lognormal norms: of others with the same spread of logarithms it misses the mean."""
    assert coverage(cox, lognormal, 12) > 0.87 and coverage(cox, lognormal, 64) > 0.87
    assert coverage(cox, capped, 64) < 0.1 < 0.9 < coverage(percentile, capped, 64)
    ends = cox(lognormal(np.random.default_rng(0), (TRIALS, 12)))
    assert np.median(ends[:, 1] / ends[:, 0]) > 1000  # where it covers it says next to nothing

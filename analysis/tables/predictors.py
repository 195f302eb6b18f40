"""Does a quantity that is known before training rank starts as their measured stability does?

Asked as the field asks it (Dziugaite et al. 2020, arXiv 2010.11924; Jiang et al. 2020, arXiv 1912.02178): an
environment is everything but the start (data set, attribute, m, c, seed), and only its starts are compared.

    sign error  the share of pairs of starts that a predictor orders wrongly, its ties as half; 0.5 is a coin.
                Pairs whose measured values differ by less than their noise are left out.
    worst       the environment with the largest sign error
    tau         Kendall's tau between predictor and measured values, averaged over environments (granulated)
    low, high   95 % of the sign errors that the predictor has when its starts change their names, alike in every
                environment; p is the share of names under which it errs as little
    pooled      tau over all rows together: a trap, since it is mostly about m and c
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

NAMINGS = 5040  # of so many starts' names (7) every order is tried, of more so many that are drawn


def rank_predictors(
    table: pd.DataFrame,
    predictors: Sequence[str],
    environment: Sequence[str],
    measured: str = "stability",
    error: str = "error",
    noise: float = 2.0,
) -> pd.DataFrame:
    """One row per predictor, best first: predictor, sign_error, worst, worst_in, tau, low, high, p, pooled, pairs,
    environments, left_out.

    Args:
        table: one row per start and environment: start, the columns of `environment`, `measured`, its standard error
            `error`, and the predictors (larger: less stable); rows without a measured value are left out
        predictors: columns of the table
        environment: columns in which two starts must agree to be compared
        measured: the column that is to be predicted
        error: standard errors of it
        noise: pairs nearer than so many standard errors of their difference are left out

    Raises ValueError for a missing column, a start that is twice in an environment, and where no pair is left.
    """
    wanted = ["start", *environment, measured, error, *predictors]
    if missing := [name for name in wanted if name not in table]:
        raise ValueError(f"the table has no column {', '.join(missing)}; it has {', '.join(map(str, table))}")
    table = table[table[measured].notna()]
    if (twice := table.duplicated(["start", *environment])).any():
        raise ValueError(f"start {table.loc[twice, 'start'].iloc[0]!r} is twice in one environment: average it first")
    rows = [_ranked(table, name, list(environment), measured, error, noise) for name in predictors]
    return pd.DataFrame(rows).sort_values(["sign_error", "worst"]).reset_index(drop=True)


def _ranked(
    table: pd.DataFrame, predictor: str, environment: list[str], measured: str, error: str, noise: float
) -> dict[str, object]:
    starts = sorted(table["start"].unique())
    groups = {key: group.set_index("start") for key, group in table.groupby(environment, dropna=False)}
    pairs = {key: _pairs(group, measured, error, noise) for key, group in groups.items()}
    kept = {key: told for key, (told, _) in pairs.items() if told}
    if not kept:
        raise ValueError(f"no two starts differ in {measured} by more than their noise: more forks or seeds are needed")
    values = {key: groups[key][predictor].to_dict() for key in kept}
    errors = {key: _error(values[key], told) for key, told in kept.items()}
    worst = max(errors, key=lambda key: errors[key])
    drawn = [_mean_error(values, kept, dict(zip(starts, names, strict=True))) for names in _namings(starts)]
    found = float(np.mean(list(errors.values())))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    taus = [kendalltau(group[predictor], group[measured]).statistic for group in groups.values() if len(group) > 1]
    return {
        "predictor": predictor, "sign_error": found, "worst": errors[worst],
        "worst_in": ", ".join(map(str, worst if isinstance(worst, tuple) else (worst,))),
        "tau": float(np.nanmean(taus)) if np.isfinite(taus).any() else math.nan,
        "low": low, "high": high, "p": float(np.mean(np.array(drawn) <= found + 1e-12)),
        "pooled": float(kendalltau(table[predictor], table[measured]).statistic),
        "pairs": sum(map(len, kept.values())), "environments": len(kept),
        "left_out": sum(left for _, left in pairs.values()),
    }  # fmt: skip


def _pairs(group: pd.DataFrame, measured: str, error: str, noise: float) -> tuple[list[tuple[str, str]], int]:
    """Pairs of starts, the more stable first, and how many are inside the noise; an unknown error is no noise."""
    told, left = list[tuple[str, str]](), 0
    values, errors = group[measured], group[error].fillna(0)
    for one, other in combinations(group.index, 2):
        difference = float(values[other] - values[one])
        if abs(difference) <= noise * math.hypot(errors[one], errors[other]):
            left += 1
        else:
            told.append((one, other) if difference > 0 else (other, one))
    return told, left


def _error(values: Mapping[Any, float], told: Sequence[tuple[str, str]]) -> float:
    """The share of pairs whose order the values reverse; equal or unknown ones count as half."""
    differences = np.array([values[less] - values[more] for more, less in told])
    return float(np.where(differences > 0, 0.0, np.where(differences < 0, 1.0, 0.5)).mean())


def _mean_error(
    values: Mapping[Any, Mapping[Any, float]], kept: Mapping[Any, list[tuple[str, str]]], names: Mapping[Any, str]
) -> float:
    renamed = {key: {names[start]: value for start, value in each.items()} for key, each in values.items()}
    return float(np.mean([
        _error({start: renamed[key].get(start, math.nan) for pair in told for start in pair}, told)
        for key, told in kept.items()
    ]))  # fmt: skip


def _namings(starts: Sequence[str]) -> Iterator[Sequence[str]]:
    if math.factorial(len(starts)) <= NAMINGS:
        yield from permutations(starts)
        return
    draw = np.random.default_rng(0)
    for _ in range(NAMINGS):
        yield draw.permutation(list(starts)).tolist()

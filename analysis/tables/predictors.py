"""Does a quantity that is known before training rank starts as their measured stability does?

Asked as the field asks it (Dziugaite et al. 2020, arXiv 2010.11924; Jiang et al. 2020, arXiv 1912.02178): an
environment is everything but the start (data set, attribute, m, c, seed, fold), and only its starts are compared.

    sign error  the share of pairs of starts that a predictor orders wrongly, its ties as half; 0.5 is a coin.
                Pairs whose measured values differ by less than their noise are left out.
    worst       the environment with the largest sign error
    tau         Kendall's tau between predictor and measured values, averaged over environments (granulated)
    p           the share of orders of the starts' names, alike in every environment, under which it errs as little;
                p_wrong of those under which it errs as much.  N starts have N! orders, and no p is below one of them
    resampled   from _low to _high: 95 % of the sign errors where `groups` of environments are drawn again, those that
                share all but m, c and fold, of these starts: it says nothing of others
    pooled      tau over all rows together: a trap, since it is mostly about m and c
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, wilcoxon

from analysis.tables.effect import LEVEL, percentiles, resampled

FEWEST_FORKS = 6  # of fewer no signed-rank test is below 5 %
_NOISE = 2.0  # standard errors of a difference
NAMINGS = 5040  # of so many starts' names (7) every order is tried, of more so many that are drawn
_TOGETHER = ("m", "share", "c", "fold")  # environments that differ in these alone are drawn again together
RANKED = [
    "predictor", "sign_error", "resampled_low", "resampled_high", "worst", "worst_in", "tau", "p", "p_wrong", "pooled",
    "pairs", "environments", "groups", "left_out", "untested",
]  # fmt: skip
_Errors = dict[tuple[Any, ...], float]  # the sign error in each environment


def rank_predictors(
    table: pd.DataFrame,
    predictors: Sequence[str],
    environment: Sequence[str],
    forks: Mapping[Any, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """One row per predictor, best first, with the columns `RANKED`; NaN where no pair of starts is told apart.

    Args:
        table: one row per start and environment: start, the columns of `environment`, `stability`, its standard error
            `error`, and the predictors (larger: less stable); rows without a stability are left out
        predictors: columns of the table; each is asked in the environments where it is known of two starts or more
        environment: columns in which two starts must agree to be compared
        forks: by environment a column per start of what its stability is the mean of, rows in pairs: two starts are
            then told apart by a signed-rank test at 5 %, since few forks make most of a mean and its error; where
            there are too few for it, pairs are `untested`.  Without them pairs nearer than _NOISE standard errors of
            their difference are left out

    Raises ValueError for a missing column, and a start that is twice in an environment.
    """
    wanted = ["start", *environment, "stability", "error", *predictors]
    if missing := [name for name in wanted if name not in table]:
        raise ValueError(f"the table has no column {', '.join(missing)}; it has {', '.join(map(str, table))}")
    table = table[table["stability"].notna()]
    if (twice := table.duplicated(["start", *environment])).any():
        raise ValueError(f"start {table.loc[twice, 'start'].iloc[0]!r} is twice in one environment: average it first")
    groups = {key: group.set_index("start") for key, group in table.groupby(list(environment), dropna=False)}
    paired = forks or {}
    pairs = {key: _pairs(group, paired.get(key)) for key, group in groups.items()}
    apart = [at for at, name in enumerate(environment) if name not in _TOGETHER]
    rows = []
    for name in predictors:
        own = {key: group for key, group in groups.items() if group[name].notna().sum() > 1}
        row = _ranked(own, {key: pairs[key] for key in own}, name, apart)
        taus = [_tau(group, name) for group in own.values()]
        row["tau"] = float(np.nanmean(taus)) if np.isfinite(taus).any() else math.nan
        row["pooled"] = _tau(table, name)
        rows.append(row)
    return pd.DataFrame(rows, columns=RANKED).sort_values(["sign_error", "worst"]).reset_index(drop=True)


def _ranked(
    groups: Mapping[Any, pd.DataFrame], pairs: Mapping[Any, _Pairs], name: str, apart: Sequence[int]
) -> dict[str, Any]:
    """What is said of one predictor."""
    kept = {key: each.told for key, each in pairs.items() if each.told}
    row: dict[str, Any] = {"predictor": name, "pairs": sum(map(len, kept.values())), "environments": len(kept)}
    row |= {of: sum(getattr(each, of) for each in pairs.values()) for of in ("left_out", "untested")}
    row["groups"] = len({tuple(key[at] for at in apart) for key in kept})
    if not kept:
        return row
    starts = sorted({start for group in groups.values() for start in group.index})
    namings = _namings(len(starts))
    every = {key: _errors(groups[key][name].reindex(starts), told, namings) for key, told in kept.items()}
    errors = {key: float(found[0]) for key, found in every.items()}
    worst = max(errors, key=lambda key: errors[key])
    drawn = np.mean(list(every.values()), axis=0)
    found = float(drawn[0])
    ends = percentiles(_drawn_again(errors, apart))
    return row | {
        "sign_error": found, "resampled_low": ends[0], "resampled_high": ends[1], "worst": errors[worst],
        "worst_in": ", ".join(map(str, worst)), "p": float(np.mean(drawn <= found + 1e-12)),
        "p_wrong": float(np.mean(drawn >= found - 1e-12)),
    }  # fmt: skip


def _drawn_again(errors: _Errors, apart: Sequence[int]) -> np.ndarray:
    """The mean over environments of each resample of them; those that agree in `apart` come and go together."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for key, value in errors.items():
        groups.setdefault(tuple(key[at] for at in apart), []).append(value)
    sums, counts = (np.array([of(group) for group in groups.values()]) for of in (sum, len))
    picks = resampled(len(groups))
    return np.asarray(sums[picks].sum(axis=1) / counts[picks].sum(axis=1))


def _tau(table: pd.DataFrame, name: str) -> float:
    """Kendall's tau of a predictor and stability, where it is known."""
    known = table[table[name].notna()]
    return float(kendalltau(known[name], known["stability"]).statistic) if len(known) > 1 else math.nan


@dataclass
class _Pairs:
    """Of an environment: pairs of starts, the more stable first, how many are inside the noise, how many not tested."""

    told: list[tuple[str, str]] = field(default_factory=list)
    left_out: int = 0
    untested: int = 0


def _pairs(group: pd.DataFrame, forks: pd.DataFrame | None) -> _Pairs:
    """An unknown error is no noise."""
    found, values, errors = _Pairs(), group["stability"], group["error"].fillna(0)
    for one, other in combinations(group.index, 2):
        difference = float(values[other] - values[one])
        each = forks[other] - forks[one] if forks is not None and {one, other} <= set(forks) else None
        sure = abs(difference) > _NOISE * math.hypot(errors[one], errors[other])
        if each is not None and each.notna().sum() < FEWEST_FORKS:
            found.untested += 1
        elif sure if each is None else _differ(each, difference):
            found.told.append((one, other) if difference > 0 else (other, one))
        else:
            found.left_out += 1
    return found


def _differ(each: pd.Series, difference: float) -> bool:
    """Whether the signed ranks of differences tell two starts apart, and lie on the side of the mean `difference`."""
    each = each[each.notna() & (each != 0)]
    if len(each) < FEWEST_FORKS:
        return False
    side = float((np.sign(each) * each.abs().rank()).sum())
    return bool(wilcoxon(each).pvalue <= 1 - LEVEL) and side * difference > 0


def _errors(values: pd.Series, told: Sequence[tuple[str, str]], namings: np.ndarray) -> np.ndarray:
    """Of each naming [N, starts] the share of pairs whose order the values reverse; equal or unknown ones are half."""
    known, place = values.to_numpy(float), {start: at for at, start in enumerate(values.index)}
    less, more = np.array([[place[start] for start in pair] for pair in told]).T
    with np.errstate(invalid="ignore"):  # two vacuous bounds
        differences = known[namings[:, more]] - known[namings[:, less]]
    return np.where(differences > 0, 0.0, np.where(differences < 0, 1.0, 0.5)).mean(axis=1)


def _namings(starts: int) -> np.ndarray:
    """Orders of the starts [N, starts], first the one that they have."""
    if math.factorial(starts) <= NAMINGS:
        return np.array(list(permutations(range(starts))))
    draw = np.random.default_rng(0)
    return np.array([np.arange(starts), *(draw.permutation(starts) for _ in range(NAMINGS))])

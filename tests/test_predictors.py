"""Ranking of predictors within environments: answers known by construction, and the trap of pooling."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis.tables.predictors import rank_predictors

STARTS = ["random", "source", "rotation", "context", "tatl"]
WITHIN = ["attribute", "m"]


def drawn(error: float = 0.0) -> pd.DataFrame:
    """Stability falls with m and differs between starts: `right` orders them, `wrong` reverses, `m_only` knows m."""
    rng, rows = np.random.default_rng(0), []
    for attribute in ("streaks", "globules"):
        for m in (30, 60, 100):
            for at, start in enumerate(STARTS):
                stability = (at + 1) / m
                rows.append({
                    "start": start, "attribute": attribute, "m": m, "stability": stability, "error": error / m,
                    "right": stability**2, "wrong": -stability, "m_only": 1 / m + 1e-6 * rng.normal(), "same": 1.0,
                })  # fmt: skip
    return pd.DataFrame(rows)


def test_the_right_one_is_first_and_the_reversed_one_last() -> None:
    ranked = rank_predictors(drawn(), ["wrong", "same", "right"], WITHIN).set_index("predictor")
    assert list(ranked.index) == ["right", "same", "wrong"]
    assert list(ranked["sign_error"]) == [0, 0.5, 1] and list(ranked["worst"]) == [0, 0.5, 1]
    assert ranked.loc["right", "tau"] == pytest.approx(1) and ranked.loc["wrong", "tau"] == pytest.approx(-1)
    assert ranked.loc["right", "p"] == pytest.approx(1 / math.factorial(5)) and ranked.loc["wrong", "p"] == 1
    assert (
        ranked.loc["wrong", "p_wrong"] == pytest.approx(1 / math.factorial(5)) and ranked.loc["right", "p_wrong"] == 1
    )
    assert (ranked["pairs"] == 60).all() and (ranked["environments"] == 6).all() and (ranked["left_out"] == 0).all()


def test_pooling_over_m_flatters_what_knows_nothing_of_starts() -> None:
    row = rank_predictors(drawn(), ["m_only"], WITHIN).iloc[0]
    assert row["pooled"] > 0.4 and row["p"] > 0.025


def test_pairs_within_their_noise_are_left_out() -> None:
    row = rank_predictors(drawn(error=0.6), ["right"], WITHIN).iloc[0]
    assert (row["pairs"], row["left_out"]) == (36, 24)  # neighbours differ by 1, less than 2 * hypot(.6, .6)


def test_noise_that_starts_share_hides_no_difference() -> None:
    """Forks that swing alike: pairs that plain errors leave out are told apart."""
    table, swing = drawn(error=0.6), np.array([-60.0, 1, 2, 3, 4, 5, 45])
    forks = {
        key: pd.DataFrame(
            {start: value + swing / key[1] for start, value in zip(part["start"], part["stability"], strict=True)}
        )
        for key, part in table.groupby(WITHIN)
    }
    row = rank_predictors(table, ["right"], WITHIN, forks=forks).iloc[0]
    assert (row["pairs"], row["left_out"], row["untested"]) == (60, 0, 0)
    few = {key: each.head(5) for key, each in forks.items()}
    row = rank_predictors(table, ["right"], WITHIN, forks=few).iloc[0]
    assert (row["pairs"], row["left_out"], row["untested"]) == (0, 0, 60)


def test_the_worst_environment_is_named() -> None:
    table = drawn()
    where = (table["attribute"] == "streaks") & (table["m"] == 60)
    table.loc[where, "right"] = -table.loc[where, "stability"]
    row = rank_predictors(table, ["right"], WITHIN).iloc[0]
    assert row["worst"] == 1 and row["worst_in"] == "streaks, 60" and row["sign_error"] == pytest.approx(1 / 6)


def test_starts_that_are_not_everywhere_and_unknown_values_are_borne() -> None:
    table = drawn()
    table = table[~((table["start"] == "tatl") & (table["m"] == 30))]
    table.loc[table["start"] == "context", "right"] = math.nan
    row = rank_predictors(table, ["right"], WITHIN).iloc[0]
    assert row["pairs"] == 2 * (6 + 10 + 10) and 0 < row["sign_error"] < 0.5


def test_tables_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(ValueError, match="no column gone"):
        rank_predictors(drawn(), ["gone"], WITHIN)
    with pytest.raises(ValueError, match="twice"):
        rank_predictors(drawn(), ["right"], ["attribute"])


def test_where_no_pair_is_told_apart_nothing_is_said() -> None:
    row = rank_predictors(drawn(error=1e3), ["right"], WITHIN).iloc[0]
    assert (row["pairs"], row["environments"], row["left_out"]) == (0, 0, 60)
    assert math.isnan(row["sign_error"]) and math.isnan(row["p"]) and math.isnan(row["p_wrong"])


def test_environments_without_the_predictor_are_not_asked() -> None:
    table = drawn()
    table.loc[table["attribute"] == "streaks", "right"] = math.nan
    row = rank_predictors(table, ["right"], WITHIN).iloc[0]
    assert (row["environments"], row["sign_error"]) == (3, 0)


def test_resamples_take_all_m_of_an_attribute_together() -> None:
    table = drawn()
    table.loc[table["attribute"] == "streaks", "right"] *= -1
    ranked = rank_predictors(table, ["right", "wrong"], WITHIN).set_index("predictor")
    assert ranked.loc["right", "sign_error"] == pytest.approx(0.5)
    assert tuple(ranked.loc["right", ["resampled_low", "resampled_high"]]) == (0, 1)  # two attributes, not six cells


def test_folds_share_training_images_and_are_drawn_again_together() -> None:
    table = pd.concat([drawn().assign(fold=fold) for fold in range(3)])
    row = rank_predictors(table, ["right"], [*WITHIN, "fold"]).iloc[0]
    assert (row["environments"], row["groups"]) == (18, 2)

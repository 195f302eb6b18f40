"""Measured stability beside its predictors: the join, the words, the verdict, and the page, by tables made up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest

from analysis.curvature.stability import bound
from analysis.pages.bound.stability import StabilityPage
from analysis.tables.bound.stability import (
    PREDICTORS,
    StabilityTables,
    beside_predictors,
    decided,
    ranks_text,
    stability_ranks,
)  # fmt: skip
from analysis.tables.claims import CONTRADICTED, SUPPORTED
from analysis.tables.effect import UNDECIDED
from analysis.tables.predictors import rank_predictors
from fake_stability import ATTRIBUTES, STARTS, frames, write

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "stability.ipynb"


def ranks(**how: object) -> pd.DataFrame:
    return frames(**how)["stability_ranks"]  # type: ignore[arg-type]


def test_the_bound_and_the_first_order_are_of_each_c_and_m() -> None:
    made = frames()
    table = beside_predictors(made["stability"], made["stability_predictors"])
    row = table[(table["m"] == 30) & (table["start"] == "tatl")].iloc[0]
    assert len(table) == len(made["stability"]) and row["risk"] == pytest.approx(0.5)
    assert row["bound"] == pytest.approx(bound(row["risk"], row["curvature"], 30, c=1.0, n=8).value)
    harmonic = sum(1 / t for t in range(1, 31))
    assert row["first_order"] == pytest.approx(1.0 * harmonic / 30 * row["gradient_noise"])
    assert table["path"].isna().all() and "path" not in set(made["stability_ranks"]["predictor"])


def test_rows_of_another_recipe_and_unknown_starts_are_borne() -> None:
    made = frames()
    odd = made["stability"].iloc[[0]].assign(c=np.nan)
    known = made["stability_predictors"].query("start != 'tatl'")
    table = beside_predictors(pd.concat([made["stability"], odd]), known)
    assert table["bound"].isna().sum() == 1 + (table["start"] == "tatl").sum()
    assert stability_ranks(made["stability"].iloc[:0], known).empty


def test_forks_that_starts_share_tell_pairs_apart() -> None:
    made = frames(error=2.0)
    stability, forks = made["stability"], made["stability_forks"]
    values = forks.merge(stability, on=["start", "attribute", "seed", "c", "m"])["stability"].to_numpy()
    alike = forks.assign(weight=1.0, fresh_difference=values, replaced_difference=values + forks["step"])
    known = made["stability_predictors"]
    plain, paired = (stability_ranks(stability, known, each) for each in (None, alike))
    assert plain["pairs"].max() < paired["pairs"].max() == 180


def test_the_best_is_named_first_and_the_trap_of_pooling_is_said() -> None:
    found = ranks()
    assert found["predictor"].iloc[0] == "first_order" and found["sign_error"].iloc[0] == 0
    assert (found["environments"] == 18).all() and (found["groups"] == 6).all()
    text = ranks_text(found)
    assert (
        "gradient noise (errs .00, at worst .00) ranks stability best" in text
        and "10 predictors" in text
        and "Pooled over m and c" in text
    )
    assert "No two starts differ" in ranks_text(ranks(error=1e3))


@pytest.mark.parametrize(
    ("how", "word", "needs"),
    [
        ({"right": "curvature"}, None, ""),
        ({"right": "gradient_noise"}, CONTRADICTED, ""),
        ({"error": 1e3}, UNDECIDED, "more forks"),
        ({"seeds": 1}, UNDECIDED, "5 attributes times seeds"),
    ],
)
def test_what_the_ranks_decide(how: dict[str, object], word: str | None, needs: str) -> None:
    found, said, lacking = decided(ranks(**how))
    assert (word is None or found == word) and needs in lacking and "by measured stability" in said


def decide(error: float, p: float, p_wrong: float, **others: float) -> str:
    """Of Eq. 6 and its baselines, whose errors may be given."""
    rows = [{"predictor": "bound", "sign_error": error, "resampled_low": 0, "resampled_high": 1, "p": p, "pairs": 9,
             "p_wrong": p_wrong, "groups": 6}]  # fmt: skip
    each = {"risk": 0.4, "first_order": 0.4} | others
    rows += [{"predictor": name, "sign_error": value, "pairs": 9} for name, value in each.items()]
    return decided(pd.DataFrame(rows))[0]


def test_eq_6_has_to_beat_chance_and_its_baselines() -> None:
    assert decide(0.1, 0.01, 0.99) == SUPPORTED
    assert decide(0.1, 0.06, 0.94) == UNDECIDED
    assert decide(0.1, 0.01, 0.99, risk=0.05) == UNDECIDED
    assert decide(0.9, 0.99, 0.02) == CONTRADICTED
    assert decide(0.9, 0.94, 0.06, risk=0.0) == UNDECIDED


def test_of_predictors_at_random_few_are_contradicted_or_supported() -> None:
    """Five starts keep one order in every environment, so that many environments are no evidence of their own."""
    rng, words = np.random.default_rng(0), Counter[str]()
    for _ in range(60):
        measured, guessed = rng.permutation(5), {name: rng.permutation(5) for name in ("bound", "risk", "first_order")}
        rows = [
            {"start": STARTS[at], "attribute": attribute, "seed": seed, "stability": measured[at], "error": 0.1}
            | {name: order[at] for name, order in guessed.items()}
            for attribute in ATTRIBUTES for seed in range(3) for at in range(5)
        ]  # fmt: skip
        words[decided(rank_predictors(pd.DataFrame(rows), list(guessed), ["attribute", "seed"]))[0]] += 1
    assert words[CONTRADICTED] <= 8 and words[SUPPORTED] <= 8


def test_tables_are_read_and_shown_at_one_c_and_m(tmp_path: Path) -> None:
    tables = StabilityTables.read(write(tmp_path))
    assert tables.starts == list(STARTS) and tables.attributes == list(ATTRIBUTES) and tables.c == 1
    assert set(tables.shown["m"]) == {100} and len(tables.points) == len(STARTS) * len(ATTRIBUTES)
    row = tables.points.iloc[0]
    assert row["stability"] == pytest.approx(2 / 100 * 1.1) and row["error"] == pytest.approx(0.002 / 3**0.5)
    assert "m = 30 and 100 training images, c = 0.01 and 1, 4 forks a pass" in tables.origin()
    fewer = StabilityTables.read(tmp_path, "streaks")
    assert (fewer["stability_ranks"]["environments"] == 9).all()
    with pytest.raises(FileNotFoundError, match=r"analysis\.stability"):
        StabilityTables.read(tmp_path / "none")


def test_every_predictor_has_a_name() -> None:
    assert set(ranks()["predictor"]) <= set(PREDICTORS)


def vacuous(made: dict[str, pd.DataFrame]) -> None:
    made["stability_predictors"] = made["stability_predictors"].assign(risk=1e-4, curvature=1e-4)


def diverged(made: dict[str, pd.DataFrame]) -> None:
    lost = ["stability", "error", "gap", "gap_error"]
    made["stability"] = made["stability"].assign(diverged_at=3.0, **dict.fromkeys(lost, np.nan))
    made["stability_forks"] = made["stability_forks"].assign(fresh_difference=np.nan)


def over_decades(made: dict[str, pd.DataFrame]) -> None:
    table = made["stability"]
    made["stability"] = table.assign(stability=table["stability"] * np.where(table["start"] == "source", -1e4, 1))


def unknown(made: dict[str, pd.DataFrame]) -> None:
    known = made["stability_predictors"]
    made["stability_predictors"] = known.assign(trace=np.nan, risk=known["risk"].where(known["start"] != "tatl"))


@pytest.mark.parametrize("change", [vacuous, diverged, over_decades, unknown])
def test_every_part_of_the_page_is_made_of_bad_tables_too(
    change: Callable[[dict[str, pd.DataFrame]], None], tmp_path: Path
) -> None:
    made = frames(seeds=2)
    change(made)
    made["stability_ranks"] = stability_ranks(made["stability"], made["stability_predictors"])
    page = StabilityPage.read(write(tmp_path, made))
    parts = (page.headline, page.figure, page.table, page.gap, page.recipe, page.forks, page.numbers, page.provenance)
    for part in parts:
        assert not re.search(r">[^<]*\b(nan|inf)\b[^<]*<", part().text)


def test_the_notebook_shows_the_figure_with_its_origin(tmp_path: Path) -> None:
    shown: dict[str, Any] = {"tables": str(write(tmp_path)), "attributes": "", "dataset": ""}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code" and cell.id != "parameters":
            lines, _, last = cell.source.rpartition("\n")
            exec(lines, shown)
            shown[cell.id] = eval(last, shown)
    text = shown["figure-figure"].text
    assert text.count("sign error") >= 10 and "c = 0.01 and 1" in text and "The phantom is not skin" in text
    assert "Pooled over m and c" in shown["ranks-table"].text


def test_the_recipe_is_shown_beside_one_pass(tmp_path: Path) -> None:
    made = frames()
    write(tmp_path, made)
    assert "not measured" in StabilityPage.read(tmp_path).recipe().text
    rows = made["stability"].query("c == 1 and m == 100 and seed == 0")[["start", "attribute", "gap", "gap_error"]]
    value = made["stability"].loc[rows.index, "stability"]
    recipe = rows.assign(runs=5, images=80, error=1e-6, stability=value.where(rows["attribute"] == "streaks", -value))
    recipe.to_csv(tmp_path / "stability_recipe.csv", index=False)
    assert "orders 50% of 20 pairs" in StabilityPage.read(tmp_path).recipe().text


def test_the_gap_is_what_training_opened(tmp_path: Path) -> None:
    made = frames()
    before = made["stability"].assign(gap_before=made["stability"]["gap"] - 0.5)
    tables = StabilityTables.read(write(tmp_path, made | {"stability": before}))
    assert tables.points["gap"].to_numpy() == pytest.approx(0.5)

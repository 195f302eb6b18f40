"""Ranks, the command that compares rows, and what it says of wrong tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from analysis.tables.ranks import ranks, run_compare
from tatl.studies.settings import StudyName


def folds(count: int = 10, gain: float = 0.05, noise: float = 0.02, attributes: int = 5) -> pd.DataFrame:
    """Three variants; `better` gains on `plain` whatever the fold's difficulty, `same` is `plain` again."""
    rng = np.random.default_rng(0)
    rows = []
    for attribute in [f"a{k}" for k in range(attributes)]:
        for fold in range(count):
            hard = rng.uniform(0.2, 0.7)
            scores = {"plain": hard, "better": hard + gain + rng.normal(0, noise), "same": hard}
            rows += [("mean", 0, fold, attribute, name, value, 4) for name, value in scores.items()]
    return pd.DataFrame(rows, columns=["shape", "seed", "fold", "attribute", "variant", "dice", "positives"])


def averaged(table: pd.DataFrame) -> pd.DataFrame:
    """The same with rows of the average over attributes, as studies write them."""
    by = table.groupby(["shape", "seed", "fold", "variant"], as_index=False)
    mean = by.agg(dice=("dice", "mean"), positives=("positives", "sum")).assign(attribute="average")
    return pd.concat([table, mean], ignore_index=True)


def test_ranks_over_attributes_and_their_critical_difference() -> None:
    table = ranks(folds())
    assert table["variant"].tolist()[0] == "better" and table["mean_rank"].tolist() == [1.0, 2.5, 2.5]
    # Demsar 2006, Table 5: q = 2.343 for three, and CD = q sqrt(k (k + 1) / (6 N)).
    assert table["critical"].iloc[0] == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 5)), rel=1e-3)
    assert table["friedman_p"].iloc[0] < 0.05 and not table["small"].any()
    few = ranks(folds(attributes=1))
    assert few["critical"].isna().all() and few["friedman_p"].isna().all() and few["small"].all()


def test_the_average_is_not_ranked() -> None:
    pd.testing.assert_frame_equal(ranks(averaged(folds())), ranks(folds()))


def without_positives() -> pd.DataFrame:
    """`a0` is not there in folds 0 and 1: `plain` predicts nothing (0/0 = 1), the others something (0)."""
    table = folds(8, attributes=2)
    absent = (table["attribute"] == "a0") & (table["fold"] < 2)
    table.loc[absent, "positives"] = 0
    table.loc[absent, "dice"] = (table.loc[absent, "variant"] == "plain").astype(float)
    return averaged(table)


def test_folds_without_a_positive_are_left_out_and_counted() -> None:
    ranked = ranks(without_positives())
    assert ranked["variant"].iloc[0] == "better" and (ranked["left_out"] == 2).all()


def test_an_attribute_without_any_positive_has_no_rank() -> None:
    table = folds(2, attributes=1).assign(positives=0)
    ranked = ranks(table)
    assert (
        (ranked["left_out"] == 2).all()
        and (ranked["attributes"] == 0).all()
        and ranked["mean_rank"].isna().all()
        and (ranked["wins"] == 0).all()
    )


def test_a_tie_for_the_first_rank_is_shared() -> None:
    """`plain` and `same` tie for it in all five attributes where `better` is worse."""
    ranked = ranks(folds(gain=-0.2)).set_index("variant")
    assert ranked["wins"].to_dict() == {"plain": 2.5, "same": 2.5, "better": 0}


WRONG: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "no rows": (lambda table: table.iloc[:0], "the table has no rows: give one that `python -m tatl study` wrote to"),
    "no variant": (lambda table: table.drop(columns="variant"), "lacks the column variant (it has shape, seed"),
    "no positives": (lambda table: table.drop(columns="positives"), "lacks the column positives (it has"),
    "twice": (
        lambda table: pd.concat([table, table.iloc[:2]]),
        "has 2 rows twice (first: variant plain, attribute a0, seed 0, fold 0): write it again",
    ),
    "words": (lambda table: table.assign(dice="good"), "has a cell that is no number"),
    "other shape": (lambda table: table.assign(shape="u"), "no shape 'mean': it has u"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_table_is_one_sentence(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = WRONG[wrong]
    change(folds(2)).to_csv(tmp_path / "paradigms_folds.csv", index=False)
    assert run_compare(["--study", "paradigms", "--tables", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["paradigms_folds.csv"]


def test_an_unknown_study_is_told_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_compare(["--study", "nope", "--tables", str(tmp_path)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert all(f"'{name}'" in said for name in get_args(StudyName)) and "tatl study nope" not in said


def test_help_names_every_option_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_compare(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("--study", "--tables", "--reference", "--score", "Example: python -m"))
    assert "{" + ",".join([*get_args(StudyName), "verdicts"]) + "}" in said


def test_wrong_input_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="lacks the columns fold"):
        ranks(folds().drop(columns="fold"))
    with pytest.raises(ValueError, match="no shape 'u'"):
        ranks(folds(), shape="u")
    assert run_compare(["--study", "paradigms", "--tables", str(tmp_path)]) == 2
    assert "paradigms_folds.csv is not there: `python -m tatl study paradigms` writes it" in capsys.readouterr().err
    assert run_compare(["--study", "paradigms", "--tables", str(tmp_path), "--score", "best"]) == 2
    assert "score 'best' is unknown: choose one of jaccard, dice" in capsys.readouterr().err
    folds(2).to_csv(tmp_path / "paradigms_folds.csv", index=False)
    assert run_compare(["--study", "paradigms", "--tables", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "paradigms_images.csv.gz is not there" in said and "left out" not in said
    assert {path.name for path in tmp_path.iterdir()} == {"paradigms_folds.csv", "paradigms_ranks.csv"}
    without_positives().to_csv(tmp_path / "paradigms_folds.csv", index=False)
    assert run_compare(["--study", "paradigms", "--tables", str(tmp_path)]) == 0
    assert "note: 2 times a test fold shows no positive of an attribute" in capsys.readouterr().out

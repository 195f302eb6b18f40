"""Paired differences, ranks, and what small samples must not be made to say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import main, paired, ranks


def folds(count: int = 10, gain: float = 0.05, noise: float = 0.02, attributes: int = 5) -> pd.DataFrame:
    """Three variants; `better` gains on `plain` whatever the fold's difficulty, `same` is `plain` again."""
    rng = np.random.default_rng(0)
    rows = []
    for attribute in [f"a{k}" for k in range(attributes)]:
        for fold in range(count):
            hard = rng.uniform(0.2, 0.7)
            scores = {"plain": hard, "better": hard + gain + rng.normal(0, noise), "same": hard}
            rows += [("mean", 0, fold, attribute, name, value) for name, value in scores.items()]
    return pd.DataFrame(rows, columns=["shape", "seed", "fold", "attribute", "variant", "dice"])


def test_pairs_see_through_the_difficulty_of_folds() -> None:
    table = paired(folds(), "plain").set_index(["attribute", "variant"])
    assert len(table) == 5 * 2
    for k in range(5):
        better, same = table.loc[(f"a{k}", "better")], table.loc[(f"a{k}", "same")]
        assert better["low"] < 0.05 < better["high"] and better["low"] > 0 and better["p"] < 0.01
        assert (better["wins"], better["losses"], better["pairs"], better["small"]) == (10, 0, 10, False)
        assert (same["difference"], same["ties"], same["p"]) == (0, 10, 1.0)


def test_a_difference_turned_round_is_its_negative() -> None:
    one, other = paired(folds(), "plain"), paired(folds(), "better")
    forth = one.query("variant == 'better'")["difference"].to_numpy()
    back = other.query("variant == 'plain'")["difference"].to_numpy()
    np.testing.assert_allclose(forth, -back)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_few_pairs_have_no_interval_and_no_test(count: int) -> None:
    table = paired(folds(count), "plain")
    assert table["low"].notna().all() == (count >= 3) and table["p"].notna().all() == (count >= 6)
    assert (table["small"] == (count < 6)).all() and table["difference"].notna().all()


def test_ranks_over_attributes_and_their_critical_difference() -> None:
    table = ranks(folds())
    assert table["variant"].tolist()[0] == "better" and table["mean_rank"].tolist() == [1.0, 2.5, 2.5]
    # Demsar 2006, Table 5: q = 2.343 for three, and CD = q sqrt(k (k + 1) / (6 N)).
    assert table["critical"].iloc[0] == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 5)), rel=1e-3)
    assert table["friedman_p"].iloc[0] < 0.05 and not table["small"].any()
    few = ranks(folds(attributes=1))
    assert few["critical"].isna().all() and few["friedman_p"].isna().all() and few["small"].all()


def test_the_average_is_compared_but_not_ranked() -> None:
    table = folds()
    mean = (
        table.groupby(["shape", "seed", "fold", "variant"], as_index=False)["dice"].mean().assign(attribute="average")
    )
    both = pd.concat([table, mean])
    assert "average" in set(paired(both, "plain")["attribute"])
    pd.testing.assert_frame_equal(ranks(both), ranks(table))


def test_wrong_input_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="reference 'best' is not there: choose one of plain, better, same"):
        paired(folds(), "best")
    with pytest.raises(ValueError, match="lacks the columns fold"):
        paired(folds().drop(columns="fold"), "plain")
    with pytest.raises(ValueError, match="no shape 'u'"):
        ranks(folds(), shape="u")
    assert main(["--study", "paradigms", "--tables", str(tmp_path)]) == 2
    assert "make it with `python -m tatl study paradigms`" in capsys.readouterr().err
    folds(2).to_csv(tmp_path / "paradigms_folds.csv", index=False)
    assert main(["--study", "paradigms", "--tables", str(tmp_path)]) == 0
    assert "note: fewer than 6 pairs" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {f"paradigms_{x}.csv" for x in ("folds", "pairs", "ranks")}

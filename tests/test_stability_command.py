"""`python -m analysis.stability` on a toy: from nothing to tables, again after a stop, and on wrong input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.measure.commands import run_command
from analysis.measure.stability.command import measure_stability
from analysis.measure.stability.passes import PassWorker
from analysis.measure.stability.protocol import drawn_by_share
from analysis.tables.bound.stability import STABILITY_COLUMNS, StabilityTables
from tatl.data.store import Store

FAST = ["--preset", "smoke", "--shapes", "link", "--workers", "1", "--device", "cpu", "--forks", "4"]
STARTS = ["--init", "random,tatl", "--attribute", "disc", "--c", ".05"]


def run(store: Store, *words: str, tables: str = "tables") -> int:
    return run_command(
        measure_stability, "analysis.stability", ["--store", str(store.path), "--tables", tables, *FAST, *words]
    )


def read(folder: str | Path, name: str = "stability") -> pd.DataFrame:
    return pd.read_csv(Path(folder) / f"{name}.csv")


@pytest.fixture(scope="module")
def measured(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two starts were measured."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(toy_store, *STARTS) == 0
    return folder


def test_tables_are_tidy_and_starts_paired(measured: Path) -> None:
    table, forks = read(measured / "tables"), read(measured / "tables", "stability_forks")
    assert table.groupby("start")["share"].agg(list).to_dict() == {"random": [30, 60, 100], "tatl": [30, 60, 100]}
    assert table["m"].nunique() == 3 and (table["data"] == "toy").all() and table["diverged_at"].isna().all()
    assert (table["positive"] < table["m"]).all() and table["positive"].max() > 0
    assert (table[["low", "high"]].mean(axis=1) - table["stability"]).abs().max() < 1e-12
    np.testing.assert_allclose(table["gap"], table["held_risk"] - table["train_risk"])
    assert (table["moved_relative"] > 0).all() and (table["train_risk"] < table["risk_before"]).all()
    drawn = {
        start: part[["m", "step", "replaced", "fresh"]].to_numpy().tolist() for start, part in forks.groupby("start")
    }
    assert drawn["random"] == drawn["tatl"] and len(drawn["tatl"]) == table[table["start"] == "tatl"]["forks"].sum()
    assert not set(forks["fresh"]) & set(forks["replaced"])
    for _, row in table.iterrows():
        part = forks[(forks["start"] == row["start"]) & (forks["m"] == row["m"])]
        each = part["weight"] * part["fresh_difference"]
        assert row["stability"] == pytest.approx(each.mean()) and (part["step"] <= row["m"]).all()
        assert np.isnan(row["error"]) or row["error"] == pytest.approx(each.std() / np.sqrt(len(each)))


def test_a_stop_loses_the_cell_in_progress_alone(
    measured: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One record is lost, of the other the end of its line: both come again as they were, and then nothing does."""
    monkeypatch.chdir(measured)
    first, second = sorted(Path("runs/toy/stability").glob("*.jsonl"))
    kept = first.read_bytes(), second.read_bytes()
    first.unlink()
    second.write_bytes(kept[1][:-20])
    assert run(toy_store, *STARTS, tables="again") == 0
    assert (first.read_bytes(), second.read_bytes()) == (kept[0], kept[1][:-20] + kept[1])
    with monkeypatch.context() as patch:
        patch.setattr(PassWorker, "__call__", lambda *_: pytest.fail("a pass is taken again"))
        assert run(toy_store, *STARTS, tables="again") == 0
    for name in ("stability", "stability_forks"):
        assert Path(f"again/{name}.csv").read_bytes() == Path(f"tables/{name}.csv").read_bytes()

    def stopped(self: PassWorker, task: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(PassWorker, "__call__", stopped)
    assert run(toy_store, *STARTS, "--forks", "3", tables="b") == 130  # another J is another cell
    assert run(toy_store, *STARTS, "--c", ".06", tables="b") == 130
    assert capsys.readouterr().err.count("the same command goes on from here") == 2


def test_a_c_that_diverges_is_said_and_the_rest_kept(
    measured: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(measured)
    assert run(toy_store, *STARTS, "--c", ".05,1e38", tables="far") == 0
    table = read("far").set_index("c")
    far = table.loc[1e38]
    assert far["diverged_at"].notna().all() and far["stability"].isna().all() and far["risk_before"].notna().all()
    assert table.loc[0.05]["stability"].tolist() == read("tables")["stability"].tolist()
    assert f"diverged at step {far['diverged_at'].iloc[0]:.0f}" in capsys.readouterr().out


def test_the_largest_stable_c_is_one_for_all_starts(
    measured: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(measured)
    monkeypatch.setattr("analysis.measure.stability.tables.GRID", (1e38, 0.05))
    assert run(toy_store, *STARTS, "--c", "largest", tables="largest") == 0
    table = read("largest")
    assert (table["c"] == 0.05).all() and table["stability"].tolist() == read("tables")["stability"].tolist()


def test_fresh_images_are_each_as_likely_and_show_the_attribute_by_its_share() -> None:
    rng, images, present = np.random.default_rng(0), np.arange(10, 30), np.arange(40) % 10 == 0
    counts = np.zeros(40)
    for _ in range(2000):
        drawn = drawn_by_share(images, present, 10, rng)
        assert present[drawn].sum() == 1 and len(set(drawn)) == 10
        counts[drawn] += 1
    np.testing.assert_allclose(counts[images], 1000, atol=100)


def test_predictors_are_measured_beside_the_passes_that_are_there(
    measured: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(measured)
    monkeypatch.setattr(PassWorker, "__call__", lambda *_: pytest.fail("a pass is taken again"))
    assert run(toy_store, *STARTS, "--predictors", tables="predicted") == 0
    known, ranks = read("predicted", "stability_predictors"), read("predicted", "stability_ranks")
    assert known["start"].tolist() == ["random", "tatl"] and {"bound", "risk", "first_order"} <= set(ranks["predictor"])
    about, said = json.loads(Path("predicted/stability.json").read_text()), capsys.readouterr().out.splitlines()
    assert about["forks"] == 4 and about["c"] == ".05" and about["seeds"] == [0] and about["question"]["sources"] == 4
    assert said[-1] == "next: python -m analysis.report --study stability --tables predicted"
    assert run(toy_store, *STARTS, tables="predicted") == 0  # what a command without predictors may not leave beside it
    assert "is removed" in capsys.readouterr().out and not Path("predicted/stability_predictors.csv").exists()


def test_starts_are_compared_within_each_of_several_folds(
    measured: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(measured)
    assert run(toy_store, *STARTS, "--predictors", "--folds", "0,1", tables="splits") == 0
    table, known, forks = (read("splits", name) for name in STABILITY_COLUMNS)
    for frame in (table, known, forks):
        assert frame.groupby("fold")["start"].agg(set).to_dict() == {0: {"random", "tatl"}, 1: {"random", "tatl"}}
    alone = read("tables")
    pd.testing.assert_frame_equal(table[table["fold"] == 0].reset_index(drop=True)[list(alone)], alone)
    taken = {fold: set(part["replaced"]) for fold, part in forks.groupby("fold")}
    assert not {*forks.loc[forks["fold"] == 0, "fresh"]} & taken[0] and taken[0] != taken[1]
    told = StabilityTables.read("splits")
    assert len(told.shown) == 4 and len(told.points) == 2 and told["stability_ranks"]["environments"].max() <= 6
    assert "fold 0 and 1 of 3" in told.origin() and "passes" in capsys.readouterr().out


def test_the_recipe_is_compared_over_folds(
    measured: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every image is left out of one training of three and, but for those that stopped it early, in the others."""
    monkeypatch.chdir(measured)
    words = ["--init", "random", "--attribute", "disc", "--c", ".05", "--recipe"]
    assert run(toy_store, *words, "--folds", "0,1,2", tables="recipe") == 0
    images, (row,) = read("recipe", "stability_recipe_images"), read("recipe", "stability_recipe").to_dict("records")
    assert row["runs"] == 3 and row["images"] == len(images) > 20 and set(images["with_runs"]) <= {1, 2}
    assert (images["without_runs"] == 1).all() and row["gap"] == pytest.approx(row["held_risk"] - row["train_risk"])
    np.testing.assert_allclose(images["memorised"], images["without"] - images["with"])
    assert row["stability"] == pytest.approx(images["memorised"].mean(), abs=0.1 * images["memorised"].std())
    assert row["data"] == "toy" and "the recipe" in capsys.readouterr().out


def test_plan_writes_nothing(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folds in ("0", "0,1"):
        assert run(toy_store, *STARTS, "--folds", folds, "--plan") == 0
        said, count = capsys.readouterr().out, len(folds.split(","))
        assert f"{count} runs: 0 are there" in said and f"{2 * count} passes of m up to" in said
        assert f"starts to measure, those of every seed and fold counted: {2 * count}\n" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--forks", "200"], "200 forks"),
        (["--images", "4"], "4 forks of a pass over m = "),
        (["--images", "500"], "500 training images"),
        (["--c", "0"], "c '0' scales"),
        (["--c=-1,.1"], "c '-1' scales"),
        (["--c", ","], "c ',' is empty"),
        (["--shares", "0"], "percentages"),
        (["--shares", "half"], "shares 'half'"),
        (["--init", "nowhere"], "start 'nowhere'"),
        (["--recipe"], "give --folds 0,1,2"),
    ],
)
def test_wrong_input_is_one_sentence(
    measured: Path, toy_store: Store, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(measured)
    extra = ["--forks", "6"] if words[0] == "--images" else []
    assert run(toy_store, *STARTS, *words, *extra, tables="wrong") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and said.replace("4 forks", "6 forks") in error and not Path("wrong").exists()

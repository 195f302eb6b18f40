"""Was a row trained long enough, and against what?  The rule of `still_falling`, curves over all steps, the words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.pages.studies.backbones import Backbones
from analysis.pages.studies.convergence import Convergence
from analysis.pages.studies.crop import Crop
from analysis.pages.studies.data_size import DataSize
from analysis.pages.studies.page import StudyPage
from analysis.pages.studies.paradigms import Paradigms
from analysis.tables.study import StudyTables
from fake_comparison import write
from tatl.studies.pace import ending, mean_curves, not_trained_out, thinned

KEYS = {"variant": "tatl", "shape": "link", "seed": 0, "fold": 0, "attribute": "dot", "split": "validation"}


def history(*losses: float, **other: object) -> pd.DataFrame:
    """Validations every 10 steps, the first before any."""
    rows = [{**KEYS, "before": 0, "epoch": max(i - 1, 0), "step": 10 * i, "loss": v} for i, v in enumerate(losses)]
    return pd.DataFrame(rows).assign(**other)


def test_a_loss_that_falls_to_its_end_is_still_falling() -> None:
    found = ending(history(0.9, 0.8, 0.7, 0.6, 0.5))
    assert found == {"best_last": 1, "fall": pytest.approx(1.0), "still_falling": 1}  # 0.1 in 10 steps
    plateau = ending(history(0.9, 0.5, 0.42, 0.39, 0.41, 0.40, 0.41))
    assert (plateau["best_last"], plateau["still_falling"]) == (0, 0)
    last_worse = ending(history(0.9, 0.80, 0.79, 0.70, 0.61, 0.50, 0.41, 0.30, 0.31))  # of the last four, not the best
    assert (last_worse["best_last"], last_worse["still_falling"]) == (0, 1) and last_worse["fall"] > 0
    assert ending(history(0.9, 0.8)) == {"best_last": 1, "fall": pytest.approx(np.nan, nan_ok=True), "still_falling": 1}
    assert np.isnan(ending(history(0.9))["still_falling"])


def test_a_plateau_is_seldom_called_falling() -> None:
    noise = np.random.default_rng(0).normal(0.4, 0.02, (400, 13))
    assert 1 / 12 < np.mean([ending(history(*losses))["still_falling"] for losses in noise]) < 0.25


def test_more_than_half_of_the_networks_make_a_row_that_is_not_trained_out() -> None:
    table = pd.DataFrame({"still_falling": [0.0, 0.5, 0.6, np.nan]})
    assert not_trained_out(table).tolist() == [False, False, True, False]
    assert not not_trained_out(table.drop(columns="still_falling")).any()


def test_a_run_that_stopped_keeps_its_last_loss() -> None:
    curves = pd.concat([history(0.9, 0.5, 0.3, before=20), history(0.7, 0.3, attribute="disc", before=20)])
    found = mean_curves(curves, ["variant"])
    assert found["loss"].tolist() == pytest.approx([0.8, 0.4, 0.3]) and found["before"].tolist() == [20] * 3
    assert found["step"].tolist() == [0, 10, 20] and found["loss_std"].iloc[-1] == 0


def test_a_curve_goes_on_where_runs_of_other_lengths_stop() -> None:
    """Of two pretexts and paces the means stay, whichever of the two ends first."""
    long = history(0.9, 0.5, 0.3, 0.2, before=10)
    short = history(0.9, 0.4, before=50, attribute="disc").assign(step=lambda t: t["step"] * 3)
    found = mean_curves(pd.concat([long, short]), ["variant"])
    assert found["before"].tolist() == [30] * 4 and found["step"].tolist() == [0, 20, 40, 60]
    assert found["loss"].tolist() == pytest.approx([0.9, 0.45, 0.35, 0.3])


def test_a_table_of_curves_stays_small_and_keeps_both_ends() -> None:
    many = pd.concat([history(*np.linspace(1, 0, 41), fold=fold) for fold in range(100)])
    few = thinned(many, ["variant", "seed", "fold"])
    ends = few.groupby("fold")["step"].agg(["min", "max"])
    assert len(few) <= 3000 and set(ends["min"]) == {0} and set(ends["max"]) == {400}
    assert thinned(few, ["variant", "seed", "fold"]) is few


def trained(folder: Path, long: float) -> Path:
    """Paradigms of which tatl took 120 steps and source 45, and source-long is `long` above source."""
    write(folder, "paradigms", starts=("tatl", "source", "source-long"))
    (folder / "paradigms_images.csv.gz").unlink()  # then differences are those of the table
    for path in (folder / "paradigms.csv", folder / "paradigms_folds.csv"):
        table = pd.read_csv(path)
        steps = table["variant"].map({"tatl": 120, "source": 45, "source-long": 120})
        rows = pd.factorize(table["attribute"])[0]  # no two attributes took as long
        dice = table["variant"].map({"tatl": 0.5, "source": 0.4, "source-long": 0.4 + long})
        falling = (table["variant"] == "source").astype(float)
        table = table.assign(steps=45, steps_in_all=steps + rows % 3, seconds_in_all=9.0 + rows, still_falling=falling)
        table.assign(dice=dice).to_csv(path, index=False)
    return folder


@pytest.mark.parametrize("long", [0.05, 0.15])
def test_a_gain_is_told_with_what_as_many_steps_reach(long: float, tmp_path: Path) -> None:
    page = Paradigms.read(str(trained(tmp_path, long)))
    headline = page.headline().text
    assert "in 122 steps against 47" in headline and f"source-long it is {0.1 - long:+.3f}" in headline
    assert ("steps alone may make it" in headline) == (long > 0.1)
    assert "Rows took 47 to 122 steps in all. Not trained out: 1 of 3 rows" in headline
    table = page.table().text
    assert "source †" in table and "tatl †" not in table and "not trained out" in table
    assert "steps in all" in table and "seconds in all" in table
    assert ">122<" in page.controls().text


@pytest.mark.parametrize("kind", [Paradigms, Crop, Backbones, DataSize, Convergence])
def test_the_table_of_every_study_says_what_rows_took(kind: type[StudyPage], tmp_path: Path) -> None:
    write(tmp_path, kind.study, attributes=("globules", "streaks"))
    for path in (tmp_path / f"{kind.study}.csv", tmp_path / f"{kind.study}_folds.csv"):
        took = {"steps": 45, "images_in_all": 960, "steps_in_all": 120, "seconds_in_all": 177, "still_falling": 0.6}
        pd.read_csv(path).assign(**took).to_csv(path, index=False)
    made = kind.read(str(tmp_path))
    assert "Not trained out" in made.headline().text and "Rows took" not in made.headline().text
    table = made.table().text  # type: ignore[attr-defined]
    for word in ("steps in all", "images in all", "seconds in all", ">120<", ">960<", ">177<", "†", "not trained out"):
        assert word in table, word


def test_without_a_row_of_equal_steps_the_page_says_so(tmp_path: Path) -> None:
    folder = trained(tmp_path, 0.0)
    for path in folder.glob("paradigms*.csv"):
        pd.read_csv(path).query("variant != 'source-long'").to_csv(path, index=False)
    assert "no source-long was measured" in Paradigms.read(str(folder)).headline().text


def test_tables_of_earlier_versions_have_no_marks(tmp_path: Path) -> None:
    (write(tmp_path, "paradigms") / "paradigms_curves.csv").unlink()
    page = Paradigms.read(str(tmp_path))
    assert "†" not in page.table().text + page.controls().text and "trained with" not in page.table().text
    assert "Not trained out" not in page.headline().text and "against" not in page.headline().text
    assert "paradigms_curves.csv" in page.learning().text


def test_an_average_of_some_attributes_is_one_row_however_long_each_took(tmp_path: Path) -> None:
    folder = trained(tmp_path, 0.0)
    part = StudyTables.read("paradigms", folder, Paradigms.own, attributes="globules,streaks")
    assert part.average["variant"].tolist() == ["tatl", "source", "source-long"]
    alone = part.measured[part.measured["attribute"].isin(["globules", "streaks"])].groupby("variant")
    assert part.average["seconds_in_all"].to_dict() == alone["seconds_in_all"].mean().to_dict()

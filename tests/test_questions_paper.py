"""Published numbers stand beside the rows that they are of, and what is inferred is said."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_questions import edit, head

from analysis.pages.studies import convergence as pace
from analysis.pages.studies.backbones import Backbones
from analysis.pages.studies.convergence import Convergence
from analysis.pages.studies.costs import BackboneCosts
from analysis.pages.studies.crop import Crop
from analysis.pages.studies.data_size import DataSize
from analysis.pages.studies.paradigms import Paradigms
from fake_comparison import write
from tatl.names import BACKBONE_STARTS

SAME = {"data": "isic2018", "cases": 2594, "source": "imagenet"}


def row(html: str, *labels: str) -> str:
    """The row of a shown table with these labels."""
    (found,) = [
        each
        for each in re.findall(r"<tr.*?</tr>", html, flags=re.DOTALL)
        if all(re.search(rf"<th[^>]*>{label}</th>", each) for label in labels) and "<td" in each
    ]
    return str(found)


def test_the_papers_tatl_stands_beside_the_row_with_the_crop(tmp_path: Path) -> None:
    page = Paradigms.read(str(write(tmp_path, "paradigms", shapes=("u", "link"), **SAME)))
    paper = page.published().set_index(["variant", "shape"])["dice"]
    assert paper["stage123", "u"] == 0.471 and paper["stage123", "link"] == 0.475 and paper["source", "u"] == 0.422
    assert "tatl" not in paper.index.get_level_values("variant")
    html = page.table().text
    empty = [len(re.findall(r"<td[^>]*></td>", row(html, name))) for name in ("tatl", "stage123")]
    assert empty == [8, 0]  # published, difference
    assert "0.471" in row(html, "stage123") and "0.475" in row(html, "stage123")
    assert "most probably it is with Stage 1&#x27;s crop (inferred)" in page.origin().text


def test_no_difference_is_taken_of_the_papers_tatl_on_other_backbones(tmp_path: Path) -> None:
    page = Backbones.read(str(write(tmp_path, "backbones", shapes=("u", "link"), **SAME)))
    six = page.table6().set_index(["backbone", "start", "shape", "attribute"])["dice"]
    assert six["efficientnet-b0", "tatl", "u", "average"] == 0.471
    assert six["efficientnet-b0", "tatl", "link", "streaks"] == 0.393
    assert set(six.xs("tatl", level="start").index.get_level_values("backbone")) == {"efficientnet-b0"}
    html = page.table().text
    assert "Dice, Table 6, u" in head(html) and "Dice, Table 8, link" in head(html) and "difference" in head(html)
    signs = {
        start: len(re.findall(r">[+-]0\.\d{3}<", row(html, "streaks", "densenet169", start)))
        for start in BACKBONE_STARTS
    }
    assert signs == {"source": 3, "tatl-freeze": 0, "tatl": 0}
    assert "most probably sees Stage 1&#x27;s crop (inferred), these rows see whole images" in page.origin().text


def test_table_5_gives_no_data_set_and_so_no_difference(tmp_path: Path) -> None:
    page = Crop.read(str(write(tmp_path, "crop", **SAME)))
    origin = page.origin().text
    assert "data set not given by the table (0.387 at 40 px is ISIC 2017&#x27;s average" in origin
    assert "have no Stage 2" in origin and "Published: isic2018" not in origin
    assert "difference" not in head(page.table().text) and "0.387" in page.table().text


def test_the_winners_of_table_7_stand_below_ours(tmp_path: Path) -> None:
    cost = Backbones.read(str(write(tmp_path, "backbones"))).cost.table
    html = BackboneCosts(cost, "here", "").parameters().text
    assert "308,747,840" in html and "14,780,929" in html and ">0<" not in html
    own = cost.iloc[:1].assign(backbone="vgg16", shape="isic2017-winner", parameters=14_780_930)
    four = [cost.iloc[:1].assign(backbone=f"b{i}", shape="pyramid", parameters=80_000_000) for i in range(4)]
    html = BackboneCosts(pd.concat([cost, own, *four]), "here", "").parameters().text
    assert "320,000,000" in html and "+11,252,160" in html and ">+1<" in html


def test_costs_name_the_store_and_that_images_are_drawn(tmp_path: Path) -> None:
    page = Backbones.read(str(write(tmp_path, "backbones")))
    for section in (page.cost.figure, page.cost.numbers):
        assert "drawn images of the size of the store phantom-quick" in section().text


def curves(**scores: list[float]) -> pd.DataFrame:
    """Validation losses of one run per start: the score at steps 10, 20, ..."""
    rows = [
        {"variant": name, "shape": "u", "seed": 0, "fold": 0, "attribute": "streaks", "epoch": i, "step": 10 * (i + 1),
         "split": "validation", "loss": 1 - value}
        for name, values in scores.items()
        for i, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_start_that_learns_little_is_not_fast() -> None:
    """By its own best score `random` is there at once; to what source reaches it never comes."""
    made = curves(source=[0.1, 0.4, 0.5], tatl=[0.3, 0.5, 0.6], random=[0.1, 0.1, 0.1])
    found = pace.reaching(made, "source").set_index("variant")
    assert found["goal"].unique() == pytest.approx([0.45])
    assert found["steps"].to_dict() == {"source": 30, "tatl": 20, "random": pytest.approx(np.nan, nan_ok=True)}
    table = pace.over_runs(found.reset_index())
    assert pace.sure(table).loc["streaks"].to_dict() == pytest.approx(
        {"source": 30, "tatl": 20, "random": np.nan}, nan_ok=True
    )
    assert table.set_index("variant")["words"].to_dict() == {"source": "30", "tatl": "20", "random": ""}
    assert pace.reaching(made, "nobody").empty
    assert pace.reaching(made[:0], "source").empty


def test_steps_to_the_reference_are_those_of_the_table(tmp_path: Path) -> None:
    """The rule was written twice."""
    study = Convergence.read(str(write(tmp_path, "convergence")))
    keys = ["variant", "shape", "seed", "fold", "attribute"]
    found = pace.reaching(study.curves, "source").set_index(keys).sort_index()
    table = study.pace.dropna(subset=["goal"]).set_index(keys).sort_index()  # the union has no reference
    assert len(found) and found["steps"].to_dict() == pytest.approx(table["steps_to_goal"].to_dict(), nan_ok=True)
    assert found["goal"].to_dict() == pytest.approx(table["goal"].to_dict())


def test_the_page_and_the_table_have_one_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tatl.studies.pace._first", lambda part, goal: 7.0)
    assert set(pace.reaching(curves(source=[0.5], tatl=[0.6]), "source")["steps"]) == {7.0}


def test_runs_that_do_not_all_get_there_are_counted() -> None:
    two = pd.concat([curves(source=[0.5], tatl=[0.6]), curves(source=[0.5], tatl=[0.1]).assign(fold=1)])
    table = pace.over_runs(pace.reaching(two, "source"))
    assert table.set_index("variant")["words"]["tatl"] == "10 (1 of 2 runs)"
    assert np.isnan(pace.sure(table).loc["streaks", "tatl"])


def test_the_page_leads_with_steps_to_what_the_reference_reaches(tmp_path: Path) -> None:
    study = Convergence.read(str(write(tmp_path, "convergence")))
    assert "To 90 % of source&#x27;s best score" in study.headline().text
    html = study.table().text
    assert "score before the first step" in html and "0 is there before any" in html and "taken as 0" not in html
    older = replace(study, curves=study.curves[study.curves["step"] > 0])  # of runs whose start was not looked at
    assert ">0.050<" in html and ">0.050<" not in older.table().text
    assert "steps to 90 % of source's best" in head(html) and "steps to 90 % of its own best" in head(html)
    assert "To 90 % of tatl&#x27;s best score" in study.reached("tatl").text
    assert "nobody has no validation loss" in study.reached("nobody").text


@pytest.mark.parametrize("folds", [1, 5])
def test_one_fold_decides_nothing(folds: int, tmp_path: Path) -> None:
    paradigms = Paradigms.read(str(write(tmp_path / "p", "paradigms", folds=folds)))
    sizes = DataSize.read(str(write(tmp_path / "d", "data-size", folds=folds)))
    for html in [paradigms.headline().text, sizes.advantage().text]:
        assert "95 % interval" in html and ("needs more than one fold" in html) == (folds == 1)
    words = set(paradigms.differences("source")["word"])
    assert (words == {"undecided"}) == (folds == 1)


def test_every_share_keeps_the_whole_validation_part(tmp_path: Path) -> None:
    page = DataSize.read(str(write(tmp_path, "data-size")))
    assert "The validation part, for early stopping, stays whole at every share." in page.origin().text


def test_ties_for_the_first_rank_are_shared(tmp_path: Path) -> None:
    folder = write(tmp_path, "paradigms", starts=("tatl", "source"))
    html = Paradigms.read(str(edit(folder, lambda frame: frame.assign(dice=0.5)))).ranks().text
    assert html.count("2.5 attributes") == 2

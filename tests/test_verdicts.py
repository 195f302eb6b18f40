"""Words for claims follow from intervals by the rule that is printed, and what cannot be told is undecided."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fake_bound
import fake_comparison
import fake_stability
import fake_study
from analysis.pages.studies.verdicts import Verdicts
from analysis.tables.bound.findings import EXPLAINS, LOWEST
from analysis.tables.claims import (
    CLAIMS,
    CONTRADICTED,
    NOT_MEASURED,
    SUPPORTED,
    Claim,
    Comparison,
    Finding,
    _unequal,
    weights,
)  # fmt: skip
from analysis.tables.effect import UNDECIDED, Effect, without_images
from analysis.tables.evidence import RARER, checked, contrast
from analysis.tables.judgement import DataSet, data_sets, judged
from analysis.tables.ranks import run_compare

SURE = Effect(0.05, 0.03, 0.07, 0.02, 0.08, 0.01, 0.01, groups=60, positives=40, folds=5, seeds=2)
BEATS, ALIKE = Claim("beats", "paradigms", (("a", "b"),)), Claim("alike", "paradigms", (("a", "b"),), same=True)
SENTENCES = {claim.sentence for claim in CLAIMS}


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.tables.evidence.RESAMPLES", 200)


def at(low: float, high: float, **more: Any) -> Effect:
    ends = {"low": low, "high": high, "folds_low": low, "folds_high": high}
    return replace(SURE, difference=(low + high) / 2, **{**ends, **more})


def of(effect: Effect, claim: Claim = BEATS, unequal: str = "") -> Comparison:
    return Comparison(claim, "a - b", {"dot": effect}, unequal)


@pytest.mark.parametrize(
    ("effect", "word", "needs"),
    [
        (SURE, SUPPORTED, ""),
        (at(-0.08, -0.01), CONTRADICTED, ""),
        (at(-0.01, 0.08), UNDECIDED, "more groups, folds and seeds"),
        (replace(SURE, folds_low=-0.01), UNDECIDED, "groups"),  # one of two intervals is not enough
        (replace(SURE, folds=1), UNDECIDED, "more than one fold"),
        (replace(SURE, seeds=1), SUPPORTED, ""),
        (replace(SURE, folds=4, seeds=1), UNDECIDED, "5 trainings"),
        (replace(SURE, folds=2, seeds=2), UNDECIDED, "5 trainings"),
        (replace(SURE, groups=19), UNDECIDED, "20 groups of images"),
        (replace(SURE, positives=0), UNDECIDED, "an image that shows it"),
        (replace(SURE, folds_low=np.nan, folds_high=np.nan), UNDECIDED, "more than one fold"),
        (without_images(0.3), UNDECIDED, "a table of images"),
    ],
)
def test_the_word_follows_from_the_interval(effect: Effect, word: str, needs: str) -> None:
    found = judged(BEATS, [of(effect)])
    assert found.word == word and (needs in found.needs if needs else not found.needs)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(-0.019, 0.019, SUPPORTED), (-0.021, 0.019, UNDECIDED), (0.001, 0.019, SUPPORTED),
     (-0.09, -0.021, CONTRADICTED), (0.021, 0.09, CONTRADICTED), (0.01, 0.03, UNDECIDED)],
)  # fmt: skip
def test_about_as_good_is_within_two_points(low: float, high: float, word: str) -> None:
    found = judged(ALIKE, [of(at(low, high), ALIKE)])
    assert found.word == word and bool(found.needs) == (word == UNDECIDED)


def test_more_steps_support_nothing_alone() -> None:
    """TATL's steps are Stage 2's and Stage 3's: a row with Stage 3's alone is no proof that Stage 2 helps."""
    claim = replace(BEATS, pairs=(("tatl", "source"), ("tatl", "source-long")))
    fair, longer = of(SURE), of(at(0.06, 0.09), unequal="at unequal steps")
    assert judged(BEATS, [longer]).word == UNDECIDED and "as many steps" in judged(BEATS, [longer]).needs
    assert judged(claim, [longer, fair]).word == SUPPORTED
    assert judged(claim, [longer]).needs == "the rows source and source-long and a row of as many steps"
    assert judged(claim, [longer, of(at(-0.01, 0.02))]).word == UNDECIDED
    worse = judged(claim, [longer, of(at(-0.05, -0.02))])
    assert worse.word == CONTRADICTED and worse.said.startswith("least of 2: -3.5 (-5.0 to -2.0) a - b")
    assert judged(BEATS, [of(at(-0.05, -0.02), unequal="at unequal steps")]).word == CONTRADICTED


def test_attributes_without_a_common_fold_are_not_told_by_the_first() -> None:
    parted = Comparison(BEATS, "a - b", {"dot": SURE, "veil": at(-0.3, -0.2)})
    found = judged(BEATS, [parted])
    assert found.word == UNDECIDED and found.needs == "a fold that all attributes have" and np.isnan(found.difference)


def test_textures_say_nothing_of_imagenet() -> None:
    claim = replace(BEATS, source="imagenet")
    assert judged(claim, [of(SURE)], "imagenet").word == SUPPORTED
    assert judged(claim, [of(SURE)], "textures") == judged(claim, [of(SURE)], "")
    assert judged(claim, [of(SURE)], "textures").needs == "--source imagenet"


def test_rows_of_every_study_add_up_to_the_difference() -> None:
    assert weights("variants", "stage23", "stage3-long|stage3", ["stage3", "stage23"]) == {"stage23": 1, "stage3": -1}
    assert weights("variants", "stage23", "stage3-long|stage3", ["stage3-long", "stage3"]) == {}
    shares = ["tatl 100 %", "tatl 40 %", "tatl 15 %", "source 100 %", "source 40 %"]
    lost = {"tatl 40 %": 1, "tatl 100 %": -1, "source 40 %": -1, "source 100 %": 1}
    assert weights("data-size", "tatl", "source", shares) == lost
    longer = {name.replace("source", "source-long"): weight for name, weight in lost.items()}
    assert weights("data-size", "tatl", "source-long|source", [*shares, *longer]) == longer
    assert weights("data-size", "tatl", "source-long|source", shares) == lost
    assert weights("data-size", "tatl", "source", ["tatl 100 %", "source 100 %"]) == {}
    rows = ["u 10 px", "u 0 px", "unet 10 px", "unet 0 px", "segnet 20 px", "segnet 0 px"]
    margin = {"u 10 px": 0.5, "unet 10 px": 0.5, "u 0 px": -0.5, "unet 0 px": -0.5}
    assert weights("crop", "40 px", "0 px", rows, "96x128") == margin
    assert weights("crop", "40 px", "0 px", rows) == {}


def areas(gains: dict[str, float], shown: dict[str, float], groups: int = 60, seeds: int = 2) -> pd.DataFrame:
    """Rows tatl and source on two attributes or more, of which a share of the images shows each."""
    draw, parts = np.random.default_rng(0), []
    for attribute, gain in gains.items():
        there = np.arange(groups) % round(1 / shown[attribute]) == 0
        for seed in range(seeds):
            hit = 0.4 + draw.normal(0, 0.05, groups)
            for row, more in (("tatl", gain), ("source", 0.0)):
                own = np.clip(hit + more, 0, 1) * there
                parts.append(pd.DataFrame({
                    "variant": row, "shape": "mean", "seed": seed, "fold": np.arange(groups) // 2 % 5,
                    "image": [f"i{k}" for k in range(groups)], "group": [f"g{k}" for k in range(groups)],
                    "attribute": attribute, "tp": own, "fp": there - own, "fn": there - own,
                }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(("rare", "word"), [(0.3, SUPPORTED), (0.0, CONTRADICTED), (0.15, UNDECIDED)])
def test_whether_rare_attributes_gain_most(rare: float, word: str) -> None:
    gains = {"common": 0.15, "usual": 0.15, "rare": rare}
    frame = areas(gains, {"common": 1.0, "usual": 0.5, "rare": 0.25})
    effects = contrast(checked(frame), {"tatl": 1, "source": -1})
    assert effects[RARER].difference == pytest.approx(rare - 0.15, abs=0.02) and effects[RARER].positives == 15
    claim = replace(BEATS, of=RARER)
    assert judged(claim, [Comparison(claim, "tatl - source", effects)]).word == word


def test_a_difference_of_differences_is_weighted() -> None:
    frame = areas({"dot": 0.2}, {"dot": 1.0})
    more = frame.assign(variant=frame["variant"] + " 40 %")
    both = pd.concat([frame, more])
    none = contrast(checked(both), {"tatl": 1, "tatl 40 %": -1, "source": -1, "source 40 %": 1})["dot"]
    assert none.difference == pytest.approx(0) and none.low == pytest.approx(0) and none.folds_high == pytest.approx(0)


@pytest.mark.parametrize("groups", [1, 4])
def test_fewer_groups_than_folds_decide_nothing(groups: int) -> None:
    """Each group is one image here, so that some folds have none."""
    few = contrast(checked(areas({"dot": 0.3}, {"dot": 1.0}, groups)), {"tatl": 1, "source": -1})["dot"]
    assert few.groups == groups and few.word == UNDECIDED and few.difference > 0.2
    assert "groups" in few.needs or "fold" in few.needs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every study with five folds and two seeds, of ImageNet; and the bound."""
    made = tmp_path_factory.mktemp("made") / "reports" / "leaf" / "tables"
    about: dict[str, Any] = {"store_name": "leaf", "source": "imagenet", "store_digest": "3f9a11c0d2"}
    fake_study.write(made, folds=5, variants=(*fake_study.VARIANTS, "stage3-long"), **about)
    for study in ("paradigms", "crop", "data-size"):
        fake_comparison.write(made, study, folds=5, seeds=2, **about)
    fake_bound.write(made, **about)
    return made


def words(found: DataSet) -> dict[str, Finding]:
    return {finding.claim: finding for finding in found.findings}


def test_every_claim_has_a_word_on_whole_tables(folder: Path) -> None:
    (found,) = data_sets([folder])
    assert set(words(found)) == {*SENTENCES, LOWEST, EXPLAINS}
    assert NOT_MEASURED not in {finding.word for finding in found.findings}
    assert words(found)["TATL beats self-supervision"].word == SUPPORTED  # the made-up starts fall by 0.01 each
    assert words(found)["TATL beats ImageNet"].word == SUPPORTED
    assert words(found)["Stage 2 helps, whole images"].word == CONTRADICTED  # of one seed in five folds
    assert found.title == "leaf, imagenet, quick, 96x128, folds x seeds 5 x 1 and 5 x 2"
    for comparisons in found.comparisons.values():
        for each in comparisons:
            assert each.claim.of == RARER or f"of {len(each.single)} attribute" in each.said


def test_the_bound_is_lowest_only_with_two_seeds(folder: Path, tmp_path: Path) -> None:
    (found,) = data_sets([folder])
    many = words(found)[LOWEST]
    fake_bound.write(tmp_path, seeds=1)
    (other,) = data_sets([tmp_path])
    one = words(other)[LOWEST]
    assert many.word == SUPPORTED and "number 1 of 3" in many.said and "times source's" in many.said
    assert one.word == UNDECIDED and "a second seed" in one.needs
    assert words(other)[EXPLAINS].word == NOT_MEASURED  # Dice of these starts was not
    (single,) = data_sets([tmp_path], "streaks")
    assert words(single)[LOWEST].word == UNDECIDED and "1 attribute" in words(single)[LOWEST].said
    path = tmp_path / "bound.csv"
    pd.read_csv(path).iloc[:0].to_csv(path, index=False)
    with pytest.raises(FileNotFoundError, match="holds no study"):
        data_sets([tmp_path])


def test_bounds_that_order_starts_as_dice_does_explain_it(folder: Path) -> None:
    (found,) = data_sets([folder])
    bound = found.bound
    assert bound
    columns = [f"ratio_{over}_{end}" for over in ("images", "seeds") for end in ("low", "high")]
    for start, below in (("tatl", SUPPORTED), ("random", CONTRADICTED)):  # random's Dice is below source's
        average = bound.average[bound.average["start"].isin([start, "source"])].copy()
        average.loc[average["start"] == start, columns] = 0.5
        given = replace(found, bound=replace(bound, average=average))
        assert words(given)[EXPLAINS].word == below


def test_measured_stability_decides_whether_the_bound_explains(folder: Path, tmp_path: Path) -> None:
    """It is read beside the bound, of the attributes asked for, and alone."""
    both = shutil.copytree(folder, tmp_path / "both")
    about = {"source": "imagenet", "store_digest": "3f9a11c0d2"}
    fake_stability.write(both, **about)
    (found,) = data_sets([both])
    finding = words(found)[EXPLAINS]
    assert finding.word == CONTRADICTED and finding.study == "stability" and "by measured stability" in finding.said
    (fewer,) = data_sets([both], "streaks")
    assert words(fewer)[EXPLAINS].word == UNDECIDED and "5 attributes" in words(fewer)[EXPLAINS].needs
    (both / "stability_predictors.csv").unlink()  # without --predictors
    (plain,) = data_sets([both])
    assert words(plain)[EXPLAINS].study == "bound"
    (alone,) = data_sets([fake_stability.write(tmp_path / "alone", **about)])
    assert words(alone)[EXPLAINS].word == CONTRADICTED and words(alone)[LOWEST].word == NOT_MEASURED


def test_tables_of_two_stores_in_a_folder_are_two_data_sets(folder: Path, tmp_path: Path) -> None:
    fake_study.write(tmp_path, folds=2)
    fake_comparison.write(tmp_path, "paradigms", folds=2, store_digest="other", store_name="other")
    one, other = data_sets([tmp_path])
    twins = data_sets([fake_study.write(tmp_path / name / "tables") for name in ("here", "there")])
    assert [each.title.split(", ")[5] for each in twins] == ["here", "there"]
    assert words(one)["TATL beats ImageNet"].word == NOT_MEASURED
    assert words(other)["The crop helps"].word == NOT_MEASURED and other.title.startswith("other, ")


def test_old_tables_have_differences_and_no_word(tmp_path: Path) -> None:
    fake_comparison.write(tmp_path, "paradigms", folds=5, seeds=2, source="imagenet")
    (tmp_path / "paradigms_images.csv.gz").unlink()
    (found,) = data_sets([tmp_path])
    told = words(found)["TATL beats self-supervision"]
    assert told.word == UNDECIDED and "a table of images" in told.needs and "attributes" in told.said


WRONG: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "an area": (lambda f: f.assign(tp=f["tp"].where(f.index > 0)), "images without an area or a group"),
    "a group": (lambda f: f.assign(group=f["group"].where(f.index > 0)), "images without an area or a group"),
    "a number": (lambda f: f.assign(tp="much"), "has a cell that is no number"),
    "a column": (lambda f: f.drop(columns="group"), "lacks the column group"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_images_without_what_they_need_are_refused(wrong: str, tmp_path: Path) -> None:
    change, message = WRONG[wrong]
    path = fake_comparison.write(tmp_path, "paradigms", folds=2) / "paradigms_images.csv.gz"
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(ValueError, match=message):
        _ = data_sets([tmp_path])[0].findings


def test_a_broken_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no study: `python -m tatl study` writes one"):
        data_sets([tmp_path])
    path = fake_comparison.write(tmp_path, "paradigms") / "paradigms_images.csv.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"paradigms_images\.csv\.gz is not a CSV table"):
        _ = data_sets([tmp_path])[0].findings
    with pytest.raises(ValueError, match="attribute streakz is not in"):
        data_sets([tmp_path], "streakz")


@pytest.mark.parametrize("broken", ["paradigms.json", "paradigms.csv", "paradigms_images.csv.gz"])
def test_a_neighbour_that_is_just_written_is_left_out(
    folder: Path, tmp_path: Path, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_comparison.write(tmp_path, "paradigms", folds=5, seeds=2, source="imagenet")
    whole = (tmp_path / broken).read_bytes()
    middle = len(whole) // 2
    (tmp_path / broken).write_bytes(whole[:middle] + bytes(40) + whole[middle + 40 :] if "gz" in broken else b"{")
    assert [each.folder for each in data_sets([folder, tmp_path])] == [folder]
    assert "left out" in capsys.readouterr().err
    with pytest.raises(ValueError, match=broken):
        _ = data_sets([tmp_path])[0].findings


def test_unequal_steps_are_said_where_they_were_written(tmp_path: Path) -> None:
    fake_study.write(tmp_path, folds=2)
    table, folds = (pd.read_csv(tmp_path / f"variants{kind}.csv") for kind in ("", "_folds"))
    falling = table["variant"].map({"stage3": 0.6, "stage23": 0.5})
    table.assign(still_falling=falling).to_csv(tmp_path / "variants.csv", index=False)
    steps = folds["variant"].map({"stage3": 45, "stage23": 120, "stage13": 75, "stage123": 78})
    steps[(folds["variant"] == "stage13") & (folds["fold"] == 1)] = 20  # patience ended these
    folds.assign(steps_in_all=steps).to_csv(tmp_path / "variants_folds.csv", index=False)
    said = {name: finding.said for name, finding in words(data_sets([tmp_path])[0]).items()}
    assert said["Stage 2 helps, whole images"].count("unequal") == 1
    assert said["Stage 2 helps, whole images"].endswith("at unequal steps (120 against 45), stage3 not trained out")
    assert "unequal" not in said["Stage 2 helps, on the crop"]  # 4 % more
    assert said["The crop helps"].endswith("at unequal steps (75 against 45), stage3 not trained out")


def test_shares_of_data_are_compared_by_the_steps_of_all_of_it(tmp_path: Path) -> None:
    rows = [f"{start} {share} %" for start, share in product(("tatl", "source"), (100, 40))]
    folds = pd.DataFrame({"variant": rows, "steps_in_all": [80, 32, 40, 40]})
    tables: Any = SimpleNamespace(study="data-size", folds=folds)
    assert _unequal(tables, weights("data-size", "tatl", "source", rows)) == "at unequal steps (80 against 40)"


def test_the_page_has_a_column_a_data_set_and_links(folder: Path) -> None:
    quick = folder.parents[1] / "quick" / "tables"
    fake_comparison.write(quick, "paradigms")
    page = Verdicts.read(str(quick))
    table = page.table().text
    assert 'href="paradigms.html">undecided</a>' in table and 'href="../leaf/variants.html"' in table
    assert "14 claims, on phantom-quick" in page.headline().text and "lies above zero" in table
    assert "<svg" in page.forest().text and page.details().text.count("<details>") == 2
    assert len(Verdicts.read(f"{quick},{folder}").sets) == 2 and len(Verdicts.read(str(folder)).sets) == 2
    some = Verdicts.read(str(quick), attributes="streaks", dataset="drawn")
    assert "globules" not in some.details().text and some.sets[0].title.startswith("drawn, ")


def test_the_command_writes_the_words_and_prints_markdown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_compare(["--study", "verdicts", "--tables", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| claim | leaf, imagenet") and lines[1].startswith("| --- | --- |")
    assert len([line for line in lines if line.startswith("|")]) == 16 and "](" not in "".join(lines)
    written = pd.read_csv(folder / "verdicts.csv").set_index(["claim", "study"])["word"]
    assert SUPPORTED in set(written["TATL beats self-supervision"]) and len(written) % 14 == 0
    sure = pd.read_csv(folder / "verdicts.csv").query("word == 'supported' and low == low")
    assert len(sure) and (sure["low"] > 0).all() and (sure["low"] <= sure["difference"]).all()

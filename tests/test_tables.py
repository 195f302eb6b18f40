"""The page of the variants: measured stand beside published, nothing is lost, nothing is invented."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.pages.gallery.page import Gallery
from analysis.pages.studies.variants import Variants, draw_cases
from analysis.pages.theme import markers, palette
from analysis.tables import words as text
from analysis.tables.effect import Effect, without_images
from analysis.tables.paper import PAPER_CASES, beside_table2, published, read_paper
from analysis.tables.study import FOLD_COLUMNS, ROW_KEYS, SCORE_COLUMNS, StudyTables
from fake_study import ISIC, VARIANTS, WINNERS, write
from tatl.data.store import Store
from tatl.run import in_order
from tatl.studies.examples import gallery
from tatl.studies.planner import Planner
from tatl.studies.settings import Settings


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made and not rendered."""
    monkeypatch.setattr("analysis.pages.html._saved", lambda drawn, kind, **how: b"<svg >")


def variants(folder: Path, **about: Any) -> Variants:
    return Variants.read(str(write(folder, **about)))


def change(folder: Path, name: str, **columns: Any) -> Path:
    path = folder / name
    pd.read_csv(path).assign(**columns).to_csv(path, index=False)
    return folder


def test_measured_and_published_meet_row_by_row(tmp_path: Path) -> None:
    table = variants(tmp_path).merged().set_index(["attribute", "variant"])
    assert len(table) == (len(ISIC) + 1) * (len(VARIANTS) + 1)
    assert table.loc[("streaks", "stage123"), "published_dice"] == 0.401
    measured = pd.read_csv(tmp_path / "variants.csv").set_index(["shape", "attribute", "variant"])
    assert table.loc[("streaks", "stage123"), "dice"] == measured.loc[("mean", "streaks", "stage123"), "dice"]
    assert table["dice"].notna().sum() == (len(ISIC) + 1) * len(VARIANTS)


def head(text: str) -> str:
    return text.partition("</thead>")[0]


def cells(text: str, *labels: str) -> list[str]:
    """What stands in the row of a shown table that begins with these labels."""
    for row in re.findall(r"<tr.*?</tr>", text, flags=re.DOTALL):
        if [*re.findall(r"<th[^>]*>(.*?)</th>", row)] == [*labels]:
            return re.findall(r"<td[^>]*>(.*?)</td>", row)
    raise AssertionError(f"no row {labels}")


@pytest.mark.parametrize("data", ["isic2018", "isic2017"])
def test_difference_is_taken_on_the_papers_data_and_only_there(tmp_path: Path, data: str) -> None:
    names = ISIC if data == "isic2018" else [name for name in ISIC if name != "globules"]
    same = variants(tmp_path / "same", data=data, cases=PAPER_CASES[data][0], attributes=names)
    row = same.merged().set_index(["attribute", "variant"]).loc[("streaks", "stage123")]
    shown = cells(same.attribute_table().text, "streaks *", "stage123")
    assert shown[5] == f"{row['dice'] - row['published_dice']:+.3f}" and shown[4].startswith(
        f"{row['published_dice']:.3f}"
    )
    other = variants(tmp_path / "other", data="phantom")
    assert (
        "difference" not in head(other.attribute_table().text) and "published, other data" in other.average_table().text
    )
    assert other.merged()["published_dice"].notna().any()


@pytest.mark.parametrize("data, cases", [("isic2017", 600), ("isic2018", 100), ("isic2018", None)])
def test_a_part_of_the_papers_data_is_not_the_papers_data(tmp_path: Path, data: str, cases: int | None) -> None:
    """The 600 test images of ISIC 2017 are no five-fold study of its 2000."""
    made = variants(tmp_path, data=data, cases=cases, source="imagenet", enrich=False)
    assert made.tables.reference == data and made.tables.theirs_cell == "published, other cases"
    assert made.merged()["published_dice"].notna().any()
    told = f"part of ISIC {data[4:]} ({cases or 'an unknown number of'} images)"
    assert f"measured is {told}: no difference is taken." in made.origin().text
    assert "difference" not in head(made.average_table().text)
    assert not any(variants(tmp_path / str(n), data=data, cases=n).tables.part for n in PAPER_CASES[data])


def test_the_winners_meet_their_published_rows(tmp_path: Path) -> None:
    """Measured and published are one row, and what is said of shapes is of the rows that have them."""
    names = (*VARIANTS, *WINNERS)
    made = variants(tmp_path, data="isic2018", cases=2594, variants=names, shapes=("u", "link"))
    table = made.merged().set_index(["attribute", "variant"])
    assert len(table) == (len(ISIC) + 1) * len(names)
    assert table.loc[("streaks", "isic2018-winner"), "published_dice"] == 0.27
    assert np.isnan(table.loc[("streaks", "isic2017-winner"), "published_dice"])
    assert "ISIC 2018 winner" in made.average_table().text and "1st" not in made.attribute_table().text
    assert f"of {len(VARIANTS)} variants." in made.shapes().text
    own = made.origin().text
    assert "isic2017-winner is isic2017-winner-vgg16" in own
    assert "isic2018-winner is the average of pyramid-resnet152, pyramid-densenet169" in own
    assert "networks of their own" not in variants(tmp_path / "five").origin().text


@pytest.mark.parametrize(
    "name, keys",
    [("variants.csv", ROW_KEYS), ("variants_folds.csv", ("variant", "shape", "seed", "fold", "attribute"))],
)
def test_a_row_that_is_there_twice_is_named(tmp_path: Path, name: str, keys: tuple[str, ...]) -> None:
    write(tmp_path)
    frame = pd.read_csv(tmp_path / name)
    pd.concat([frame, frame.iloc[[3]].assign(dice=0.1)]).to_csv(tmp_path / name, index=False)
    row = ", ".join(str(frame.iloc[3][key]) for key in keys)
    with pytest.raises(ValueError, match=rf"{name} has the row {row} twice: write it again with `python -m tatl"):
        StudyTables.read("variants", tmp_path)


def test_some_attributes_alone_have_an_average_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, folds=3)
    some = Variants.read(str(tmp_path), attributes="streaks, globules", dataset="drawn on Monday")
    table = some.tables.measured.set_index(["attribute", "variant"])
    two = [("streaks", "stage3"), ("globules", "stage3")]
    assert table.loc[("average", "stage3"), "dice"] == pytest.approx(table.loc[two, "dice"].mean())
    assert some.tables.attributes == ["globules", "streaks"] and some.tables.bit("streaks") == 32
    assert "drawn on Monday, 240 cases" in some.origin().text
    shown = Gallery.read(tmp_path, 1, "streaks,globules")
    assert shown.attributes == ["globules", "streaks"] and shown.found.shape[1] == 2
    assert sum(bool(axes.images) for axes in draw_cases(shown).axes) == 5
    with pytest.raises(ValueError, match=r"attribute streakz is not in .*variants\.csv: choose of pigment_network"):
        Variants.read(str(tmp_path), attributes="streakz")


def test_averages_over_other_attributes_have_no_difference(tmp_path: Path) -> None:
    few = variants(tmp_path, data="isic2018", cases=2594, attributes=("streaks", "globules"))
    assert "difference" not in head(few.average_table().text)
    shown = few.attribute_table().text
    assert cells(shown, "average", "stage3")[5] == "" and re.match(r"[+-]", cells(shown, "globules", "stage3")[5])
    assert "average is over 5 attributes, the measured one over 2" in few.origin().text


def test_averages_carry_micro_and_image_means(tmp_path: Path) -> None:
    made = variants(tmp_path)
    measured = made.tables.measured.set_index(["variant", "attribute"])
    row = cells(made.average_table().text, "stage13")
    micro, average = measured.loc[("stage13", "micro")], measured.loc[("stage13", "average")]
    found = [average["jaccard"], average["dice"], micro["jaccard"], micro["dice"]]
    assert [row[0], row[2], row[4], row[5]] == [f"{value:.3f}" for value in found] and row[3].startswith("0.401")
    assert row[6] == f"{average['image_dice']:.3f}"


def test_counts_are_table_2(tmp_path: Path) -> None:
    table = beside_table2(variants(tmp_path).tables.counts).set_index("mask")
    assert table.loc["streaks", "isic2018_present"] == 100 and table.loc["streaks", "isic2017_rate"] == 7.98
    assert np.isnan(table.loc["globules", "isic2017_present"])
    assert np.allclose(table["rate"], 100 * table["present"] / table["known"])
    unknown = beside_table2(variants(tmp_path).tables.counts.assign(present=0, known=0))
    assert unknown["rate"].isna().all()


def test_differences_are_those_of_all_test_images(tmp_path: Path) -> None:
    made = variants(tmp_path, folds=3)
    areas = made.tables.images
    pooled = areas[areas["attribute"] == "streaks"].groupby("variant")[["tp", "fp", "fn"]].sum()
    dice = 2 * pooled["tp"] / (2 * pooled["tp"] + pooled["fp"] + pooled["fn"])
    row = made.differences("stage3").set_index(["attribute", "variant"]).loc[("streaks", "stage123")]
    assert row["difference"] == pytest.approx(dice["stage123"] - dice["stage3"]) and row["folds"] == 3
    assert "stage123 minus stage3 is " in made.average().text and "95 % interval" in made.average().text


def test_tables_that_keep_no_images_have_differences_without_an_interval(tmp_path: Path) -> None:
    write(tmp_path, folds=3)
    (tmp_path / "variants_images.csv.gz").unlink()
    made = Variants.read(str(tmp_path))
    average = made.tables.average["dice"]
    found = made.minus("stage123", "stage3")
    assert found.difference == pytest.approx(average["stage123"] - average["stage3"]) and np.isnan(found.low)
    assert "(undecided, needs a table of images)" in made.headline().text and made.differences("stage3").empty
    some = made.tables.only(["streaks"])
    assert "undecided" in Variants(some, made.lesions).headline().text


def test_one_fold_has_no_spread_and_says_so(tmp_path: Path) -> None:
    one, five = variants(tmp_path / "1"), variants(tmp_path / "5", folds=5)
    assert one.tables.measured["dice_std"].isna().all() and "no spread can be given" in one.origin().text
    assert "±" not in one.headline().text
    assert five.headline().text.count("±") == 2 and "5 trainings" in five.origin().text


def test_sentences_follow_the_table(tmp_path: Path) -> None:
    """The same sentences, of tables that say the opposite."""
    write(tmp_path)
    for best, worst in (("stage3", "stage123"), ("stage123", "stage3")):
        frame = pd.read_csv(tmp_path / "variants.csv")
        level = frame["variant"].map({best: 0.9, worst: 0.1}).fillna(0.5)
        frame.assign(dice=level).to_csv(tmp_path / "variants.csv", index=False)
        made = Variants.read(str(tmp_path))
        assert f"highest for {best} (0.900) and lowest for {worst} (0.100)" in made.headline().text
        assert f"{best} is highest for 5 of 5 attributes" in made.attributes().text
    tied = Variants.read(str(change(tmp_path, "variants.csv", dice=0.5)))
    assert "are equal for 5 of 5 attributes" in tied.attributes().text and "equal for" in tied.headline().text


def test_highest_and_lowest_with_ties() -> None:
    values = pd.Series({"a": 0.1, "b": 0.7, "c": 0.7, "d": np.nan})
    assert text.extremes(values) == "highest for b and c (0.700) and lowest for a (0.100)"
    assert text.extremes(values[["a"]], pd.Series({"a": 0.02})) == "0.100 ± 0.020 for a alone"
    assert text.extremes(values[["b", "c"]]) == "equal for b and c (0.700)"
    assert text.extremes(values[["d"]]) == "not known"


def test_a_difference_says_its_interval_and_what_would_decide() -> None:
    found = Effect(0.07, 0.01, 0.13, 0.02, 0.15, 0.02, 0.01, groups=50, positives=30, folds=5, seeds=2)
    assert text.difference(found) == "+0.070 (95 % interval +0.010 to +0.150)"
    wide = replace(found, folds_low=-0.01, spread_training=0.02)
    assert "-0.010 to +0.150, undecided, needs more groups, folds and seeds together" in text.difference(wide)
    some = replace(found, difference=0.065, low=-0.02, high=0.15, folds_low=0.03, folds_high=0.10, spread_images=0.04)
    assert re.search(r"-0.020 to \+0.150, undecided, needs \d+ groups", text.difference(some))
    assert "undecided, needs more than one fold" in text.difference(replace(found, folds=1))
    assert text.difference(without_images(0.07)) == "+0.070 (undecided, needs a table of images)"
    assert text.difference(without_images(np.nan)) == "not measured"


def test_k_of_n_with_ties() -> None:
    table = pd.DataFrame({"a": [0.1, 0.9, 0.3], "b": [0.2, 0.8, 0.3]})
    assert text.wins(table) == "a and b are each highest for 2 of 3 attributes, 1 of them tied"
    assert text.wins(table[:1]) == "b is highest for 1 of 1 attribute"
    assert text.wins(table[:1], "fastest", lowest=True, noun="run") == "a is fastest for 1 of 1 run"
    assert text.wins(table[2:]) == "a and b are equal for 1 of 1 attribute"


def test_the_page_says_what_the_data_are_not(tmp_path: Path) -> None:
    phantom = variants(tmp_path / "a").origin().text
    for part in ("phantom", "240 cases at 96x128", "enriched", "textures", "quick", "seed 0", "fold 0 of 5"):
        assert part in phantom
    assert "phantom is not skin" in phantom and "textures is not ImageNet" in phantom and "other data" in phantom
    real = variants(tmp_path / "b", data="isic2018", cases=2594, source="imagenet", enrich=False).origin().text
    assert "not" not in real and "other data" not in real


@pytest.mark.parametrize("number", [1, 4, 15])
def test_any_attributes_work_in_any_number(tmp_path: Path, number: int) -> None:
    names = tuple(f"finding {i} of <another> organ" for i in range(number))
    made = variants(tmp_path, attributes=names, data="manifest", store_name="retina")
    assert made.tables.attributes == list(names) and made.tables.reference == ""
    assert made.merged()["published_dice"].isna().all()
    assert "Published" not in made.origin().text and "retina" in made.origin().text
    assert "&lt;another&gt;" in made.attribute_table().text
    assert all("<figure" in part().text for part in (made.average, made.attributes, made.cases))
    panels = draw_cases(Gallery.read(tmp_path, 2)).axes
    assert sum(bool(axes.images) for axes in panels) == 2 * (3 + number)


def test_unknown_variants_get_a_colour_and_marker_of_their_own(tmp_path: Path) -> None:
    made = variants(tmp_path, variants=("stage3", "mine", "yours"))
    assert made.rows == ["stage3", "mine", "yours"]
    colours = palette(made.rows, VARIANTS)
    assert len({colours[name] for name in (*VARIANTS, "mine", "yours")}) == 7


def test_a_variant_keeps_its_colour_whatever_else_is_drawn() -> None:
    alone = palette(["stage123"], VARIANTS)["stage123"]
    assert alone == palette(["other", "stage123", "stage3"], VARIANTS)["stage123"]


def test_what_colours_are_of_is_told_by_equality() -> None:
    """A list of the variants that was read from elsewhere draws as the tuple does."""
    copy = [*VARIANTS]
    assert palette(["source"], copy) == palette(["source"], VARIANTS) != palette(["source"], ())
    assert markers(["source"], copy) == markers(["source"])


def test_no_rows_give_sentences_not_errors(tmp_path: Path) -> None:
    write(tmp_path, gallery=False)
    for name in ("variants.csv", "variants_folds.csv", "lesion.csv"):
        pd.read_csv(tmp_path / name).head(0).to_csv(tmp_path / name, index=False)
    made = Variants.read(str(tmp_path))
    assert made.nothing in made.headline().text and "no Stage 1" in made.lesion().text
    assert "no gallery.npz" in made.cases().text and "No rows" in made.attribute_table().text
    assert not any("<figure" in part().text for part in (made.average, made.attributes, made.shapes, made.cases))


def test_attributes_with_a_note_are_starred_and_fewer_folds_named(tmp_path: Path) -> None:
    write(tmp_path, folds=3)
    frame = pd.read_csv(tmp_path / "variants.csv")
    frame.assign(folds=frame["folds"].mask(frame["attribute"] == "streaks", 2)).to_csv(
        tmp_path / "variants.csv", index=False
    )
    made = Variants.read(str(tmp_path))
    shown = made.attribute_table().text
    assert "streaks *" in shown and "globules *" not in shown and "* streaks: 3 groups have it" in shown
    assert "over 3 trainings (folds and seeds), streaks over 2" in made.origin().text


def test_each_shape_can_be_read_alone(tmp_path: Path) -> None:
    write(tmp_path, shapes=("u", "link"))
    link = Variants.read(str(tmp_path), shape="link")
    frame = pd.read_csv(tmp_path / "variants.csv")
    assert set(link.tables.measured["dice"]) == set(frame.loc[frame["shape"] == "link", "dice"])
    assert re.findall(r"<th[^>]*>(u|link|averaged)</th>", link.shapes().text) == ["u", "link", "averaged"]
    with pytest.raises(ValueError, match=r"shape 'v' is not in .*: choose of u, link, mean"):
        Variants.read(str(tmp_path), shape="v")


def test_bits_follow_the_store_not_the_study(tmp_path: Path) -> None:
    """A study of two attributes of five: their bits are the store's."""
    made = variants(tmp_path).tables
    assert [made.bit(name) for name in ISIC] == [2, 4, 8, 16, 32]
    with pytest.raises(ValueError, match=r"halo is not in counts\.csv"):
        made.bit("halo")


@pytest.mark.parametrize("name, lost", [("lesion.csv", "fold"), ("counts.csv", "present")])
def test_missing_columns_and_files_are_named_with_the_command(tmp_path: Path, name: str, lost: str) -> None:
    write(tmp_path)
    pd.read_csv(tmp_path / name).drop(columns=lost).to_csv(tmp_path / name, index=False)
    with pytest.raises(ValueError, match=rf"{name} lacks the column {lost} .*python -m tatl study variants"):
        Variants.read(str(tmp_path))
    (tmp_path / "lesion.csv").unlink()
    if name == "lesion.csv":
        with pytest.raises(FileNotFoundError, match=r"lesion\.csv is not there: .python -m tatl study variants"):
            Variants.read(str(tmp_path))


def test_tables_that_were_written_before_positives_were_counted_by_fold_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path)
    assert "positives" in SCORE_COLUMNS and "positives" not in FOLD_COLUMNS
    folds = pd.read_csv(folder / "variants_folds.csv").drop(columns="positives")
    folds.to_csv(folder / "variants_folds.csv", index=False)
    assert "highest for" in Variants.read(str(folder)).average().text


def test_paper_tables_are_complete() -> None:
    for dataset, number in (("isic2018", 36), ("isic2017", 30)):
        assert len(published(dataset)) == number
    assert len(read_paper("table2")) == 9


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def rewrite(folder: Path, **arrays: Any) -> Gallery:
    """The cases of gallery.npz with some arrays replaced."""
    with np.load(folder / "gallery.npz") as file:
        np.savez(folder / "gallery.npz", **(dict(file) | arrays))
    return Gallery.read(folder)


def test_cases_without_stage_2_without_stage_1_or_with_a_mask_at_the_edge(tmp_path: Path) -> None:
    made = variants(tmp_path)
    boxed = draw_cases(Gallery.read(tmp_path, 1))
    assert len(boxed.axes[0].patches) == 1 and legend(boxed)[0] == "box of Stage 1, grown by the offset"
    assert "with the Stage-1 box" in made.cases(1).text and "1 test image" in made.cases(1).text
    bare = draw_cases(rewrite(tmp_path, boxes=np.zeros((0, 4)), union=np.zeros((0, 96, 128))))
    assert not bare.axes[0].patches and legend(bare) == ["truth", "prediction"]
    assert "Stage-1 box" not in made.cases(1).text and bare.axes[2].texts[0].get_text() == "no Stage 2"
    full = rewrite(tmp_path, truth=np.full((6, 96, 128), 63, np.uint16))
    draw_cases(full).canvas.draw()


def test_no_dice_where_an_image_has_none(tmp_path: Path) -> None:
    variants(tmp_path)
    drawn = draw_cases(rewrite(tmp_path, truth=np.zeros((6, 96, 128), np.uint16)))
    notes = [note.get_text() for axes in drawn.axes for note in axes.texts]
    assert "none, 6.4 % found" in notes and not [note for note in notes if note.startswith("Dice")]


def test_a_gallery_takes_its_boxes_from_stage_1_grown_by_the_offset(toy_store: Store, tmp_path: Path) -> None:
    settings = Settings(shapes="u", source="random", attributes="disc", folds="0", n_folds=3, offset=2)
    found = pd.DataFrame([[8, 1, 20, 40]] * len(toy_store), columns=["top", "left", "bottom", "right"])
    for variant, boxes in (("stage3", []), ("stage13", [[6, 0, 22, 42]] * 2)):
        members = Planner(settings, toy_store).members([variant])
        for run in in_order(member.run for member in members):
            folder = run.folder(tmp_path)
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / "probabilities.npy", np.zeros((len(toy_store), 32, 64), np.uint8))
            found.to_csv(folder / "boxes.csv", index=False)
        assert gallery(members, tmp_path, toy_store, count=2)["boxes"].tolist() == boxes


def test_every_note_on_an_attribute_stands_below_the_table_measured_or_not(tmp_path: Path) -> None:
    left = "no training image of fold 0 (seed 0) has it; not measured"
    few = "3 groups have it, fewer than the 5 folds"
    write(tmp_path, notes=[f"streaks: {few}", f"globules: {few}", f"streaks: {left}", f"globules: {left}"])
    for name in ("variants.csv", "variants_folds.csv"):
        frame = pd.read_csv(tmp_path / name)
        frame[frame["attribute"] != "globules"].to_csv(tmp_path / name, index=False)
    html = Variants.read(str(tmp_path)).attribute_table().text
    rows, _, below = html.partition("</table>")
    assert [below.count(f"* {name}: {note}.") for name in ("streaks", "globules") for note in (few, left)] == [1] * 4
    assert "streaks *" in rows and "pigment network *" not in rows
    assert rows.count("globules *") == rows.count("not measured") == 1

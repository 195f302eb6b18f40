"""Measured stand beside published: nothing is lost, nothing is invented, and what was computed is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.pages import figures, words
from analysis.pages import html as show
from analysis.pages.theme import markers, palette
from analysis.tables import read as tables
from analysis.tables.paper import CASES, published, read_paper
from analysis.tables.read import Study
from fake_study import ISIC, VARIANTS, WINNERS, write
from tatl.data.store import Store
from tatl.names import AVERAGE
from tatl.studies.examples import gallery
from tatl.studies.planner import Planner, in_order
from tatl.studies.settings import Settings


def study(folder: Path, **about: Any) -> Study:
    return Study.read(write(folder, **about))


def change(folder: Path, name: str, **columns: Any) -> Path:
    path = folder / name
    pd.read_csv(path).assign(**columns).to_csv(path, index=False)
    return folder


def test_measured_and_published_meet_row_by_row(tmp_path: Path) -> None:
    table = tables.beside(study(tmp_path)).set_index(["attribute", "variant"])
    assert len(table) == (len(ISIC) + 1) * (len(VARIANTS) + 1)
    assert table.loc[("streaks", "stage123"), "published_dice"] == 0.401
    measured = pd.read_csv(tmp_path / "variants.csv").set_index(["shape", "attribute", "variant"])
    assert table.loc[("streaks", "stage123"), "dice"] == measured.loc[("mean", "streaks", "stage123"), "dice"]
    assert table["dice"].notna().sum() == (len(ISIC) + 1) * len(VARIANTS)


@pytest.mark.parametrize("data", ["isic2018", "isic2017"])
def test_difference_is_taken_on_the_papers_data_and_only_there(tmp_path: Path, data: str) -> None:
    names = ISIC if data == "isic2018" else [name for name in ISIC if name != "globules"]
    same = tables.beside(study(tmp_path / "same", data=data, cases=CASES[data][0], attributes=names))
    both = same.dropna(subset=["dice", "published_dice"])
    assert len(both) and np.allclose(both["dice_difference"], both["dice"] - both["published_dice"])
    other = tables.beside(study(tmp_path / "other", data="phantom"))
    assert other["dice_difference"].isna().all() and other["published_dice"].notna().any()


@pytest.mark.parametrize("data, cases", [("isic2017", 600), ("isic2018", 100), ("isic2018", None)])
def test_a_part_of_the_papers_data_is_not_the_papers_data(tmp_path: Path, data: str, cases: int | None) -> None:
    """The 600 test images of ISIC 2017 are no five-fold study of its 2000."""
    made = study(tmp_path, data=data, cases=cases, source="imagenet", enrich=False)
    table = tables.beside(made)
    assert made.reference == data and table["dice_difference"].isna().all()
    assert table["published_dice"].notna().any() and made.theirs_cell == "published, other cases"
    told = f"part of ISIC {data[4:]} ({cases or 'an unknown number of'} images)"
    assert f"measured is {told}: no difference is taken." in words.caption(made)
    assert "difference" not in head(show.averages(made, "").text)
    assert not any(study(tmp_path / str(n), data=data, cases=n).part for n in CASES[data])


def head(html: str) -> str:
    return html.partition("</thead>")[0]


def test_the_winners_meet_their_published_rows(tmp_path: Path) -> None:
    """Measured and published are one row, and what is said of shapes is of the rows that have them."""
    names = (*VARIANTS, *WINNERS)
    made = study(tmp_path, data="isic2018", cases=2594, variants=names, shapes=("u", "link"))
    table = tables.beside(made).set_index(["attribute", "variant"])
    assert len(table) == (len(ISIC) + 1) * len(names)
    row = table.loc[("streaks", "isic2018-winner")]
    assert row["published_dice"] == 0.27 and row["dice_difference"] == pytest.approx(row["dice"] - 0.27)
    assert np.isnan(table.loc[("streaks", "isic2017-winner"), "published_dice"])
    assert "ISIC 2018 winner" in show.averages(made, "").text and "1st" not in show.attributes(made, "").text
    said = words.shapes(made)
    assert said.startswith("Averaging u and link beats") and said.endswith(f"of {len(VARIANTS)} variants.")
    own = words.caption(made)
    assert "isic2017-winner is isic2017-winner-vgg16" in own
    assert "isic2018-winner is the average of pyramid-resnet152, pyramid-densenet169" in own
    assert "networks of their own" not in words.caption(study(tmp_path / "five"))


@pytest.mark.parametrize("name, keys", tables.KEYS.items())
def test_a_row_that_is_there_twice_is_named(tmp_path: Path, name: str, keys: list[str]) -> None:
    write(tmp_path)
    frame = pd.read_csv(tmp_path / name)
    pd.concat([frame, frame.iloc[[3]].assign(dice=0.1)]).to_csv(tmp_path / name, index=False)
    row = ", ".join(str(frame.iloc[3][key]) for key in keys)
    with pytest.raises(ValueError, match=rf"{name} has the row {row} twice: write it again with `python -m tatl"):
        Study.read(tmp_path)


def test_some_attributes_alone_have_an_average_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, folds=3)
    some = Study.read(tmp_path, attributes="streaks, globules", dataset="drawn on Monday")
    table = some.measured.set_index(["attribute", "variant"])
    two = [("streaks", "stage3"), ("globules", "stage3")]
    assert table.loc[("average", "stage3"), "dice"] == pytest.approx(table.loc[two, "dice"].mean())
    assert some.attributes == ["globules", "streaks"] and list(some.counts["mask"])[1:-1] == some.attributes
    assert some.bit("streaks") == 32 and "drawn on Monday, 240 cases" in words.caption(some)
    arrays = some.gallery()
    assert arrays is not None and list(arrays["attributes"]) == some.attributes
    assert arrays["probability"].shape[1] == 2 and figures.gallery(some, 1)
    with pytest.raises(ValueError, match=r"variants\.csv has no attribute streakz: choose of pigment_network"):
        Study.read(tmp_path, attributes="streakz")


def test_averages_over_other_attributes_have_no_difference(tmp_path: Path) -> None:
    few = study(tmp_path, data="isic2018", cases=2594, attributes=("streaks", "globules"))
    table = tables.beside(few)
    average = table["attribute"] == AVERAGE
    assert table.loc[average, "dice_difference"].isna().all()
    assert table.loc[~average & table["dice"].notna(), "dice_difference"].notna().all()
    assert "average is over 5 attributes, the measured one over 2" in words.caption(few)


def test_averages_carry_micro_and_image_means(tmp_path: Path) -> None:
    made = study(tmp_path)
    row = tables.averages(made).set_index("variant").loc["stage13"]
    measured = made.measured.set_index(["variant", "attribute"])
    assert row["micro_dice"] == measured.loc[("stage13", "micro"), "dice"]
    assert row["image_dice"] == measured.loc[("stage13", "average"), "image_dice"]
    assert row["published_dice"] == 0.401


def test_counts_are_table_2(tmp_path: Path) -> None:
    table = tables.counts(study(tmp_path)).set_index("mask")
    assert table.loc["streaks", "isic2018_present"] == 100 and table.loc["streaks", "isic2017_rate"] == 7.98
    assert np.isnan(table.loc["globules", "isic2017_present"])
    assert np.allclose(table["rate"], 100 * table["present"] / table["known"])


def test_a_mask_known_nowhere_has_no_rate(tmp_path: Path) -> None:
    write(tmp_path)
    change(tmp_path, "counts.csv", present=0, known=0)
    made = Study.read(tmp_path)
    assert tables.counts(made)["rate"].isna().all()
    assert "no attribute whose masks are known" in words.counts(made)
    figures.counts(made)


def test_paired_gains_are_differences_fold_by_fold(tmp_path: Path) -> None:
    made = study(tmp_path, folds=3)
    wide = made.folds[made.folds["attribute"] == "streaks"].pivot(index="fold", columns="variant", values="dice")
    paired = wide["stage123"] - wide["stage3"]
    gain = tables.gains(made, "stage123", "stage3").loc["streaks"]
    assert np.allclose([gain["gain"], gain["std"]], [paired.mean(), paired.std(ddof=1)]) and gain["pairs"] == 3


def test_one_fold_has_no_spread_and_says_so(tmp_path: Path) -> None:
    one, five = study(tmp_path / "1"), study(tmp_path / "5", folds=5)
    assert one.measured["dice_std"].isna().all() and "no spread can be given" in words.averages(one)
    assert "±" not in words.headline(one)
    assert words.headline(five).count("±") == len(VARIANTS) + 1 and "5 folds" in words.averages(five)


def test_readings_follow_the_table(tmp_path: Path) -> None:
    """The same sentences, of tables that say the opposite."""
    write(tmp_path)
    for best, worst in (("stage3", "stage123"), ("stage123", "stage3")):
        frame = pd.read_csv(tmp_path / "variants.csv")
        level = frame["variant"].map({best: 0.9, worst: 0.1}).fillna(0.5)
        frame.assign(dice=level).to_csv(tmp_path / "variants.csv", index=False)
        made = Study.read(tmp_path)
        assert f"highest for {best} (0.900) and lowest for {worst} (0.100)" in words.averages(made)
        assert words.attributes(made).startswith(f"{best} has the highest mean Dice for 5 of 5 attributes")


def test_ties_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    made = Study.read(change(tmp_path, "variants.csv", dice=0.5))
    assert "each have the highest mean Dice for 5 of 5" in words.attributes(made)


def test_captions_say_what_the_data_are_not(tmp_path: Path) -> None:
    phantom = words.caption(study(tmp_path / "a"))
    for part in ("phantom", "240 cases at 96x128", "enriched", "textures", "quick", "seed 0", "fold 0 of 5"):
        assert part in phantom
    assert "phantom is not skin" in phantom and "textures is not ImageNet" in phantom and "other data" in phantom
    real = words.caption(study(tmp_path / "b", data="isic2018", cases=2594, source="imagenet", enrich=False))
    assert "not" not in real and "other data" not in real


@pytest.mark.parametrize("number", [1, 4, 15])
def test_any_attributes_work_in_any_number(tmp_path: Path, number: int) -> None:
    names = tuple(f"finding {i} of <another> organ" for i in range(number))
    made = study(tmp_path, attributes=names, data="manifest", store_name="retina")
    assert made.attributes == list(names) and made.reference == ""
    assert tables.beside(made)["published_dice"].isna().all()
    assert "The paper has none of these attributes" in words.caption(made) and "retina" in words.caption(made)
    assert "&lt;another&gt;" in show.attributes(made, "")._repr_html_()
    assert all(isinstance(draw(made), Figure) for draw in (figures.averages, figures.attributes, figures.counts))
    panels = figures.gallery(made, cases=2).axes
    assert sum(bool(axes.images) for axes in panels) == 2 * (3 + number)


def test_unknown_variants_get_a_colour_and_marker_of_their_own(tmp_path: Path) -> None:
    made = study(tmp_path, variants=("stage3", "mine", "yours"))
    assert made.variants == ["stage3", "mine", "yours"]
    colours = palette(made.variants, VARIANTS)
    assert len({colours[name] for name in (*VARIANTS, "mine", "yours")}) == 7
    assert "mine" in words.headline(made)


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
    made = Study.read(tmp_path)
    assert words.headline(made) == words.averages(made) == words.attributes(made) == words.NOTHING
    assert "No Stage 1" in words.lesion(made) and "no gallery.npz" in words.gallery(made)
    assert "No rows" in show.attributes(made, "")._repr_html_()
    for draw in (figures.averages, figures.attributes):
        draw(made)
    show.shapes(made, words.shapes(made), "")


def test_nan_scores_are_blank_cells(tmp_path: Path) -> None:
    write(tmp_path)
    frame = pd.read_csv(tmp_path / "variants.csv")
    frame.loc[frame["attribute"] == "streaks", ["dice", "jaccard", "image_dice", "image_jaccard"]] = np.nan
    frame.to_csv(tmp_path / "variants.csv", index=False)
    made = Study.read(tmp_path)
    html = show.attributes(made, "")._repr_html_()
    assert "nan" not in html.lower() and "4 attributes" in words.attributes(made)
    figures.attributes(made)


def test_attributes_with_a_note_are_starred_and_fewer_folds_named(tmp_path: Path) -> None:
    write(tmp_path, folds=3)
    frame = pd.read_csv(tmp_path / "variants.csv")
    frame.assign(folds=frame["folds"].mask(frame["attribute"] == "streaks", 2)).to_csv(
        tmp_path / "variants.csv", index=False
    )
    made = Study.read(tmp_path)
    html = show.attributes(made, words.spread(made))._repr_html_()
    assert "streaks *" in html and "globules *" not in html and "* streaks: 3 groups have it" in html
    assert "over 3 folds, streaks over 2" in html


def test_each_shape_can_be_read_alone(tmp_path: Path) -> None:
    write(tmp_path, shapes=("u", "link"))
    link = Study.read(tmp_path, shape="link")
    frame = pd.read_csv(tmp_path / "variants.csv")
    assert set(link.measured["dice"]) == set(frame.loc[frame["shape"] == "link", "dice"])
    assert list(tables.shapes(link).columns) == ["u", "link", "mean"]
    with pytest.raises(ValueError, match=r"shape 'v' is not in .*: choose of u, link, mean"):
        Study.read(tmp_path, shape="v")


def test_bits_follow_the_store_not_the_study(tmp_path: Path) -> None:
    """A study of two attributes of five: their bits are the store's."""
    made = study(tmp_path)
    assert [made.bit(name) for name in ISIC] == [2, 4, 8, 16, 32]
    with pytest.raises(ValueError, match=r"halo is not in counts\.csv"):
        made.bit("halo")


@pytest.mark.parametrize("name", list(tables.COLUMNS))
def test_missing_columns_and_files_are_named_with_the_command(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    lost = tables.COLUMNS[name][1]
    pd.read_csv(tmp_path / name).drop(columns=lost).to_csv(tmp_path / name, index=False)
    with pytest.raises(ValueError, match=rf"{name} lacks the column {lost} .*python -m tatl study variants"):
        Study.read(tmp_path)
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"is not a CSV table .*python -m tatl study variants"):
        Study.read(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is not there: .python -m tatl study variants"):
        Study.read(tmp_path)


def test_a_word_among_numbers_and_a_broken_study_json(tmp_path: Path) -> None:
    write(tmp_path)
    change(tmp_path, "lesion.csv", dice="high")
    with pytest.raises(ValueError, match=r"lesion\.csv has a cell that is no number"):
        Study.read(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(ValueError, match=r"study\.json is not JSON"):
        Study.read(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds no study\.json: .python -m tatl study variants"):
        Study.read(tmp_path / "nowhere")


def test_a_bare_study_json_is_enough(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps({"study": "variants"}))
    made = Study.read(tmp_path)
    assert "not recorded" in words.caption(made) and "not recorded" in show.provenance(made)._repr_html_()


def test_paper_tables_are_complete() -> None:
    for dataset, number in (("isic2018", 36), ("isic2017", 30)):
        assert len(published(dataset)) == number
    assert len(read_paper("table2")) == 9


def test_the_gallery_is_read_as_far_as_it_is_shown(tmp_path: Path) -> None:
    made = study(tmp_path)
    assert words.gallery(made, 2).startswith("2 test images, chosen") and words.gallery(made).startswith(
        "6 test images"
    )


def test_gallery_without_stage_2_or_with_a_mask_at_the_edge(tmp_path: Path) -> None:
    made = study(tmp_path)
    arrays = made.gallery()
    assert arrays is not None
    arrays["union"] = arrays["union"][:0]
    arrays["truth"][:] = 63
    np.savez(tmp_path / "gallery.npz", **arrays)  # type: ignore[arg-type]
    assert "no Stage 2" in words.gallery(made)
    figures.gallery(made, cases=1).canvas.draw()


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def test_a_gallery_without_stage_1_has_no_box(tmp_path: Path) -> None:
    made = study(tmp_path)
    boxed = figures.gallery(made, cases=1)
    assert len(boxed.axes[0].patches) == 1 and legend(boxed)[0] == "box of Stage 1, grown by the offset"
    assert "with the Stage-1 box" in show.gallery(made, 1, "", "").text
    arrays = made.gallery()
    assert arrays is not None
    arrays["boxes"] = arrays["boxes"][:0]
    np.savez(tmp_path / "gallery.npz", **arrays)  # type: ignore[arg-type]
    bare = figures.gallery(made, cases=1)
    assert not bare.axes[0].patches and legend(bare) == ["truth", "prediction"]
    assert "Stage-1 box" not in show.gallery(made, 1, "", "").text


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
    html = show.attributes(Study.read(tmp_path), "")._repr_html_()
    rows, _, below = html.partition("</table>")
    assert [below.count(f"* {name}: {note}.") for name in ("streaks", "globules") for note in (few, left)] == [1] * 4
    assert "streaks *" in rows and "pigment network *" not in rows
    assert rows.count("globules *") == rows.count("not measured") == 1

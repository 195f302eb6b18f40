"""The data's page: counts, pairs, areas and examples of any store, and what is not there is said."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from analysis.pages.data import PAIR_COLUMNS, Census
from fake_study import shown, write
from tatl.data.census import census
from tatl.data.store import Store, counts, write_csv
from toy import make_store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tables folder of the toy's attributes with the census of its store."""
    made = tmp_path_factory.mktemp("tables")
    store = make_store(made / "store")
    write(made, attributes=store.attributes)
    return counted(made, store)


def counted(folder: Path, store: Store) -> Path:
    write_csv(counts(store), folder / "counts.csv")
    for name, table in census(store).items():
        write_csv(table, folder / f"{name}.csv")
    return folder


def page(folder: Path, attributes: str = "") -> dict[str, str]:
    made = Census.read(folder, attributes)
    return shown(made, "data")


def test_every_section_is_there_and_read_from_the_tables(folder: Path) -> None:
    found = page(folder)
    assert all("<figure" in found[name] for name in ("counts", "cooccurrence", "areas", "examples"))
    assert "The rarest attribute is dot: 3 of 24 images (12.5 %)" in found["headline"]
    table = pd.read_csv(folder / "data_cooccurrence.csv").set_index(["attribute", "other"])
    both, shown = table.loc[("dot", "disc"), ["images", "with_attribute"]]
    assert (both, shown) == (3, 3) and "100 % of the images with dot show disc (3 of 3)" in found["cooccurrence"]
    assert "regions" in found["areas_table"] and "3f9a11c0d2" in Census.read(folder).provenance().text


def test_the_page_links_its_own_tables(folder: Path) -> None:
    told = Census.read(folder).provenance().text
    for name in ("counts.csv", "data_cooccurrence.csv", "data_areas.csv", "study.json"):
        assert f'data-file="{name}"' in told
    assert "variants" not in told.partition('class="files"')[2]


def test_some_attributes_alone(folder: Path) -> None:
    found = page(folder, "disc,bar")
    assert "dot" not in re.sub(
        r"<[^>]*>", "", re.sub(r"<svg.*?</svg>", "", found["counts_table"] + found["cooccurrence"], flags=re.DOTALL)
    )
    with pytest.raises(ValueError, match=r"attribute disk is not in .*counts\.csv: choose of disc, bar, dot"):
        Census.read(folder, "disk")


def test_pairs_that_are_never_seen_together_are_not_called_the_most(tmp_path: Path) -> None:
    write(tmp_path, attributes=("disc", "bar"), gallery=False)
    rows = [("disc", "bar", 0, 16, 24), ("bar", "disc", 0, 9, 24)]
    pd.DataFrame(rows, columns=PAIR_COLUMNS).to_csv(tmp_path / "data_cooccurrence.csv", index=False)
    assert "0 of 1 pair of attributes are seen together." in page(tmp_path)["cooccurrence"]


def test_examples_say_what_they_were_chosen_to_show_and_where_they_are_from(folder: Path) -> None:
    """Of some attributes too: the images were chosen for all of them, and are of a test fold."""
    found = page(folder, "disc,bar")["examples"]
    assert "Test images of fold 0, chosen to show disc, bar and dot" in found and "every" not in found


def test_published_counts_have_a_difference_only_where_the_data_are_the_papers(tmp_path: Path) -> None:
    same = page(write(tmp_path / "same", data="isic2018", cases=2594, gallery=False))["counts_table"]
    assert "difference" in same and "published, isic2017, other data" in same and ">published, isic2018<" in same
    part = page(write(tmp_path / "part", data="isic2018", cases=100, gallery=False))["counts_table"]
    assert "published, isic2018, other cases" in part and "difference" not in part
    other = page(write(tmp_path / "other", gallery=False))["counts_table"]
    assert "difference" not in other and "published, isic2018, other data" in other


def test_counts_alone_are_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    write(tmp_path, gallery=False)
    (tmp_path / "study.json").unlink()
    found = page(tmp_path)
    assert "<figure" in found["counts"] and "unknown data" in found["origin"]
    for name, file in (
        ("cooccurrence", "data_cooccurrence.csv"),
        ("areas", "data_areas.csv"),
        ("examples", "gallery.npz"),
    ):
        assert file in found[name] and "python -m tatl study" in found[name] and "<figure" not in found[name]


def test_tables_without_rows_and_attributes_that_nobody_shows(tmp_path: Path) -> None:
    write(tmp_path, attributes=("disc", "bar", "dot"), gallery=False)
    counted(tmp_path, make_store(tmp_path / "store", every=(0, 0, 0), cases=4, lesions=False))
    found = page(tmp_path)
    assert "0 of 0 pairs" in found["cooccurrence"] and "No area was measured" in found["areas"]
    for name in ("counts.csv", "data_cooccurrence.csv"):
        pd.read_csv(tmp_path / name).iloc[:0].to_csv(tmp_path / name, index=False)
    found = page(tmp_path)
    assert "counts.csv has no rows" in found["counts"] and "names no attribute" in found["headline"]


def test_fifteen_attributes_stay_legible(tmp_path: Path) -> None:
    """Pairs are drawn with their number alone, and every name is there."""
    names = [f"a_rather_long_name_{number}" for number in range(15)]
    write(tmp_path, attributes=names)
    rows = [(a, b, i + j, 20, 24) for i, a in enumerate(names) for j, b in enumerate(names)]
    pd.DataFrame(rows, columns=PAIR_COLUMNS).to_csv(tmp_path / "data_cooccurrence.csv", index=False)
    made = Census.read(tmp_path)
    assert "<figure" in made.cooccurrence().text and "<figure" in made.examples().text


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write(tmp_path, gallery=False)
    pd.DataFrame({"attribute": ["a"], "other": ["b"]}).to_csv(tmp_path / "data_cooccurrence.csv", index=False)
    with pytest.raises(ValueError, match=r"data_cooccurrence\.csv lacks the columns images, with_attribute, known"):
        Census.read(tmp_path)

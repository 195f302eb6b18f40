"""Names and folders as people have them: Windows' separators, accents, links, archives in folders of their own."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tatl.data.case import Size
from tatl.data.folds import split
from tatl.data.images.files import composed
from tatl.data.images.reading import Reading
from tatl.data.prepare.twins import APART, JOINED
from tatl.data.readers.isic import Isic2017, Isic2018
from tatl.data.readers.manifest import Manifest
from tatl.data.store import BadCases, prepare
from tatl.prediction.commands import score_command as score
from test_readers import isic2017, isic2018, mask, picture

SIZE = Size(12, 16)
FOLLOW = Reading(follow_links=True)


def manifest(root: Path, count: int = 3) -> str:
    """Pictures, and the text of their cases.csv."""
    for i in range(count):
        picture(root / "images" / f"c{i}.png", i)
        mask(root / "masks" / f"c{i}.png", (12, 8, 20, 12))
    rows = "".join(f"c{i},images/c{i}.png,g{i},masks/c{i}.png,\n" for i in range(count))
    return "case,image,group,dots,veil\n" + rows


def read(root: Path, text: str) -> Manifest:
    (root / "cases.csv").write_bytes(text.encode())
    return Manifest(root)


# ---- tables


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", ["/", "\\"])
def test_a_table_written_on_windows_is_read(tmp_path: Path, separator: str, end: str, mark: str) -> None:
    text = manifest(tmp_path)
    data = read(tmp_path, mark + text.replace("/", separator).replace("\n", end))
    assert list(data.ids) == ["c0", "c1", "c2"] and not data.problems
    case = data.read(1, SIZE)
    assert case.attributes["dots"] is not None and case.attributes["dots"].any()


@pytest.mark.parametrize("tail", [",,", ", ,", ","])
def test_columns_and_rows_of_a_table_program_that_hold_nothing_are_none(tmp_path: Path, tail: str) -> None:
    lines = manifest(tmp_path).splitlines()
    data = read(tmp_path, "".join(f"{line}{tail}\r\n" for line in [*lines, ",,,,", " ,,,,"]))
    assert list(data.ids) == ["c0", "c1", "c2"] and data.attributes == ("dots", "veil") and not data.problems
    inside = "\n".join(line.replace(",images", ",,images").replace(",image,", ",,image,") for line in lines)
    assert list(read(tmp_path, inside).ids) == ["c0", "c1", "c2"]


def test_a_column_without_a_name_that_holds_values_is_refused(tmp_path: Path) -> None:
    lines = manifest(tmp_path).splitlines()
    with pytest.raises(ValueError, match="has a column ''"):
        read(tmp_path, "\n".join([lines[0] + ",", lines[1] + ",remark", lines[2] + ",", lines[3] + ","]))


def test_a_table_one_folder_below_is_named(tmp_path: Path) -> None:
    read(tmp_path / "inner", manifest(tmp_path / "inner"))
    with pytest.raises(FileNotFoundError, match=rf"has no cases\.csv: give a folder in it, such as {tmp_path}/inner$"):
        Manifest(tmp_path)


# ---- accents


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
def test_accents_are_the_same_however_they_are_composed(tmp_path: Path, in_table: str, on_disk: str) -> None:
    """A Mac's archive decomposes names: the image "did not exist", and --skip-bad dropped it."""
    there = tmp_path / unicodedata.normalize(on_disk, "bilder-müller")
    picture(there / unicodedata.normalize(on_disk, "läsion.png"))
    cell = unicodedata.normalize(in_table, "bilder-müller/läsion.png")
    data = read(tmp_path, f"case,image,group,dots\na,{cell},p,\n")
    assert not data.problems and data.read(0, SIZE).image.any()


def test_of_two_files_that_differ_in_composition_the_very_one_is_meant(tmp_path: Path) -> None:
    for seed, form in enumerate(("NFC", "NFD")):
        picture(tmp_path / unicodedata.normalize(form, "é.png"), seed)
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, "é.png")
        assert read(tmp_path, f"case,image,group,dots\na,{name},p,\n").sources[0].image.name == name


def test_names_that_are_no_utf_8_are_found_and_told(tmp_path: Path) -> None:
    name = os.fsdecode(b"l\xe9sion.png")  # Latin-1, as old archives have it
    picture(tmp_path / "b.png", 1)
    picture(tmp_path / "plain.png", 2)
    (tmp_path / "plain.png").rename(tmp_path / name)
    data = read(tmp_path, "case,image,group,dots\na,lésion.png,p,\nb,b.png,q,\n")
    assert not data.problems and data.sources[0].image.name == name
    store = prepare(data, tmp_path / "store", SIZE, progress=False)
    assert len(store) == 2
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(BadCases):  # its name goes into problems.txt
        prepare(
            read(tmp_path, "case,image,group,dots\na,lésion.png,p,\nb,b.png,q,\n"), tmp_path / "t", SIZE, progress=False
        )
    assert b"l\xe9sion.png" in (tmp_path / "t.partial" / "problems.txt").read_bytes()


def test_score_pairs_names_however_they_are_composed(tmp_path: Path) -> None:
    drawn = np.eye(6, dtype=np.uint8) * 255
    for folder, form in (("p", "NFC"), ("y", "NFD")):
        (tmp_path / folder).mkdir()
        name = unicodedata.normalize(form, "läsion_attribute_gefäße.png")
        Image.fromarray(drawn).save(tmp_path / folder / name)
    latin = os.fsdecode(b"l\xe9sion_attribute_dots.png")
    for folder in ("p", "y"):
        shutil.copy(next((tmp_path / folder).iterdir()), tmp_path / folder / latin)
    score(Reading(), tmp_path / "p", tmp_path / "y", tmp_path / "s.csv")
    assert b"l\xe9sion" in (tmp_path / "s_images.csv").read_bytes()
    assert composed("la\u0308sion") == "l\u00e4sion" and composed(os.fsdecode(b"l\xe9sion")) == "l\u00e9sion"


# ---- links


def linked(tmp_path: Path) -> Path:
    text = manifest(tmp_path / "disk")
    (tmp_path / "data").mkdir()
    for name in ("images", "masks"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "data" / "cases.csv").write_text(text)
    return tmp_path / "data"


def test_a_linked_folder_is_named_in_one_line_and_may_be_followed(tmp_path: Path) -> None:
    root = linked(tmp_path)
    with pytest.raises(BadCases) as raised:
        prepare(Manifest(root), tmp_path / "s", SIZE, progress=False)
    said = str(raised.value).splitlines()
    assert len(said) == 2
    assert f"through the link images -> {tmp_path / 'disk' / 'images'}: allow it with --follow-links" in said[1]
    assert said[1].endswith(": 3 cases (c0, c1, c2)")
    store = prepare(Manifest(root, FOLLOW), tmp_path / "s", SIZE, progress=False)
    assert store.present("dots").all()


def test_links_that_stay_inside_are_no_matter_and_dots_leave_even_when_links_are_followed(tmp_path: Path) -> None:
    text = manifest(tmp_path / "data")
    (tmp_path / "data" / "other").symlink_to("images")
    assert not read(tmp_path / "data", text.replace("images/", "other/")).problems
    picture(tmp_path / "outside.png")
    (tmp_path / "data" / "cases.csv").write_text("case,image,group,dots\na,../outside.png,p,\n")
    assert "leaves the folder of cases.csv; paths" in Manifest(tmp_path / "data", FOLLOW).problems[0]


def test_a_relative_root_names_its_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(linked(tmp_path).parent)
    assert "through the link images -> " in Manifest("data").problems[0]


# ---- ISIC


@pytest.mark.parametrize("parts", ["Input", "GroundTruth", ""])
def test_isic2018_archives_in_folders_of_their_own_names(tmp_path: Path, parts: str) -> None:
    isic2018(tmp_path, 3, version="_v3")
    expected = [Isic2018(tmp_path).read(i, SIZE) for i in range(3)]
    deeper(tmp_path, parts)
    data = Isic2018(tmp_path)
    assert not data.problems and len(data.ids) == 3
    for case, before in zip((data.read(i, SIZE) for i in range(3)), expected, strict=True):
        assert all(np.array_equal(case.attributes[name], before.attributes[name]) for name in data.attributes)
        assert np.array_equal(case.lesion, before.lesion)


def test_isic2017_archives_in_folders_of_their_own_names(tmp_path: Path) -> None:
    isic2017(tmp_path, 2)
    deeper(tmp_path, "")
    data = Isic2017(tmp_path)
    assert not data.problems and len(data.ids) == 2 and data.read(0, SIZE).attributes["streaks"] is not None


def deeper(root: Path, parts: str) -> None:
    for folder in [path for path in root.iterdir() if parts in path.name]:
        folder.rename(root / "moving")
        folder.mkdir()
        (root / "moving").rename(folder / folder.name)
        (folder / "__MACOSX").mkdir()
        (folder / "__MACOSX" / "._ISIC_0000000.jpg").write_bytes(b"resource fork")


def test_a_root_one_folder_too_high_is_told(tmp_path: Path) -> None:
    isic2018(tmp_path / "download", 1)
    with pytest.raises(ValueError, match=rf"unpacked into, such as {tmp_path}/download$"):
        Isic2018(tmp_path)


def test_the_same_picture_under_several_ids_is_one_group(tmp_path: Path) -> None:
    """Twins were in training and test."""
    isic2018(tmp_path, 12)
    images = tmp_path / "ISIC2018_Task1-2_Training_Input"
    for twin in (3, 7):
        shutil.copy(images / "ISIC_0000001.jpg", images / f"ISIC_{twin:07d}.jpg")
    twins = ["ISIC_0000001", "ISIC_0000003", "ISIC_0000007"]
    store = prepare(Isic2018(tmp_path), tmp_path / "store", SIZE, progress=False)
    groups = store.cases.set_index("id")["group"]
    assert set(groups[twins]) == {"ISIC_0000001"} and groups.nunique() == 10
    assert store.notes == [f"{name}: {JOINED}" for name in twins[1:]]
    for fold in range(5):
        parts = split(store, fold, 5, 0)
        sides = [set(store.cases["id"][side]) & set(twins) for side in (parts.train, parts.validation, parts.test)]
        assert sorted(map(len, sides)) == [0, 0, 3]


@pytest.mark.parametrize("which", ["lesion", "attribute"])
def test_two_masks_of_one_image_are_both_named(tmp_path: Path, which: str) -> None:
    """The later file won: the lesion of the first was lost."""
    isic2018(tmp_path, 2)
    folder, name = {
        "lesion": ("ISIC2018_Task1_Training_GroundTruth", "ISIC_0000000_segmentation.png"),
        "attribute": ("ISIC2018_Task2_Training_GroundTruth", "ISIC_0000000_attribute_streaks.png"),
    }[which]
    other = name.lower().replace(".png", ".PNG")
    mask(tmp_path / folder / other, None)
    data = Isic2018(tmp_path)
    assert list(data.ids) == ["ISIC_0000001"] and len(data.problems) == 1
    assert data.problems[0].startswith("ISIC_0000000: two files are the same mask of it, ")
    assert name in data.problems[0] and other in data.problems[0]


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "TIF"])
def test_masks_that_are_no_png_are_named_as_such(tmp_path: Path, suffix: str) -> None:
    isic2018(tmp_path, 2)
    for path in sorted(tmp_path.glob("*GroundTruth/*.png")):
        path.rename(path.with_suffix(f".{suffix}"))
    problems = Isic2018(tmp_path).problems
    said = f"mask that is .{suffix} and not .png: save it as PNG, with 0 and 255 alone"
    assert f"ISIC_0000000_segmentation.{suffix}: {said}" in problems
    assert sum(said in problem for problem in problems) == 12


def test_the_same_pixels_in_other_files_are_twins_too(tmp_path: Path) -> None:
    """Touched by another program: its bytes differ, and folds must not part it from its twin."""
    isic2018(tmp_path / "isic", 4)
    images = tmp_path / "isic" / "ISIC2018_Task1-2_Training_Input"
    resaved(images / "ISIC_0000001.jpg", images / "ISIC_0000003.jpg")
    store = prepare(Isic2018(tmp_path / "isic"), tmp_path / "s", SIZE, progress=False)
    assert store.cases["group"].tolist() == ["ISIC_0000000", "ISIC_0000001", "ISIC_0000002", "ISIC_0000001"]
    assert store.notes == [f"ISIC_0000003: {JOINED}"]
    text = manifest(tmp_path / "data")
    resaved(tmp_path / "data" / "images" / "c0.png", tmp_path / "data" / "images" / "c2.png")
    store = prepare(read(tmp_path / "data", text), tmp_path / "t", SIZE, progress=False)
    assert store.cases["group"].tolist() == ["g0", "g1", "g2"] and store.notes == [f"c2: {APART}"]


def resaved(path: Path, other: Path) -> None:
    other.write_bytes(path.read_bytes() + b"what another program appends")

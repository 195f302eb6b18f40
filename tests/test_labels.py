"""One label image a case: colours and indices by a legend, and what is wrong with either said by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tatl.data import readers
from tatl.data.case import BadCase, Size
from tatl.data.images.files import TURNED
from tatl.data.images.pictures import ORIENTATION
from tatl.data.images.reading import Reading
from tatl.data.readers.labels import LabelImages

SIZE = Size(8, 16)
SHARED = Path(__file__).resolve().parents[2] / "shared/data/leaf"
LEGEND = {
    "images": "images/*.png",
    "labels": "labels/{case}.png",
    "classes": {"ground": [0, 0, 0], "leaf": [0, 176, 0], "spot": [255, 0, 0], "void": [9, 9, 9]},
    "lesion": ["leaf", "spot"],
    "attributes": {"spot": "spot"},
    "ignore": ["void"],
}


def draw(root: Path, case: str, colours: np.ndarray, palette: bool = False, suffix: str = ".png") -> None:
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 16, 3), 99, np.uint8)).save(root / f"images/{case}.png")
    picture = Image.fromarray(colours.astype(np.uint8))
    if palette:
        picture = Image.fromarray(colours.astype(np.uint8)).convert("P")
        picture.putpalette([5, 5, 5] * 256)  # what an index looks like is no matter
        picture = Image.frombytes("P", picture.size, colours.astype(np.uint8).tobytes())
        picture.putpalette([5, 5, 5] * 256)
    picture.save(root / f"labels/{case}{suffix}")


def legend(root: Path, **changed: Any) -> Path:
    (root / "labels.yaml").write_text(yaml.safe_dump({**LEGEND, **changed}, sort_keys=False))
    return root


def leaf() -> np.ndarray:
    """A leaf of 64 pixels with a spot of 8, and a border of 8 that is ignored."""
    colours = np.zeros((8, 16, 3))
    colours[:, :8] = (0, 176, 0)
    colours[2:4, 2:6] = (255, 0, 0)
    colours[:, 15] = (9, 9, 9)
    return colours


def test_colours_become_masks(tmp_path: Path) -> None:
    draw(tmp_path, "a", leaf())
    reader = LabelImages(legend(tmp_path))
    case = reader.read(0, SIZE)
    assert case.lesion is not None and case.lesion.sum() == 64
    assert (case.attributes["spot"] == (leaf() == (255, 0, 0)).all(2)).all()  # type: ignore[comparison-overlap]
    assert reader.provenance["ignored"] == ["void"] and "impossible" in reader.provenance["overlap"]


def test_indices_are_read_from_a_palette_whatever_its_colours(tmp_path: Path) -> None:
    indices = np.zeros((8, 16))
    indices[2:4, 2:6] = 2
    draw(tmp_path, "a", indices, palette=True)
    classes = {"ground": 0, "spot": 2}
    case = LabelImages(legend(tmp_path, classes=classes, lesion=[], ignore=[])).read(0, SIZE)
    assert case.lesion is None
    mask = case.attributes["spot"]
    assert mask is not None and mask.sum() == 8


def test_a_colour_without_a_class_is_named_with_its_share_and_file(tmp_path: Path) -> None:
    colours = leaf()
    colours[0, :4] = (1, 2, 3)
    draw(tmp_path, "a", colours)
    with pytest.raises(BadCase, match=r"\(1, 2, 3\) in 3.12% of a.png is no class"):
        LabelImages(legend(tmp_path)).read(0, SIZE)


def test_labels_as_jpeg_are_refused(tmp_path: Path) -> None:
    draw(tmp_path, "a", leaf(), suffix=".jpg")
    with pytest.raises(BadCase, match=r"a\.jpg is a JPEG file.*save it as PNG"):
        LabelImages(legend(tmp_path, labels="labels/{case}.jpg")).read(0, SIZE)


def test_a_label_image_of_another_size_is_refused(tmp_path: Path) -> None:
    draw(tmp_path, "a", np.zeros((4, 16, 3)))
    with pytest.raises(BadCase, match="a mask has the size of its image"):
        LabelImages(legend(tmp_path)).read(0, SIZE)


def test_an_orientation_that_the_labels_may_not_have_is_told(tmp_path: Path) -> None:
    """Picture and label image disagreed by half a turn without a word."""
    draw(tmp_path, "a", leaf())
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    Image.new("RGB", (16, 8)).save(tmp_path / "images/a.png", exif=exif)
    assert LabelImages(legend(tmp_path)).read(0, SIZE).notes == (TURNED.format(3),)
    assert not LabelImages(legend(tmp_path), reading=Reading(exif="ignore")).read(0, SIZE).notes


@pytest.mark.parametrize("data", ["labels", "coco"])
@pytest.mark.parametrize("option", [{"foreground": "1"}, {"foreground": "1", "ignore": "2"}, {"threshold": 128}])
def test_what_the_levels_of_masks_mean_is_not_said_of_data_without_masks(data: str, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"is of --data .*manifest, and --data {data} is given: leave it out"):
        readers.reader(data, "anywhere", reading=Reading(**option))


def test_a_picture_without_labels_is_a_problem(tmp_path: Path) -> None:
    draw(tmp_path, "a", leaf())
    draw(tmp_path, "b", leaf())
    (tmp_path / "labels/b.png").unlink()
    reader = LabelImages(legend(tmp_path))
    assert reader.ids == ["a"]
    assert reader.problems == ["b: no label images as labels/{case}.png"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"colours": {}}, "unknown keys colours"),
        ({"classes": {"a": [0, 0, 0], "b": [0, 0, 0]}}, "to a and b: a colour is one class"),
        ({"classes": {"a": [0, 0], "spot": 1}}, "must be an index or"),
        ({"classes": {"leaf": 1, "spot": [1, 1, 1]}}, "mixes indices and colours"),
        ({"lesion": ["stem"]}, "class 'stem' that its classes lack"),
        ({"attributes": {"rust": "spot", "miner": "spot"}}, "to rust and miner: give a table"),
        ({"attributes": {"union": "spot"}}, "reserved name"),
        ({"labels": "labels/x.png"}, "write {case}"),
        ({"table": {"file": "absent.csv", "case": "id"}}, "does not exist"),
    ],
)
def test_a_legend_that_cannot_be_meant_is_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    draw(tmp_path, "a", leaf())
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        LabelImages(legend(tmp_path, **changed))


def test_without_a_legend_the_error_says_what_to_write(tmp_path: Path) -> None:
    draw(tmp_path, "a", leaf())
    with pytest.raises(FileNotFoundError, match="--labels FILE"):
        LabelImages(tmp_path)


SHARED_CLASS = {"attributes": {"rust": "spot", "miner": "spot"}, "table": {"file": "cases.csv", "case": "id"}}


def tabled(root: Path, rows: str, **changed: Any) -> LabelImages:
    for case in "abc":
        draw(root, case, leaf())
    (root / "cases.csv").write_text("id,rust,miner\n" + rows)
    return LabelImages(legend(root, **SHARED_CLASS, **changed))


def test_a_table_says_whose_the_spots_are(tmp_path: Path) -> None:
    reader = tabled(tmp_path, "a,1,0\nb,0,1\nc,,\n")
    present = [
        [name for name, m in reader.read(i, SIZE).attributes.items() if m is not None and m.any()] for i in range(3)
    ]
    assert present == [["rust"], ["miner"], []]


def test_several_attributes_of_one_class_are_a_problem_or_left_out(tmp_path: Path) -> None:
    rows = "a,1,1\nb,0,1\nc,,\n"
    assert tabled(tmp_path, rows).problems == ["a: rust and miner share a class: say `several: skip` to leave such out"]
    reader = tabled(tmp_path, rows, several="skip")
    assert reader.ids == ["b", "c"] and reader.problems == [] and reader.provenance["several"] == 1


def test_two_lines_of_one_case_are_refused(tmp_path: Path) -> None:
    """The last of them counted, without a word."""
    with pytest.raises(ValueError, match=r"cases\.csv has 2 lines of the case 'b': leave one line for each case"):
        tabled(tmp_path, "a,1,0\nb,0,1\nb,0,0\nc,,\n")
    assert tabled(tmp_path, "a,1,0\nb,0,1\nc,,\n,,\n,,\n").ids == ["a", "b", "c"]  # empty lines of a spreadsheet


def test_an_attribute_of_the_table_that_no_pixel_shows_is_a_bad_case(tmp_path: Path) -> None:
    reader = tabled(tmp_path, "a,1,0\nb,0,1\nc,,\n")
    draw(tmp_path, "a", np.zeros((8, 16, 3)))
    with pytest.raises(BadCase, match=r"cases\.csv says rust and no pixel has its colour"):
        reader.read(0, SIZE)


def test_a_case_that_the_table_lacks_is_a_problem(tmp_path: Path) -> None:
    assert tabled(tmp_path, "a,1,0\nb,0,1\n").problems == ["c: cases.csv has no line for it"]

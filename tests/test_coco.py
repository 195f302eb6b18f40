"""COCO files: polygons, run lengths and crowds as masks; what is wrong with a file said by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as encoder

from tatl.data.case import BadCase, Size
from tatl.data.images.files import TURNED
from tatl.data.images.pictures import ORIENTATION
from tatl.data.images.reading import Reading
from tatl.data.readers.coco import Coco

SIZE = Size(8, 16)
SQUARE = [2, 2, 6, 2, 6, 6, 2, 6]  # x, y corners: 4 x 4 pixels


def region(number: int, category: int, segmentation: Any, image: int = 1, crowd: int = 0) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": crowd}


def file(root: Path, regions: list[dict[str, Any]], **changed: Any) -> Path:
    (root / "pictures").mkdir(parents=True, exist_ok=True)
    for case in "ab":
        Image.fromarray(np.full((8, 16, 3), ord(case), np.uint8)).save(root / f"pictures/{case}.png")
    tables: dict[str, Any] = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 8, "width": 16, "group": "p"},
            {"id": 2, "file_name": "pictures/b.png", "height": 8, "width": 16},
        ],
        "categories": [{"id": 7, "name": "spot"}, {"id": 8, "name": "Lesion"}, {"id": 9, "name": "scale"}],
        "annotations": regions,
    }
    (root / "instances.json").write_text(json.dumps({**tables, **changed}))
    return root


def area(reader: Coco, name: str, index: int = 0) -> int:
    case = reader.read(index, SIZE)
    mask = case.lesion if name == "lesion" else case.attributes[name]
    assert mask is not None
    return int(mask.sum())


def run_lengths(count: int, compressed: bool) -> dict[str, Any]:
    """The first `count` pixels of the first column, as COCO's crowds are written."""
    mask = np.zeros((8, 16), np.uint8, order="F")
    mask[:count, 0] = 1
    if not compressed:
        return {"size": [8, 16], "counts": [0, count, 8 * 16 - count]}
    encoded = encoder.encode(mask)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def test_polygons_of_a_category_are_one_mask_and_categories_may_overlap(tmp_path: Path) -> None:
    other = [10, 2, 14, 2, 14, 6, 10, 6]
    regions = [region(1, 7, [SQUARE]), region(2, 7, [other]), region(3, 9, [SQUARE]), region(4, 8, [SQUARE, other])]
    reader = Coco(file(tmp_path, regions))
    assert reader.attributes == ("spot", "scale")
    assert [area(reader, name) for name in ("spot", "scale", "lesion")] == [32, 16, 32]
    assert area(reader, "spot", 1) == 0 and reader.groups == ["p", "b"]


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_and_crowds_are_masks(tmp_path: Path, compressed: bool) -> None:
    assert area(Coco(file(tmp_path, [region(1, 7, run_lengths(5, compressed), crowd=1)])), "spot") == 5


def test_what_lies_outside_of_the_picture_is_cut_off(tmp_path: Path) -> None:
    beyond, outside = [12, 4, 40, 4, 40, 20, 12, 20], [20, 30, 24, 30, 24, 34, 20, 34]
    reader = Coco(file(tmp_path, [region(1, 7, [beyond]), region(2, 9, [outside]), region(3, 8, [SQUARE])]))
    assert area(reader, "spot") == 16 and area(reader, "scale") == 0
    said = [note for note in reader.read(0, SIZE).notes if "outside of the picture" in note]
    assert [note.split(":")[0] for note in said] == [
        "has annotation 1 (spot) outside of the picture, in part",
        "has annotation 2 (scale) outside of the picture, of which nothing is left",
    ]


def test_without_a_lesion_category_the_lesion_is_unknown(tmp_path: Path) -> None:
    reader = Coco(file(tmp_path, [region(1, 7, [SQUARE])], categories=[{"id": 7, "name": "spot"}]))
    assert reader.read(0, SIZE).lesion is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"images": []}, "lacks images"),
        ({"images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 16}] * 2}, "more than once in images"),
        ({"images": [{"id": 1, "file_name": "a.png"}]}, "without height, width"),
        ({"categories": [{"id": 7, "name": "union"}]}, "reserved name"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Coco(file(tmp_path, [region(1, 7, [SQUARE])], **changed))


def test_pictures_and_regions_that_miss_each_other_are_problems(tmp_path: Path) -> None:
    root = file(tmp_path, [region(1, 7, [SQUARE], image=5), region(2, 70, [SQUARE])])
    (root / "pictures/b.png").unlink()
    assert Coco(root).problems == [
        "b: its image pictures/b.png is not there",
        "image_id 5: annotations without image",
        "category_id 70: annotations without category",
    ]


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ([], "annotation 1 has no segmentation"),
        ([[1, 2]], "annotation 1 cannot be drawn"),
        (run_lengths(3, True) | {"size": [4, 32]}, "annotation 1 is drawn on 32 x 4 pixels"),
    ],
)
def test_a_region_that_cannot_be_drawn_is_a_bad_case(tmp_path: Path, segmentation: Any, said: str) -> None:
    with pytest.raises(BadCase, match=said):
        Coco(file(tmp_path, [region(1, 7, segmentation)])).read(0, SIZE)


def test_a_picture_of_another_size_is_a_bad_case(tmp_path: Path) -> None:
    root = file(tmp_path, [region(1, 7, [SQUARE])])
    Image.new("RGB", (10, 10)).save(root / "pictures/a.png")
    with pytest.raises(BadCase, match="16 x 8 pixels and its image 10 x 10"):
        Coco(root).read(0, SIZE)


def test_an_orientation_that_the_regions_may_not_have_is_told(tmp_path: Path) -> None:
    root, exif = file(tmp_path, [region(1, 7, [SQUARE])]), Image.Exif()
    for told in (3, 6):
        exif[ORIENTATION] = told
        Image.new("RGB", (16, 8)).save(root / "pictures/a.png", exif=exif)
        stored = Coco(root, reading=Reading(exif="ignore")).read(0, SIZE)
        assert stored.attributes["spot"].sum() == 16 and not stored.notes  # type: ignore[union-attr]
        if told == 3:
            assert Coco(root).read(0, SIZE).notes == (TURNED.format(3),)
        else:
            with pytest.raises(
                BadCase, match=r"is 16 x 8 pixels and its image .*EXIF orientation \(6\) .*--exif ignore"
            ):
                Coco(root).read(0, SIZE)


def test_several_files_have_to_be_chosen_from(tmp_path: Path) -> None:
    root = file(tmp_path, [region(1, 7, [SQUARE])])
    (root / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="--annotations FILE"):
        Coco(root)
    assert Coco(root, root / "instances.json").ids == ["a", "b"]

"""ISIC folders and cases.csv: what they hold is read, and what is wrong with them is said."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tatl.data.case import BadCase, Size
from tatl.data.images.reading import Reading
from tatl.data.readers import DATA, reader
from tatl.data.readers.isic import ATTRIBUTES_2017, Isic2017, Isic2018, decode_features
from tatl.data.readers.manifest import Manifest
from tatl.data.store import BadCases, counts, prepare
from tatl.names import PRETEXTS, SKIN_ATTRIBUTES

SIZE = Size(12, 16)
HEIGHT, WIDTH = 30, 40


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path)


def mask(path: Path, box: tuple[int, int, int, int] | None, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = Image.new("L", size, 0)
    if box:
        drawn.paste(255, box)
    drawn.save(path)


def isic2018(root: Path, count: int, split: str = "Training", first: int = 0, version: str = "") -> None:
    for i in range(first, first + count):
        name = f"ISIC_{i:07d}"
        picture(root / f"ISIC2018_Task1-2_{split}_Input" / f"{name}.jpg", i)
        mask(root / f"ISIC2018_Task1_{split}_GroundTruth" / f"{name}_segmentation.png", (10, 5, 30, 25))
        for k, attribute in enumerate(SKIN_ATTRIBUTES):
            folder = root / f"ISIC2018_Task2_{split}_GroundTruth{version}"
            mask(folder / f"{name}_attribute_{attribute}.png", (12, 8, 14 + k, 12) if (i + k) % 2 else None)


def superpixels(path: Path, count: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    index = np.arange(size[0] * size[1]).reshape(size[1], size[0]) % count
    colours = np.stack([index & 255, index >> 8 & 255, index >> 16], axis=-1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours).save(path)
    return index


def isic2017(root: Path, count: int, split: str = "Training", parts: tuple[int, ...] = (1, 2)) -> None:
    for i in range(count):
        name = f"ISIC_{i:07d}"
        picture(root / f"ISIC-2017_{split}_Data" / f"{name}.jpg", i)
        superpixels(root / f"ISIC-2017_{split}_Data" / f"{name}_superpixels.png", 300)
        if 1 in parts:
            folder = root / f"ISIC-2017_{split}_Part1_GroundTruth"
            mask(folder / f"{name.lower()}_Segmentation.png", (10, 5, 30, 25))
        if 2 in parts:
            flags = {a: [int((j + i) % 7 == k) for j in range(300)] for k, a in enumerate(ATTRIBUTES_2017)}
            folder = root / f"ISIC-2017_{split}_Part2_GroundTruth"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}_features.json").write_text(json.dumps(flags))


# ---- ISIC 2018


@pytest.mark.parametrize("version", ["", "_v3"])
def test_isic2018_reads_images_lesions_and_attributes(tmp_path: Path, version: str) -> None:
    isic2018(tmp_path, 3, version=version)
    for folder in tmp_path.iterdir():
        (folder / "ATTRIBUTION.txt").write_text("x")
        (folder / "LICENSE.txt").write_text("x")
    data = Isic2018(tmp_path)
    assert list(data.ids) == list(data.groups) == ["ISIC_0000000", "ISIC_0000001", "ISIC_0000002"]
    assert not data.problems
    case = data.read(1, Size(HEIGHT, WIDTH))
    assert (case.height, case.width) == (HEIGHT, WIDTH)
    assert case.lesion is not None and case.lesion.sum() == 400
    areas = [case.attributes[a].sum() for a in SKIN_ATTRIBUTES]
    assert areas == [8, 0, 16, 0, 24]
    masks = list(data.sources[1].attributes)
    assert masks == sorted(SKIN_ATTRIBUTES)  # stores remember it: in another order they would be another's


def test_without_a_task_folder_its_masks_are_unknown_not_absent(tmp_path: Path) -> None:
    isic2018(tmp_path, 2)
    kept = tmp_path / "ISIC2018_Task1_Training_GroundTruth"
    kept.rename(tmp_path / "elsewhere")
    case = Isic2018(tmp_path).read(0, SIZE)
    assert case.lesion is None and all(m is not None for m in case.attributes.values())
    (tmp_path / "elsewhere").rename(kept)
    shutil.rmtree(tmp_path / "ISIC2018_Task2_Training_GroundTruth")
    case = Isic2018(tmp_path).read(0, SIZE)
    assert case.lesion is not None and all(m is None for m in case.attributes.values())


def test_splits_with_masks_are_read_and_one_can_be_chosen(tmp_path: Path) -> None:
    isic2018(tmp_path, 2)
    isic2018(tmp_path, 1, "Validation", first=10)
    picture(tmp_path / "ISIC2018_Task1-2_Test_Input" / "ISIC_0000020.jpg")  # its truth was not published at first
    data = Isic2018(tmp_path)
    assert data.provenance["splits"] == ["Training", "Validation"] and len(data.ids) == 3 and not data.problems
    assert list(reader("isic2018", tmp_path, split="Validation").ids) == ["ISIC_0000010"]
    with pytest.raises(ValueError, match="no ground truth folder"):
        Isic2018(tmp_path, "Test")
    with pytest.raises(ValueError, match="split 'Tests' is not one of Training, Validation, Test"):
        Isic2018(tmp_path, "Tests")


def test_images_without_masks_and_masks_without_images_are_counted_and_named(tmp_path: Path) -> None:
    isic2018(tmp_path, 9)
    truth = tmp_path / "ISIC2018_Task2_Training_GroundTruth"
    for i in range(7):
        for path in (*truth.glob(f"ISIC_000000{i}_*"), *(tmp_path.glob(f"*Task1_*/ISIC_000000{i}_*"))):
            path.unlink()
    (tmp_path / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000008.jpg").unlink()
    data = Isic2018(tmp_path)
    assert list(data.ids) == ["ISIC_0000007"]
    assert len(data.problems) == 7 + 6
    with pytest.raises(BadCases) as raised:
        prepare(data, tmp_path / "store", SIZE, progress=False)
    first = ", ".join(f"ISIC_000000{i}" for i in range(5))
    assert f"image without masks: 7 cases ({first}, ...)" in str(raised.value)
    assert "mask without image: 6 cases (ISIC_0000008_segmentation.png" in str(raised.value)
    assert raised.value.problems == list(data.problems)


def test_an_image_that_lacks_some_masks_says_which(tmp_path: Path) -> None:
    isic2018(tmp_path, 4)
    truth = tmp_path / "ISIC2018_Task2_Training_GroundTruth"
    (truth / "ISIC_0000000_attribute_streaks.png").unlink()
    (tmp_path / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000001_segmentation.png").unlink()
    for path in truth.glob("ISIC_0000002_*"):
        path.unlink()
    mask(truth / "ISIC_0000003_attribute_dots.png", None)
    problems = "\n".join(Isic2018(tmp_path).problems)
    assert "ISIC_0000000: image without its streaks mask" in problems
    assert "ISIC_0000001: image without its lesion mask" in problems
    assert "ISIC_0000002: image without its pigment_network mask and globules mask and " in problems
    assert "ISIC_0000003_attribute_dots.png: mask of an unknown attribute" in problems


def test_an_id_that_occurs_twice_is_left_out_and_named(tmp_path: Path) -> None:
    isic2018(tmp_path, 2)
    isic2018(tmp_path, 1, "Validation")
    data = Isic2018(tmp_path)
    assert list(data.ids) == ["ISIC_0000001"]
    assert len(data.problems) == 1 and data.problems[0].startswith("ISIC_0000000: duplicate id (")


@pytest.mark.parametrize("kind", ["isic2018", "isic2017", "manifest"])
def test_missing_empty_and_foreign_roots(tmp_path: Path, kind: str) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist: give the folder"):
        reader(kind, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is an empty folder: give the folder"):
        reader(kind, tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file: give the folder"):
        reader(kind, tmp_path / "file")
    with pytest.raises((ValueError, FileNotFoundError), match=r"has none of the folders|has no cases\.csv"):
        reader(kind, tmp_path)
    with pytest.raises(ValueError, match=f"--data {kind} needs --root"):
        reader(kind)


def test_an_input_folder_without_images(tmp_path: Path) -> None:
    isic2018(tmp_path, 1)
    (tmp_path / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000000.jpg").unlink()
    with pytest.raises(ValueError, match="holds no image"):
        Isic2018(tmp_path)


@pytest.mark.parametrize(
    ("option", "of"),
    [
        ({"split": "Training"}, ("isic2018", "isic2017")),
        ({"reading": Reading(follow_links=True)}, ("manifest",)),
        ({"labels": Path("labels.yaml")}, ("labels",)),
        ({"annotations": Path("coco.json")}, ("coco",)),
        ({"cases": 9}, ("phantom",)),
        ({"seed": 1}, ("phantom",)),
        ({"enrich": True}, ("phantom",)),
    ],
)
def test_an_option_that_the_data_have_no_use_for_is_refused(option: dict[str, Any], of: tuple[str, ...]) -> None:
    """It was ignored without a word."""
    (key,) = option
    name = "follow-links" if key == "reading" else key
    for data in DATA:
        root = None if data == "phantom" else "anywhere"
        if data in of:
            with pytest.raises(FileNotFoundError, match="anywhere") if root else nullcontext():
                reader(data, root, **option)
        else:
            with pytest.raises(
                ValueError, match=rf"--{name} is of --data {of[0]}.*, and --data {data} is given: leave"
            ):
                reader(data, root, **option)


def test_what_is_of_files_is_not_said_of_the_phantom() -> None:
    with pytest.raises(ValueError, match=r"--root is of .* and --data phantom is given"):
        reader("phantom", "anywhere")
    with pytest.raises(ValueError, match=r"--threshold is of .* and --data phantom is given"):
        reader("phantom", reading=Reading(threshold=128))


def test_unknown_data_names() -> None:
    with pytest.raises(
        ValueError, match="--data 'isic' is not one of isic2018, isic2017, manifest, labels, coco, phantom"
    ):
        reader("isic", ".")


def test_real_isic2018_areas(shared: Path) -> None:
    data = Isic2018(shared / "isic2018")
    assert list(data.ids) == ["ISIC_0000000", "ISIC_0000001"] and not data.problems
    for size, tolerance in ((Size(361, 482), 0.006), (Size(384, 512), 0.02)):
        case = data.read(1, size)
        area = {name: 100 * m.mean() for name, m in case.attributes.items() if m is not None}
        assert area == pytest.approx(
            {"globules": 0.11, "pigment_network": 1.42, "streaks": 0.66, "milia_like_cyst": 0, "negative_network": 0},
            abs=tolerance,
        )


# ---- ISIC 2017


def test_isic2017_decodes_superpixels_and_ignores_case(tmp_path: Path) -> None:
    isic2017(tmp_path, 2)
    data = Isic2017(tmp_path)
    assert list(data.ids) == ["ISIC_0000000", "ISIC_0000001"] and not data.problems
    case = data.read(1, Size(HEIGHT, WIDTH))
    assert case.lesion is not None and case.lesion.sum() == 400
    index = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 300
    for k, name in enumerate(ATTRIBUTES_2017):
        assert np.array_equal(case.attributes[name], (index + 1) % 7 == k)


def test_isic2017_parts_that_are_not_there_are_unknown(tmp_path: Path) -> None:
    isic2017(tmp_path, 2, parts=(1,))
    isic2017(tmp_path, 1, "Test_v2", parts=(2,))
    for name in os.listdir(tmp_path / "ISIC-2017_Test_v2_Data"):
        moved = tmp_path / "ISIC-2017_Test_v2_Data" / name
        moved.rename(moved.with_name(name.replace("0000000", "0000009")))
    truth = tmp_path / "ISIC-2017_Test_v2_Part2_GroundTruth"
    (truth / "ISIC_0000000_features.json").rename(truth / "ISIC_0000009_features.json")
    data = Isic2017(tmp_path)
    assert list(data.ids) == ["ISIC_0000000", "ISIC_0000001", "ISIC_0000009"] and not data.problems
    assert data.provenance["splits"] == ["Training", "Test_v2"]
    store = prepare(data, tmp_path / "store", SIZE, progress=False)
    assert store.known("lesion").tolist() == [True, True, False]
    assert store.known("union").tolist() == [False, False, True]
    assert store.present("streaks").tolist() == [False, False, True]


def test_isic2017_lists_what_is_missing(tmp_path: Path) -> None:
    isic2017(tmp_path, 5)
    (tmp_path / "ISIC-2017_Training_Part2_GroundTruth" / "ISIC_0000000_features.json").unlink()
    (tmp_path / "ISIC-2017_Training_Data" / "ISIC_0000001_superpixels.png").unlink()
    (tmp_path / "ISIC-2017_Training_Part1_GroundTruth" / "isic_0000002_Segmentation.png").unlink()
    (tmp_path / "ISIC-2017_Training_Data" / "ISIC_0000003.jpg").unlink()
    data = Isic2017(tmp_path)
    assert list(data.ids) == ["ISIC_0000004"]
    problems = "\n".join(data.problems)
    assert "ISIC_0000000: image without its features" in problems
    assert "ISIC_0000001: image without its superpixels" in problems
    assert "ISIC_0000002: image without its lesion mask" in problems
    assert "isic_0000003_Segmentation.png: mask without image" in problems
    assert "ISIC_0000003_features.json: mask without image" in problems


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"streaks": [0] * 299}, r"has 299 values for streaks and .* has 300 superpixels"),
        ({"streaks": [0] * 301}, r"has 301 values for streaks and .* has 300 superpixels"),
        ({"globules": [0] * 300, "dots": [0] * 300}, "has the unknown keys dots, globules"),
        ({"streaks": [2] * 300}, "something else than a list of 0 and 1"),
        ({"streaks": None}, "something else than a list of 0 and 1"),
        ({"streaks": [[0]] * 300}, "something else than a list of 0 and 1"),
        ([0] * 300, "not a JSON object"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_bad_features_are_bad_cases(tmp_path: Path, content: object, reason: str) -> None:
    superpixels(tmp_path / "a_superpixels.png", 300)
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "a_features.json").write_text(text)
    with pytest.raises(BadCase, match=rf"a_features\.json .*{reason}|a_features\.json {reason}"):
        decode_features(tmp_path / "a_superpixels.png", tmp_path / "a_features.json", (HEIGHT, WIDTH))


def test_superpixels_of_another_size_or_kind_are_bad_cases(tmp_path: Path) -> None:
    superpixels(tmp_path / "s.png", 300)
    (tmp_path / "f.json").write_text(json.dumps({"streaks": [0] * 300}))
    with pytest.raises(BadCase, match=r"s\.png is 40 x 30 pixels and its image 41 x 30"):
        decode_features(tmp_path / "s.png", tmp_path / "f.json", (30, 41))
    Image.new("L", (40, 30)).save(tmp_path / "s.png")
    with pytest.raises(BadCase, match=r"s\.png .* coded in RGB"):
        decode_features(tmp_path / "s.png", tmp_path / "f.json", (30, 40))


def test_an_attribute_that_the_features_do_not_tell_is_unknown(tmp_path: Path) -> None:
    isic2017(tmp_path, 1)
    (tmp_path / "ISIC-2017_Training_Part2_GroundTruth" / "ISIC_0000000_features.json").write_text(
        json.dumps({"streaks": [1] + [0] * 299})
    )
    attributes = Isic2017(tmp_path).read(0, SIZE).attributes
    assert attributes["streaks"] is not None and attributes["streaks"].any()
    assert attributes["pigment_network"] is None


def test_real_isic2017_part_2_decodes_to_the_stated_areas(shared: Path) -> None:
    data = Isic2017(shared / "isic2017", "Test_v2")
    assert list(data.ids) == ["ISIC_0012758"]
    case = data.read(0, Size(602, 639))
    assert case.lesion is None and (case.height, case.width) == (602, 639)
    area = {name: 100 * m.mean() for name, m in case.attributes.items() if m is not None}
    assert area == pytest.approx(
        {"pigment_network": 2.61, "streaks": 0.42, "milia_like_cyst": 0, "negative_network": 0}, abs=0.005
    )


def test_real_isic2017_lists_600_pairs_and_the_part_2_case(shared: Path) -> None:
    data = Isic2017(shared / "isic2017")
    assert len(data.ids) == 601 and not data.problems
    assert data.read(0, SIZE).attributes["streaks"] is None


# ---- cases.csv


def manifest(root: Path, text: str) -> Path:
    for name in ("a", "b", "c"):
        picture(root / "images" / f"{name}.png", ord(name))
        mask(root / "masks" / f"{name}.png", (12, 8, 20, 12))
    (root / "cases.csv").write_text(text)
    return root


def test_cases_csv_with_any_attributes(tmp_path: Path) -> None:
    manifest(
        tmp_path,
        "case,image,group,lesion,dots,blue veil\n"
        "one,images/a.png,p1,masks/a.png,masks/a.png,\n"
        "two,images/b.png,p1,,,\n\n"
        " three , images/c.png ,p2,masks/c.png,,masks/c.png\n",
    )
    data = Manifest(tmp_path)
    assert list(data.ids) == ["one", "two", "three"] and list(data.groups) == ["p1", "p1", "p2"]
    assert tuple(data.attributes) == ("dots", "blue veil") and not data.problems
    store = prepare(data, tmp_path / "store", SIZE, progress=False)
    assert store.cases["lesion"].tolist() == ["present", "unknown", "present"]
    assert store.cases["dots"].tolist() == ["present", "absent", "absent"]
    assert store.cases["blue veil"].tolist() == ["absent", "absent", "present"]
    assert store.known("union").all() and store.present("union").tolist() == [True, False, True]


def test_no_lesion_column_means_unknown_and_an_empty_column_is_an_absent_attribute(tmp_path: Path) -> None:
    manifest(tmp_path, "\ufeffcase,image,group,dots,veil\n1,images/a.png,p,masks/a.png,\n2,images/b.png,q,,\n")
    store = prepare(Manifest(tmp_path), tmp_path / "store", SIZE, progress=False)
    assert not store.known("lesion").any()
    assert store.known("veil").all() and not store.present("veil").any()
    assert store.cases["id"].tolist() == ["1", "2"]


def test_a_question_mark_says_that_a_mask_is_unknown(tmp_path: Path) -> None:
    manifest(
        tmp_path,
        "case,image,group,lesion,dots,veil\n"
        "1,images/a.png,p,masks/a.png,masks/a.png,?\n"
        "2,images/b.png,q,?,?,?\n"
        "3,images/c.png,r,,,?\n",
    )
    store = prepare(Manifest(tmp_path), tmp_path / "store", SIZE, progress=False)
    assert store.cases["lesion"].tolist() == ["present", "unknown", "unknown"]
    assert store.cases["dots"].tolist() == ["present", "unknown", "absent"]
    assert not store.known("veil").any() and not store.known("union").any() and not store.present("union").any()
    told = counts(store).set_index("mask")
    assert told.loc["dots"].to_dict() == {"present": 1, "known": 2, "images": 3}
    assert told.loc["union"].to_dict() == {"present": 0, "known": 0, "images": 3}


def test_what_a_cell_says_is_part_of_what_tells_that_data_have_changed(tmp_path: Path) -> None:
    text = "case,image,group,dots\n1,images/a.png,p,masks/a.png\n2,images/b.png,q,{}\n"
    prepare(Manifest(manifest(tmp_path, text.format(""))), tmp_path / "store", SIZE, progress=False)
    with pytest.raises(ValueError, match="another recipe"):
        prepare(Manifest(manifest(tmp_path, text.format("?"))), tmp_path / "store", SIZE, progress=False)


@pytest.mark.parametrize(("name", "odd"), [("p1/a", "/"), ("p1\\a", "\\"), ("a?", "?"), ("a\tb", "\t"), ("a:b", ":")])
def test_a_case_name_that_can_name_no_file_is_a_problem(tmp_path: Path, name: str, odd: str) -> None:
    data = Manifest(manifest(tmp_path, f"{HEAD}{name},images/a.png,p,\nb c (é),images/b.png,q,masks/b.png\n"))
    assert data.problems == [f"{name}: its case name holds {odd!r} and must be able to name a file: rename it"]
    assert list(data.ids) == ["b c (é)"]


HEAD = "case,image,group,dots\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("case,image,group,age\na,images/a.png,p,61\n", "unknown column 'age'.*'61'"),
        ("case,image,group,dots\na,images/a.png,p,masks/none.png\n", "unknown column 'dots'"),
        ("case,image,group,lesion,average\n", "has no cases"),
        ("case,image,group,average\na,images/a.png,p,masks/a.png\n", "'average', a reserved name"),
        ("case,image,group,Union\na,images/a.png,p,masks/a.png\n", "'Union', a reserved name"),
        ("case,image,group,Shuffled-Union\na,images/a.png,p,masks/a.png\n", "'Shuffled-Union', a reserved name"),
        ("case,image,group,Dots,veil,dots\na,images/a.png,p,,,\n", "'Dots' and 'dots', which differ in case alone"),
        ("case,image,group,a/b\na,images/a.png,p,masks/a.png\n", "cannot be part of a file's name"),
        ("case,image,group,\na,images/a.png,p,masks/a.png\n", "cannot be part of a file's name"),
        ("case,image,group,dots,dots\na,images/a.png,p,,\n", "'dots' more than once"),
        ("case;image;group;dots\na;images/a.png;p;\n", "lacks the columns case, image, group.*commas"),
        ("case,image,dots\na,images/a.png,\n", "lacks the columns group"),
        (HEAD + "a,images/a.png,p,yes\nb,images/b.png,q,?\n", r"unknown column 'dots'.*'yes'.*or hold \?"),
        (HEAD + "a,images/a.png,p\n", "4 columns and 3 cells in the line of 'a'"),
        (HEAD + 'a,"images/a.png,p,\n', "not a CSV in UTF-8"),
        (HEAD, "has no cases"),
        ("", "has no cases"),
    ],
)
def test_a_table_that_is_not_one_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Manifest(manifest(tmp_path, text))


@pytest.mark.parametrize("name", PRETEXTS)
def test_a_pretext_is_no_attribute(tmp_path: Path, name: str) -> None:
    """A run is known by its task: an attribute of this name would be trained as the pretext."""
    with pytest.raises(ValueError, match=f"column '{name}', a reserved name: rename it"):
        Manifest(manifest(tmp_path, f"case,image,group,{name}\na,images/a.png,p,masks/a.png\n"))


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    manifest(tmp_path, HEAD)
    (tmp_path / "cases.csv").write_bytes((HEAD + "é,images/a.png,p,\n").encode("latin-1"))
    with pytest.raises(ValueError, match="not a CSV in UTF-8"):
        Manifest(tmp_path)


def test_fifteen_attributes_fit(tmp_path: Path) -> None:
    names = [f"a{i}" for i in range(15)]
    manifest(tmp_path, f"case,image,group,{','.join(names)}\none,images/a.png,p" + ",masks/a.png" * 15)
    store = prepare(Manifest(tmp_path), tmp_path / "store", SIZE, progress=False)
    assert all(np.array_equal(store.mask(name, 0), store.mask("a0", 0)) for name in names)
    assert store.mask("a14", 0).any() and store.bits("union") == 0xFFFE


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x,images/none.png,q,", "x: its image 'images/none.png' does not exist"),
        ("x,images/b.png,q,masks/none.png", "x: its dots 'masks/none.png' does not exist"),
        ("x,images/b.png,q,yes", "x: its dots 'yes' is not a picture's file name"),
        ("x,images/b.png,,", "x: its group cell is empty"),
        (",images/b.png,q,", "line 3: its case cell is empty"),
        ("x,../outside.png,q,", "x: its image '../outside.png' leaves the folder"),
        ("x,images/../../outside.png,q,", "leaves the folder"),
        ("x,images/link.png,q,", "x: its image 'images/link.png' leaves the folder"),
        ("x,/etc/picture.png,q,", "x: its image '/etc/picture.png' leaves the folder"),
        ("x,images/a.png,q,", "x: its image a.png is also that of a, and their groups q and p differ"),
        ("x,images/copy.png,q,", "x: its image copy.png is also that of a, and their groups q and p differ"),
    ],
)
def test_bad_rows_are_problems_that_skip_bad_leaves_out(tmp_path: Path, line: str, reason: str) -> None:
    root = tmp_path / "data"
    picture(tmp_path / "outside.png", 9)
    manifest(root, f"{HEAD}a,images/a.png,p,masks/a.png\n{line}\nc,images/c.png,r,\n")
    (root / "images" / "link.png").symlink_to(tmp_path / "outside.png")
    shutil.copy(root / "images" / "a.png", root / "images" / "copy.png")
    data = Manifest(root)
    assert any(reason in problem for problem in data.problems)
    assert len(data.problems) == (2 if "also that of" in reason else 1)
    with pytest.raises(BadCases):
        prepare(data, tmp_path / "store", SIZE, progress=False)
    store = prepare(data, tmp_path / "store", SIZE, progress=False, skip_bad=True)
    assert store.skipped == list(data.problems)
    assert store.cases["id"].tolist() == (["c"] if "also that of" in reason else ["a", "c"])


def test_duplicate_ids_are_all_left_out(tmp_path: Path) -> None:
    manifest(tmp_path, HEAD + "a,images/a.png,p,\na,images/b.png,q,masks/b.png\nc,images/c.png,r,\n")
    data = Manifest(tmp_path)
    assert list(data.ids) == ["c"]
    assert data.problems == ["a: duplicate id (images/a.png, images/b.png)"]


def test_an_image_twice_in_one_group_is_no_leak(tmp_path: Path) -> None:
    manifest(tmp_path, HEAD + "a,images/a.png,p,\nb,images/a.png,p,masks/a.png\n")
    assert not Manifest(tmp_path).problems


def test_a_mask_of_another_size_than_its_turned_image(tmp_path: Path) -> None:
    manifest(tmp_path, HEAD + "a,images/a.png,p,masks/a.png\nb,images/b.png,q,masks/b.png\n")
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(tmp_path / "images" / "a.png") as upright:
        upright.save(tmp_path / "images" / "a.png", exif=exif)
    data = Manifest(tmp_path)
    with pytest.raises(BadCase, match=r"a\.png is 40 x 30 pixels and its image 30 x 40"):
        data.read(0, SIZE)
    mask(tmp_path / "masks" / "a.png", (8, 12, 12, 20), (HEIGHT, WIDTH))
    assert data.read(0, Size(WIDTH, HEIGHT)).attributes["dots"].sum() == 32


def test_real_idrid_prepares_with_its_published_counts(shared: Path, tmp_path: Path) -> None:
    store = prepare(reader("manifest", shared / "idrid"), tmp_path / "idrid", (192, 256), progress=False)
    names = ("microaneurysm", "haemorrhage", "hard_exudate", "soft_exudate")
    assert store.attributes == names and len(store) == 180
    assert [int(store.present(name).sum()) for name in names] == [117, 104, 113, 9]
    assert all(store.known(name).all() for name in names) and not store.known("lesion").any()
    assert store.cases["group"].nunique() == 15

"""The official score, against a plain-Python account of its definition and on 4x4 masks made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tatl.data.images.reading import Reading
from tatl.prediction.commands import score_command as score
from tatl.prediction.score import score_folders


def write(folder: Path, name: str, mask: np.ndarray) -> None:
    save(folder, name, mask.astype(np.uint8) * 255)


def save(folder: Path, name: str, levels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(levels.astype(np.uint8)).save(folder / f"{name}.png")


def definition(pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> dict[str, tuple[float, float]]:
    """Pooled Jaccard and Dice per attribute, and micro, pixel by pixel in Python's own numbers."""
    found, all_counts = {}, [0.0, 0.0, 0.0]
    for name, masks in pairs.items():
        counts = [0.0, 0.0, 0.0]
        for p, y in masks:
            for a, b in zip(p.ravel().tolist(), y.ravel().tolist(), strict=True):
                for k, hit in enumerate((a and b, a and not b, b and not a)):
                    counts[k] += bool(hit) / p.size
        found[name] = ratio(*counts)
        all_counts = [total + count for total, count in zip(all_counts, counts, strict=True)]
    return {**found, "micro": ratio(*all_counts)}


def ratio(tp: float, fp: float, fn: float) -> tuple[float, float]:
    whole = tp + fp + fn
    return (1.0, 1.0) if whole == 0 else (tp / whole, 2 * tp / (2 * tp + fp + fn))


def test_random_masks_score_as_the_definition_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for name, share in (("streaks", 0.1), ("globules", 0.5), ("absent", 0.0)):
        for image in range(4):
            size = (9 + image, 13)  # areas differ, so fractions are not counts
            p, y = rng.random(size) < share, rng.random(size) < share
            pairs.setdefault(name, []).append((p, y))
            write(tmp_path / "p", f"ISIC_{image:07d}_attribute_{name}", p)
            write(tmp_path / "y", f"ISIC_{image:07d}_attribute_{name}", y)
    table, per_image = score_folders(tmp_path / "p", tmp_path / "y")
    scored = table.set_index("attribute")
    expected = definition(pairs)
    for name, (jaccard, dice) in expected.items():
        assert abs(scored.loc[name, "jaccard"] - jaccard) < 1e-12
        assert abs(scored.loc[name, "dice"] - dice) < 1e-12
    mean = np.mean([expected[name][0] for name in pairs])
    assert abs(scored.loc["average", "jaccard"] - mean) < 1e-12
    assert len(per_image) == 12


def test_four_by_four(tmp_path: Path) -> None:
    """Half right: 4 pixels predicted, 4 true, 2 shared: J = 2/6, D = 4/8; nothing where nothing is: 1."""
    p, y, empty = (np.zeros((4, 4), bool) for _ in range(3))
    p[0], y[0, 2:], y[1, 2:] = True, True, True
    for name, predicted, true in (("streaks", p, y), ("globules", empty, empty)):
        write(tmp_path / "p", f"a_attribute_{name}", predicted)
        write(tmp_path / "y", f"a_attribute_{name}", true)
    table = score_folders(tmp_path / "p", tmp_path / "y")[0].set_index("attribute")
    assert table.loc["streaks", ["jaccard", "dice"]].tolist() == pytest.approx([1 / 3, 1 / 2], abs=1e-12)
    assert table.loc["globules", ["jaccard", "dice"]].tolist() == [1.0, 1.0]
    assert table.loc["micro", "jaccard"] == pytest.approx(1 / 3, abs=1e-12)
    assert table.loc["average", "jaccard"] == pytest.approx(2 / 3, abs=1e-12)


def test_masks_are_set_above_128(tmp_path: Path) -> None:
    """Of the levels 127, 128, 129, 255 the last two are set; a grey prediction is binarised, one of 0 and 1 is a mask.

    A grey true mask may hold labels: it is binarised where a person says so.
    """
    save(tmp_path / "p", "a_attribute_streaks", np.array([[127, 128, 129, 255]]))
    save(tmp_path / "y", "a_attribute_streaks", np.array([[0, 0, 255, 255]]))
    save(tmp_path / "p", "a_attribute_globules", np.array([[0, 1, 1, 0]]))
    save(tmp_path / "y", "a_attribute_globules", np.array([[90, 110, 150, 90]]))
    with pytest.raises(ValueError, match=r"a_attribute_globules\.png has the levels 90, 110, 150.*--threshold 128"):
        score_folders(tmp_path / "p", tmp_path / "y")
    scored = score_folders(tmp_path / "p", tmp_path / "y", reading=Reading(threshold=128))
    per_image = scored[1].set_index("attribute")
    assert per_image.loc["streaks", ["tp", "fp", "fn", "tn"]].tolist() == [0.5, 0, 0, 0.5]
    assert per_image.loc["globules", ["tp", "fp", "fn", "tn"]].tolist() == [0.25, 0.25, 0, 0.5]


def test_what_does_not_pair_is_named(tmp_path: Path) -> None:
    mask = np.ones((4, 4), bool)
    write(tmp_path / "p", "a_attribute_streaks", mask)
    write(tmp_path / "y", "a_attribute_streaks", mask)
    write(tmp_path / "y", "b_attribute_streaks", mask)
    with pytest.raises(ValueError, match=r"1 true masks have no prediction.*b_attribute_streaks.*--only-predicted"):
        score_folders(tmp_path / "p", tmp_path / "y")
    with pytest.raises(ValueError, match=r"1 predictions have no true mask"):
        score_folders(tmp_path / "y", tmp_path / "p")
    write(tmp_path / "p", "b_attribute_streaks", np.ones((4, 5), bool))
    with pytest.raises(ValueError, match=r"4x5 and its true mask 4x4"):
        score_folders(tmp_path / "p", tmp_path / "y")


def test_only_predicted_leaves_out_images_and_attributes_but_no_single_mask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    masks = {f"ISIC_{i}_attribute_{name}": rng.random((5, 6)) < 0.5 for i in range(3) for name in ("streaks", "dots")}
    for name, mask in masks.items():
        write(tmp_path / "y", name, mask)
    for name in ("ISIC_0_attribute_streaks", "ISIC_2_attribute_streaks"):
        write(tmp_path / "p", name, masks[name])
    with pytest.raises(ValueError, match=r"4 true masks have no prediction"):
        score_folders(tmp_path / "p", tmp_path / "y")
    table, per_image = score_folders(tmp_path / "p", tmp_path / "y", only_predicted=True)
    assert per_image["image"].tolist() == ["ISIC_0", "ISIC_2"] and set(per_image["attribute"]) == {"streaks"}
    assert table.set_index("attribute").loc["streaks", "jaccard"] == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(" (")[0] for line in said] == [
        "left out, without a prediction: 1 of 3 images",
        "left out, without a prediction: 1 of 2 attributes",
    ]
    write(tmp_path / "p", "ISIC_0_attribute_dots", masks["ISIC_0_attribute_dots"])
    with pytest.raises(ValueError, match=r"1 true masks have no prediction.*ISIC_2_attribute_dots"):
        score_folders(tmp_path / "p", tmp_path / "y", only_predicted=True)


def test_the_lesion_and_the_union_are_scored_beside_the_attributes_which_alone_are_averaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The true union is the OR of all true attributes; a predicted lesion without a true one is left out, and said."""
    left, right, half = (np.zeros((4, 4), bool) for _ in range(3))
    left[:, :2], right[:, 3], half[:2] = True, True, True
    for name, p, y in (("attribute_streaks", left, left), ("attribute_dots", right, ~right), ("union", left, half)):
        write(tmp_path / "p", f"a_{name}", p)
        write(tmp_path / "y", f"a_{name}", y)
    write(tmp_path / "p", "a_Segmentation", half)
    table, per_image = score_folders(tmp_path / "p", tmp_path / "y")
    assert "left out, without a true mask: lesion" in capsys.readouterr().out
    scored = table.set_index("attribute")["jaccard"]
    assert scored.to_dict() == {"dots": 0, "streaks": 1, "union": 8 / 12, "average": 1 / 2, "micro": 8 / 24}
    assert set(per_image["image"]) == {"a"}
    write(tmp_path / "y", "A_segmentation", left)
    scored = score_folders(tmp_path / "p", tmp_path / "y")[0].set_index("attribute")["jaccard"]
    assert (scored["lesion"], scored["average"], scored["micro"]) == (4 / 12, 1 / 2, 8 / 24)


def test_the_lesion_alone_is_scored_and_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "p", "a_segmentation", np.eye(4, dtype=bool))
    write(tmp_path / "y", "a_segmentation", np.ones((4, 4), bool))
    table = score_folders(tmp_path / "p", tmp_path / "y")[0].set_index("attribute")
    assert table.loc["lesion", "jaccard"] == 1 / 4
    write(tmp_path / "x", "a_attribute_streaks", np.ones((4, 4), bool))
    for only_predicted in (False, True):
        with pytest.raises(ValueError, match=r"true masks have no prediction in .*--only-predicted"):
            score_folders(tmp_path / "p", tmp_path / "x", only_predicted)


def test_case_of_names_does_not_matter_and_hidden_files_are_no_masks(tmp_path: Path) -> None:
    mask = np.eye(4, dtype=bool)
    write(tmp_path / "p", "isic_1_ATTRIBUTE_Streaks", mask)
    write(tmp_path / "y", "ISIC_1_attribute_streaks", mask)
    (tmp_path / "y" / "._ISIC_1_attribute_streaks.png").write_bytes(b"resource fork")
    per_image = score_folders(tmp_path / "p", tmp_path / "y")[1]
    assert per_image[["image", "attribute"]].to_numpy().tolist() == [["ISIC_1", "streaks"]]
    write(tmp_path / "p", "ISIC_1_attribute_streaks", mask)
    with pytest.raises(ValueError, match="must not differ in case alone"):
        score_folders(tmp_path / "p", tmp_path / "y")


def test_a_folder_of_something_else_is_told(tmp_path: Path) -> None:
    write(tmp_path / "y", "a_attribute_streaks", np.ones((4, 4), bool))
    with pytest.raises(FileNotFoundError, match=rf"holds no .*such as {tmp_path / 'y'}$"):
        score_folders(tmp_path, tmp_path / "y")
    (tmp_path / "jpg").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "jpg" / "ISIC_1.jpg")
    with pytest.raises(FileNotFoundError, match=r"its 1 \.jpg are images and not masks"):
        score_folders(tmp_path / "jpg", tmp_path / "y")
    Image.new("L", (4, 4)).save(tmp_path / "jpg" / "ISIC_1_attribute_streaks.jpg")
    with pytest.raises(FileNotFoundError, match=r"its masks are \.jpg, convert them to \.png"):
        score_folders(tmp_path / "jpg", tmp_path / "y")


def test_the_command_writes_both_tables_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "y", "a_attribute_streaks", np.ones((4, 4), bool))
    with pytest.raises(ValueError, match=r"is a folder: give --out the file"):
        score(Reading(), tmp_path / "y", tmp_path / "y", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["y"]
    score(Reading(), tmp_path / "y", tmp_path / "y", tmp_path / "new" / "s.csv")
    images = tmp_path / "new" / "s_images.csv"
    assert pd.read_csv(images)["tp"].tolist() == [1.0]
    assert f"scores are in {tmp_path / 'new' / 's.csv'}, per image in {images}" in capsys.readouterr().out


def test_nothing_to_score_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no"):
        score_folders(tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match="not a folder"):
        score_folders(tmp_path / "absent", tmp_path)

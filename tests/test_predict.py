"""Prediction with networks at their random start: what is written, at which size, and from which runs."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_exif import exif_block
from torch import nn

from tatl.data.case import Size
from tatl.data.folds import split
from tatl.data.images.masks import IGNORED
from tatl.data.images.reading import Reading
from tatl.data.store import Store
from tatl.models import Segmenter, build
from tatl.models.starts import seeded
from tatl.names import LESION
from tatl.prediction import predict
from tatl.prediction.ensemble import Ensemble, Prediction
from tatl.prediction.predict import read_truth, true_files
from tatl.prediction.select import choose, network_notes, variant_of
from tatl.prediction.unseen import assign, sample_notes
from tatl.run import Run, find_runs, finished, in_order
from tatl.studies.planner import STAGES_OF, Planner
from tatl.studies.settings import Chosen, Settings
from tatl.training.trainer import save_weights
from toy import SMALL, make_store

SETTINGS = Settings(
    shapes="u,link", backbone=SMALL, source="random", folds="0", n_folds=3, offset=2, score_size="", epochs=1
)


def predict_images(images: list[Path], out: Path, variant: str, runs: Path, store: str = "", **more: Any) -> None:
    predict.predict_images(images, out, Chosen(variant, runs, store), **more)


def save(run: Run, root: Path) -> None:
    folder = run.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(
        seeded(lambda: build(run.shape, run.backbone), len(run.task)).state_dict(), folder / "weights.safetensors"
    )
    (folder / "run.json").write_text(run.dumps())


@pytest.fixture(scope="module")
def runs(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    members = Planner(replace(SETTINGS, attributes="disc,dot"), toy_store).members(["stage123"])
    for run in in_order(m.run for m in members):
        save(run, root)
    return root


def picture(path: Path, height: int, width: int) -> Path:
    values = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.array(opened)


def test_variant_of_undoes_the_planner(toy_store: Store) -> None:
    planner = Planner(replace(SETTINGS, source="textures"), toy_store)
    for name, variant in STAGES_OF.items():
        assert variant_of(planner.started(planner.start_of(variant), variant, "disc", "u", 0, 0)) == name
    assert variant_of(planner.lesion(0, 0)) == "stage1"
    for start in ("tatl", "rotation", "context"):
        run = planner.started(start, STAGES_OF["stage3"], "disc", "u", 0, 0)
        assert run.parent is not None and variant_of(run.parent) == "" and (variant_of(run) == "") == (start != "tatl")
    for start in ("source-long", "lesion", "shuffled-union", "frozen-random"):
        run = planner.started(start, STAGES_OF["stage3"], "disc", "u", 0, 0)
        assert variant_of(run) == ""
    assert variant_of(planner.started("source", STAGES_OF["stage3"], "disc", "isic2017-winner", 0, 0)) == ""
    random = Planner(SETTINGS, toy_store)
    assert variant_of(random.started("tatl", STAGES_OF["stage123"], "disc", "u", 0, 0)) == "stage123-scratch"
    assert variant_of(random.started("source", STAGES_OF["stage13"], "disc", "u", 0, 0)) == "stage13"


def test_every_file_in_the_original_size(runs: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "ISIC_0000009.png", 45, 83)
    predict_images([image], tmp_path / "out", "stage123-scratch", runs)
    written = {path.name.removeprefix("ISIC_0000009_") for path in (tmp_path / "out").glob("ISIC_*")}
    masks = {"attribute_disc.png", "attribute_dot.png", "union.png", "segmentation.png"}
    maps = {f"probability_{name}.png" for name in ("disc", "dot", "union", "lesion")}
    assert written == masks | maps | {"overlay.png", "outlines.png"}
    for name in masks | maps:
        assert pixels(tmp_path / "out" / f"ISIC_0000009_{name}").shape == (45, 83)
    for name, label in (("disc", "attribute_disc"), ("union", "union"), ("lesion", "segmentation")):
        mask = pixels(tmp_path / "out" / f"ISIC_0000009_{label}.png")
        grey = pixels(tmp_path / "out" / f"ISIC_0000009_probability_{name}.png")
        assert set(np.unique(mask)) <= {0, 255}
        assert (grey[mask == 255] >= 127).all() and (grey[mask == 0] <= 128).all()
    boxes = pd.read_csv(tmp_path / "out" / "boxes.csv")
    assert boxes.columns.tolist() == ["image", "top", "left", "bottom", "right", "lesion", "sample"] and len(boxes) == 1


class Constant(Segmenter):
    """Logits of one value; or, given a box, high inside it alone."""

    def __init__(self, value: float, box: tuple[int, int, int, int] | None = None) -> None:
        super().__init__(nn.Identity(), nn.Identity(), nn.Identity())
        self.value, self.box = value, box

    def logits(self, x: torch.Tensor, features: list[torch.Tensor]) -> torch.Tensor:
        logits = x.new_full((len(x), 1, *x.shape[-2:]), self.value)
        if self.box is not None:
            top, left, bottom, right = self.box
            logits[..., top:bottom, left:right] = 10.0
        return logits


def test_shapes_are_averaged_and_nothing_is_found_outside_the_box() -> None:
    lesion = Constant(-10.0, (10, 20, 20, 40))
    networks: dict[str, list[Segmenter]] = {LESION: [lesion], "disc": [Constant(2.0), Constant(-1.0)]}
    ensemble = Ensemble(Size(32, 64), 3, networks, torch.device("cpu"))
    mean = (torch.sigmoid(torch.tensor(2.0)) + torch.sigmoid(torch.tensor(-1.0))) / 2
    for original, box in (((32, 64), (7, 17, 23, 43)), ((96, 128), (21, 34, 69, 86)), ((3, 5), (1, 1, 2, 3))):
        found = ensemble(np.zeros((32, 64, 3), np.uint8), original)
        assert found.box == box
        inside = np.zeros(original, bool)
        inside[box[0] : box[2], box[1] : box[3]] = True
        assert np.allclose(found.probabilities["disc"][inside], float(mean))
        assert (found.probabilities["disc"][~inside] == 0).all()


def test_without_stage_2_the_union_is_of_the_attributes_and_without_stage_1_no_lesion_is_looked_for() -> None:
    left, right = Constant(-10.0, (0, 0, 32, 20)), Constant(-10.0, (0, 40, 32, 64))
    image = np.zeros((32, 64, 3), np.uint8)

    def find(**networks: Segmenter) -> Prediction:
        return Ensemble(Size(32, 64), 3, {k: [v] for k, v in networks.items()}, torch.device("cpu"))(image, (64, 128))

    found = find(disc=left, dot=right)
    assert np.array_equal(found.masks["union"], found.masks["disc"] | found.masks["dot"])
    assert found.masks["union"].any() and not found.masks["union"].all()
    assert (found.lesion, found.box, found.union) == ("not looked for", (0, 0, 64, 128), "union of the attributes")
    found = find(union=right, disc=left)
    assert np.array_equal(found.masks["union"], find(dot=right).masks["dot"]) and found.union == "union by Stage 2"
    found = find(lesion=Constant(-10.0), disc=left)
    assert (found.lesion, found.box) == ("none found", (0, 0, 64, 128)) and "union" in found.masks
    found = find(lesion=right)
    assert found.lesion == "found" and set(found.masks) == {"lesion"}


def test_a_variant_without_stages_1_and_2_writes_a_union_without_a_probability(
    toy_store: Store, tmp_path: Path
) -> None:
    members = Planner(replace(SETTINGS, attributes="disc,dot", shapes="u"), toy_store).members(["stage3"])
    for member in members:
        save(member.run, tmp_path / "runs")
    predict_images([picture(tmp_path / "a.png", 45, 83)], tmp_path / "out", "stage3", tmp_path / "runs")
    written = {path.name.removeprefix("a_") for path in (tmp_path / "out").glob("a_*")}
    masks = {"attribute_disc.png", "attribute_dot.png", "union.png"}
    assert written == masks | {"probability_disc.png", "probability_dot.png", "overlay.png", "outlines.png"}
    disc, dot, union = (pixels(tmp_path / "out" / f"a_{name}") for name in sorted(masks))
    assert np.array_equal(union, disc | dot)
    row = (tmp_path / "out" / "boxes.csv").read_text().splitlines()[1]
    assert row == "a,0,0,45,83,not looked for,unknown"


def test_stage_1_alone_writes_the_lesion_and_its_tight_box(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(Planner(SETTINGS, toy_store).lesion(0, 0), tmp_path / "runs")
    monkeypatch.setattr("tatl.prediction.ensemble.network", lambda *given: Constant(-10.0, (8, 20, 24, 40)))
    predict_images([picture(tmp_path / "a.png", 64, 128)], tmp_path / "out", "stage1", tmp_path / "runs")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"a_segmentation.png", "a_probability_lesion.png", "a_overlay.png", "a_outlines.png", "boxes.csv"}
    assert (tmp_path / "out" / "boxes.csv").read_text().splitlines()[1] == "a,16,40,48,80,found,unknown"
    assert "boxes of stage1 lie tight round the lesion" in capsys.readouterr().out
    assert (pixels(tmp_path / "out" / "a_probability_lesion.png")[20:44, 44:76] > 250).all()


def test_a_bad_image_does_not_lose_the_others(runs: Path, tmp_path: Path) -> None:
    good, bad = picture(tmp_path / "good.png", 40, 50), tmp_path / "bad.jpg"
    bad.write_text("not an image")
    with pytest.raises(ValueError, match=r"1 of 2 images are not complete.*bad\.jpg"):
        predict_images([bad, good], tmp_path / "out", "stage123-scratch", runs)
    assert (tmp_path / "out" / "good_attribute_disc.png").is_file()


def test_boxes_are_kept_from_one_prediction_to_the_next(runs: Path, tmp_path: Path) -> None:
    first, second = (picture(tmp_path / f"{name}.png", 40, 50) for name in ("001", "NA"))
    predict_images([first, second], tmp_path / "out", "stage123-scratch", runs)
    before = (tmp_path / "out" / "boxes.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in before] == ["image", "001", "NA"]
    picture(first, 80, 50)
    predict_images([first], tmp_path / "out", "stage123-scratch", runs)
    after = (tmp_path / "out" / "boxes.csv").read_text().splitlines()
    assert after[2] == before[2] and after[1] != before[1] and len(after) == 3
    (tmp_path / "out" / "boxes.csv").write_text("name,x\na,1\n")
    with pytest.raises(ValueError, match=r"boxes\.csv does not have the columns image, .*choose another --out"):
        predict_images([first], tmp_path / "out", "stage123-scratch", runs)


def test_boxes_are_written_where_prediction_is_stopped(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [picture(tmp_path / f"{name}.png", 40, 50) for name in "abc"]
    real = predict.segment

    def stopped(path: Path, *rest: Any) -> Prediction:
        if path.stem == "b":
            raise KeyboardInterrupt
        return real(path, *rest)

    monkeypatch.setattr(predict, "segment", stopped)
    with pytest.raises(KeyboardInterrupt):
        predict_images(images, tmp_path / "out", "stage123-scratch", runs)
    assert pd.read_csv(tmp_path / "out" / "boxes.csv")["image"].tolist() == ["a"]
    assert not list((tmp_path / "out").glob("*.partial"))


def test_an_overlay_that_fails_costs_neither_masks_nor_boxes(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [picture(tmp_path / f"{name}.png", 40, 50) for name in "ab"]

    def fails(*given: Any) -> None:
        raise TypeError("no such contour")

    monkeypatch.setattr(predict, "draw_overlay", fails)
    with pytest.raises(ValueError, match=r"2 of 2 .*a\.png has masks but no overlay \(no such contour\)"):
        predict_images(images, tmp_path / "out", "stage123-scratch", runs)
    assert pd.read_csv(tmp_path / "out" / "boxes.csv")["image"].tolist() == ["a", "b"]
    assert {path.name for path in (tmp_path / "out").glob("*_disc.png")} == {
        f"{image}_{kind}_disc.png" for image in "ab" for kind in ("attribute", "probability")
    }


@pytest.mark.parametrize("shape", [(1500, 4), (3, 1200)])
def test_a_very_long_image_is_segmented_and_drawn(shape: tuple[int, int], runs: Path, tmp_path: Path) -> None:
    predict_images([picture(tmp_path / "a.png", *shape)], tmp_path / "out", "stage123-scratch", runs)
    assert pixels(tmp_path / "out" / "a_attribute_disc.png").shape == shape
    assert max(pixels(tmp_path / "out" / "a_overlay.png").shape) < 3000


def flat(path: Path, height: int, width: int) -> Path:
    """A grey picture, on which outlines are told by their colour."""
    Image.fromarray(np.full((height, width, 3), 120, np.uint8)).save(path)
    return path


def block(path: Path, box: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
    """A mask that is set inside a box alone, and its file."""
    mask = np.zeros((height, width), bool)
    mask[box[0] : box[2], box[1] : box[3]] = True
    Image.fromarray(mask).save(path)
    return mask


def coloured(path: Path, channel: int) -> np.ndarray:
    """Bool [H, W] of a picture without its lowest 40 rows, the legend's: where red (0) or green (1) stands out."""
    rgb = np.moveaxis(pixels(path)[:-40, :, :3].astype(int), -1, 0)
    return rgb[channel] - np.delete(rgb, channel, axis=0).max(0) > 80


def extent(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])


def test_truth_is_looked_for_first_and_may_be_incomplete(runs: Path, tmp_path: Path) -> None:
    image, out, truth = flat(tmp_path / "a.png", 40, 50), tmp_path / "out", tmp_path / "truth"
    with pytest.raises(FileNotFoundError, match="truth is not a folder: give one that holds"):
        predict_images([image], out, "stage123-scratch", runs, truth=truth)
    truth.mkdir()
    block(truth / "a_union.png", (5, 5, 30, 40), 40, 50)
    such = r"no true mask of these images, such as a_segmentation\.png or a_attribute_disc\.png"
    with pytest.raises(ValueError, match=such):
        predict_images([image], out, "stage123-scratch", runs, truth=truth)
    assert not out.exists()
    block(truth / "a_attribute_dot.png", (5, 5, 30, 40), 40, 50)
    other = flat(tmp_path / "b.png", 40, 50)
    predict_images([image, other], out, "stage123-scratch", runs, truth=truth)
    assert coloured(out / "a_overlay.png", 1).any() and not coloured(out / "b_overlay.png", 1).any()


def test_the_truth_of_stage_1_is_the_lesions_alone(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(Planner(SETTINGS, toy_store).lesion(0, 0), tmp_path / "runs")
    monkeypatch.setattr("tatl.prediction.ensemble.network", lambda *given: Constant(-10.0, (8, 20, 24, 40)))
    image, out = flat(tmp_path / "a.png", 64, 128), tmp_path / "out"
    block(tmp_path / "a_attribute_disc.png", (20, 50, 40, 60), 64, 128)
    with pytest.raises(ValueError, match=r"no true mask of these images, such as a_segmentation\.png: give another"):
        predict_images([image], out, "stage1", tmp_path / "runs", truth=tmp_path)
    block(tmp_path / "a_segmentation.png", (24, 50, 34, 70), 64, 128)
    predict_images([image], out, "stage1", tmp_path / "runs", truth=tmp_path)
    red, green = (extent(coloured(out / "a_overlay.png", channel)) for channel in (0, 1))
    predicted = extent(pixels(out / "a_segmentation.png"))
    scale = (red[2:] - red[:2]) / (predicted[2:] - predicted[:2])
    corners = (np.array([24, 50, 34, 70]) - np.tile(predicted[:2], 2)) * np.tile(scale, 2)
    assert np.abs(corners + np.tile(red[:2], 2) - green).max() <= 4


def test_case_does_not_matter_in_the_names_of_true_masks(runs: Path, tmp_path: Path) -> None:
    image, truth = flat(tmp_path / "Isic_1.png", 40, 50), tmp_path / "truth"
    truth.mkdir()
    lesion = block(truth / "ISIC_1_Segmentation.PNG", (5, 5, 30, 40), 40, 50)
    dot = block(truth / "isic_1_ATTRIBUTE_Dot.png", (6, 6, 10, 20), 40, 50)
    block(truth / "._isic_1_attribute_disc.png", (0, 0, 1, 1), 40, 50)
    bar = block(truth / "ISIC_1_attribute_bar.png", (16, 6, 20, 20), 40, 50)
    files = true_files(truth, [image], [LESION, "disc", "dot"])
    found = Prediction(
        {name: np.zeros((40, 50), np.float32) for name in (LESION, "disc", "dot")}, (0, 0, 40, 50), "found"
    )
    true = read_truth(files, Path("Isic_1.png"), found, (40, 50))
    assert true.keys() == {LESION, "dot", "bar"}
    assert all(np.array_equal(true[name], mask) for name, mask in ((LESION, lesion), ("dot", dot), ("bar", bar)))
    predict_images([image], tmp_path / "out", "stage123-scratch", runs, truth=truth)
    assert coloured(tmp_path / "out" / "Isic_1_overlay.png", 1).any()
    block(truth / "isic_1_segmentation.png", (5, 5, 30, 40), 40, 50)
    with pytest.raises(ValueError, match=r"holds ISIC_1_Seg.* and isic_1_seg.*: names must not differ in case alone"):
        predict_images([image], tmp_path / "out", "stage123-scratch", runs, truth=truth)


def test_truth_of_another_size_costs_the_overlay_alone(runs: Path, tmp_path: Path) -> None:
    image, out = picture(tmp_path / "a.png", 40, 50), tmp_path / "out"
    Image.fromarray(np.zeros((41, 50), np.uint8)).save(tmp_path / "a_attribute_dot.png")
    with pytest.raises(ValueError, match=r"no overlay \(a_attribute_dot\.png is 50 x 41 pixels and its image 50 x 40"):
        predict_images([image], out, "stage123-scratch", runs, truth=tmp_path)
    assert (out / "a_attribute_dot.png").is_file() and not (out / "a_overlay.png").exists()


def test_folders_and_files_in_each_others_place_are_named(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{tmp_path} is a folder: give its pictures, such as {tmp_path}/\*\.jpg"):
        predict_images([tmp_path], tmp_path / "out", "stage123-scratch", runs)
    image = picture(tmp_path / "a.png", 40, 50)
    with pytest.raises(ValueError, match=r"a\.png is a file and masks go to a folder: choose another --out"):
        predict_images([image], image, "stage123-scratch", runs)


def test_the_truth_is_never_overwritten(runs: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png", 40, 50)
    folder = tmp_path / "truth"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    for name in ("disc", "dot"):
        Image.fromarray(np.full((40, 50), 255, np.uint8)).save(folder / f"a_attribute_{name}.png")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for out in (folder, tmp_path / "link", folder / ".." / "truth"):
        with pytest.raises(ValueError, match="true masks, which predictions would overwrite: choose another --out"):
            predict_images([image], out, "stage123-scratch", runs, truth=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_two_images_of_one_name_are_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="several images are called a"):
        predict_images([tmp_path / "a.png", tmp_path / "b" / "a.png"], tmp_path, "stage123-scratch", runs)


def test_runs_that_are_not_there_or_do_not_fit(runs: Path, toy_store: Store, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no finished runs of stage3 .*there are: stage1 on toy, stage123-scratch"
    ):
        choose(runs, "stage3")
    with pytest.raises(ValueError, match="unknown: choose of stage3"):
        choose(runs, "stage4")
    with pytest.raises(ValueError, match=r"folds \[2\]"):
        choose(runs, "stage123-scratch", folds="2")


@pytest.fixture(scope="module")
def two_folds(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs of folds 0 and 1 of three, with the test images that they scored."""
    root = tmp_path_factory.mktemp("folds")
    members = Planner(replace(SETTINGS, attributes="disc", shapes="u", folds="0,1"), toy_store).members(["stage123"])
    for run in in_order(m.run for m in members):
        save(run, root)
        test = split(toy_store, run.fold, run.n_folds).test
        toy_store.cases.iloc[test][["id"]].rename(columns={"id": "image"}).to_csv(run.folder(root) / "scores.csv")
    return root


def of_fold(store: Store, fold: int) -> tuple[int, str]:
    """Where the first test image of a fold is, and its id."""
    at = int(split(store, fold, 3).test[0])
    return at, str(store.cases["id"].iloc[at])


def test_an_image_of_the_store_is_segmented_by_networks_that_have_not_seen_it(
    two_folds: Path,
    toy_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    used: list[Run] = []

    def network(run: Run, *given: Any) -> Constant:
        used.append(run)
        return Constant(1.0 + run.fold)

    monkeypatch.setattr("tatl.prediction.ensemble.network", network)
    new = picture(tmp_path / "new.png", 40, 50)
    first, second = (picture(tmp_path / f"{of_fold(toy_store, fold)[1]}.png", 40, 50) for fold in (0, 1))
    given: dict[str, Any] = {"variant": "stage123-scratch", "runs": two_folds, "store": str(toy_store.path)}
    for image, folds in ((first, {0}), (second, {1}), (new, {0, 1})):
        used.clear()
        predict_images([image], tmp_path / "out", **given)
        assert {run.fold for run in used} == folds and {run.task for run in used} == {"lesion", "union", "disc"}
        logits = torch.tensor([1.0 + fold for fold in folds])
        grey = pixels(tmp_path / "out" / f"{image.stem}_probability_disc.png")
        assert np.abs(grey.astype(int) - round(255 * float(torch.sigmoid(logits).mean()))).max() <= 1
    said = capsys.readouterr().out
    assert said.count("note: 1 image of the store, segmented by the networks of fold") == 2
    table = pd.read_csv(tmp_path / "out" / "boxes.csv").set_index("image")["sample"]
    assert table.to_dict() == {first.stem: "out of fold", second.stem: "out of fold", "new": "new"}


def test_where_all_networks_saw_an_image_that_is_said_or_asked_for(
    two_folds: Path,
    toy_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tatl.prediction.ensemble.network", lambda *given: Constant(1.0))
    _, name = of_fold(toy_store, 2)
    image, out = picture(tmp_path / f"{name}.png", 40, 50), tmp_path / "out"
    given: dict[str, Any] = {"variant": "stage123-scratch", "runs": two_folds, "store": str(toy_store.path)}
    such = (
        rf"1 of 1 images are of store toy, and all chosen networks \(of folds 0, 1\).*{name}\.png \(tested by fold 2\)"
    )
    with pytest.raises(ValueError, match=such):
        predict_images([image], out, **given)
    assert not out.exists()
    predict_images([image], out, in_sample=True, **given)
    assert pd.read_csv(out / "boxes.csv")["sample"].tolist() == ["in sample"]
    assert "segmented by networks that were trained on them (--in-sample)" in capsys.readouterr().out


def test_the_same_picture_under_another_name_is_of_the_store(
    two_folds: Path, toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    at, name = of_fold(toy_store, 1)
    renamed, changed = tmp_path / "IMG_1.png", tmp_path / "IMG_2.png"
    Image.fromarray(toy_store.images[at]).save(renamed)
    Image.fromarray(255 - toy_store.images[at]).save(changed)
    chosen = choose(two_folds, "stage123-scratch")
    with_store = {
        group.sample: ({run.fold for run in group.runs}, group.images)
        for group in assign([renamed, changed], chosen, two_folds, str(toy_store.path))
    }
    assert with_store == {"out of fold": ({1}, [renamed]), "new": ({0, 1}, [changed])}
    by_name, unknown = assign([tmp_path / f"{name}.png", renamed], chosen, two_folds)  # no store at hand
    assert (by_name.sample, {run.fold for run in by_name.runs}) == ("out of fold", {1})
    assert unknown.sample == "unknown" and "give its folder with --store" in sample_notes([unknown], [])[0]
    shutil.copytree(toy_store.path, "stores/toy")
    assert assign([renamed], chosen, two_folds)[0].sample == "out of fold"


def test_a_network_that_rests_on_one_that_saw_the_image_has_seen_it(two_folds: Path, toy_store: Store) -> None:
    (run,) = (run for run in choose(two_folds, "stage123-scratch") if run.fold == 1)
    assert run.cropper is not None
    _, name = of_fold(toy_store, 1)
    leaking = replace(run, cropper=replace(run.cropper, fold=0))
    folder = leaking.folder(two_folds)
    shutil.copytree(run.folder(two_folds), folder)
    groups = assign([Path(f"{name}.png")], [leaking], two_folds, str(toy_store.path), in_sample=True)
    shutil.rmtree(folder)
    assert [group.sample for group in groups] == ["in sample"]


def test_rows_of_an_older_table_are_kept(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image,top,left,bottom,right,lesion\na,0,1,2,3,found\n")
    assert predict._read_boxes(tmp_path / "boxes.csv") == {"a": ("a", 0, 1, 2, 3, "found", "unknown")}


def fake(root: Path, store: Store, variant: str, **settings: Any) -> None:
    """Runs without networks: what choosing looks at."""
    members = Planner(replace(SETTINGS, **{"attributes": "disc", "shapes": "u", **settings}), store).members([variant])
    for run in in_order(m.run for m in members):
        if finished(run, root):
            continue
        folder = run.folder(root)
        folder.mkdir(parents=True, exist_ok=True)
        save_weights({}, folder / "weights.safetensors")
        (folder / "run.json").write_text(run.dumps())


def test_what_studies_leave_beside_the_usual_networks_is_left_out(toy_store: Store, tmp_path: Path) -> None:
    fake(tmp_path, toy_store, "stage3", source="textures")
    (usual,) = choose(tmp_path, "stage3")
    fake(tmp_path, toy_store, "stage3", source="textures", augment=True)
    fake(tmp_path, toy_store, "stage3", source="textures", shapes="attention-u")
    assert choose(tmp_path, "stage3") == [usual]
    assert [run.recipe.augment for run in choose(tmp_path, "stage3", where="augment=True")] == [True]
    assert [run.shape for run in choose(tmp_path, "stage3", where="shape=attention-u")] == ["attention-u"]
    for network in ("u", "segnet"):
        fake(tmp_path, toy_store, "stage1", source="textures", lesion_network=network)
    assert [run.shape for run in choose(tmp_path, "stage1")] == ["u"]
    assert [run.shape for run in choose(tmp_path, "stage1", where="shape=segnet")] == ["segnet"]


def test_of_several_settings_one_is_chosen_by_its_fields(toy_store: Store, tmp_path: Path) -> None:
    for epochs in (3, 5):
        fake(tmp_path, toy_store, "stage123", source="textures", epochs=epochs)
    with pytest.raises(ValueError, match=r"several settings are there \(epochs: 3, 5\): choose with --where epochs=3$"):
        choose(tmp_path, "stage123")
    (run,) = choose(tmp_path, "stage123", where="epochs=5")
    assert run.recipe.epochs == 5
    fake(tmp_path, toy_store, "stage123", source="textures", epochs=5, lesion_epochs=2, freeze_encoder=True)
    with pytest.raises(
        ValueError, match=r"\(start: tatl, tatl-freeze; lesion_epochs: 2, 5\): choose with --where start="
    ):
        choose(tmp_path, "stage123", where="epochs=5")
    (run,) = choose(tmp_path, "stage123", where="epochs=5, lesion-epochs=2")
    assert run.cropper is not None and run.cropper.recipe.epochs == 2
    with pytest.raises(ValueError, match=r"no runs are there where epochs=4: choose epochs of 3, 5"):
        choose(tmp_path, "stage123", where="epochs=4")
    for wrong in ("epoch=3", "epochs"):
        with pytest.raises(ValueError, match=rf"where '{wrong}' is not FIELD=VALUE with a field of .*store, .*epochs"):
            choose(tmp_path, "stage123", where=wrong)


def test_several_stores_are_told_apart_by_name_or_path(toy_store: Store, tmp_path: Path) -> None:
    other = make_store(tmp_path / "stores" / "other", seed=1)
    fake(tmp_path / "runs", toy_store, "stage3", source="random")
    fake(tmp_path / "runs", other, "stage3", source="textures")
    with pytest.raises(ValueError, match=r"several stores are there \(other, toy\): choose with --store other"):
        choose(tmp_path / "runs", "stage3")
    for name in ("toy", str(toy_store.path), f"{toy_store.path}/"):
        assert {run.store for run in choose(tmp_path / "runs", "stage3", name)} == {"toy"}


def test_a_renamed_store_is_found_by_its_old_name_and_by_its_new_path(toy_store: Store, tmp_path: Path) -> None:
    """Half of the networks were trained before it was renamed: they are one set, and found from either."""
    renamed = Store.open(shutil.copytree(toy_store.path, tmp_path / "skin"))
    fake(tmp_path / "runs", toy_store, "stage3", folds="0")
    fake(tmp_path / "runs", renamed, "stage3", folds="0,1")
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"toy", "skin"}
    for name in ("", "toy", "skin", str(renamed.path), str(toy_store.path)):
        assert [run.fold for run in choose(tmp_path / "runs", "stage3", name)] == [1, 0]
    assert len(list(find_runs(tmp_path / "runs"))) == 2


def test_only_scratch_runs_are_named_as_such(runs: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no finished runs of stage123 \(there are: .*stage123-scratch on toy"):
        choose(runs, "stage123")


def test_random_stage_1_of_a_study_is_not_mixed_with_the_others(toy_store: Store, tmp_path: Path) -> None:
    fake(tmp_path, toy_store, "stage123-scratch")
    assert [run.source for run in choose(tmp_path, "stage1")] == ["random"]
    fake(tmp_path, toy_store, "stage123", source="textures")
    assert [run.source for run in choose(tmp_path, "stage1")] == ["textures"]
    assert [run.source for run in choose(tmp_path, "stage1", where="source=random")] == ["random"]


def test_a_part_of_the_runs_folder_is_pointed_to_the_whole(toy_store: Store, tmp_path: Path) -> None:
    fake(tmp_path / "runs", toy_store, "stage3")
    for part in (tmp_path / "runs" / "toy", tmp_path / "runs" / "toy" / "disc", tmp_path):
        with pytest.raises(ValueError, match=f"give --runs {tmp_path / 'runs'}$"):
            choose(part, "stage3")


def test_what_is_averaged_is_said(toy_store: Store, tmp_path: Path) -> None:
    fake(tmp_path, toy_store, "stage123", source="textures", attributes="disc,dot", shapes="u,link", folds="0,1")
    chosen = choose(tmp_path, "stage123")
    assert network_notes(chosen) == [
        "store toy, source textures, folds 0, 1 of 3, networks: lesion 2, union 4, disc 4, dot 4"
    ]
    uneven = [run for run in chosen if (run.task, run.shape, run.fold) != ("dot", "link", 1)]
    assert network_notes(uneven)[1:] == ["note: dot has 3 of 4 networks (first missing: link fold 1 seed 0)"]


def test_a_damaged_run_is_named_and_left_out(
    toy_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(tmp_path, toy_store, "stage3")
    broken = tmp_path / "old" / "disc" / "u" / "fold0"
    broken.mkdir(parents=True)
    save_weights({}, broken / "weights.safetensors")
    for text in ('{"store": ', "[1]", '{"format": 0}'):
        (broken / "run.json").write_text(text)
        assert len(choose(tmp_path, "stage3")) == 1
        assert "old/disc/u/fold0/run.json cannot be read" in capsys.readouterr().err


def test_malformed_exif_cost_no_image(runs: Path, tmp_path: Path) -> None:
    """One such photograph ended the prediction of all that came after it."""
    turned, plain = tmp_path / "turned.jpg", picture(tmp_path / "plain.png", 40, 50)
    text = (0x011A, 2, b"72\0\0")  # a resolution as text
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(turned, exif=exif_block(text))
    predict_images([turned, plain], tmp_path / "out", "stage123-scratch", runs)
    assert pixels(tmp_path / "out" / "turned_attribute_disc.png").shape == (50, 40)
    assert pixels(tmp_path / "out" / "plain_attribute_disc.png").shape == (40, 50)
    stored = Reading(exif="ignore")
    predict_images([turned], tmp_path / "stored", "stage123-scratch", runs, reading=stored)
    assert pixels(tmp_path / "stored" / "turned_attribute_disc.png").shape == (40, 50)


def test_a_labelled_truth_is_refused_or_read_as_told(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, truth, out = flat(tmp_path / "a.png", 40, 50), tmp_path / "truth", tmp_path / "out"
    truth.mkdir()
    levels = np.zeros((40, 50), np.uint8)
    levels[5:25, 5:25], levels[10:20, 10:20] = 255, 1  # 255 is a ring to ignore
    Image.fromarray(levels).save(truth / "a_attribute_disc.png")
    with pytest.raises(ValueError, match=r"no overlay \(a_attribute_disc\.png has the levels 0, 1, 255"):
        predict_images([image], out, "stage123-scratch", runs, truth=truth)
    predict_images([image], out, "stage123-scratch", runs, truth=truth, reading=Reading("disc=1", "255"))
    assert coloured(out / "a_overlay.png", 1).any()
    assert f"note: a_attribute_disc.png: {IGNORED}" in capsys.readouterr().out


def test_names_that_are_no_utf_8_or_composed_otherwise(runs: Path, tmp_path: Path) -> None:
    latin = os.fsdecode(b"l\xe9sion.png")
    image, accent = flat(tmp_path / "a.png", 40, 50), flat(tmp_path / "e\u0301.png", 40, 50)
    image.rename(tmp_path / latin)
    truth, out = tmp_path / "truth", tmp_path / "out"
    truth.mkdir()
    block(truth / "\u00e9_attribute_disc.png", (5, 5, 30, 40), 40, 50)
    predict_images([tmp_path / latin, accent], out, "stage123-scratch", runs, truth=truth)
    assert coloured(out / "e\u0301_overlay.png", 1).any()
    assert (out / os.fsdecode(b"l\xe9sion_attribute_disc.png")).is_file()
    predict_images([accent], out, "stage123-scratch", runs)
    assert b"l\xe9sion" in (out / "boxes.csv").read_bytes()

"""Networks as ONNX files: the same numbers without PyTorch, at any size, and what they cannot be made of."""

from __future__ import annotations

import importlib.util
import json
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_exif import exif_block
from test_predict import SETTINGS, picture, save

from tatl.__main__ import main
from tatl.data import crop
from tatl.data.case import Size
from tatl.data.images.pictures import read_image
from tatl.data.store import Store
from tatl.models import SHAPES, build
from tatl.prediction import export
from tatl.prediction.predict import predict_images
from tatl.run import find_runs, in_order
from tatl.studies.planner import Planner
from tatl.studies.settings import Chosen
from toy import SMALL, toy_run

SEGMENT = Path(__file__).resolve().parents[1] / "examples/onnx/segment.py"
LACKING = [name for name in (*export.EXPORTERS, "onnxruntime") if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}")


@pytest.fixture(scope="module")
def runs(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds of the U shape: of two variants, and of the same networks whole images and crops."""
    root = tmp_path_factory.mktemp("runs")
    settings = replace(SETTINGS, attributes="disc,dot", shapes="u", folds="0,1")
    members = Planner(settings, toy_store).members(["stage123", "stage3"])
    for run in in_order(member.run for member in members):
        save(run, root)
    return root


@pytest.fixture(scope="module")
def exported(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export.export_networks(folder / "model.onnx", Chosen("stage123-scratch", runs))
    return folder / "model.json"


@needs_onnx
def test_files_say_what_they_are(exported: Path) -> None:
    described = json.loads(exported.read_text())
    assert sorted(path.name for path in exported.parent.iterdir()) == ["model-lesion.onnx", "model.json", "model.onnx"]
    assert [each["file"] for each in described["files"]] == ["model-lesion.onnx", "model.onnx"]
    assert [each["masks"] for each in described["files"]] == [["lesion"], ["union", "disc", "dot"]]
    assert [each["cropped"] for each in described["files"]] == [False, True]
    assert {mask: len(runs) for mask, runs in described["networks"].items()} == dict.fromkeys(
        ("lesion", "union", "disc", "dot"), 2
    )
    assert max(described["largest_difference"]) <= export.TOLERANCE
    assert str(Path.cwd()).encode() not in (exported.parent / "model.onnx").read_bytes()


@needs_onnx
def test_the_page_without_this_package_finds_the_probabilities_of_predict(
    exported: Path, runs: Path, tmp_path: Path
) -> None:
    sizes = {"a": (32, 64), "b": (45, 83), "c": (300, 200), "d": (9, 5)}
    images = [picture(tmp_path / f"{name}.png", *size) for name, size in sizes.items()]
    predict_images(images, tmp_path / "ours", Chosen("stage123-scratch", runs))
    script = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__');"
        "assert not {'torch', 'tatl', 'scipy'} & set(sys.modules)"
    )
    words = [str(SEGMENT), *map(str, images), "--model", str(exported), "--out", str(tmp_path / "theirs")]
    subprocess.run([sys.executable, "-c", script, *words], check=True)
    for name, size in sizes.items():
        for mask in ("lesion", "union", "disc", "dot"):
            ours, theirs = (pixels(tmp_path / who / f"{name}_probability_{mask}.png") for who in ("ours", "theirs"))
            assert ours.shape == theirs.shape == size
            assert np.abs(ours - theirs).max() <= 1


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.array(opened).astype(int)


PAGE = runpy.run_path(str(SEGMENT))


def test_the_page_crops_as_prediction_does() -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.3, 0.5, 0.7, 1.0):
        mask = rng.random((40, 70)) < share
        box = PAGE["lesion_box"](mask)
        assert tuple(box) == crop.lesion_box(mask)
        for offset, other in ((0, (400, 300)), (9, (3, 5)), (90, (41, 69))):
            grown = PAGE["grow"](box, offset, mask.shape, crop.ZOOM)
            assert (grown == crop.grow(box[None], offset, mask.shape)[0]).all()
            assert tuple(PAGE["scaled"](grown, mask.shape, other)) == crop.scale(tuple(grown), mask.shape, other)


@pytest.mark.parametrize("size", [(40, 70), (80, 140), (13, 200), (1, 1), (39, 2)])
def test_the_page_resizes_as_prediction_does(size: tuple[int, int]) -> None:
    values = torch.rand(40, 70, generator=torch.Generator().manual_seed(0))
    ours = crop.resample(values[None, None], size)[0, 0].numpy()
    assert np.allclose(PAGE["resize"](values.numpy(), size, crop.ZOOM), ours, atol=1e-5)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_page_reads_as_prediction_does(orientation: int, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", 300, 420)
    with Image.open(path) as opened:
        opened.save(tmp_path / "a.jpg", exif=exif_block(orientation=orientation))
    (ours, size), (theirs, own) = (
        read_image(tmp_path / "a.jpg", Size(32, 64)),
        PAGE["read"](tmp_path / "a.jpg", (32, 64)),
    )
    assert size == own and (ours == theirs).all()


@needs_onnx
@pytest.mark.large
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_the_same_in_onnx(shape: str, toy_store: Store, tmp_path: Path) -> None:
    networks = {"disc": [build(shape, SMALL).eval()]}
    whole = export.Ensemble(Size(32, 64), 2, networks, torch.device("cpu"))
    run = toy_run(toy_store, shape=shape)
    assert export._write(tmp_path / "model.onnx", ["disc"], {"disc": [run]}, whole) <= export.TOLERANCE


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--variant", "stage13"], "has no finished runs of stage13"),
        (["--variant", "stage3", "--folds", "2"], "for folds [2]"),
        (["--variant", "stage3", "--out", "model"], "--out a name that ends in .onnx"),
    ],
)
def test_a_wrong_input_is_one_sentence(
    options: list[str], words: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "EXPORTERS", ())
    assert main(["export", "--runs", str(runs), *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and said.count("\n") == 1


def test_a_network_that_is_lost_is_named_before_anything_is_written(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "EXPORTERS", ())
    shutil.copytree(runs, tmp_path / "runs")
    union = next(path for run, path in find_runs(tmp_path / "runs") if run.task == "union")
    (union / "weights.safetensors").unlink()
    out = tmp_path / "out/model.onnx"
    assert main(["export", "--runs", str(tmp_path / "runs"), "--variant", "stage123-scratch", "--out", str(out)]) == 2
    assert f"no weights at {union / 'weights.safetensors'}" in capsys.readouterr().err
    assert not out.parent.exists()


def test_a_library_that_is_not_installed_is_named(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "EXPORTERS", ("no_such_library",))
    assert main(["export", "--runs", str(runs), "--variant", "stage3"]) == 2
    assert "pip install 'tatl[export]'" in capsys.readouterr().err

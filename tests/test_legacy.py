"""Runs as format 1 wrote them: the folders below and their JSON are what that version gave for the same arguments."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from tatl.run import Recipe, Run, find_runs, finished, outdated
from tatl.run.hub import hub_weights
from tatl.run.legacy import precision_of_log
from tatl.run.textures import TEXTURE_RECIPE, texture_run

RECIPE = {
    "epochs": 40, "patience": 10, "batch": 16, "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0,
    "pool": "batch", "balance": 0.5, "calibration": 128, "precision": "auto", "augment": False,
}  # fmt: skip
LESION: dict[str, Any] = {
    "store": "isic", "digest": "abc", "size": "384x512", "task": "lesion", "shape": "u", "backbone": "efficientnet-b0",
    "start": "source", "source": "imagenet", "weights": "", "parent": None, "cropper": None, "offset": 0, "fold": 1,
    "n_folds": 5, "fraction": 1.0, "seed": 1, "score_size": "", "recipe": RECIPE,
}  # fmt: skip
UNION = LESION | {"task": "union", "cropper": LESION, "offset": 40}
STREAKS = UNION | {"task": "streaks", "start": "tatl", "parent": UNION}
TEXTURES = LESION | {
    "store": "textures", "digest": "", "size": "48x48", "task": "textures", "shape": "encoder", "start": "random",
    "source": "random", "fold": 0, "n_folds": 1, "seed": 0,
    "recipe": RECIPE | {
        "epochs": 5, "patience": 5, "batch": 32, "optimizer": "adamw", "lr": 0.003, "weight_decay": 0.01, "balance": 0.0
    },
}  # fmt: skip
WHOLE = LESION | {
    "task": "streaks", "source": "textures", "parent": TEXTURES, "fraction": 0.4, "seed": 0,
    "recipe": RECIPE | {"precision": "bf16"},
}  # fmt: skip
FOLDERS = {
    "isic/lesion/u-efficientnet-b0-source/fold1of5-seed1-66a4d7c6cf": LESION,
    "isic/union/u-efficientnet-b0-source/fold1of5-seed1-b892ac5670": UNION,
    "isic/streaks/u-efficientnet-b0-tatl/fold1of5-seed1-c374bca93f": STREAKS,
    "isic/streaks/u-efficientnet-b0-source/fold1of5-40pc-seed0-47f1b7d5cd": WHOLE,
    "textures/textures/encoder-efficientnet-b0-random/fold0of1-seed0-72a7e2a729": TEXTURES,
}
CPU = "2026-11-20 10:00:00  a title\n31.0 s in this process on CPU, 2 threads (x86_64), torch 2.15.0\n"
GPU = CPU.replace("CPU, 2 threads", "NVIDIA H200")

HUB = hub_weights("efficientnet-b0")
NEW_LESION = Run("isic", "abc", "384x512", "lesion", weights=HUB, fold=1, seed=1, split_seed=1)
NEW_UNION = replace(NEW_LESION, task="union", cropper=NEW_LESION, offset=40)
NEW_STREAKS = replace(NEW_UNION, task="streaks", start="tatl", parent=NEW_UNION)
NEW_WHOLE = Run(
    "isic", "abc", "384x512", "streaks", source="textures", parent=texture_run(), fold=1, fraction=0.4,
    recipe=Recipe(precision="bf16"),
)  # fmt: skip
MEANT = dict(zip(FOLDERS, (NEW_LESION, NEW_UNION, NEW_STREAKS, NEW_WHOLE, texture_run()), strict=True))


def bf16(run: Run) -> Run:
    """The run and all it needs in that precision."""
    changed: dict[str, Any] = {"recipe": replace(run.recipe, precision="bf16")}
    changed |= {key: bf16(there) for key in ("parent", "cropper") if (there := getattr(run, key))}
    return replace(run, **changed)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(log: str, folders: dict[str, dict[str, Any]] = FOLDERS) -> Path:
        for name, values in folders.items():
            folder = tmp_path / name
            folder.mkdir(parents=True)
            (folder / "run.json").write_text(json.dumps({"format": 1, **values}, indent=1) + "\n")
            (folder / "log").write_text(log)
            (folder / "weights.safetensors").write_bytes(save({"weight": torch.zeros(1)}))
        return tmp_path

    return written


@pytest.mark.parametrize("name", FOLDERS)
def test_the_folders_are_those_of_format_1(name: str) -> None:
    """There the hash was over the whole JSON, so these values are to the letter what was written."""
    text = json.dumps({"format": 1, **FOLDERS[name]}, sort_keys=True)
    assert name.endswith(hashlib.sha256(text.encode()).hexdigest()[:10])


def test_runs_of_format_1_are_read_and_finished_where_they_lie(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    root = write(CPU)
    for name, run in MEANT.items():
        assert finished(run, root) and run.folder(root) == root / name
    assert {folder.relative_to(root).as_posix(): run for run, folder in find_runs(root)} == MEANT
    assert capsys.readouterr() == ("", "") and outdated(MEANT.values(), root) == []


def test_the_seed_of_format_1_drew_the_partition_too(write: Any) -> None:
    root = write(CPU)
    assert not finished(replace(NEW_LESION, split_seed=0), root)
    assert not finished(replace(NEW_LESION, seed=0), root)
    assert not finished(replace(NEW_WHOLE, split_seed=1), root)


def test_other_settings_are_other_runs(write: Any) -> None:
    root = write(CPU)
    for other in (
        replace(NEW_LESION, recipe=Recipe(epochs=39)),
        replace(NEW_LESION, digest="abd"),
        replace(NEW_LESION, weights="0123456789ab"),
        replace(NEW_STREAKS, parent=replace(NEW_UNION, offset=39)),
        bf16(NEW_LESION),
    ):
        assert not finished(other, root)


def test_a_renamed_store_of_format_1(write: Any) -> None:
    root = write(CPU)
    (root / "isic").rename(root / "skin")
    for run in (NEW_LESION, NEW_STREAKS, replace(NEW_WHOLE, store="third")):
        assert finished(run, root)


def test_those_of_a_gpu_were_in_bf16_and_count_where_nothing_was_cut(
    write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(GPU)
    textures = texture_run(recipe=replace(TEXTURE_RECIPE, precision="bf16"))
    for run in (bf16(NEW_LESION), replace(NEW_WHOLE, parent=textures), textures):
        assert finished(run, root) and outdated([run], root) == []
    assert not any(finished(run, root) for run in (NEW_LESION, NEW_UNION, NEW_STREAKS, texture_run()))
    assert {run.task for run, _ in find_runs(root)} == {"lesion", "textures", "streaks"}
    capsys.readouterr()


def test_what_a_run_rests_on_has_the_precision_of_its_own_log(write: Any) -> None:
    """A parent of another machine was looked for in the precision of its child's."""
    root = write(GPU)
    textures = next(name for name in FOLDERS if name.startswith("textures"))
    (root / textures / "log").write_text(CPU)
    assert finished(NEW_WHOLE, root) and finished(texture_run(), root)
    shutil.rmtree(root / textures)
    child = next(root.glob("isic/streaks/u-efficientnet-b0-source/*/run.json"))
    os.utime(child, ns=(0, 0))  # so that it is read again
    assert not finished(NEW_WHOLE, root) and finished(replace(NEW_WHOLE, parent=bf16(texture_run())), root)


def test_so_has_what_its_parents_rest_on(write: Any) -> None:
    root = write(CPU)
    lesion = next(name for name in FOLDERS if "/lesion/" in name)
    (root / lesion / "log").write_text(GPU)
    union = replace(NEW_UNION, cropper=bf16(NEW_LESION))
    (root / "isic").rename(root / "skin")
    assert finished(replace(NEW_STREAKS, cropper=union.cropper, parent=union), root) and finished(union, root)


def test_those_whose_crops_were_distorted_are_named_and_not_counted(
    write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    augmented = {"isic/bar/u-efficientnet-b0-source/fold1of5-seed1-x": LESION | {"recipe": RECIPE | {"augment": True}}}
    root = write(GPU, FOLDERS | augmented)
    assert not finished(bf16(NEW_STREAKS), root) and not finished(bf16(NEW_UNION), root)
    (said,) = outdated([bf16(NEW_STREAKS), bf16(NEW_UNION)], root)
    assert said.startswith("finished runs that no longer count, since bf16 cut or augmented its images, which ")
    assert "distorted them then" in said and "): 2; they are to be trained again (first: " in said
    assert not any("cropper" in run.dumps() and run.cropper for run, _ in find_runs(root))
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 1 and "): 3; they are to be trained again" in notes[0] and notes[0].startswith("note: ")


def test_float32_on_a_gpu_was_not_distorted(write: Any) -> None:
    values = UNION | {
        "recipe": RECIPE | {"precision": "32"},
        "cropper": LESION | {"recipe": RECIPE | {"precision": "32"}},
    }
    root = write(GPU, {"isic/union/u-efficientnet-b0-source/fold1of5-seed1-0123456789": values})
    assert finished(NEW_UNION, root)


@pytest.mark.parametrize(("log", "precision"), [(CPU, "32"), (GPU, "bf16"), (CPU + GPU, "bf16"), ("", "bf16")])
def test_what_auto_was_is_in_the_log(log: str, precision: str) -> None:
    assert precision_of_log(log) == precision


def test_a_key_that_is_missing_has_the_default_of_format_1(write: Any) -> None:
    values = {key: value for key, value in LESION.items() if key not in ("score_size", "recipe", "weights", "source")}
    root = write(CPU, {"isic/lesion/u-efficientnet-b0-source/fold1of5-seed1-0123456789": values})
    assert finished(NEW_LESION, root)


def test_the_hub_names_what_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network: timm's repository with its tag, that of segmentation-models-pytorch with its revision."""
    assert HUB == hub_weights("tu-efficientnet_b0") == "timm/efficientnet_b0.ra_in1k"
    assert hub_weights("tu-resnet18.a1_in1k") == "timm/resnet18.a1_in1k"
    assert hub_weights("resnet34") == "smp-hub/resnet34.imagenet@7a57b34f7233"
    assert hub_weights("resnext101_32x16d") == hub_weights("tu-nothing") == hub_weights("nothing") == ""

"""A run's identity: what is in its JSON, its hash, its folder and its order."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tatl.run import Recipe, Run, find_runs, finished, write_atomically

LESION = Run("isic", "abc", "384x512", "lesion")
AGNOSTIC = Run("isic", "abc", "384x512", "union", cropper=LESION, offset=40)
TARGET = Run("isic", "abc", "384x512", "streaks", start="tatl", parent=AGNOSTIC, cropper=LESION, offset=40)

# Another value for every field.
OTHER: dict[str, Any] = {
    "store": "idrid",
    "digest": "abd",
    "size": "96x128",
    "task": "globules",
    "shape": "link",
    "backbone": "resnet18",
    "start": "tatl-freeze",
    "source": "textures",
    "weights": "0f",
    "parent": None,
    "cropper": None,
    "offset": 39,
    "fold": 1,
    "n_folds": 4,
    "fraction": 0.4,
    "seed": 1,
    "score_size": "256x256",
    "recipe": Recipe(epochs=39),
}
OTHER_RECIPE: dict[str, Any] = {
    "epochs": 41,
    "patience": 9,
    "batch": 8,
    "optimizer": "adamw",
    "lr": 0.011,
    "momentum": 0.8,
    "weight_decay": 1e-4,
    "pool": "image",
    "balance": 0.25,
    "calibration": 0,
    "precision": "32",
    "augment": True,
}


def put(run: Run, root: Path, whole: bool) -> Path:
    folder = run.folder(root)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(run.dumps())
    if whole:
        (folder / "weights.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize("run", [LESION, AGNOSTIC, TARGET])
def test_json_there_and_back_is_the_identity(run: Run) -> None:
    again = Run.from_json(json.loads(run.dumps()))
    assert again == run and again.hash == run.hash and again.dumps() == run.dumps()
    assert isinstance(again.recipe, Recipe) and (again.parent is None or isinstance(again.parent, Run))


def test_the_hash_is_stable() -> None:
    """A new version that changes this retrains everything that people have: raise FORMAT, and say so."""
    assert LESION.hash == Run("isic", "abc", "384x512", "lesion").hash
    assert len(LESION.hash) == 10


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Run)])
def test_every_field_is_in_the_hash(field: str) -> None:
    assert replace(TARGET, **{field: OTHER[field]}).hash != TARGET.hash


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Recipe)])
def test_every_field_of_the_recipe_is_in_the_hash(field: str) -> None:
    assert replace(TARGET, recipe=replace(TARGET.recipe, **{field: OTHER_RECIPE[field]})).hash != TARGET.hash


def test_what_a_run_starts_from_is_in_its_hash() -> None:
    """A grandparent's epochs change the grandchild."""
    other = replace(LESION, recipe=Recipe(epochs=1))
    assert replace(TARGET, parent=replace(AGNOSTIC, cropper=other)).hash != TARGET.hash
    assert replace(TARGET, cropper=other).hash != TARGET.hash


def test_the_folder_says_what_is_in_it(tmp_path: Path) -> None:
    assert TARGET.folder(tmp_path) == tmp_path / "isic/streaks/u-efficientnet-b0-tatl" / f"fold0of5-seed0-{TARGET.hash}"
    assert replace(TARGET, fraction=0.4, fold=2, seed=7).name.startswith("fold2of5-40pc-seed7-")


def test_runs_of_two_identities_have_two_folders(tmp_path: Path) -> None:
    runs = [replace(TARGET, **{field: value}) for field, value in OTHER.items()]
    assert len({run.folder(tmp_path) for run in (TARGET, *runs)}) == len(runs) + 1


def test_needs_come_deepest_first_and_once() -> None:
    assert list(TARGET.needs()) == [LESION, AGNOSTIC]
    assert list(AGNOSTIC.needs()) == [LESION]
    assert list(LESION.needs()) == []


def test_unknown_and_missing_keys_and_formats_are_refused() -> None:
    values = TARGET.to_json()
    with pytest.raises(ValueError, match="unknown keys: colour"):
        Run.from_json({**values, "colour": "red"})
    with pytest.raises(ValueError, match="unknown keys: speed"):
        Run.from_json({**values, "recipe": {**values["recipe"], "speed": 1}})
    with pytest.raises(ValueError, match=r"run\.json lacks store"):
        Run.from_json({key: value for key, value in values.items() if key != "store"})
    with pytest.raises(ValueError, match="another format than 1: train again"):
        Run.from_json({**values, "format": 0})


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("batch", 0), ("patience", 0), ("lr", 0), ("balance", 1.5), ("optimizer", "lion"),
     ("pool", "pixel"), ("precision", "16"), ("calibration", -1)],
)  # fmt: skip
def test_a_recipe_that_cannot_be_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        Recipe(**{field: value})


def test_a_run_is_finished_when_its_weights_are_there(tmp_path: Path) -> None:
    put(LESION, tmp_path, whole=True)
    put(TARGET, tmp_path, whole=False)
    assert finished(LESION, tmp_path) and not finished(TARGET, tmp_path) and not finished(AGNOSTIC, tmp_path)
    assert list(find_runs(tmp_path)) == [(LESION, LESION.folder(tmp_path))]


def test_writing_replaces_a_file_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    write_atomically(path, "old")
    write_atomically(path, "new")
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["history.csv"]

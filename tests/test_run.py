"""A run's identity: what is in its JSON, its hash, its folder and its order."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

import tatl.run as run_module
from tatl.names import CONTEXT, ROTATION, SHUFFLED, TEXTURES, UNION
from tatl.names import LESION as LESION_TASK
from tatl.run import Recipe, Run, find_runs, finished, identity, outdated, write_atomically
from tatl.training.trainer import save_weights

WEIGHTS = save({"weight": torch.zeros(1)})

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
    "split_seed": 1,
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
    "precision": "bf16",
    "augment": True,
}


def put(run: Run, root: Path, whole: bool) -> Path:
    folder = run.folder(root)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(run.dumps())
    if whole:
        (folder / "weights.safetensors").write_bytes(WEIGHTS)
    return folder


@pytest.mark.parametrize("run", [LESION, AGNOSTIC, TARGET])
def test_json_there_and_back_is_the_identity(run: Run) -> None:
    again = Run.from_json(json.loads(run.dumps()))
    assert again == run and again.hash == run.hash and again.dumps() == run.dumps()
    assert isinstance(again.recipe, Recipe) and (again.parent is None or isinstance(again.parent, Run))


def test_the_hash_is_stable() -> None:
    """A new version that changes one of these retrains everything that people have."""
    assert (LESION.hash, AGNOSTIC.hash, TARGET.hash) == ("8333cb9f86", "ed600d2ea9", "b8ae25a1ee")
    assert replace(TARGET, fold=3, recipe=Recipe(lr=0.02)).hash == "285b7e9cda"


def test_defaults_are_those_that_hashes_without_the_field_mean() -> None:
    values = Run("s", "d", "32x64", "bar").to_json()
    assert values.pop("recipe") == {
        "epochs": 40, "patience": 10, "batch": 16, "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0,
        "pool": "batch", "balance": 0.5, "calibration": 128, "precision": "32", "augment": False,
    }  # fmt: skip
    assert values == {
        "format": 2, "store": "s", "digest": "d", "size": "32x64", "task": "bar", "shape": "u",
        "backbone": "efficientnet-b0", "start": "source", "source": "imagenet", "weights": "", "parent": None,
        "cropper": None, "offset": 0, "fold": 0, "n_folds": 5, "fraction": 1.0, "seed": 0, "score_size": "",
        "split_seed": 0,
    }  # fmt: skip


@dataclass(frozen=True)
class WiderRecipe(Recipe):
    schedule: str = "constant"


@dataclass(frozen=True)
class WiderRun(Run):
    """A run of a version that has more to say."""

    colours: str = "rgb"
    recipe: Recipe = field(default_factory=WiderRecipe)


def test_a_new_field_at_its_default_orphans_no_run() -> None:
    lesion = WiderRun("isic", "abc", "384x512", "lesion")
    target = WiderRun(**{**vars(TARGET), "recipe": WiderRecipe(), "cropper": lesion, "fold": 2})
    assert lesion.hash == LESION.hash and target.hash == replace(TARGET, fold=2).hash
    assert replace(target, colours="lab").hash != target.hash != replace(target, recipe=WiderRecipe(epochs=2)).hash
    assert replace(target, recipe=WiderRecipe(schedule="cosine")).hash != target.hash
    assert replace(target, cropper=replace(lesion, colours="lab")).hash != target.hash


def test_the_name_of_the_store_is_not_in_the_hash_but_its_contents_are() -> None:
    assert replace(TARGET, store="renamed").hash == TARGET.hash and replace(TARGET, store="renamed") == TARGET
    assert replace(TARGET, cropper=replace(LESION, store="renamed")).hash == TARGET.hash
    assert replace(TARGET, cropper=replace(LESION, digest="abd")).hash != TARGET.hash


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Run) if f.name != "store"])
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
    assert replace(TARGET, split_seed=3, seed=7).name.startswith("fold0of5-split3-seed7-")


def test_runs_of_two_identities_have_two_folders(tmp_path: Path) -> None:
    runs = [replace(TARGET, **{field: value}) for field, value in OTHER.items()]
    assert len({run.folder(tmp_path) for run in (TARGET, *runs)}) == len(runs) + 1


def test_needs_come_deepest_first_and_once() -> None:
    assert TARGET.needs() == [LESION, AGNOSTIC]
    assert AGNOSTIC.needs() == [LESION]
    assert LESION.needs() == []


def test_unknown_and_missing_keys_and_formats_are_refused() -> None:
    values = TARGET.to_json()
    with pytest.raises(ValueError, match="unknown keys: colour"):
        Run.from_json({**values, "colour": "red"})
    with pytest.raises(ValueError, match="unknown keys: speed"):
        Run.from_json({**values, "recipe": {**values["recipe"], "speed": 1}})
    with pytest.raises(ValueError, match=r"run\.json lacks store"):
        Run.from_json({key: value for key, value in values.items() if key != "store"})
    with pytest.raises(ValueError, match=r"run\.json lacks digest"):
        Run.from_json({**values, "cropper": {key: v for key, v in values["cropper"].items() if key != "digest"}})
    with pytest.raises(ValueError, match="another format than 2: train again"):
        Run.from_json({**values, "format": 0})


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("batch", 0), ("patience", 0), ("lr", 0), ("balance", 1.5), ("optimizer", "lion"),
     ("pool", "pixel"), ("precision", "16"), ("calibration", -1)],
)  # fmt: skip
def test_a_recipe_that_cannot_be_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        Recipe(**{field: value})


def test_a_key_that_is_missing_has_its_default() -> None:
    values = TARGET.to_json()
    assert Run.from_json({k: v for k, v in values.items() if k not in ("score_size", "split_seed", "recipe")}) == TARGET
    assert Run.from_json({**values, "recipe": {"epochs": 7}}) == replace(TARGET, recipe=Recipe(epochs=7))


@pytest.mark.parametrize("task", ["union", "streaks"])
def test_a_task_of_another_meaning_is_another_run_and_so_is_what_starts_from_it(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = put(TARGET, tmp_path, whole=True)
    put(LESION, tmp_path, whole=True)
    hashes = LESION.hash, TARGET.hash
    monkeypatch.setitem(identity.MEANING, "union" if task == "union" else "target", 2)
    assert LESION.hash == hashes[0] and TARGET.hash != hashes[1]
    assert finished(LESION, tmp_path) and not finished(TARGET, tmp_path)
    run_module._read.cache_clear()
    assert list(find_runs(tmp_path)) == [(LESION, LESION.folder(tmp_path))]
    reason = f"it was trained when {task} meant something else (1, now 2)"
    expected = f"finished runs that no longer count, since {reason}: 1; they are to be trained again"
    assert f"note: {expected} (first: {old})" in capsys.readouterr().err
    assert [said.split(" (first")[0] for said in outdated([TARGET, LESION], tmp_path)] == [expected]
    assert Run.from_json(json.loads(TARGET.dumps())) == TARGET
    put(TARGET, tmp_path, whole=True)
    assert finished(TARGET, tmp_path) and TARGET.folder(tmp_path) != old and not outdated([TARGET], tmp_path)


def test_the_meanings_are_of_tasks() -> None:
    known = {LESION_TASK, UNION, "target", ROTATION, CONTEXT, SHUFFLED, TEXTURES}
    assert set(identity.MEANING) == known


def test_runs_of_a_renamed_store_are_found(tmp_path: Path) -> None:
    folder = put(TARGET, tmp_path, whole=True)
    renamed = replace(TARGET, store="skin", parent=replace(AGNOSTIC, store="skin"))
    assert renamed.folder(tmp_path) == folder and finished(renamed, tmp_path)
    other = replace(renamed, digest="abd")
    assert not finished(other, tmp_path) and other.folder(tmp_path).parts[-4] == "skin"
    own = put(replace(renamed, fold=1), tmp_path, whole=True)
    assert own.parts[-4] == "skin"


def test_its_own_folder_comes_before_another_and_a_finished_one_before_one_that_is_not(tmp_path: Path) -> None:
    renamed, theirs = replace(LESION, store="skin"), put(LESION, tmp_path, whole=True)
    own = tmp_path.joinpath("skin", *theirs.parts[-3:])
    own.mkdir(parents=True)
    assert renamed.folder(tmp_path) == theirs
    (own / "weights.safetensors").write_bytes(WEIGHTS)
    assert renamed.folder(tmp_path) == own


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "recipe": 3}', '{"format": 1, "task": []}'])
def test_a_run_json_that_cannot_be_read_is_named_and_the_others_are_found(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(LESION, tmp_path, whole=True)
    broken = put(AGNOSTIC, tmp_path, whole=True)
    (broken / "run.json").write_text(text)
    assert list(find_runs(tmp_path)) == [(LESION, LESION.folder(tmp_path))]
    assert f"note: {broken / 'run.json'} cannot be read (" in capsys.readouterr().err


def test_a_run_is_finished_when_its_weights_are_there(tmp_path: Path) -> None:
    put(LESION, tmp_path, whole=True)
    put(TARGET, tmp_path, whole=False)
    assert finished(LESION, tmp_path) and not finished(TARGET, tmp_path) and not finished(AGNOSTIC, tmp_path)
    assert list(find_runs(tmp_path)) == [(LESION, LESION.folder(tmp_path))]


@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "cut header", "no header", "header of another kind"])
def test_weights_that_are_not_whole_are_none(damage: str, tmp_path: Path) -> None:
    path = put(LESION, tmp_path, whole=True) / "weights.safetensors"
    assert finished(LESION, tmp_path)
    content = path.read_bytes()
    path.write_bytes({
        "cut": content[:-1],
        "longer": content + b"0",
        "empty": b"",
        "cut header": content[:20],
        "no header": b"\0" * len(content),
        "header of another kind": (4).to_bytes(8, "little") + b"[1] ",
    }[damage])  # fmt: skip
    assert not finished(LESION, tmp_path) and not list(find_runs(tmp_path))
    path.write_bytes(content)
    assert finished(LESION, tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="which file a descriptor is of is read from /proc")
def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    replace_of = Path.replace

    def synced(handle: int) -> None:
        done.append(("sync", os.readlink(f"/proc/self/fd/{handle}")))

    def replaced(self: Path, target: Path) -> Path:
        done.append(("rename", str(target)))
        return replace_of(self, target)

    monkeypatch.setattr("tatl.machine.disk.os.fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_atomically(tmp_path / "a", "text")
    save_weights({"w": torch.zeros(1)}, tmp_path / "b")
    folder = str(tmp_path)
    assert done == [
        step
        for name in ("a", "b")
        for step in (("sync", f"{folder}/{name}.partial"), ("rename", f"{folder}/{name}"), ("sync", folder))
    ]


def test_writing_replaces_a_file_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    write_atomically(path, "old")
    write_atomically(path, "new")
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["history.csv"]

"""Probabilities of finished runs: old files are read, and where they are lost the tables say what they lack."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tatl.data.folds import split
from tatl.data.store import Store
from tatl.names import ENSEMBLE
from tatl.studies.planner import Member, Planner
from tatl.studies.results import histories, lost_notes, probabilities, scores_of, training_of
from tatl.studies.settings import Settings
from tatl.studies.write import write_tables
from tatl.training.metrics import confusion, score_table

SETTINGS = Settings(shapes="u,link", source="random", attributes="disc,bar", folds="0", n_folds=3, score_size="")


@pytest.fixture
def members(toy_store: Store, tmp_path: Path) -> list[Member]:
    """Two variants of two shapes on two attributes, with made-up probabilities, as files of today and of before."""
    made = Planner(SETTINGS, toy_store).members(["stage3"])
    made += [Member(**{**vars(member), "variant": "again"}) for member in made]
    test = split(toy_store, 0, 3, 0).test
    names = toy_store.cases["id"].to_numpy()[test]
    for number, run in enumerate(dict.fromkeys(member.run for member in made)):
        folder = run.folder(tmp_path)
        folder.mkdir(parents=True)
        maps = np.random.default_rng(number).integers(0, 256, (len(test), *toy_store.size), np.uint8)
        if number % 2:
            np.save(folder / "probabilities.npy", maps)
        else:
            np.savez_compressed(folder / "probabilities.npz", probabilities=maps)
        fractions = confusion(maps >= 128, toy_store.mask(run.task, test))
        history = pd.DataFrame([{"epoch": 0, "step": 3, "split": "train", "loss": 0.5, "lr": 0.1}])
        history.to_csv(folder / "history.csv", index=False)
        score_table(names, run.task, fractions).to_csv(folder / "scores.csv", index=False)
    return made


def test_old_and_new_files_give_the_same_scores(members: list[Member], toy_store: Store, tmp_path: Path) -> None:
    folders = [member.run.folder(tmp_path) for member in members[:4]]
    before = scores_of(members, tmp_path, toy_store)
    assert {path.suffix for folder in folders for path in folder.glob("probabilities.*")} == {".npy", ".npz"}
    for folder in folders:
        maps = probabilities(folder)
        assert maps.dtype == np.uint8 and maps.shape[1:] == tuple(toy_store.size)
        np.savez_compressed(folder / "probabilities.npz", probabilities=maps)
        (folder / "probabilities.npy").unlink(missing_ok=True)
    pd.testing.assert_frame_equal(scores_of(members, tmp_path, toy_store), before)
    assert lost_notes(members, tmp_path) == []


def test_what_is_lost_is_left_out_and_said(
    members: list[Member], toy_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One shape's maps of one attribute are lost: the mean of its fold is, each shape alone is not."""
    whole = scores_of(members, tmp_path, toy_store)
    folder = next(m.run for m in members if m.shape == "link" and m.attribute == "bar").folder(tmp_path)
    next(folder.glob("probabilities.*")).unlink()
    rest = scores_of(members, tmp_path, toy_store)
    pd.testing.assert_frame_equal(rest, whole[whole["shape"] != ENSEMBLE].reset_index(drop=True))
    notes = lost_notes(members, tmp_path)
    assert [note.partition(":")[0] for note in notes] == [
        f"{variant}, shape mean, fold 0, seed 0 is left out" for variant in ("stage3", "again")
    ]
    assert all(f"{folder}/probabilities.npz is lost; delete the weights.safetensors beside it" in n for n in notes)
    described = {"notes": ["as planned"]}
    write_tables("data-size", members, tmp_path, toy_store, tmp_path / "tables", described, "cpu")
    assert json.loads((tmp_path / "tables/data-size.json").read_text())["notes"] == ["as planned", *notes]
    table = pd.read_csv(tmp_path / "tables/data-size.csv")
    assert set(table["shape"]) == {"u", "link"} and set(table["variant"]) == {"stage3", "again"}
    capsys.readouterr()


def test_without_any_map_a_network_on_another_mask_cannot_be_scored(
    members: list[Member], toy_store: Store, tmp_path: Path
) -> None:
    alone = [Member(**{**vars(members[0]), "attribute": "dot"})]
    next(alone[0].run.folder(tmp_path).glob("probabilities.*")).unlink()
    with pytest.raises(FileNotFoundError, match=r"no score can be had: .*probabilities\.npz is lost; delete"):
        scores_of(alone, tmp_path, toy_store)


@pytest.mark.parametrize("name", ["scores.csv", "history.csv"])
def test_a_lost_table_of_a_run_is_named_with_its_folder(
    members: list[Member], toy_store: Store, tmp_path: Path, name: str
) -> None:
    folder = members[0].run.folder(tmp_path)
    (folder / name).unlink()
    said = re.escape(f"{folder / name} is lost: delete the folder {folder} to have that run trained again")
    if name == "scores.csv":
        with pytest.raises(FileNotFoundError, match=said):
            scores_of(members, tmp_path, toy_store)
    else:
        for read in (lambda: training_of(members, tmp_path, toy_store), lambda: histories(members, tmp_path)):
            with pytest.raises(FileNotFoundError, match=said):
                read()

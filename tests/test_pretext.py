"""Self-supervised rivals: four right turns, honest swaps, and starts that copy what they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tatl.data.folds import split
from tatl.data.store import Store
from tatl.run import Run
from tatl.studies.planner import STAGES_OF, Planner
from tatl.studies.settings import Settings
from tatl.training.pretext import ContextRestoration, Rotation, central_square, quarter_turns, swapped
from tatl.training.tasks import make_task, start_model
from tatl.training.trainer import fit
from toy import make_store, toy_run

CPU: dict[str, Any] = {"device": "cpu", "progress": False}


def images(count: int = 3, height: int = 48, width: int = 64) -> Tensor:
    """Every pixel another number."""
    return torch.arange(count * 3 * height * width, dtype=torch.float32).view(count, 3, height, width)


def draws(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(count)]


def test_quarter_turns_are_the_four_rotations_in_order() -> None:
    square = central_square(images())
    assert square.shape == (3, 3, 48, 48) and torch.equal(square, images()[..., 8:56])
    turned = quarter_turns(square)
    assert turned.shape == (12, 3, 48, 48)
    assert torch.equal(turned[:3], square)
    assert torch.equal(turned[3:6, :, 0, 0], square[..., 0, -1])  # 90 degrees counter-clockwise: top right to top left
    assert torch.equal(turned[6:9], square.flip(-1, -2))
    assert torch.equal(quarter_turns(turned[9:])[3:6], square)


def test_swaps_move_patches_both_ways_and_lose_nothing() -> None:
    original = images()
    kept = original.clone()
    made = swapped(original, draws(3))
    assert torch.equal(original, kept) and made.data_ptr() != original.data_ptr()
    assert torch.equal(made.flatten(2).sort(-1).values, original.flatten(2).sort(-1).values)
    once = swapped(original[:1], draws(1), swaps=1)[0, 0]
    moved = (once != original[0, 0]).nonzero()
    assert len(moved) == 2 * 2 * 2  # two patches of 2 px at height 48
    assert torch.equal(once[once != original[0, 0]].sort().values, original[0, 0][once != original[0, 0]].sort().values)


def test_channels_move_together_and_images_apart() -> None:
    made, original = swapped(images(), draws(3)), images()
    shift = original[0, 1, 0, 0] - original[0, 0, 0, 0]
    assert torch.equal(made[:, 1] - made[:, 0], torch.full_like(made[:, 0], shift))
    moved = made != original
    assert moved[0].float().mean() > 0.15 and not torch.equal(moved[0], moved[1])


def test_patches_have_the_stated_side() -> None:
    original = images(1, 384, 512)
    changed = swapped(original, draws(1), swaps=1) != original
    assert int(changed[0, 0].sum()) == 2 * 15 * 15


def test_swaps_repeat_with_their_generator_and_need_room() -> None:
    assert torch.equal(swapped(images(), draws(3)), swapped(images(), draws(3)))
    assert not torch.equal(swapped(images(), draws(3)), swapped(images(), draws(3, seed=1)))
    with pytest.raises(ValueError, match="no room"):
        swapped(images(1, 3, 3), draws(1))


@pytest.fixture(scope="module")
def rotation(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    run = toy_run(toy_store, "rotation", shape="encoder", epochs=2, batch=4, lr=0.01)
    root = tmp_path_factory.mktemp("rotation")
    fit(run, root, toy_store, **CPU)
    return run, root


@pytest.fixture(scope="module")
def context(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    run = toy_run(toy_store, "context", epochs=3, batch=4, lr=0.003, optimizer="adamw")
    root = tmp_path_factory.mktemp("context")
    fit(run, root, toy_store, **CPU)
    return run, root


def test_rotation_is_scored_on_every_turn_of_the_test_images(rotation: tuple[Run, Path], toy_store: Store) -> None:
    run, root = rotation
    scores = pd.read_csv(run.folder(root) / "scores.csv")
    test = split(toy_store, run.fold, run.n_folds, run.split_seed).test
    assert sorted(scores["image"]) == sorted(np.repeat(toy_store.cases["id"].to_numpy()[test], 4))
    assert scores["label"].value_counts().to_dict() == dict.fromkeys((0, 90, 180, 270), len(test))
    assert set(scores["predicted"]) <= {0, 90, 180, 270}


def test_restoring_lowers_the_error(context: tuple[Run, Path]) -> None:
    run, root = context
    history = pd.read_csv(run.folder(root) / "history.csv")
    # Of training: on maps of one by two pixels the statistics of 14 images decide the validation loss.
    losses = history[history["split"] == "train"].groupby("epoch")["loss"].mean().to_numpy()
    assert losses[-1] < losses[0] / 2
    scores = pd.read_csv(run.folder(root) / "scores.csv")
    assert scores.columns.tolist() == ["image", "restored", "corrupted"] and (scores["corrupted"] > 0).all()


def test_training_swaps_are_fresh_and_validation_swaps_fixed(context: tuple[Run, Path], toy_store: Store) -> None:
    run, root = context
    task = make_task(run, toy_store, root)
    assert isinstance(task, ContextRestoration)
    indices, device = np.arange(4), torch.device("cpu")
    task.model.eval()
    with torch.no_grad():
        first, second = (task._forward(indices, device)[2] for _ in range(2))
        assert torch.equal(first, second)
        assert torch.equal(task.validation_sums(indices, device), task.validation_sums(indices, device))
        torch.manual_seed(7)
        third, fourth = (task._forward(indices, device, fresh=True)[2] for _ in range(2))
        assert not torch.equal(third, fourth)
        torch.manual_seed(7)
        assert torch.equal(third, task._forward(indices, device, fresh=True)[2])


def test_a_start_copies_from_its_pretext(
    rotation: tuple[Run, Path], context: tuple[Run, Path], toy_store: Store
) -> None:
    cases = ((rotation, "rotation", ("encoder",)), (context, "context", ("encoder", "decoder")))
    for (parent, root), start, copied in cases:
        run = toy_run(toy_store, "disc", start=start, parent=parent)
        given = load_file(parent.folder(root) / "weights.safetensors")
        fresh = start_model(toy_run(toy_store, "disc"), root).state_dict()
        for name, value in start_model(run, root).state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            inside = name.partition(".")[0] in copied
            assert torch.equal(value, given[name] if inside else fresh[name]), (start, name)


def test_the_masks_are_not_read(toy_store: Store, tmp_path: Path) -> None:
    """A store whose lesions and half of whose dots are unknown serves as well, and gives the same weights."""
    other = make_store(tmp_path / "toy", lesions=False, unknown=("dot",))
    made = []
    for store, root in ((toy_store, tmp_path / "a"), (other, tmp_path / "b")):
        run = toy_run(store, "rotation", shape="encoder", epochs=1)
        task = make_task(run, store, root)
        assert isinstance(task, Rotation)
        made.append(float(task.loss(np.arange(4), torch.device("cpu")).detach()))
    assert made[0] == pytest.approx(made[1])


def test_the_planner_s_starts(toy_store: Store) -> None:
    planner = Planner(Settings(source="textures", shapes="link", epochs=3, agnostic_epochs=7), toy_store)
    whole = STAGES_OF["stage23"]
    parents = {}
    for start in ("random", "source", "rotation", "context", "tatl"):
        run = planner.started(start, whole, "disc", "link", 0, 0)
        assert (run.task, run.start, run.cropper) == ("disc", start, None)
        parents[start] = run.parent
    assert parents["random"] is None
    assert parents["source"].task == "textures" and parents["tatl"].task == "union"
    assert (parents["rotation"].task, parents["rotation"].shape) == ("rotation", "encoder")
    assert (parents["context"].task, parents["context"].shape) == ("context", "link")
    for start in ("rotation", "context"):
        assert parents[start].parent.task == "textures" and parents[start].recipe.epochs == 7
    assert planner.start_of(whole) == "tatl"


def test_a_restorer_has_three_channels_and_a_rotator_four_classes(toy_store: Store, tmp_path: Path) -> None:
    assert start_model(toy_run(toy_store, "context"), tmp_path).head.out_channels == 3
    assert start_model(toy_run(toy_store, "rotation", shape="encoder"), tmp_path).head[0].out_features == 4
    assert start_model(toy_run(toy_store, "disc"), tmp_path).head.out_channels == 1

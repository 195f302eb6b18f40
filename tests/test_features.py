"""Features of a frozen encoder: computed once, the same whatever the room, the order and the company."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tatl.data.batches import Feed
from tatl.data.store import Store
from tatl.models import Segmenter, build
from tatl.models.encoders import EfficientNetB0
from tatl.models.starts import seeded
from tatl.names import B0
from tatl.prediction.ensemble import mean_probabilities, share_encoders
from tatl.run import Run
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.piece import Trainer
from tatl.training import frozen_features as features
from tatl.training.frozen_features import Frozen, Kept, encoder_digest
from tatl.training.tasks import Segmentation
from tatl.training.trainer import fit
from toy import toy_run

CPU: dict[str, Any] = {"device": "cpu", "progress": False}
COUNT = 7


class Counting:
    """Two levels of features that name their image, and how often each image was seen."""

    def __init__(self) -> None:
        self.seen = np.zeros(COUNT, int)

    def __call__(self, images: Tensor) -> list[Tensor]:
        for value in images[:, 0, 0, 0].tolist():
            self.seen[int(value)] += 1
        return [images[:, :1].repeat(1, 3, 1, 1), 2 * images[:, :1, ::2, ::2]]


def pictures(indices: np.ndarray) -> Tensor:
    return torch.tensor(indices, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 4, 4)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Every test starts and ends without kept features."""
    features.release()
    yield
    features.release()


ONE = 4 * (3 * 16 + 4)  # bytes of one image's features


@pytest.mark.parametrize("images", [0, 1, 4, COUNT, 100])
def test_features_are_the_encoder_s_whatever_the_room(images: int) -> None:
    encoder, kept = Counting(), Kept(np.arange(COUNT), images * ONE)
    for batch in ([3, 1, 3], [6, 0, 1, 5], [2, 4], [1, 6, 2, 3, 0, 4, 5], [1]):
        indices = np.array(batch)
        for own, true in zip(kept(indices, pictures(indices), encoder), Counting()(pictures(indices)), strict=True):
            assert torch.equal(own, true)
    first = min(images, COUNT)
    assert (encoder.seen[:first] == 1).all()
    assert (encoder.seen[first:] > 1).all()


def test_kept_features_have_the_channels_last() -> None:
    indices = np.array([0, 2])
    for level in Kept(np.arange(COUNT), 1e6)(indices, pictures(indices), Counting()):
        assert level.is_contiguous(memory_format=torch.channels_last)


def test_the_first_in_order_are_kept() -> None:
    encoder, kept, everything = Counting(), Kept(np.array([5, 2, 6, 0, 1, 3, 4]), 3 * ONE), np.arange(COUNT)
    for _ in range(3):
        kept(everything, pictures(everything), encoder)
    assert encoder.seen.tolist() == [3, 3, 1, 3, 3, 1, 1]


def a_frozen(store: Store, seed: int, first: np.ndarray) -> tuple[Frozen, Counting]:
    return Frozen(seeded(lambda: nn.Linear(2, 2), seed), Feed(store, "disc"), first), Counting()


def test_encoders_and_processes_share_the_room(toy_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine with four cores, two threads have half: here the features of six images, whoever asks."""
    monkeypatch.setattr(features, "ROOM", 12 * ONE)
    monkeypatch.setattr(features, "cores", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    indices = np.arange(COUNT)

    def capacities() -> list[int]:
        return [len(kept.levels[0]) for kept in features._kept.values()]

    for seed, expected in ((0, [6]), (1, [6])):  # the second finds no room, so the first is forgotten
        frozen, encoder = a_frozen(toy_store, seed, np.array([4, 5, 6]))
        frozen(indices, pictures(indices), encoder)
        frozen(indices, pictures(indices), encoder)
        assert capacities() == expected and encoder.seen.tolist() == [1, 1, 1, 2, 1, 1, 1]
    with torch.autocast("cpu", torch.bfloat16):  # the same encoder's features in another precision
        frozen(indices, pictures(indices), encoder)
    assert capacities() == [6, 0]
    features.release()
    assert not features._kept


def frozen_runs(store: Store) -> tuple[Run, list[Run]]:
    agnostic = toy_run(store, "union", backbone=B0)
    return agnostic, [
        toy_run(store, task, backbone=B0, start="tatl-freeze", parent=agnostic, epochs=2)
        for task in ("disc", "bar", "dot")
    ]


def count_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images every call of the encoder gets."""
    passes: list[int] = []
    forward = EfficientNetB0.forward

    def counted(self: EfficientNetB0, x: Tensor) -> list[Tensor]:
        passes.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(EfficientNetB0, "forward", counted)
    return passes


def test_the_targets_of_a_fold_train_from_one_pass_over_its_images(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agnostic, targets = frozen_runs(toy_store)
    fit(agnostic, tmp_path, toy_store, **CPU)
    passes = count_passes(monkeypatch)
    for run in targets:
        fit(run, tmp_path, toy_store, **CPU)
    assert passes == [1] * len(toy_store)


def test_features_are_released_with_the_last_run_that_stands_on_them(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agnostic, targets = frozen_runs(toy_store)
    fit(agnostic, tmp_path, toy_store, **CPU)
    held = []

    def watched(run: Run, *given: Any, **options: Any) -> None:
        fit(run, *given, **options)
        held.append((run.task, len(features._kept)))

    monkeypatch.setattr("tatl.studies.execution.piece.fit", watched)
    trainer = Trainer(tmp_path, toy_store, Machine(device="cpu", progress=False))
    for piece in (tuple(targets[:2]), (targets[2],)):
        assert all(isinstance(outcome, float) for outcome in trainer(piece)) and not features._kept
    assert held == [("disc", 1), ("bar", 1), ("dot", 1)]


def test_company_and_room_do_not_change_what_is_learnt(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agnostic, (disc, bar, _) = frozen_runs(toy_store)
    fit(agnostic, tmp_path, toy_store, **CPU)
    fit(disc, tmp_path, toy_store, **CPU)
    learnt = []
    for room in (1e9, 1e9, 0):  # the first stands on what `disc` left
        monkeypatch.setattr(features, "ROOM", room)
        folder = fit(bar, tmp_path, toy_store, **CPU)
        learnt.append(load_file(folder / "weights.safetensors"))
        shutil.rmtree(folder)
        features.release()
    together, alone, without = (torch.cat([value.double().flatten() for value in each.values()]) for each in learnt)
    assert torch.equal(together, alone) and torch.equal(together, without)


def test_equal_encoders_have_equal_digests_and_others_do_not() -> None:
    one, same, other = (seeded(EfficientNetB0, seed) for seed in (0, 0, 1))
    assert encoder_digest(one) == encoder_digest(same) != encoder_digest(other)
    same.state_dict()["bn1.running_mean"] += 1e-3
    assert encoder_digest(one) != encoder_digest(same)


def test_an_ensemble_asks_a_shared_encoder_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(seed: int, encoder_seed: int) -> Segmenter:
        model = seeded(lambda: build("link"), seed).eval()
        model.encoder.load_state_dict(seeded(EfficientNetB0, encoder_seed).state_dict())
        return model

    networks = {"disc": [network(1, 0), network(2, 5)], "bar": [network(3, 0)], "union": [network(4, 0)]}
    image = torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        apart = {n: torch.stack([torch.sigmoid(m(image)) for m in each]).mean(0) for n, each in networks.items()}
    share_encoders([model for each in networks.values() for model in each])
    assert len({id(model.encoder) for each in networks.values() for model in each}) == 2
    passes = count_passes(monkeypatch)
    together = mean_probabilities(networks, image)
    assert passes == [1, 1]
    for name, expected in apart.items():
        assert torch.allclose(together[name], expected, atol=1e-6), name
    assert isinstance(networks["bar"][0].encoder, nn.Module)


def test_a_random_encoder_that_stays_has_the_statistics_of_its_images(toy_store: Store, tmp_path: Path) -> None:
    """Without them its norms do nothing, and features grow or vanish with depth: no fair control."""
    runs = [toy_run(toy_store, name, backbone=B0, start="frozen-random") for name in ("disc", "bar")]
    tasks = [Segmentation(run, toy_store, tmp_path) for run in runs]
    model, untouched = tasks[0].model, seeded(lambda: build("link"), 0)
    norms = [m for m in model.encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(norm.running_mean is not None and norm.running_mean.abs().max() > 0 for norm in norms)
    assert not model.encoder.training and encoder_digest(model.encoder) == encoder_digest(tasks[1].model.encoder)
    own, plain = (dict(each.encoder.named_parameters()) for each in (model, untouched))
    assert all(torch.equal(own[name], plain[name]) and not own[name].requires_grad for name in own)
    images = tasks[0].feed(tasks[0].split.train[:8], torch.device("cpu"))[0]
    with torch.no_grad():
        deepest = [float(each.eval().features(images)[-1].std()) for each in (model, untouched)]
    assert deepest[0] > 10 * deepest[1]

"""Every network of the comparisons is trained by the one loop, by its own loss where it has one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tatl.data.folds import split
from tatl.data.store import Store
from tatl.models import OwnLoss
from tatl.names import PLAIN, RIVALS
from tatl.prediction.ensemble import network
from tatl.run import Run, in_order
from tatl.studies.catalogue import STUDIES, Asked
from tatl.studies.planner import Planner
from tatl.studies.results import probabilities, scores_of
from tatl.studies.settings import Settings
from tatl.training.inference import truth
from tatl.training.metrics import confusion
from tatl.training.tasks import start_model
from tatl.training.trainer import fit
from toy import make_store, toy_run

NETWORKS = {**RIVALS, "pyramid": "resnet18"}
SMALL = (
    "resnet18",
    "mobilenet_v2",
    "vgg11",
    "efficientnet-b0",
)  # in place of the winner's four, of 180 million numbers
OPTIONS = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Eight images that all show a disc: three folds of four or five to train on and one to stop early by."""
    return make_store(tmp_path_factory.mktemp("smallest") / "toy", cases=8, every=(1, 2, 0))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder of runs that is emptied of its weights afterwards: they are large."""
    yield tmp_path
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()


@pytest.mark.parametrize(
    "shape", [name if name == "pyramid" else pytest.param(name, marks=pytest.mark.large) for name in NETWORKS]
)
def test_a_network_is_trained_scored_and_read_again(shape: str, smallest: Store, root: Path) -> None:
    run = toy_run(smallest, shape=shape, backbone=NETWORKS[shape], batch=2, lr=1e-3, calibration=4)
    folder = fit(run, root, smallest, **OPTIONS)
    before, after = start_model(run, root), network(run, root, torch.device("cpu"))
    moved = {name for name, p in before.named_parameters() if not torch.equal(p, after.get_parameter(name))}
    assert {name.partition(".")[0] for name in moved} == {"encoder", "decoder", "head"}
    history = pd.read_csv(folder / "history.csv")
    losses = history.set_index("split")["loss"]
    assert np.isfinite(history["loss"]).all() and losses["validation"].min() >= 0 and losses["validation"].max() <= 1
    assert isinstance(after, OwnLoss) == (shape in ("isic2017-winner", "mask-rcnn"))
    low, high = {"isic2017-winner": (-1, 0), "mask-rcnn": (1, 20)}.get(shape, (0, 1))  # of minus Dice; of five losses
    assert losses[["train"]].between(low, high).all()
    _scored_by_hand(run, folder, smallest)


def _scored_by_hand(run: Run, folder: Path, store: Store) -> None:
    test = split(store, run.fold, run.n_folds, run.split_seed).test
    maps = probabilities(folder)
    assert maps.shape == (len(test), *store.size)
    scores = pd.read_csv(folder / "scores.csv")[["tp", "fp", "fn", "tn"]].to_numpy()
    np.testing.assert_allclose(scores, confusion(maps >= 128, truth(store, run.task, test, store.size)))


def test_the_winner_of_2018_is_the_mean_of_four_pyramids(
    smallest: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tatl.studies.catalogue.WINNERS", {"isic2018-winner": SMALL})
    settings = Settings(
        source="random", attributes="disc", folds="0", n_folds=3, score_size="", epochs=1, batch=2, calibration=4
    )
    members = STUDIES["variants"].members(Planner(settings, smallest), Asked("isic2018-winner"))
    assert [member.shape for member in members] == [f"pyramid-{backbone}" for backbone in SMALL]
    for run in in_order(member.run for member in members):
        fit(run, root, smallest, **OPTIONS)
    table = scores_of(members, root, smallest).set_index("shape")
    assert list(dict.fromkeys(table.index)) == [*(member.shape for member in members), "mean"]
    stacks = np.stack([probabilities(member.run.folder(root)) for member in members])
    assert len({stack.tobytes() for stack in stacks}) == len(SMALL)
    test = split(smallest, 0, 3, 0).test
    by_hand = confusion(stacks.mean(0) + 0.5 >= 128, truth(smallest, "disc", test, smallest.size))
    np.testing.assert_allclose(table.loc["mean", ["tp", "fp", "fn", "tn"]].to_numpy(float), by_hand)


def test_the_plain_network_has_no_source_domain(smallest: Store) -> None:
    settings = Settings(source="imagenet", lesion_network="unet", folds="0", n_folds=3)
    run = Planner(settings, smallest).lesion(0, 0)
    assert (run.backbone, run.start, run.source, run.parent) == (PLAIN, "random", "random", None)

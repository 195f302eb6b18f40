"""One network with an output for every attribute: trained, scored attribute by attribute, and copied from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_studies import planner

from tatl.data.store import Store
from tatl.losses import segmentation_loss
from tatl.models.starts import read_weights
from tatl.names import ENSEMBLE, MULTILABEL
from tatl.run import Run
from tatl.studies.catalogue import STUDIES
from tatl.studies.planner import Member
from tatl.studies.results import per_fold, probabilities, scores_of, training_of
from tatl.studies.settings import Asked
from tatl.training.tasks import Segmentation, start_model
from tatl.training.trainer import fit
from toy import toy_run

CPU = torch.device("cpu")


def members(store: Store, row: str) -> list[Member]:
    return STUDIES["paradigms"].members(planner(store), Asked(row))


@pytest.fixture(scope="module")
def trained(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    root = tmp_path_factory.mktemp("runs")
    run = replace(toy_run(toy_store, MULTILABEL), shape="link")
    fit(run, root, toy_store, progress=False)
    return run, root


def test_its_loss_is_the_mean_over_attributes(toy_store: Store, tmp_path: Path) -> None:
    task = Segmentation(toy_run(toy_store, MULTILABEL), toy_store, tmp_path)
    indices = task.batches(0)[0]
    task.model.eval()
    logits, masks = task.forward(indices, CPU), task.feed(indices, CPU)[1]
    assert logits.shape[1] == len(toy_store.attributes) == masks.shape[1]
    for channel, name in enumerate(toy_store.attributes):
        assert np.array_equal(masks[:, channel].numpy() > 0, toy_store.mask(name, indices))
    single = [segmentation_loss(logits[:, [c]], masks[:, [c]]) for c in range(logits.shape[1])]
    assert torch.allclose(task.loss(indices, CPU), torch.stack(single).mean())
    with torch.no_grad():
        pooled = task.validation_loss(task.validation_sums(indices, CPU))
    assert pooled == pytest.approx(float(torch.stack(single).mean().detach()))


def test_every_attribute_is_scored(trained: tuple[Run, Path], toy_store: Store) -> None:
    run, root = trained
    rows = [Member("multilabel-direct", "link", 0, 0, name, run) for name in toy_store.attributes]
    folds = per_fold(scores_of(rows, root, toy_store))
    assert set(toy_store.attributes) <= set(folds["attribute"]) and set(folds["shape"]) == {"link", ENSEMBLE}
    assert folds["dice"].between(0, 1).all()
    assert training_of(rows, root, toy_store)["steps"].nunique() == 1
    maps = [probabilities(run.folder(root), name) for name in toy_store.attributes]
    assert all(each.shape == maps[0].shape and each.ndim == 3 for each in maps)


def test_two_shapes_are_averaged_map_by_map(trained: tuple[Run, Path], toy_store: Store) -> None:
    run, root = trained
    twice = [Member("multilabel-direct", shape, 0, 0, name, run) for name in toy_store.attributes for shape in "ab"]
    scores = scores_of(twice, root, toy_store)
    one, mean = (scores[scores["shape"] == shape].drop(columns="shape") for shape in ("a", ENSEMBLE))
    assert np.allclose(one[["tp", "fp"]], mean[["tp", "fp"]])


def test_a_target_copies_encoder_and_decoder(trained: tuple[Run, Path], toy_store: Store) -> None:
    run, root = trained
    target = replace(run, task=toy_store.attributes[0], start=MULTILABEL, parent=run)
    copied = start_model(target, root).state_dict()
    theirs = read_weights(run.folder(root) / "weights.safetensors")
    for name, value in copied.items():
        if not name.startswith("head.") and not name.endswith("num_batches_tracked"):
            assert torch.equal(value, theirs[name]), name
    assert copied["head.weight"].shape[0] == 1 and theirs["head.weight"].shape[0] == len(toy_store.attributes)


def test_the_direct_row_trains_for_both_stages(toy_store: Store) -> None:
    direct, start = members(toy_store, "multilabel-direct"), members(toy_store, MULTILABEL)
    assert {m.run.task for m in direct} == {MULTILABEL} and len({m.run for m in direct}) == 1
    assert {(m.run.start, m.run.parent.task) for m in start if m.run.parent} == {(MULTILABEL, MULTILABEL)}
    target = start[0].run
    assert target.parent and direct[0].run.recipe.epochs == target.recipe.epochs + target.parent.recipe.epochs


def test_textures_stand_beside_imagenet_alone(toy_store: Store) -> None:
    with pytest.raises(ValueError, match="stands beside --source imagenet"):
        members(toy_store, "textures")
    found = STUDIES["paradigms"].members(planner(toy_store, source="imagenet"), Asked("textures,source"))
    assert {m.variant: m.run.source for m in found} == {"textures": "textures", "source": "imagenet"}

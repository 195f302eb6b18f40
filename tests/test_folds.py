"""Folds are partitions that keep groups whole, spread attributes, and nest their fractions."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from tatl.data import folds
from tatl.data.case import Size
from tatl.data.folds import rarest_attribute, scarce, split
from tatl.data.store import Store
from tatl.studies.planner import Planner
from tatl.studies.settings import Settings
from tatl.training.base import StoreTask
from tatl.training.tasks import make_task
from toy import make_store, toy_run

SMALL = Size(8, 16)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """120 cases, each its own group: disc in 60, bar in 40, dot in 10."""
    return make_store(tmp_path_factory.mktemp("stores") / "single", SMALL, cases=120, every=(2, 3, 12))


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """120 cases in 30 photographs of four tiles."""
    return make_store(tmp_path_factory.mktemp("stores") / "tiled", SMALL, cases=120, every=(2, 3, 12), tiles=4)


@pytest.fixture(params=["single", "tiled"])
def store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("n_folds", [2, 5])
def test_every_image_is_tested_once(store: Store, n_folds: int, seed: int) -> None:
    tests = [split(store, fold, n_folds, seed).test for fold in range(n_folds)]
    assert sorted(np.concatenate(tests)) == list(range(len(store)))


def test_a_split_is_a_partition_of_sorted_indices(store: Store) -> None:
    for fold in range(5):
        parts = split(store, fold)
        whole = np.concatenate([parts.train, parts.validation, parts.test])
        assert sorted(whole) == list(range(len(store)))
        for part in (parts.train, parts.validation, parts.test):
            assert len(part) and (np.diff(part) > 0).all()


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_no_group_is_on_two_sides(tiled: Store, fraction: float) -> None:
    groups = tiled.cases["group"].to_numpy()
    for fold in range(5):
        parts = split(tiled, fold, fraction=fraction)
        sides = [set(groups[part]) for part in (parts.train, parts.validation, parts.test)]
        assert sum(map(len, sides)) == len(set.union(*sides))


def test_a_tenth_of_the_training_groups_stops_early(single: Store) -> None:
    for fold in range(5):
        assert len(split(single, fold).validation) == pytest.approx(96 / 10, abs=2)


@pytest.mark.parametrize("seed", range(3))
def test_attributes_are_spread_the_rare_ones_best(single: Store, seed: int) -> None:
    folds = [split(single, fold, seed=seed) for fold in range(5)]
    for name, slack in (("dot", 1), ("bar", 3), ("disc", 6)):
        present = single.present(name)
        counts = [present[f.test].sum() for f in folds]
        assert np.abs(np.array(counts) - present.sum() / 5).max() <= slack, (name, counts)
    assert all(single.present("dot")[f.validation].sum() <= 2 for f in folds)


def test_an_image_counts_for_its_rarest_attribute(single: Store) -> None:
    labels = rarest_attribute(single)
    disc, bar, dot = (single.present(name) for name in single.attributes)
    assert (labels[dot] == 3).all()
    assert (labels[bar & ~dot] == 2).all()
    assert (labels[disc & ~bar & ~dot] == 1).all()
    assert (labels[~disc & ~bar & ~dot] == 0).all()


def test_fractions_are_nested_shares_of_the_training_groups(store: Store) -> None:
    groups = store.cases["group"].to_numpy()
    whole = split(store, 1)
    inner: set[int] = set()
    for fraction in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts = split(store, 1, fraction=fraction)
        assert inner <= set(parts.train)
        inner = set(parts.train)
        share = len(set(groups[parts.train])) / len(set(groups[whole.train]))
        assert share == pytest.approx(fraction, abs=0.5 / len(set(groups[whole.train])) + 1e-9)
        assert np.array_equal(parts.test, whole.test) and np.array_equal(parts.validation, whole.validation)


def test_half_the_images_have_half_of_the_rare_attribute(single: Store) -> None:
    present = single.present("dot")
    for fold in range(5):
        whole, half = (present[split(single, fold, fraction=f).train].sum() for f in (1.0, 0.5))
        assert abs(half - whole / 2) <= 1.5


def test_the_smallest_fraction_keeps_a_group(single: Store) -> None:
    assert len(split(single, 0, fraction=1e-6).train) == 1


def test_a_split_is_a_function_of_its_arguments(store: Store) -> None:
    parts = split(store, 2, seed=3)
    folds.split.cache_clear()
    again = split(Store.open(store.path), 2, seed=3)
    assert all(np.array_equal(getattr(parts, name), getattr(again, name)) for name in ("train", "validation", "test"))
    assert not np.array_equal(split(store, 2, seed=3).test, split(store, 2, seed=4).test)


def test_a_split_is_made_once_and_cannot_be_changed(single: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = split(single, 1, seed=5, fraction=0.5)
    kept = [part.copy() for part in (first.train, first.validation, first.test)]
    never = lambda *a, **k: pytest.fail("the split was made again")  # noqa: E731
    monkeypatch.setattr("sklearn.model_selection.StratifiedGroupKFold", never)
    for part in (first.train, first.validation, first.test):
        with pytest.raises(ValueError, match="read-only"):
            part[:] = 0
    again = split(Store.open(single.path), 1, seed=5, fraction=0.5)
    assert all(map(np.array_equal, (again.train, again.validation, again.test), kept))
    with pytest.raises(pytest.fail.Exception, match="made again"):
        split(single, 1, seed=6, fraction=0.5)


@pytest.mark.parametrize("fold, n_folds", [(5, 5), (-1, 5), (0, 1)])
def test_a_fold_that_is_not_there_is_refused(single: Store, fold: int, n_folds: int) -> None:
    with pytest.raises(ValueError, match=f"fold {fold} of {n_folds} does not exist"):
        split(single, fold, n_folds)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1])
def test_a_fraction_outside_the_unit_interval_is_refused(single: Store, fraction: float) -> None:
    with pytest.raises(ValueError, match=f"fraction {fraction} is not in"):
        split(single, 0, fraction=fraction)


def test_too_few_groups_are_refused(tiled: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ValueError, match="30 folds need at least 31 groups, and store 'tiled' has 30: lower --n-folds"):
        split(tiled, 0, 30)
    three = make_store(tmp_path_factory.mktemp("stores") / "three", SMALL, cases=3)
    with pytest.raises(ValueError, match="leaves one group of store 'three'"):
        [split(three, fold, 2) for fold in range(2)]


def test_six_groups_make_five_folds(tmp_path_factory: pytest.TempPathFactory) -> None:
    six = make_store(tmp_path_factory.mktemp("stores") / "six", SMALL, cases=6)
    for fold in range(5):
        parts = split(six, fold)
        assert len(parts.train) and len(parts.validation) and len(parts.test)


def test_scarce_names_attributes_with_fewer_positive_groups_than_folds(single: Store, tiled: Store) -> None:
    assert scarce(single, 5) == {}
    assert scarce(single, 11) == {"dot": 10}
    groups = len(set(tiled.cases["group"][tiled.present("dot")]))
    assert scarce(tiled, 30)["dot"] == groups <= 10


@pytest.mark.parametrize("task", ["disc", "shuffled-union", "rotation", "context"])
def test_seeds_train_on_the_same_images_and_split_seeds_do_not(task: str, toy_store: Store, tmp_path: Path) -> None:
    def partition(**values: int) -> list[list[int]]:
        shape = "encoder" if task == "rotation" else "link"
        made = make_task(toy_run(toy_store, task, shape=shape, fold=1, **values), toy_store, tmp_path)
        parts = cast(StoreTask, made).split
        return [part.tolist() for part in (parts.train, parts.validation, parts.test)]

    first = partition(seed=0)
    assert partition(seed=1) == first != partition(seed=0, split_seed=1)
    parts = split(toy_store, 1, 3, seed=1)
    assert partition(seed=0, split_seed=1) == [p.tolist() for p in (parts.train, parts.validation, parts.test)]


def test_every_seed_of_a_study_has_the_partition_of_the_split_seed(toy_store: Store) -> None:
    settings = Settings(source="random", n_folds=3, seeds="0,1", split_seed=4, shapes="link")
    planner = Planner(settings, toy_store)
    members = planner.members(["stage123"])
    assert {(m.seed, m.run.seed) for m in members} == {(0, 0), (1, 1)}
    assert {run.split_seed for m in members for run in (m.run, *m.run.needs())} == {4}
    assert {m.attribute for m in members if m.seed == 0} == {m.attribute for m in members if m.seed == 1}
    assert np.array_equal(planner.split(2).test, split(toy_store, 2, 3, seed=4).test)
    assert not np.array_equal(planner.split(2).test, split(toy_store, 2, 3, seed=0).test)
    with pytest.raises(ValueError, match="split_seed -1 is negative: give a whole number from 0"):
        Settings(split_seed=-1)

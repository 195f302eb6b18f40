"""What networks cost: counts by hand, measures that order as they must, and memory that runs out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tatl.data.store import Store
from tatl.run import Recipe
from tatl.studies.runtime import cost
from tatl.studies.runtime.cost import MEASURED, Measure, Network, Place, costs, described, networks
from toy import toy_run

B0 = "efficientnet-b0"
ENCODER = 4_049_564  # numbers of EfficientNet-b0, its BatchNorms' statistics included (Table 7)
STATISTICS = 42_016  # of these, which no gradient trains
COLUMNS = [
    "backbone", "shape", "frozen", "parameters", "trained", "batch", "size", *MEASURED, "device", "threads",
]  # fmt: skip


@pytest.fixture
def place() -> Place:
    return Place.here("cpu")


def network(shape: str = "link", frozen: bool = False, size: str = "32x64", batch: int = 4) -> Network:
    return Network(B0, shape, frozen, size, Recipe(batch=batch))


@pytest.mark.parametrize(("shape", "parameters"), [("u", 10_115_501), ("link", 6_096_333)])
def test_parameters_are_table_7_s_and_a_frozen_encoder_s_are_not_trained(
    shape: str, parameters: int, place: Place
) -> None:
    whole, frozen = (described(network(shape, freeze), place) for freeze in (False, True))
    assert whole["parameters"] == frozen["parameters"] == parameters
    assert whole["trained"] - frozen["trained"] == ENCODER - STATISTICS
    assert frozen["trained"] < parameters - ENCODER  # the decoder's BatchNorms have statistics too


def test_a_study_s_networks_are_measured_once_each_with_and_without_their_encoder(toy_store: Store) -> None:
    runs = [toy_run(toy_store, task, shape=shape) for task in ("disc", "bar") for shape in ("u", "link")]
    found = networks(runs)
    assert [(n.shape, n.frozen) for n in found] == [("u", False), ("u", True), ("link", False), ("link", True)]
    assert {(n.size, n.recipe) for n in found} == {("32x64", runs[0].recipe)}
    assert all(n.run().needs() == [] and n.run().backbone == n.backbone for n in found)


def test_memory_is_at_least_what_a_step_must_hold(tmp_path: Path, place: Place) -> None:
    """Gradient and momentum are two floats a trained number; a frozen encoder keeps no activations."""
    table = costs([network(), network(frozen=True), network(size="96x128")], tmp_path, place)
    assert list(table.columns) == COLUMNS and (table["batch"] == 4).all()
    small, frozen, large = table["memory_mb"]
    assert (table["memory_mb"] > 8 * table["trained"] / 1e6).all()
    assert frozen < small < large < 2000
    assert (table[["train_seconds_per_image", "predict_seconds_per_image"]] > 0).all(axis=None)
    assert large > small + 4 * 96 * 128 * 32 * 4 / 1e6  # the stem's output alone, in float32


def test_what_was_measured_on_this_machine_is_not_measured_again(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Network] = []

    def alone(asked: Network, _: Place) -> dict[str, float]:
        calls.append(asked)
        return dict.fromkeys(MEASURED, float(len(calls)))

    monkeypatch.setattr(cost, "_alone", alone)
    first = costs([network(), network(frozen=True)], tmp_path, place)
    pd.testing.assert_frame_equal(costs([network(), network(frozen=True)], tmp_path, place), first)
    assert calls == [network(), network(frozen=True)]
    other = Place(place.kind, place.device, place.threads + 1, place.computer, place.torch)
    assert costs([network()], tmp_path, other)["threads"].tolist() == [place.threads + 1] and len(calls) == 3
    costs([network(batch=2)], tmp_path, place)
    assert len(calls) == 4


class Killed(Measure):
    def __call__(self, network: Network) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


def failing(message: str) -> Any:
    """A pool whose process raises."""

    @contextmanager
    def pool(_: Any) -> Iterator[Any]:
        def submit(*_: Any) -> None:
            raise RuntimeError(message)

        yield SimpleNamespace(submit=submit)

    return pool


@pytest.mark.parametrize(
    ("name", "value"),
    [("Measure", Killed), ("pool", failing("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"))],
)
def test_a_row_whose_memory_runs_out_is_empty_and_tried_again(
    name: str,
    value: Any,
    tmp_path: Path,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cost, name, value)
    row = costs([network()], tmp_path, place).iloc[0]
    assert row[list(MEASURED)].isna().all() and row["parameters"] == 6_096_333
    assert f"memory ran out in a training step of link on {B0}" in capsys.readouterr().err
    monkeypatch.setattr(cost, "_alone", lambda *_: dict.fromkeys(MEASURED, 1.0))
    assert not costs([network()], tmp_path, place)[list(MEASURED)].isna().any(axis=None)


def test_another_error_is_not_hidden(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "pool", failing("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        costs([network()], tmp_path, place)


def test_seconds_are_the_median_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(np.cumsum([0, 100, 0, 3, 0, 1, 0, 2]).tolist())
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    assert cost.seconds_of(lambda: None, torch.device("cpu")) == 2

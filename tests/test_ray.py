"""Studies on a Ray cluster: two nodes of one core on this machine, one of which may go away."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tatl.data.store import Store
from tatl.run import Run, finished
from tatl.studies.execution import on_ray
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.piece import Outcome, Piece, Trainer
from tatl.studies.execution.schedule import execute
from toy import toy_run

ON_RAY = Machine("cpu", progress=False, on="ray")
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.large]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'tatl[cluster]'")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def family(store: Store, seed: int = 0) -> list[Run]:
    union = toy_run(store, "union", seed=seed)
    return [toy_run(store, "disc", start="tatl", parent=union, seed=seed), toy_run(store, "bar", seed=seed)]


def test_the_weights_are_those_of_one_machine(cluster: Any, toy_store: Store, tmp_path: Path) -> None:
    alone = replace(ON_RAY, on="", workers=2)
    for machine, root in ((ON_RAY, tmp_path / "ray"), (alone, tmp_path / "here")):
        assert execute(family(toy_store), root, toy_store, machine) == []
    for run in family(toy_store):
        one, other = (load_file(run.folder(tmp_path / name) / "weights.safetensors") for name in ("ray", "here"))
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list((tmp_path / "ray").glob(".*"))  # neither the token nor what tells of progress


def test_a_node_may_go_away(cluster: Any, toy_store: Store, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1)
    runs = [run for seed in range(4) for run in family(toy_store, seed)]

    def leave() -> None:
        while not list(tmp_path.rglob("weights.safetensors")):
            time.sleep(0.1)
        cluster.remove_node(node, allow_graceful=False)

    leaving = threading.Thread(target=leave)
    leaving.start()
    assert execute(runs, tmp_path, toy_store, ON_RAY, keep_going=True) == []
    leaving.join()
    assert all(finished(run, tmp_path) for run in runs)


@dataclass(frozen=True)
class Mortal(Trainer):
    """Its process ends at runs of one task, the first time or always."""

    def __call__(self, piece: Piece) -> list[Outcome]:
        for run in piece:
            marks = len(list(self.root.glob(f"{run.task}-*")))
            (self.root / f"{run.task}-{marks}").touch()
            if run.task == "bar" or (run.task == "union" and marks == 0):
                os._exit(9)
        return super().__call__(piece)


def test_a_process_that_is_killed_costs_its_own_run_alone(
    cluster: Any, toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "Trainer", Mortal)
    failures = execute(family(toy_store), tmp_path, toy_store, ON_RAY, keep_going=True)
    assert [failure.run.task for failure in failures] == ["bar"] and "was lost" in failures[0].reason
    assert sorted(path.name for path in tmp_path.glob("bar-*")) == ["bar-0", "bar-1"]
    assert finished(family(toy_store)[0], tmp_path)


def test_what_no_node_has_is_refused(cluster: Any, toy_store: Store, tmp_path: Path) -> None:
    other = on_ray.probe
    try:
        on_ray.probe = lambda seen, store: other(seen, store) | {"torch": str(os.getpid())}
        with pytest.raises(ValueError, match=r"node \S+ has torch \d+ \(here \d+\)"):
            on_ray.OnRay(tmp_path, toy_store, ON_RAY)
    finally:
        on_ray.probe = other


def test_without_ray_the_extra_is_named(toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'tatl\[cluster\]'"):
        execute(family(toy_store), tmp_path, toy_store, ON_RAY)


def test_nodes_that_differ_are_named() -> None:
    here = {"name": "a", "Python": "3.11", "torch": "2.15", "runs": "seen", "store": "12ab"}
    assert on_ray._differing(here | {"name": "b"}, here) == ""
    odd = on_ray._differing(here | {"name": "b", "torch": "2.11", "runs": "not seen"}, here)
    assert odd == "node b has torch 2.11 (here 2.15), runs not seen (here seen)"

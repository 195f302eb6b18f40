"""Studies on a Ray cluster, one of whose nodes may go away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ray_nodes import ON_RAY, Played, family, slow
from safetensors.torch import load_file

from tatl.data.store import Store
from tatl.run import finished
from tatl.studies.execution import nodes, on_ray, piece, travel
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.memory import Memory
from tatl.studies.execution.piece import Lost, Outcome, Piece, Trainer, Vanished
from tatl.studies.execution.schedule import execute
from tatl.studies.settings import Cluster
from toy import toy_run

pytestmark = pytest.mark.filterwarnings("default")


@slow
def test_the_weights_are_those_of_one_machine(cluster: Any, toy_store: Store, tmp_path: Path) -> None:
    alone = replace(ON_RAY, cluster=Cluster(), workers=2)
    for machine, root in ((ON_RAY, tmp_path / "ray"), (alone, tmp_path / "here")):
        assert execute(family(toy_store), root, toy_store, machine) == []
    for run in family(toy_store):
        one, other = (load_file(run.folder(tmp_path / name) / "weights.safetensors") for name in ("ray", "here"))
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(Memory(tmp_path / "ray").of(run) > 1e8 for run in family(toy_store))
    assert not list((tmp_path / "ray").glob(".*"))  # neither the token nor what tells of progress


@slow
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


DRIVER = """
import sys
from pathlib import Path
import ray_nodes
from analysis.measure.commands import measure_bound, run_command
from tatl.data.store import Store
from tatl.studies.execution.schedule import execute
root, store = Path(sys.argv[1]), Store.open(sys.argv[2])
execute([run for seed in range(4) for run in ray_nodes.family(store, seed)], root, store, ray_nodes.ON_RAY)
"""


@slow
def test_after_the_driver_was_killed_the_same_command_goes_on(
    cluster: Any, toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, tmp_path, toy_store.path])
    while len(there := list(tmp_path.rglob("weights.safetensors"))) < 2:
        assert driver.poll() is None
        time.sleep(0.2)
    driver.kill()
    driver.wait()
    written = {path: path.stat().st_mtime_ns for path in there}
    runs = [run for seed in range(4) for run in family(toy_store, seed)]
    assert execute(runs, tmp_path, toy_store, ON_RAY) == []
    assert all(finished(run, tmp_path) for run in runs)
    assert {path: path.stat().st_mtime_ns for path in there} == written


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


@slow
def test_a_process_that_is_killed_costs_its_own_run_alone(
    cluster: Any, toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "Trainer", Mortal)
    failures = execute(family(toy_store), tmp_path, toy_store, ON_RAY, keep_going=True)
    assert [failure.run.task for failure in failures] == ["bar"] and "was lost" in failures[0].reason
    assert sorted(path.name for path in tmp_path.glob("bar-*")) == ["bar-0", "bar-1"]
    assert finished(family(toy_store)[0], tmp_path)


@dataclass(frozen=True)
class Needy(Trainer):
    """Memory of the GPU runs out in it for less than half of one, and for runs of one task always."""

    def __call__(self, piece: Piece) -> list[Outcome]:
        import ray

        share = ray.get_runtime_context().get_assigned_resources()["GPU"]
        (self.root / f"{piece[0].task} {share:g}").touch()
        if share < 0.5 or piece[0].task == "bar":
            return [Lost("CUDA out of memory")] * len(piece)
        return super().__call__(piece)


@slow
def test_memory_that_runs_out_gets_the_next_larger_share(
    cluster: Any, toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "Trainer", Needy)
    gpu = cluster.add_node(num_cpus=1, num_gpus=1)  # of Ray's books alone
    try:
        machine = Machine("auto", progress=False, cluster=Cluster("ray", 0.25))
        runs = [toy_run(toy_store, task) for task in ("union", "bar")]
        failures = execute(runs, tmp_path, toy_store, machine, keep_going=True)
    finally:
        cluster.remove_node(gpu)
    assert [failure.run.task for failure in failures] == ["bar"] and "CUDA out of memory" in failures[0].reason
    tried = ["bar 0.25", "bar 0.5", "union 0.25", "union 0.5"]
    assert sorted(path.name for path in tmp_path.glob("* *")) == tried


@slow
def test_without_a_shared_disk_runs_come_back_whole(cluster: Any, toy_store: Store, tmp_path: Path) -> None:
    shutil.rmtree(travel.cache(), ignore_errors=True)
    fetching, alone = replace(ON_RAY, cluster=Cluster("ray", fetch=True)), replace(ON_RAY, cluster=Cluster())
    for machine, root in ((fetching, tmp_path / "ray"), (alone, tmp_path / "here")):
        assert execute(family(toy_store), root, toy_store, machine) == []
    for run in family(toy_store):
        one, other = (run.folder(tmp_path / name) for name in ("ray", "here"))
        assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
        assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    (copy,) = travel.cache().glob(f"*/{toy_store.name}")
    assert Store.open(copy) == toy_store
    assert not list(travel.cache().glob("run-*"))  # no run is left on a node


LITTLE = """
import sys
from dataclasses import replace
from pathlib import Path
import ray
from ray.cluster_utils import Cluster as Nodes
import ray_nodes
from tatl.data.store import Store
from tatl.run import finished
from tatl.studies.execution.schedule import execute
from tatl.studies.settings import Cluster
root, store = Path(sys.argv[1]), Store.open(sys.argv[2])
head = {"num_cpus": 1, "include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
nodes = Nodes(initialize_head=True, head_node_args=head | {"object_store_memory": 80 << 20})
ray.init(address=nodes.address, log_to_driver=False)
runs = ray_nodes.family(store)
execute(runs, root, store, replace(ray_nodes.ON_RAY, cluster=Cluster("ray", fetch=True)))
print("made" if all(finished(run, root) for run in runs) else "lost")
ray.shutdown()
nodes.shutdown()
"""


@slow
def test_what_the_object_store_cannot_hold_goes_to_disk(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    large = Store.open(shutil.copytree(toy_store.path, tmp_path / toy_store.name))
    (large.path / "more").write_bytes(os.urandom(130 << 20))  # travels with it
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    words = [sys.executable, "-c", LITTLE, tmp_path / "runs", large.path]
    ended = subprocess.run(words, capture_output=True, encoding="utf-8", check=False, timeout=280)
    assert ended.stdout.endswith("made\n"), ended.stderr


def test_memory_that_runs_out_elsewhere_is_tried_with_more(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(*_: Any, **__: Any) -> Path:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(piece, "fit", starved)
    run = toy_run(toy_store)
    (here,) = Trainer(tmp_path, toy_store, ON_RAY)((run,))
    (elsewhere,) = Trainer(tmp_path, toy_store, ON_RAY, elsewhere=True)((run,))
    assert not isinstance(here, Lost) and isinstance(elsewhere, Lost) and "smaller --batch" in str(elsewhere)


def on(played: Played, monkeypatch: pytest.MonkeyPatch, root: Path = Path(), share: float = 1.0) -> on_ray.OnRay:
    """An executor on a cluster that is played."""
    monkeypatch.setattr(on_ray, "connect", lambda on: played)
    executor = on_ray.OnRay.__new__(on_ray.OnRay)
    on_ray.Connection.__init__(executor, Cluster("ray", share), "auto")
    executor.roster, executor.root, executor._taken = nodes.Roster(played, None), root, {}
    executor.memory = Memory(root)
    return executor


def test_pieces_go_where_there_is_room_and_what_was_lost_beside_them(
    played: Played, toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = on(played, monkeypatch, tmp_path)
    asked = list[dict[str, Any]]()

    def options(**given: Any) -> Any:
        asked.append(given)
        return SimpleNamespace(remote=lambda *_: SimpleNamespace(future=Future))

    executor.task, executor.trainer = SimpleNamespace(options=options), None
    monkeypatch.setattr(on_ray, "at", lambda number: {"on": number})
    first = executor.submit((toy_run(toy_store),))
    executor.submit((toy_run(toy_store),), alone=True)
    assert [(each["on"], each["num_cpus"]) for each in asked] == [("n0", 1.0), ("n1", 2.0)]
    assert executor.free() == 1 and executor.free(alone=True) == 1
    executor.submit((toy_run(toy_store),), alone=True)  # waits on its node until there is room
    assert asked[-1] == {"on": "n0", "num_cpus": 2.0, "num_gpus": 0.0, "memory": 0} and executor.free() == 0
    played.join("n2", CPU=1.0)
    assert executor.free() == 1
    first.set_result(on_ray.Answer([ValueError("of the run")], 1e9))  # type: ignore[arg-type]
    executor.collect((toy_run(toy_store),), first)
    assert executor.free() == 1 and executor.memory.of(toy_run(toy_store)) == 1e9


def test_a_run_that_a_node_finished_elsewhere_is_lost(
    played: Played, toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "ARRIVAL", 0.05)
    executor, run = on(played, monkeypatch, tmp_path), toy_run(toy_store)
    node, done = executor.roster.nodes["n0"], Future[Any]()
    done.set_result(on_ray.Answer([3.0], 1e9))
    executor._taken[done] = on_ray.Flight(None, node, {})
    (found,) = executor.collect((run,), done)
    assert isinstance(found, Lost) and "node n0 says" in str(found) and "--fetch" in str(found) and node.strikes == 1
    Trainer(tmp_path, toy_store, ON_RAY)((run,))
    executor._taken[done] = on_ray.Flight(None, node, {})
    assert executor.collect((run,), done) == [3.0] and node.strikes == 0


@pytest.mark.parametrize(("share", "places"), [(0.1, 8), (0.2, 8), (0.3, 6), (0.5, 4), (0.4, 4), (1.0, 2), (2.0, 1)])
def test_a_gpu_holds_whole_shares(share: float, places: int, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    played.there.clear()
    played.join("gpu", CPU=8.0, GPU=2.0)
    assert on(played, monkeypatch, share=share).free() == places


def test_a_share_grows_up_to_a_whole_gpu_and_to_what_a_node_has(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    played.join("gpu", CPU=1.0, GPU=1.0, memory=3e9)
    for asked, grown in ((0.25, 0.5), (0.75, 1.0), (1.0, 1.0)):
        executor = on(played, monkeypatch, share=asked)
        wanted = executor._room(2e9, 2)
        node = executor.roster.choose(wanted)
        assert wanted == {"CPU": 2.0, "GPU": grown, "memory": 4e9} and node.name == "gpu"
        assert node.take(wanted) == {"CPU": 1.0, "GPU": grown, "memory": 3e9}
    for cpus, gpus in ((8.0, 1.0), (8.0, 0.0)):
        played.there.clear()
        played.join("small", CPU=cpus, GPU=gpus)
        with pytest.raises(ValueError, match=f"5 GPUs and no node of the cluster has more than {gpus:g}"):
            on(played, monkeypatch, share=5)


def test_what_a_task_asked_for_may_have_gone_with_a_node(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    known = pytest.importorskip("ray").exceptions
    monkeypatch.setattr(on_ray, "GRACE", 0.05)
    connection = on(played, monkeypatch)
    node = connection.roster.nodes["n0"]
    monkeypatch.setattr(played, "exceptions", known)
    inside = known.RayTaskError("train", "traceback", known.ObjectLostError("0" * 56, None, ""))
    assert isinstance(connection.lost(inside, node), Vanished)
    assert isinstance(connection.lost(known.RayTaskError("train", "traceback", KeyError("x")), node), KeyError)
    full = connection.lost(known.RayTaskError("train", "traceback", OSError("the disk is full")), node)
    assert type(full) is Lost and "the disk is full (on node n0)" in str(full)
    assert type(connection.lost(known.WorkerCrashedError(), node)) is Lost
    assert type(connection.lost(known.ActorUnavailableError("of a network", None), node)) is Vanished
    played.there.pop(0)
    assert isinstance(connection.lost(known.WorkerCrashedError(), node), Vanished)


def test_the_memory_of_a_network_is_kept_among_the_runs(toy_store: Store, tmp_path: Path) -> None:
    run, other = toy_run(toy_store), toy_run(toy_store, shape="u")
    for peak in (5e8, 7e8, 6e8):
        Memory(tmp_path).note(run, peak)
    seen = Memory(tmp_path)
    assert seen.of(run) == seen.of(toy_run(toy_store, "bar", seed=3)) == 7e8 and seen.of(other) == 0
    answer = on_ray.train(lambda size: np.ones(size).nbytes, 10**7)
    assert answer.found == 8e7 < answer.peak

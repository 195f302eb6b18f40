"""Studies on a Ray cluster: two nodes of one core on this machine, one of which may go away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from analysis.measure.commands import measure_bound, run_command
from tatl.data.store import Store
from tatl.run import Run, finished
from tatl.studies.execution import nodes, on_ray, piece, travel
from tatl.studies.execution.crew import Crew, Hand
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.memory import Memory
from tatl.studies.execution.piece import Lost, Outcome, Piece, Trainer
from tatl.studies.execution.schedule import execute
from tatl.studies.settings import Cluster
from toy import SMALL, toy_run

ON_RAY = Machine("cpu", progress=False, cluster=Cluster("ray"))
pytestmark = pytest.mark.filterwarnings("default")
slow = pytest.mark.large


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core, connected, whose processes find what the tests define."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'tatl[cluster]'")
    from ray.cluster_utils import Cluster as Nodes

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        patch.setenv("RAY_agent_register_timeout_ms", "300000")
        head = {"num_cpus": 1, "include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
        made = Nodes(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=1)
        ray.init(address=made.address, log_to_driver=False)
        yield made
        ray.shutdown()
        made.shutdown()


def family(store: Store, seed: int = 0) -> list[Run]:
    union = toy_run(store, "union", seed=seed)
    return [toy_run(store, "disc", start="tatl", parent=union, seed=seed), toy_run(store, "bar", seed=seed)]


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
import test_ray
from analysis.measure.commands import measure_bound, run_command
from tatl.data.store import Store
from tatl.studies.execution.schedule import execute
root, store = Path(sys.argv[1]), Store.open(sys.argv[2])
execute([run for seed in range(4) for run in test_ray.family(store, seed)], root, store, test_ray.ON_RAY)
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
def test_what_no_node_has_is_refused(cluster: Any, toy_store: Store, tmp_path: Path) -> None:
    import ray

    shared = nodes.Disk(tmp_path, toy_store.path)
    nodes.check_nodes(ray, shared)
    assert not list(tmp_path.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "code", lambda: "of another version")
        with pytest.raises(ValueError, match=r"node \S+ has code of tatl [0-9a-f]+ \(here of another version\)"):
            nodes.check_nodes(ray, shared)
    with pytest.raises(ValueError, match=r"2 GPUs and no node .* more than 1: give fewer --gpus-per-run"):
        gpu = cluster.add_node(num_cpus=1, num_gpus=1)
        try:
            execute(family(toy_store), tmp_path, toy_store, Machine("auto", progress=False, cluster=Cluster("ray", 2)))
        finally:
            cluster.remove_node(gpu)


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
    assert [path.name for path in travel.cache().iterdir()] == [copy.parent.name]  # no run is left on a node


WORDS = ["--preset", "smoke", "--shapes", "link", "--backbone", SMALL, "--device", "cpu", "--attributes", "disc"]
WORDS += ["--init", "random", "tatl", "--images", "4"]


@slow
@pytest.mark.parametrize("more", [[], ["--fetch"]], ids=["shared", "fetch"])
def test_the_bound_is_that_of_one_machine_to_the_bit(
    cluster: Any, toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "--store", str(toy_store.path), "--max-products", "6"]
    for name, where in (("here", ["--workers", "1"]), ("ray", ["--on", "ray", *more])):
        given = [*words, "--runs", name, "--tables", f"{name}-tables", *where]
        assert run_command(measure_bound, "analysis.bound", given) == 0
    paths = sorted(Path("here-tables").glob("*.csv"))
    assert paths and all(path.read_bytes() == Path("ray-tables", path.name).read_bytes() for path in paths)


@dataclass
class Marker(Hand):
    """Its process ends itself at one of the tasks, the first time."""

    marks: Path

    def do(self, task: int) -> int:
        time.sleep(0.2)
        mark = self.marks / "killed-5"
        if task == 5 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task


@slow
def test_images_of_a_node_that_goes_away_go_elsewhere(cluster: Any, toy_store: Store, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1)
    answers = list[int]()
    for answer in Crew("cpu", cluster=Cluster("ray")).share(Marker(marks=tmp_path), range(30), toy_store):
        answers.append(answer)
        if len(answers) == 3:
            cluster.remove_node(node, allow_graceful=False)
    assert sorted(answers) == list(range(30)) and (tmp_path / "killed-5").exists()


LITTLE = """
import sys
from dataclasses import replace
from pathlib import Path
import ray
from ray.cluster_utils import Cluster as Nodes
import test_ray
from tatl.data.store import Store
from tatl.run import finished
from tatl.studies.execution.schedule import execute
from tatl.studies.settings import Cluster
root, store = Path(sys.argv[1]), Store.open(sys.argv[2])
head = {"num_cpus": 1, "include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
nodes = Nodes(initialize_head=True, head_node_args=head | {"object_store_memory": 80 << 20})
ray.init(address=nodes.address, log_to_driver=False)
runs = test_ray.family(store)
execute(runs, root, store, replace(test_ray.ON_RAY, cluster=Cluster("ray", fetch=True)))
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


def test_a_full_object_store_without_a_disk_is_named(toy_store: Store) -> None:
    def full(_: bytes) -> None:
        raise MemoryError("full")

    errors = SimpleNamespace(ObjectStoreFullError=MemoryError, OutOfDiskError=MemoryError)
    with pytest.raises(OSError, match=r"object store of Ray is full.* give the nodes more --object-store-memory"):
        travel.parcel(SimpleNamespace(put=full, exceptions=errors), toy_store.path)


@dataclass
class Begun(Hand):
    """Tells in a folder what it began."""

    place: Path

    def do(self, task: int) -> int:
        (self.place / str(task)).touch()
        time.sleep(0.5)
        return task


@slow
def test_ctrl_c_asks_for_no_more_and_ends_what_runs(cluster: Any, toy_store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        for _ in Crew("cpu", cluster=Cluster("ray")).share(Begun(place=tmp_path), range(50), toy_store):
            os.kill(os.getpid(), signal.SIGINT)
    time.sleep(2)
    begun = len(list(tmp_path.iterdir()))
    time.sleep(3)
    assert begun < 10 and len(list(tmp_path.iterdir())) == begun


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


def test_where_no_node_is_left_runs_wait_for_one() -> None:
    executor = on_ray.OnRay.__new__(on_ray.OnRay)
    executor.share, executor._taken = {"CPU": 1.0, "GPU": 0.0}, {}
    for there, places in (({}, 2), ({"CPU": 1.0}, 2), ({"CPU": 3.0}, 6)):
        executor.ray = SimpleNamespace(cluster_resources=lambda there=there: there)
        assert executor.free() == places


@pytest.mark.parametrize(("share", "places"), [(0.0, 8), (0.1, 8), (0.2, 8), (0.3, 6), (0.5, 4), (1.0, 2), (2.0, 1)])
def test_a_gpu_holds_whole_shares(share: float, places: int) -> None:
    connection = on_ray.Connection.__new__(on_ray.Connection)
    connection.share = {"CPU": 1.0, "GPU": share}
    connection.ray = SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0, "GPU": 2.0})
    assert connection.places() == places


def test_what_is_asked_for_again_fits_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = ({"CPU": 8.0, "memory": 9e9}, {"CPU": 1.0, "GPU": 1.0, "memory": 3e9})
    monkeypatch.setattr(on_ray, "connect", lambda on: None)
    monkeypatch.setattr(on_ray, "alive", lambda ray: [{"Resources": room} for room in rooms])
    executor = on_ray.OnRay.__new__(on_ray.OnRay)
    on_ray.Connection.__init__(executor, Cluster("ray", 0.25), "auto")
    assert executor._room(4e9, 2) == {"num_cpus": 1.0, "num_gpus": 0.5, "memory": 3e9}
    with pytest.raises(ValueError, match="5 GPUs and no node of the cluster has more than 1"):
        on_ray.Connection(Cluster("ray", 5), "auto")
    monkeypatch.setattr(on_ray, "alive", lambda ray: [{"Resources": {"CPU": 8.0}}])
    with pytest.raises(ValueError, match="5 GPUs and no node of the cluster has more than 0"):
        on_ray.Connection(Cluster("ray", 5), "auto")


def test_what_a_task_asked_for_may_have_gone_with_a_node() -> None:
    known = pytest.importorskip("ray").exceptions
    connection = on_ray.Connection.__new__(on_ray.Connection)
    connection.ray = SimpleNamespace(exceptions=known)
    inside = known.RayTaskError("train", "traceback", known.ObjectLostError("0" * 56, None, ""))
    assert isinstance(connection.lost(inside), on_ray.Vanished)
    assert isinstance(connection.lost(known.RayTaskError("train", "traceback", KeyError("x"))), KeyError)


def test_the_memory_of_a_network_is_kept_among_the_runs(toy_store: Store, tmp_path: Path) -> None:
    run, other = toy_run(toy_store), toy_run(toy_store, shape="u")
    for peak in (5e8, 7e8, 6e8):
        Memory(tmp_path).note(run, peak)
    seen = Memory(tmp_path)
    assert seen.of(run) == seen.of(toy_run(toy_store, "bar", seed=3)) == 7e8 and seen.of(other) == 0
    answer = on_ray.train(lambda size: np.ones(size).nbytes, 10**7)
    assert answer.found == 8e7 < answer.peak


def test_a_share_grows_up_to_a_whole_gpu() -> None:
    executor = on_ray.OnRay.__new__(on_ray.OnRay)
    executor.most = {"CPU": 1.0, "GPU": 4.0, "memory": 3e9}
    for asked, grown in ((0.25, 0.5), (0.75, 1.0), (1.0, 1.0), (0.0, 0.0)):
        executor.share = {"CPU": 1.0, "GPU": asked}
        assert executor._room(1e9, 2) == {"num_cpus": 1.0, "num_gpus": grown, "memory": 2e9}
        assert executor._room(2e9, 2)["memory"] == 3e9


def test_without_ray_the_extra_is_named(toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'tatl\[cluster\]'"):
        execute(family(toy_store), tmp_path, toy_store, ON_RAY)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:9", "127.0.0.1:9"])
def test_an_address_that_does_not_answer_is_said_in_seconds(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    started = time.monotonic()
    with pytest.raises(ValueError, match=rf"cluster at {address} cannot be used .*refused"):
        nodes.connect(address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ValueError, match=rf"cluster at {address} cannot be used"):
        nodes.connect("ray")
    assert time.monotonic() - started < 10


def test_nodes_that_differ_are_named() -> None:
    here = {"Python": "3.11", "torch": "2.15", "runs": "seen", "store": "12ab"}
    assert nodes.differing("b", dict(here), here) == ""
    odd = nodes.differing("b", here | {"torch": "2.11", "runs": "unseen"}, here)
    assert odd == "node b has torch 2.11 (here 2.15), runs unseen (here seen)"


@pytest.mark.parametrize(
    "given", [{"on": "ray", "gpus_per_run": 0.0}, {"on": "ray", "gpus_per_run": 1.5}, {"gpus_per_run": 0.5}]
)
def test_a_share_that_cannot_be_given_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give"):
        Cluster(**given)

"""Copies on a node's disk, runs that come back, and the locks that the driver holds for them; Ray is played by hand."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tatl.data.store import Store
from tatl.machine.disk import own_folder
from tatl.run import finished
from tatl.studies.execution import schedule, travel
from tatl.studies.execution.fetching import STAY, Fetching
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.memory import Memory
from tatl.studies.execution.nodes import Node
from tatl.studies.execution.on_ray import Answer, Flight
from tatl.studies.execution.piece import Trainer
from tatl.training.trainer import Busy, taken
from toy import make_store, toy_run

RAY: Any = SimpleNamespace(
    put=lambda thing: [thing], get=lambda box: box[0], exceptions=SimpleNamespace(RayError=ZeroDivisionError)
)


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local disk of a node."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "disk"))
    monkeypatch.setattr(travel, "CHUNK", 1000)
    monkeypatch.setattr(travel, "_checked", set())
    return tmp_path / "disk"


def test_a_store_is_copied_once_a_node_and_a_damaged_copy_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "mine", cases=4)
    sent = travel.parcel(RAY, store.path)
    copy = travel.copy_here(RAY, sent)
    Store.open(copy).verify()
    assert copy.name == store.name and Store.open(copy) == store and len(sent.files["images.npy"][1]) > 10
    fetched, fetch = list[Path](), travel._fetch
    monkeypatch.setattr(travel, "_fetch", lambda *given: (fetched.append(given[2]), fetch(*given)))
    assert travel.copy_here(RAY, sent) == copy and not fetched
    with (copy / "masks.npy").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\xff")
    travel._checked.clear()  # as another process finds it
    assert travel.copy_here(RAY, sent) == copy and fetched == [copy]
    Store.open(copy).verify()


def test_a_copy_that_arrives_with_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"x" * 2500)
    sent = travel.parcel(RAY, tmp_path / "weights.pth")
    assert travel.copy_here(RAY, sent).read_bytes() == b"x" * 2500
    other = travel.Parcel("weights.pth", {"": ("0" * 64, sent.files[""][1])})
    with pytest.raises(OSError, match="other bytes"):
        travel.copy_here(RAY, other)


class ByHand(Fetching):
    """Tasks that wait until they are ended by hand."""

    def __init__(self, root: Path) -> None:
        self.ray, self.root, self.memory = RAY, root, Memory(root)
        self.told, self.box = root, travel.Post()
        self.post = SimpleNamespace(take=SimpleNamespace(remote=lambda had: [self.box.take(had)]))
        self.node = Node("n", "n", {}, {})
        self.roster: Any = SimpleNamespace(note=lambda node, outcome: None)
        self._taken, self._held, self._home = {}, {}, []
        self._sent = OrderedDict()
        self.given = list[tuple[Any, ...]]()

    def _begin(self, alone: bool, *given: Any) -> Any:
        pending: Any = Future()
        self._taken[pending] = Flight(None, self.node, {})
        self.given.append(given)
        return pending

    def end(self) -> None:
        self._taken.clear()
        super().end()


@pytest.fixture(scope="module")
def made(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> travel.Contents:
    """The folder of a run that a node has trained."""
    root, run = tmp_path_factory.mktemp("node"), toy_run(toy_store, "union")
    assert isinstance(Trainer(root, toy_store, Machine("cpu"))((run,))[0], float)
    return travel.contents(run.folder(root))


def test_a_run_is_held_while_it_is_under_way_and_comes_back_whole(
    toy_store: Store, tmp_path: Path, made: travel.Contents
) -> None:
    union = toy_run(toy_store, "union")
    child = toy_run(toy_store, "disc", start="tatl", parent=union)
    driver, other = ByHand(tmp_path), ByHand(tmp_path)
    pending = driver.submit((union,))
    (busy,) = other.collect((union,), other.submit((union,)))
    assert isinstance(busy, Busy) and taken(union, tmp_path) and not finished(union, tmp_path)
    driver.box.leave(union.hash, made)
    pending.set_result(Answer([7.0], 1e9))  # type: ignore[arg-type]
    assert driver.collect((union,), pending) == [7.0] and finished(union, tmp_path) and not taken(union, tmp_path)
    assert {path.name for path in union.folder(tmp_path).iterdir()} == {*made, "lock"}
    assert other.collect((union,), other.submit((union,))) == [0.0] and not other.given
    driver.submit((child, union))
    left, needed = driver.given[-1]
    assert left == (child,) and {run: RAY.get(folder) for run, folder in needed.items()} == {union: made}
    driver.end()
    assert not taken(child, tmp_path)


def test_a_run_that_arrives_by_half_is_not_finished(
    toy_store: Store, tmp_path: Path, made: travel.Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    union, put, placed = toy_run(toy_store, "union"), travel.put_in_place, list[str]()

    def failing(partial: Path, path: Path) -> None:
        if path.name == travel.LAST:
            raise OSError(28, "No space left on device")
        placed.append(path.name)
        put(partial, path)

    monkeypatch.setattr(travel, "put_in_place", failing)
    driver = ByHand(tmp_path)
    pending = driver.submit((union,))
    driver.box.leave(union.hash, made)
    pending.set_result(Answer([7.0], 1e9))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="the disk is full"):
        driver.collect((union,), pending)
    driver.end()
    assert {*placed} == made.keys() - {travel.LAST} and not finished(union, tmp_path) and not taken(union, tmp_path)
    monkeypatch.setattr(travel, "put_in_place", put)
    travel.put_down(made, union.folder(tmp_path))
    assert finished(union, tmp_path) and travel.contents(union.folder(tmp_path)) == made


def test_a_few_needed_runs_stay_in_the_object_store(toy_store: Store, tmp_path: Path, made: travel.Contents) -> None:
    driver = ByHand(tmp_path)
    for seed in range(STAY + 2):
        union = toy_run(toy_store, "union", seed=seed)
        travel.put_down(made, union.folder(tmp_path))
        driver._folder(union)
    assert [run.seed for run in driver._sent] == list(range(2, STAY + 2))


def test_a_run_comes_home_before_its_piece_is_done(
    toy_store: Store, tmp_path: Path, made: travel.Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tuple(toy_run(toy_store, "union", seed=seed) for seed in range(2))
    driver, home = ByHand(tmp_path), list[list[bool]]()
    driver.roster = SimpleNamespace(note=driver.roster.note, look=lambda: None, room=lambda share: 1)
    driver.share = {}
    driver.lost = lambda error, node: error  # type: ignore[method-assign]

    def leave_and_fail() -> None:
        """What the node does once the piece is begun; nothing else is ready meanwhile."""
        until = time.monotonic() + 10
        while not driver.given and time.monotonic() < until:
            time.sleep(0.01)
        driver.box.leave(runs[0].hash, made)
        driver.box.tell(runs[1].hash, "[0.5, 'half']")
        while not (tmp_path / runs[1].hash).exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2)
        home.append([finished(run, tmp_path) and taken(run, tmp_path) for run in runs])
        next(iter(driver._taken)).set_exception(KeyError("of the process"))

    monkeypatch.setattr(schedule, "POLL", 0.05)
    node = threading.Thread(target=leave_and_fail)
    node.start()
    found = [type(outcome) for _, outcome in schedule.outcomes([runs], driver)]
    node.join()
    assert home == [[True, False]] and found == [float, KeyError] and not taken(runs[0], tmp_path)
    assert (tmp_path / runs[1].hash).read_text(encoding="utf-8") == "[0.5, 'half']" and not driver.box.folders


def test_what_is_finished_comes_home_at_the_end_and_a_full_disk_costs_no_other(
    toy_store: Store, tmp_path: Path, made: travel.Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tuple(toy_run(toy_store, "union", seed=seed) for seed in range(3))
    driver, put = ByHand(tmp_path), travel.put_in_place
    driver.submit(runs)
    for run in runs:
        driver.box.leave(run.hash, made)

    def failing(partial: Path, path: Path) -> None:
        if path.parent == runs[1].folder(tmp_path):
            raise OSError(28, "No space left on device")
        put(partial, path)

    monkeypatch.setattr(travel, "put_in_place", failing)
    with pytest.raises(OSError, match="the disk is full"):
        driver.look()
    assert [finished(run, tmp_path) for run in runs] == [True, False, True]
    monkeypatch.setattr(travel, "put_in_place", put)
    driver.end()
    assert all(finished(run, tmp_path) and not taken(run, tmp_path) for run in runs)


def test_folders_in_a_run_travel_too(tmp_path: Path) -> None:
    (tmp_path / "run/tensorboard").mkdir(parents=True)
    for name in ("weights.safetensors", "tensorboard/events", "lock", "last.ckpt"):
        (tmp_path / "run" / name).write_bytes(name.encode())
    found = travel.contents(tmp_path / "run")
    travel.put_down(found, tmp_path / "home")
    assert travel.contents(tmp_path / "home") == found and found.keys() == {"weights.safetensors", "tensorboard/events"}
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"weights.safetensors", "tensorboard"}


KILLED = """
import os, sys
from pathlib import Path
from tatl.machine.disk import own_folder
with own_folder(Path(sys.argv[1]), "run-"):
    os.kill(os.getpid(), 9)
"""


def test_what_killed_processes_left_on_a_node_goes(disk: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, disk], check=False)
    (left,) = disk.glob("run-*")
    os.utime(left, (0, 0))
    with own_folder(disk, "run-") as one, own_folder(disk, "run-") as other:
        assert set(disk.glob("run-*")) == {one, other}
    assert not list(disk.glob("run-*"))

"""Measurements on a Ray cluster: the numbers of one machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray_nodes import Played, slow

from analysis.measure.commands import measure_bound, measure_spectrum, run_command
from analysis.measure.stability.command import measure_stability
from tatl.data.store import Store
from tatl.studies.execution import nodes, on_ray
from tatl.studies.execution.crew import Crew, Hand, Hands, _Seat, _Seated
from tatl.studies.execution.piece import Vanished
from tatl.studies.settings import Cluster
from toy import SMALL

pytestmark = pytest.mark.filterwarnings("default")

WORDS = ["--preset", "smoke", "--shapes", "link", "--backbone", SMALL, "--device", "cpu", "--attributes", "disc"]
STARTS = ["--init", "random", "tatl", "--images", "4", "--max-products", "6"]
LITTLE = ["--init", "random", "--images", "2", "--chunk", "2", "--probes", "2", "--steps", "3", "--products", "4"]


@slow
@pytest.mark.parametrize(
    ("measure", "more", "words"),
    [
        (measure_bound, [], STARTS),
        (measure_bound, ["--fetch"], STARTS),
        (measure_spectrum, [], [*LITTLE, "--top", "1", "--tolerance", "0.5"]),
        (measure_stability, [], ["--init", "random", "--forks", "4", "--c", ".05"]),
    ],
    ids=["bound", "fetch", "spectrum", "stability"],
)
def test_the_numbers_are_those_of_one_machine_to_the_bit(
    measure: Any, more: list[str], words: list[str], cluster: Any, toy_store: Store, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, *words, "--store", str(toy_store.path)]
    for name, where in (("here", ["--workers", "1"]), ("ray", ["--on", "ray", *more])):
        given = [*words, "--runs", name, "--tables", f"{name}-tables", *where]
        assert run_command(measure, "analysis.bound", given) == 0
    paths = sorted(Path("here-tables").glob("*.csv"))
    assert paths and all(path.read_bytes() == Path("ray-tables", path.name).read_bytes() for path in paths)


@slow
def test_a_bound_that_was_stopped_goes_on_where_it_was(
    cluster: Any, toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "--init", "random", "--images", "12", "--max-products", "6", "--store", str(toy_store.path)]

    def measured() -> list[str]:
        return [line for path in Path("runs").rglob("curvature/*.csv") for line in path.read_text().splitlines()[1:]]

    def stop() -> None:
        while not measured():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    stopping = threading.Thread(target=stop)
    stopping.start()
    assert run_command(measure_bound, "analysis.bound", [*words, "--on", "ray"]) == 130
    stopping.join()
    before = measured()
    assert 1 <= len(before) < 12
    assert run_command(measure_bound, "analysis.bound", [*words, "--on", "ray"]) == 0
    assert (
        measured()[: len(before)] == before and len(set(measured())) == len(measured()) == 12 + 1
    )  # one again in float64


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


def test_what_a_process_cannot_open_is_told_by_its_first_task(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    seated = _Seated(b"", tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        seated.ready()


@dataclass
class Broken(Hand):
    """Cannot be made anywhere else."""

    def __reduce__(self) -> Any:
        return _refused, ()


def _refused() -> None:
    raise ValueError("of this hand there is one")


@slow
def test_a_hand_that_cannot_be_made_is_refused_at_once_with_its_cause(cluster: Any, toy_store: Store) -> None:
    with pytest.raises(ValueError, match="of this hand there is one"):
        list(Crew("cpu", cluster=Cluster("ray")).share(Broken(), range(2), toy_store))


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


def test_a_process_out_of_reach_gives_its_place_back(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    known, killed, done = pytest.importorskip("ray").exceptions, list[str](), Future[Any]()
    monkeypatch.setattr(on_ray, "connect", lambda on: played)
    hands = Hands.__new__(Hands)
    on_ray.Connection.__init__(hands, Cluster("ray"), "cpu")
    hands.roster, hands._idle = nodes.Roster(played, None), []
    hands.ray = SimpleNamespace(exceptions=known, kill=killed.append)
    node = hands.roster.nodes["n0"]
    node.take(hands.share)
    done.set_exception(known.ActorUnavailableError("of a network", None))
    hands._taken = {done: _Seat("actor", node)}
    (found,) = hands.collect(("task",), done)
    assert isinstance(found, Vanished) and killed == ["actor"] and not hands._idle and node.left["CPU"] == 2


def test_a_cluster_without_room_is_said_once(
    played: Played, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_ray, "connect", lambda on: played)
    monkeypatch.setattr(on_ray, "LOOK", 0.01)
    for kind in (Hands, on_ray.OnRay):
        found: Any = kind.__new__(kind)
        on_ray.Connection.__init__(found, Cluster("ray"), "cpu")
        found.roster, found._idle, found._coming, found._taken = nodes.Roster(played, None), [], {}, {}
        found.roster.nodes.clear()
        monkeypatch.setattr(found.roster, "look", lambda: None)
        assert found.free() == found.free(alone=True) == 0
        assert capsys.readouterr().err == "no node of the cluster has room: waiting for one\n"

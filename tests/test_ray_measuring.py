"""Measurements on a Ray cluster: the numbers of one machine."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import slow

from analysis.measure.commands import measure_bound, run_command
from tatl.data.store import Store
from tatl.studies.execution.crew import Crew, Hand
from tatl.studies.settings import Cluster
from toy import SMALL

pytestmark = pytest.mark.filterwarnings("default")

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

"""A Ray cluster of two nodes of one core on this machine, one that is played, and what is trained there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tatl.data.store import Store
from tatl.run import Run
from tatl.studies.execution import nodes
from tatl.studies.execution.machine import Machine
from tatl.studies.settings import Cluster
from toy import toy_run

ON_RAY = Machine("cpu", progress=False, cluster=Cluster("ray"))
slow = pytest.mark.large


@contextmanager
def connected() -> Iterator[Any]:
    """Inside: two nodes of one core, connected, whose processes find what the tests define."""
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


class Played:
    """Ray as far as a roster asks it: nodes, each with what it answers to `probe`."""

    exceptions = SimpleNamespace(RayError=ZeroDivisionError, RayTaskError=ArithmeticError)

    def __init__(self, *cpus: float) -> None:
        self.answers, self.there = dict[str, dict[str, str]](), list[dict[str, Any]]()
        for number, count in enumerate(cpus):
            self.join(f"n{number}", CPU=count)

    def join(self, name: str, answer: str = "same", **has: float) -> None:
        self.answers[name] = {"torch": answer}
        self.there.append({"NodeID": name, "NodeManagerHostname": name, "Alive": True, "Resources": has})

    def nodes(self) -> list[dict[str, Any]]:
        return self.there

    def wait(self, tasks: list[str], num_returns: int, timeout: float | None) -> tuple[list[str], list[str]]:
        return tasks, []

    def get(self, task: str) -> dict[str, str]:
        return self.answers[task]


def play(monkeypatch: pytest.MonkeyPatch) -> Played:
    """Two nodes of two cores."""
    monkeypatch.setattr(nodes, "probe", lambda shared: {"torch": "same"})
    monkeypatch.setattr(nodes, "_asked", lambda ray, number, shared: number)
    return Played(2.0, 2.0)

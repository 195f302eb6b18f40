"""Pieces trained on a Ray cluster: this machine's own, one at an address, or that of the job in which this runs.

Runs and store lie where every node sees them; else they travel (`tatl.studies.execution.fetching`).  Any machine may
vanish: its runs begin again elsewhere, from their last checkpoints.  A run whose process is lost, or whose memory runs
out, is tried once more with twice the share of a machine, then recorded; and where the driver is lost, what its tasks
were at ends with it and the same command goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tatl.data.store import Store
from tatl.machine.processes import AHEAD
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.memory import Memory
from tatl.studies.execution.nodes import Disk, alive, check_nodes, connect, first_line, has
from tatl.studies.execution.piece import Lost, Outcome, Pending, Piece, Trainer, Vanished
from tatl.studies.runtime.cost import resident
from tatl.studies.settings import Cluster

RECYCLED = 20  # pieces after which a process of a CPU ends and a fresh one comes; of a GPU every one does


class Answer(NamedTuple):
    """What a trainer answers, and the largest resident memory of its process meanwhile, in bytes."""

    found: Any
    peak: float


def train(trainer: Callable[..., Any], *given: Any) -> Answer:
    """What a task does."""
    place = torch.device("cpu")
    resident(place, reset=True)
    found = trainer(*given)
    return Answer(found, resident(place))


class OnRay:
    """Tasks of a cluster; ValueError where it cannot train these runs."""

    def __init__(self, root: Path, store: Store, machine: Machine, told: Path | None = None) -> None:
        self.ray = connect(machine.cluster.on)
        nodes = alive(self.ray)
        gpu = machine.device != "cpu" and any(has(node, "GPU") for node in nodes)
        self.share = {"CPU": 1.0, "GPU": machine.cluster.gpus_per_run if gpu else 0.0}
        self.most = {kind: max(has(node, kind) for node in nodes) for kind in ("CPU", "GPU", "memory")}
        for kind, asked in self.share.items():
            if asked > self.most[kind]:
                what = f"a run is to have {asked:g} {kind}s and no node of the cluster has more than"
                raise ValueError(f"{what} {self.most[kind]:g}: give fewer --gpus-per-run")
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.store = root.absolute(), Store.open(store.path.absolute())
        check_nodes(self.ray, self._shared())
        self.memory = Memory(self.root)
        weights = machine.imagenet_weights and machine.imagenet_weights.absolute()
        own = replace(machine, cluster=Cluster(), imagenet_weights=weights)
        self.trainer = self.ray.put(self._trainer(own, told))
        self.task = self.ray.remote(max_retries=0, max_calls=1 if gpu else RECYCLED)(train)
        self._taken = dict[Pending, Any]()

    def free(self) -> int:
        there = self.ray.cluster_resources()
        places = min(there.get(kind, 0) // asked for kind, asked in self.share.items() if asked)
        ahead = AHEAD * max(1, int(places))  # where no node is left, what is asked for waits for one
        return max(0, ahead - len(self._taken))

    def submit(self, piece: Piece, alone: bool = False) -> Pending:
        return self._begin(alone, piece)

    def collect(self, piece: Piece, done: Pending) -> list[Outcome]:
        del self._taken[done]
        if error := done.exception():
            return [self._lost(error)] * len(piece)
        answer: Any = done.result()
        self.memory.note(piece[0], answer.peak)
        return answer.found

    def end(self) -> None:
        for task in self._taken.values():
            self.ray.cancel(task, force=True)

    def _shared(self) -> Disk | None:
        """What every node is to see."""
        return Disk(self.root, self.store.path)

    def _trainer(self, machine: Machine, told: Path | None) -> Callable[..., Any]:
        """What is called with each piece, in a process of a node."""
        return Trainer(self.root, self.store, machine, threads=1, told=told, elsewhere=True)

    def _begin(self, alone: bool, piece: Piece, *given: Any) -> Pending:
        room = self._room(self.memory.of(piece[0]), 2 if alone else 1)
        task = self.task.options(**room).remote(self.trainer, piece, *given)
        pending: Pending = task.future()
        self._taken[pending] = task
        return pending

    def _room(self, memory: float, times: int) -> dict[str, float]:
        """The share of a machine that a piece has, or a multiple of it as far as a node has it; of a GPU up to one."""
        cpus, gpus = self.share["CPU"], self.share["GPU"]
        return {
            "num_cpus": min(times * cpus, self.most["CPU"]),
            "num_gpus": min(times * gpus, max(gpus, 1.0)),
            "memory": int(min(times * memory, self.most["memory"])),
        }

    def _lost(self, error: BaseException) -> BaseException:
        """What an error of Ray's own is for its runs; of the program it is what it is."""
        known = self.ray.exceptions
        if isinstance(error, known.RayTaskError):
            return error.cause if isinstance(error.cause, Exception) else error
        if not isinstance(error, known.RayError):
            return error
        if isinstance(error, known.NodeDiedError | known.ObjectLostError):
            return Vanished(f"its machine went away ({first_line(error)})")
        remedy = "give the same command again where more is free, or with a smaller --batch"
        return Lost(f"its process on the cluster was lost ({first_line(error)}): {remedy}")

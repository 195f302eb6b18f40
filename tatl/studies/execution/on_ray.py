"""Runs of a Ray cluster (this machine's own, one at an address, that of the job in which this runs), one task a piece.

Runs and store lie where every node sees them; else they travel (`tatl.studies.execution.fetching`).  Each piece is laid
on a node that has room for it.  Any machine may vanish: its runs begin again elsewhere, from their last checkpoints.  A
run whose process is lost, whose memory runs out or whose disk fails is tried once more with twice the share of a
machine, then recorded; and where the driver is lost, what its tasks were at ends with it and the same command goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from tatl.cli import sentence
from tatl.data.store import Store
from tatl.run import Run, finished
from tatl.studies.execution.board import tell_in
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.memory import Memory
from tatl.studies.execution.nodes import Disk, Node, Roster, alive, at, connect, first_line, has
from tatl.studies.execution.piece import Lost, Outcome, Pending, Piece, Trainer, Vanished
from tatl.studies.runtime.cost import resident
from tatl.studies.settings import Cluster

RECYCLED = 20  # pieces after which a process of a CPU ends and a fresh one comes; of a GPU every one does
LOOK = 2.0  # seconds between two looks at what nodes there are, where nothing else is to be done
GRACE = 5.0  # seconds after the loss of a process in which its node may turn out to go away
ARRIVAL = 30.0  # seconds after which what a node has written is seen here, through the caches of a network's disk


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


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether it holds at some moment of so many seconds."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(min(0.5, seconds / 10))
    return True


class Connection:
    """To a cluster, with the share of a machine that each piece or task has; ValueError where no node has it.

    `share`: of a GPU so much that whole ones fill it, in Ray's ten-thousandths.
    """

    patient = True
    roster: Roster
    _full = False  # whether it was said that no node has room

    def __init__(self, cluster: Cluster, device: str) -> None:
        self.ray = connect(cluster.on)
        nodes = alive(self.ray)
        gpu = device != "cpu" and (cluster.gpus_per_run > 1 or any(has(node, "GPU") for node in nodes))
        self.share = {"CPU": 1.0, "GPU": _filling(cluster.gpus_per_run) if gpu else 0.0}
        for kind, asked in self.share.items():
            if asked > (most := max(has(node, kind) for node in nodes)):
                what = f"a run is to have {asked:g} {kind}s and no node of the cluster has more than"
                raise ValueError(f"{what} {most:g}: give fewer --gpus-per-run")
        if not any(all(has(node, kind) >= asked for kind, asked in self.share.items()) for node in nodes):
            raise ValueError("a run is to have a CPU and a GPU, and no node of the cluster has both")

    def look(self) -> None:
        """Take in what came since the last look."""

    def wait(self) -> None:
        """Let a while pass in which a node may come, or have room again; said once."""
        if not self._full:
            tqdm.write("no node of the cluster has room: waiting for one", file=sys.stderr)
        self._full = True
        time.sleep(LOOK)

    def lost(self, error: BaseException, node: Node) -> BaseException:
        """What an error at the work of a node is: of Ray's own, or of a disk, the loss of what was done there."""
        known = self.ray.exceptions
        if isinstance(error, known.RayTaskError) and isinstance(error.cause, Exception):
            error = error.cause  # one of Ray's own where what a task asked the cluster for went with a node
        if isinstance(error, OSError) and not isinstance(error, known.RayError):
            return Lost(f"{sentence(error)} (on node {node.name})")
        if not isinstance(error, known.RayError) or isinstance(error, known.RayTaskError):
            return error
        away = known.NodeDiedError, known.ObjectLostError, known.ActorUnavailableError  # the last: out of reach
        if isinstance(error, away) or _within(GRACE, lambda: self._gone(node)):
            return Vanished(f"its machine went away ({first_line(error)})")
        remedy = "give the same command again where more is free, or with a smaller --batch"
        return Lost(f"its process on node {node.name} was lost ({first_line(error)}): {remedy}")

    def _gone(self, node: Node) -> bool:
        """Whether a node is not there any more; its processes end before it does."""
        return all(node.number != each["NodeID"] for each in alive(self.ray))


def _filling(share: float) -> float:
    """The share of a GPU of which whole ones fill it: as many as of the one asked for."""
    return share if share >= 1 else int(1e4 / int(1 / share + 1e-6)) / 1e4


def size_of(cluster: Cluster, device: str) -> dict[str, Any]:
    """The kind of device on which a cluster trains, and how many there are, as a plan takes them."""
    found = Connection(cluster, device)
    kind = "GPU" if found.share["GPU"] else "CPU"
    count = found.ray.cluster_resources().get(kind, 0) // max(1.0, found.share[kind])
    return {"kind": {"GPU": "cuda", "CPU": "cpu"}[kind], "counts": [max(1, int(count))]}


class Flight(NamedTuple):
    """A task under way, where it is, and what it has of that node."""

    task: Any
    node: Node
    share: dict[str, float]


class OnRay(Connection):
    """Tasks of a cluster, one a piece; ValueError where it cannot train these runs.

    `told`: a folder among the runs in which processes tell how far they are.
    """

    def __init__(self, root: Path, store: Store, machine: Machine, told: Path) -> None:
        super().__init__(machine.cluster, machine.device)
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.store = root.absolute(), Store.open(store.path.absolute())
        self.roster = Roster(self.ray, self._shared(told))
        self.memory = Memory(self.root)
        weights = machine.imagenet_weights and machine.imagenet_weights.absolute()
        own = replace(machine, cluster=Cluster(), imagenet_weights=weights)
        self.trainer = self.ray.put(self._trainer(own, told))
        self.task = self.ray.remote(max_retries=0, max_calls=1 if self.share["GPU"] else RECYCLED)(train)
        self._taken = dict[Pending, Flight]()

    def free(self, alone: bool = False) -> int:
        """How many pieces there is room for, or with twice the share; none after a while where nothing is under way."""
        self.roster.look()
        room = self.roster.room(self.share)
        if not room and not self._taken:
            self.wait()
        return (room + 1) // 2 if alone else room

    def submit(self, piece: Piece, alone: bool = False) -> Pending:
        return self._begin(alone, piece)

    def collect(self, piece: Piece, done: Pending) -> list[Outcome]:
        _, node, share = self._taken.pop(done)
        node.give(share)
        if error := done.exception():
            lost = self.lost(error, node)
            found: list[Outcome] = [0.0 if finished(run, self.root) else lost for run in piece]
        else:
            answer: Any = done.result()
            self.memory.note(piece[0], answer.peak)
            until = time.monotonic() + ARRIVAL
            found = [self._seen(run, outcome, node, until) for run, outcome in zip(piece, answer.found, strict=True)]
        self.roster.note(node, found[-1])
        return found

    def end(self) -> None:
        for task, node, share in self._taken.values():
            self.ray.cancel(task, force=True)
            node.give(share)
        self._taken.clear()

    def _seen(self, run: Run, outcome: Outcome, node: Node, until: float) -> Outcome:
        """The outcome; of a run that is finished by its node's word, and not to be seen here by that time: Lost."""
        folder = run.folder(self.root)

        def there() -> bool:
            if folder.is_dir():
                list(folder.iterdir())  # which has a network's disk asked anew
            return finished(run, self.root)

        if not isinstance(outcome, float) or _within(until - time.monotonic(), there):
            return outcome
        what = f"node {node.name} says that it is finished, and its weights are not in {folder}"
        return Lost(f"{what}: let all nodes see one folder of runs at that path, or give --fetch")

    def _shared(self, told: Path) -> Disk | None:
        """What every node is to see."""
        (told / "seen").touch()
        return Disk(told.absolute() / "seen", self.store.path)

    def _trainer(self, machine: Machine, told: Path) -> Callable[..., Any]:
        """What is called with each piece, in a process of a node."""
        return Trainer(self.root, self.store, machine, threads=1, tell=partial(tell_in, told), elsewhere=True)

    def _begin(self, alone: bool, piece: Piece, *given: Any) -> Pending:
        wanted = self._room(self.memory.of(piece[0]), 2 if alone else 1)
        node = self.roster.choose(wanted, again=alone)
        share = node.take(wanted)
        room = {"num_cpus": share["CPU"], "num_gpus": share["GPU"], "memory": int(share["memory"])}
        task = self.task.options(**room, **at(node.number)).remote(self.trainer, piece, *given)
        pending: Pending = task.future()
        self._taken[pending] = Flight(task, node, share)
        return pending

    def _room(self, memory: float, times: int) -> dict[str, float]:
        """The share of a machine that a piece has, or a multiple of it; of a GPU up to one."""
        cpus, gpus = self.share["CPU"], self.share["GPU"]
        return {"CPU": times * cpus, "GPU": min(times * gpus, max(gpus, 1.0)), "memory": times * memory}

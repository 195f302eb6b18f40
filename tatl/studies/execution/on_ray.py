"""Work of a Ray cluster (this machine's own, one at an address, that of the job in which this runs): pieces, tasks.

Runs and store lie where every node sees them; else they travel (`tatl.studies.execution.fetching`).  Any machine may
vanish: its runs begin again elsewhere, from their last checkpoints.  A run whose process is lost, or whose memory runs
out, is tried once more with twice the share of a machine, then recorded; and where the driver is lost, what its tasks
were at ends with it and the same command goes on.  Tasks of a crew are tried again likewise, in processes that stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from tatl.data.store import Store
from tatl.machine.processes import AHEAD
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.memory import Memory
from tatl.studies.execution.nodes import Disk, alive, check_nodes, connect, first_line, has
from tatl.studies.execution.piece import Lost, Outcome, Pending, Piece, Trainer, Vanished
from tatl.studies.execution.travel import Parcel, copy_here, packed, parcel, unpacked
from tatl.studies.runtime.cost import resident
from tatl.studies.settings import Cluster

RECYCLED = 20  # pieces after which a process of a CPU ends and a fresh one comes; of a GPU every one does
TRIES = 5  # processes that may be lost before they have done anything
LOOK = 2.0  # seconds between two looks at what nodes there are, where nothing else is to be done


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


class Connection:
    """To a cluster, with the share of a machine that each piece or task has; ValueError where no node has it."""

    def __init__(self, cluster: Cluster, device: str) -> None:
        self.ray = connect(cluster.on)
        nodes = alive(self.ray)
        gpu = device != "cpu" and (cluster.gpus_per_run > 1 or any(has(node, "GPU") for node in nodes))
        self.share = {"CPU": 1.0, "GPU": cluster.gpus_per_run if gpu else 0.0}
        for kind, asked in self.share.items():
            if asked > (most := max(has(node, kind) for node in nodes)):
                what = f"a run is to have {asked:g} {kind}s and no node of the cluster has more than"
                raise ValueError(f"{what} {most:g}: give fewer --gpus-per-run")
        able = [node for node in nodes if all(has(node, kind) >= asked for kind, asked in self.share.items())]
        if not able:
            raise ValueError("a run is to have a CPU and a GPU, and no node of the cluster has both")
        largest = max(able, key=lambda node: has(node, "memory"))
        self.most = {kind: has(largest, kind) for kind in ("CPU", "GPU", "memory")}  # what one node has together

    def places(self) -> int:
        """How many such shares there are now; 0 where no node is left."""
        there = self.ray.cluster_resources()
        of_gpus = there.get("GPU", 0) * _whole(1 / self.share["GPU"]) if 0 < self.share["GPU"] < 1 else None
        others = [_whole(there.get(kind, 0) / asked) for kind, asked in self.share.items() if asked]
        return int(min([*others, *([] if of_gpus is None else [of_gpus])]))

    def lost(self, error: BaseException, gone: bool = False) -> BaseException:
        """What an error of Ray's own is for its runs, whose machine is `gone`; of the program it is what it is."""
        known = self.ray.exceptions
        if isinstance(error, known.RayTaskError) and isinstance(error.cause, Exception):
            error = error.cause  # one of Ray's own where what a task asked the cluster for went with a node
        if not isinstance(error, known.RayError) or isinstance(error, known.RayTaskError):
            return error
        if gone or isinstance(error, known.NodeDiedError | known.ObjectLostError):
            return Vanished(f"its machine went away ({first_line(error)})")
        remedy = "give the same command again where more is free, or with a smaller --batch"
        return Lost(f"its process on the cluster was lost ({first_line(error)}): {remedy}")


def _whole(number: float) -> int:
    """As many whole ones, as 1 / .2 are 5."""
    return int(number + 1e-6)


def size_of(cluster: Cluster, device: str) -> dict[str, Any]:
    """The kind of device on which a cluster trains, and how many there are, as a plan takes them."""
    found = Connection(cluster, device)
    kind = "GPU" if found.share["GPU"] else "CPU"
    count = found.ray.cluster_resources().get(kind, 0) // max(1.0, found.share[kind])
    return {"kind": {"GPU": "cuda", "CPU": "cpu"}[kind], "counts": [max(1, int(count))]}


class OnRay(Connection):
    """Tasks of a cluster, one a piece; ValueError where it cannot train these runs."""

    def __init__(self, root: Path, store: Store, machine: Machine, told: Path | None = None) -> None:
        super().__init__(machine.cluster, machine.device)
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.store = root.absolute(), Store.open(store.path.absolute())
        check_nodes(self.ray, self._shared())
        self.memory = Memory(self.root)
        weights = machine.imagenet_weights and machine.imagenet_weights.absolute()
        own = replace(machine, cluster=Cluster(), imagenet_weights=weights)
        self.trainer = self.ray.put(self._trainer(own, told))
        self.task = self.ray.remote(max_retries=0, max_calls=1 if self.share["GPU"] else RECYCLED)(train)
        self._taken = dict[Pending, Any]()

    def free(self) -> int:
        ahead = AHEAD * max(1, self.places())  # where no node is left, what is asked for waits for one
        return max(0, ahead - len(self._taken))

    def submit(self, piece: Piece, alone: bool = False) -> Pending:
        return self._begin(alone, piece)

    def collect(self, piece: Piece, done: Pending) -> list[Outcome]:
        del self._taken[done]
        if error := done.exception():
            return [self.lost(error)] * len(piece)
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


class _Seated:
    """A hand in a process of a node, with its copy of the store."""

    def __init__(self, hand: bytes, store: Path | Parcel) -> None:
        import ray

        self.node = ray.get_runtime_context().get_node_id()
        self.store = Store.open(copy_here(ray, store) if isinstance(store, Parcel) else store)
        self.hand = unpacked(hand, self.store)

    def where(self) -> str:
        return self.node

    def do(self, task: bytes) -> Any:
        return self.hand(unpacked(task, self.store))


class _Seat(NamedTuple):
    """A process of the cluster, and the node that it is on."""

    actor: Any
    node: str


class Hands(Connection):
    """Processes of a cluster, each of which keeps what it made ready for a task (networks, graphs) for those to come.

    One that is lost is replaced, on a node that is there; nodes that join are taken in.
    """

    def __init__(self, cluster: Cluster, device: str, hand: Callable[[Any], Any], store: Store) -> None:
        super().__init__(cluster, device)
        path = store.path.absolute()
        check_nodes(self.ray, None if cluster.fetch else Disk(None, path))
        given = self.ray.put(packed(hand)), parcel(self.ray, path) if cluster.fetch else path
        room = {"num_cpus": self.share["CPU"], "num_gpus": self.share["GPU"]}
        self._new = lambda: self.ray.remote(_Seated).options(**room).remote(*given)
        self._coming, self._idle, self._taken = dict[Any, Any](), list[_Seat](), dict[Pending, _Seat]()
        self._unseated = 0

    def free(self) -> int:
        """The processes that are ready; where none is at work, one is waited for."""
        while True:
            for _ in range(self.places() - len(self._coming) - len(self._idle) - len(self._taken)):
                actor = self._new()
                self._coming[actor.where.remote()] = actor
            coming = list(self._coming)
            patience = 0 if self._taken or self._idle else LOOK
            ready, _ = self.ray.wait(coming, num_returns=len(coming), timeout=patience) if coming else ([], [])
            self._idle += filter(None, map(self._seat, ready))
            if self._idle or self._taken:
                return len(self._idle)
            time.sleep(0 if coming else LOOK)

    def submit(self, piece: Any, alone: bool = False) -> Pending:
        seat = self._idle.pop()
        pending: Pending = seat.actor.do.remote(packed(piece[0].task)).future()
        self._taken[pending] = seat
        return pending

    def collect(self, piece: Any, done: Pending) -> list[Outcome]:
        seat, error = self._taken.pop(done), done.exception()
        if isinstance(error, self.ray.exceptions.RayActorError):
            return [self.lost(error, all(seat.node != node["NodeID"] for node in alive(self.ray)))]
        self._idle.append(seat)
        return [self.lost(error)] if error else [cast(Any, done.result())]

    def end(self) -> None:
        seats = [*self._idle, *self._taken.values()]
        for actor in [*self._coming.values(), *(seat.actor for seat in seats)]:
            self.ray.kill(actor)

    def _seat(self, ready: Any) -> _Seat | None:
        """The process that came; nothing where it was lost on its way, which may happen a few times."""
        actor = self._coming.pop(ready)
        try:
            return _Seat(actor, self.ray.get(ready))
        except self.ray.exceptions.RayError as error:
            self._unseated += 1
            if self._unseated > TRIES or isinstance(error, self.ray.exceptions.RayTaskError):
                raise self.lost(error) from error
            return None

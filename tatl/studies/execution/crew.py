"""Tasks that need nothing of each other (images, passes), shared by processes of this machine or of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from tatl.data.store import Store
from tatl.machine.processes import cores, spread
from tatl.studies.execution.nodes import Disk, Node, Roster, at
from tatl.studies.execution.on_ray import LOOK, Connection
from tatl.studies.execution.piece import Lost, Outcome, Pending, threads
from tatl.studies.execution.schedule import outcomes
from tatl.studies.execution.travel import Parcel, copy_here, packed, parcel, unpacked
from tatl.studies.settings import Cluster
from tatl.training.device import pick_device

TRIES = 5  # processes of a cluster that may be lost before any has done anything
_ON_CORE: dict[str, Any] = {"device": "cpu", "threads": 1}  # of a process on a cluster
_ON_GPU: dict[str, Any] = {"device": "cuda:0", "threads": 0}


@dataclass(kw_only=True)
class Hand:
    """Does one task after another; pickled into its process, where it has its share of the threads (0: all), or a GPU.

    With several processes on a CPU each takes one thread: threads of one product wait for each other, tasks do not.
    """

    device: str = "cpu"
    threads: int = 0

    def __call__(self, task: Any) -> Any:
        with threads(self.threads):
            return self.do(task)

    def do(self, task: Any) -> Any:
        """One task, on the device; what is answered says which it was."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class _Alone:
    """A task as the schedule knows runs: one that needs no other."""

    task: Any

    def needs(self) -> tuple[()]:
        return ()


class _Seated:
    """A hand in a process of a node, with its copy of the store."""

    def __init__(self, hand: bytes, store: Path | Parcel) -> None:
        self._given = hand, store

    def ready(self) -> None:
        """Make it: what fails here is told as it is, and not as the loss of the process."""
        import ray

        hand, store = self._given
        self.store = Store.open(copy_here(ray, store) if isinstance(store, Parcel) else store)
        self.hand = unpacked(hand, self.store)

    def do(self, task: bytes) -> Any:
        return self.hand(unpacked(task, self.store))


class _Seat(NamedTuple):
    """A process of the cluster, and the node that it is on."""

    actor: Any
    node: Node


class Hands(Connection):
    """Processes of a cluster, each of which keeps what it made ready for a task (networks, graphs) for those to come.

    One that is lost is replaced, on a node that is there; nodes that join are taken in.
    """

    def __init__(self, cluster: Cluster, device: str, hand: Hand, store: Store) -> None:
        super().__init__(cluster, device)
        path = store.path.absolute()
        self.roster = Roster(self.ray, None if cluster.fetch else Disk(None, path))
        self._given = self.ray.put(packed(hand)), parcel(self.ray, path) if cluster.fetch else path
        self._coming, self._idle, self._taken = dict[Any, _Seat](), list[_Seat](), dict[Pending, _Seat]()
        self._unseated = 0

    def free(self, alone: bool = False) -> int:
        """The processes that are ready; where none is at work, one is waited for, a while."""
        self.roster.look()
        for seat in [seat for seat in self._idle if seat.node.number not in self.roster.nodes]:
            self._idle.remove(seat)
            self._drop(seat)
        while self.roster.room(self.share):
            self._call()
        coming, at_work = list(self._coming), self._idle or self._taken
        if coming:
            ready, _ = self.ray.wait(coming, num_returns=len(coming), timeout=0 if at_work else LOOK)
            self._idle += filter(None, map(self._seat, ready))
        elif not at_work:
            self.wait()
        return len(self._idle)

    def submit(self, piece: Any, alone: bool = False) -> Pending:
        seat = self._idle.pop()
        pending: Pending = seat.actor.do.remote(packed(piece[0].task)).future()
        self._taken[pending] = seat
        return pending

    def collect(self, piece: Any, done: Pending) -> list[Outcome]:
        seat, error = self._taken.pop(done), done.exception()
        if isinstance(error, self.ray.exceptions.RayActorError):
            self._drop(seat)
        else:
            self._idle.append(seat)
        found = self.lost(error, seat.node) if error else cast(Any, done.result())
        self.roster.note(seat.node, found)
        return [found]

    def end(self) -> None:
        for seat in [*self._idle, *self._taken.values(), *self._coming.values()]:
            self.ray.kill(seat.actor)

    def _call(self) -> None:
        """Have a process come, to the node that has most room."""
        node = self.roster.choose(self.share)
        room = {"num_cpus": self.share["CPU"], "num_gpus": self.share["GPU"]}
        actor = self.ray.remote(_Seated).options(**room, **at(node.number)).remote(*self._given)
        node.take(self.share)
        self._coming[actor.ready.remote()] = _Seat(actor, node)

    def _drop(self, seat: _Seat) -> None:
        """End a process, which may be out of reach alone, so that another has its place."""
        self.ray.kill(seat.actor)
        seat.node.give(self.share)

    def _seat(self, ready: Any) -> _Seat | None:
        """The process that came; nothing where it was lost on its way, which may happen a few times."""
        seat = self._coming.pop(ready)
        try:
            self.ray.get(ready)
            return seat
        except self.ray.exceptions.RayError as error:
            self._drop(seat)
            found = self.lost(error, seat.node)
            self.roster.note(seat.node, found)
            self._unseated += 1
            in_vain = self._unseated > TRIES and not self.roster.works()
            if in_vain or not isinstance(found, Lost):
                raise found from error
            return None


@dataclass(frozen=True)
class Crew:
    """Who shares tasks, and where.

    device   cpu or cuda: of every process
    workers  processes of this machine; 0: one a core, or a GPU
    cluster  the Ray cluster that does them instead, where it names one: as many at once as it has room for
    """

    device: str = "cpu"
    workers: int = 0
    cluster: Cluster = field(default_factory=Cluster)

    @classmethod
    def of(cls, device: str, workers: int = 0, cluster: Cluster | None = None) -> Crew:
        """That of an option --device (auto, cpu or cuda); of a cluster on its GPUs, where it has any."""
        if cluster is None or not cluster.on:
            return cls(pick_device(device).type, workers)
        return cls("cuda" if Connection(cluster, device).share["GPU"] else "cpu", workers, cluster)

    @property
    def here(self) -> str:
        """The device of what this process itself does."""
        return self.device if torch.cuda.is_available() else "cpu"

    @property
    def at_once(self) -> int:
        """Processes of this machine."""
        if self.device == "cpu":
            return self.workers or cores()
        there = torch.cuda.device_count()
        if self.workers > there:
            raise ValueError(f"{self.workers} devices were asked for and there are {there}: give fewer --workers")
        return self.workers or max(1, there)

    def hands(self, hand: Hand, tasks: int) -> list[Hand]:
        """A copy of the hand for each process of this machine; no more than tasks.

        However few are left to do: another number of threads rounds otherwise, and results are to be the same.
        """
        count = int(self.device == "cpu" and self.at_once > 1)
        numbers = range(max(1, min(self.at_once, tasks)))
        return [
            replace(hand, device=self.device if self.device == "cpu" else f"cuda:{number}", threads=count)
            for number in numbers
        ]

    def share(self, hand: Hand, tasks: Sequence[Any], store: Store) -> Iterator[Any]:
        """What copies of the hand answer to each task, as it comes; hand and tasks know no store but this one."""
        if not self.cluster.on:
            yield from spread(self.hands(hand, len(tasks)), tasks)
            return
        own = replace(hand, **(_ON_GPU if self.device == "cuda" else _ON_CORE))
        hands = Hands(self.cluster, self.device, own, store)
        pieces: list[Any] = [(_Alone(task),) for task in tasks]
        for _, outcome in outcomes(pieces, hands):
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome

"""Tasks that need nothing of each other (images, passes), shared by processes of this machine or of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tatl.data.store import Store
from tatl.machine.processes import cores, spread
from tatl.studies.execution.piece import threads
from tatl.studies.settings import Cluster
from tatl.training.device import pick_device

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
        from tatl.studies.execution.on_ray import Connection

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
        from tatl.studies.execution.on_ray import Hands
        from tatl.studies.execution.schedule import outcomes

        own = replace(hand, **(_ON_GPU if self.device == "cuda" else _ON_CORE))
        hands = Hands(self.cluster, self.device, own, store)
        pieces: list[Any] = [(_Alone(task),) for task in tasks]
        for _, outcome in outcomes(pieces, hands):
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome

"""Pieces trained on a Ray cluster whose nodes share no disk with the driver (`--fetch`).

The driver holds the locks of the runs that are under way, so that another one finds them taken; what a run needs
travels to the node that trains it, and the finished run comes back.  What was half done when a node went away is lost.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tatl.data.store import Store
from tatl.run import Run, finished
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.on_ray import OnRay
from tatl.studies.execution.piece import Outcome, Pending, Piece, Trainer
from tatl.studies.execution.travel import Contents, Parcel, cache, contents, copy_here, parcel, put_down
from tatl.training.trainer import Busy, holding

STAY = 8  # needed runs that stay in the object store for others that need them


class Made(NamedTuple):
    """What comes back: an outcome a run, and the folder of each that is finished."""

    outcomes: list[Outcome]
    folders: list[Contents | None]


@dataclass(frozen=True)
class Away:
    """Trains pieces in a folder of the node's own disk, from the node's copy of the store and of ImageNet weights."""

    store: Parcel
    weights: Parcel | None
    machine: Machine

    def __call__(self, piece: Piece, needed: dict[Run, Any]) -> Made:
        """`needed`: the folders (in the object store) of the runs that these need."""
        import ray

        store = Store.open(copy_here(ray, self.store))
        machine = replace(self.machine, imagenet_weights=copy_here(ray, self.weights) if self.weights else None)
        with tempfile.TemporaryDirectory(prefix="run-", dir=cache()) as name:
            root = Path(name)
            for run, folder in needed.items():
                put_down(ray.get(folder), run.folder(root))
            outcomes = Trainer(root, store, machine, threads=1, elsewhere=True)(piece)
            return Made(outcomes, [contents(run.folder(root)) if finished(run, root) else None for run in piece])


class Fetching(OnRay):
    """Tasks of a cluster that have nothing in common with the driver but Ray."""

    def __init__(self, root: Path, store: Store, machine: Machine, told: Path | None = None) -> None:
        super().__init__(root, store, machine)
        self._held = dict[Pending, tuple[ExitStack, Piece]]()
        self._sent = OrderedDict[Run, Any]()

    def _shared(self) -> None:
        return None

    def _trainer(self, machine: Machine, told: Path | None) -> Away:
        weights = parcel(self.ray, machine.imagenet_weights) if machine.imagenet_weights else None
        return Away(parcel(self.ray, self.store.path), weights, replace(machine, imagenet_weights=None))

    def submit(self, piece: Piece, alone: bool = False) -> Pending:
        held = ExitStack()
        try:
            for run in piece:
                held.enter_context(holding(run.folder(self.root)))
        except Busy as busy:
            held.close()
            return _known([busy] * len(piece))
        left = tuple(run for run in piece if not finished(run, self.root))  # others by another driver meanwhile
        if not left:
            held.close()
            return _known([0.0] * len(piece))
        pending = self._begin(alone, left, {need: self._folder(need) for run in left for need in run.needs()})
        self._held[pending] = held, left
        return pending

    def collect(self, piece: Piece, done: Pending) -> list[Outcome]:
        if done not in self._held:
            return done.result()
        held, left = self._held.pop(done)
        with held:
            found: Any = super().collect(piece, done)
            if not isinstance(found, Made):
                return found
            for run, folder in zip(left, found.folders, strict=True):
                if folder is not None:
                    put_down(folder, run.folder(self.root))
        outcomes = dict(zip(left, found.outcomes, strict=True))
        return [outcomes.get(run, 0.0) for run in piece]

    def end(self) -> None:
        super().end()
        for held, _ in self._held.values():
            held.close()

    def _folder(self, run: Run) -> Any:
        """The folder of a finished run in the object store, where those that were asked for last stay."""
        if run not in self._sent:
            self._sent[run] = self.ray.put(contents(run.folder(self.root)))
        self._sent.move_to_end(run)
        while len(self._sent) > STAY:
            self._sent.popitem(last=False)
        return self._sent[run]


def _known(outcomes: list[Outcome]) -> Pending:
    """What needs no task."""
    done: Pending = Future()
    done.set_result(outcomes)
    return done

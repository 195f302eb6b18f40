"""Pieces trained on a Ray cluster whose nodes share no disk with the driver (`--fetch`).

The driver holds the locks of the runs that are under way, so that another one finds them taken; what a run needs
travels to the node that trains it, and the finished run comes back.  What was half done when a node went away is lost.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tatl.data.store import Store
from tatl.machine.disk import own_folder
from tatl.run import Run, finished
from tatl.studies.execution.board import tell_in
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.nodes import alive, at
from tatl.studies.execution.on_ray import OnRay
from tatl.studies.execution.piece import Outcome, Pending, Piece, Trainer
from tatl.studies.execution.travel import Parcel, Post, cache, contents, copy_here, parcel, put_down
from tatl.training.trainer import Busy, holding

HEAD = "node:__internal_head__"  # what Ray's head node has
STAY = 8  # needed runs that stay in the object store for others that need them


@dataclass(frozen=True)
class _Leaving(Trainer):
    """Leaves each run at a post when it is finished."""

    post: Any = None

    def train(self, run: Run) -> Outcome:
        import ray

        outcome = super().train(run)
        if isinstance(outcome, float):
            ray.get(self.post.leave.remote(run.hash, contents(run.folder(self.root))))
        return outcome


def _tell(post: Any, name: str, words: str) -> None:
    post.tell.remote(name, words)


@dataclass(frozen=True)
class Away:
    """Trains pieces in a folder of the node's own disk, from the node's copy of the store and of ImageNet weights."""

    store: Parcel
    weights: Parcel | None
    machine: Machine
    post: Any

    def __call__(self, piece: Piece, needed: dict[Run, Any]) -> list[Outcome]:
        """`needed`: the folders (in the object store) of the runs that these need."""
        import ray

        store = Store.open(copy_here(ray, self.store))
        machine = replace(self.machine, imagenet_weights=copy_here(ray, self.weights) if self.weights else None)
        with own_folder(cache(), "run-") as root:
            for run, folder in needed.items():
                put_down(ray.get(folder), run.folder(root))
            tell = partial(_tell, self.post)
            return _Leaving(root, store, machine, threads=1, tell=tell, elsewhere=True, post=self.post)(piece)


class Fetching(OnRay):
    """Tasks of a cluster that have nothing in common with the driver but Ray."""

    def __init__(self, root: Path, store: Store, machine: Machine, told: Path) -> None:
        super().__init__(root, store, machine, told)
        self._held = dict[Pending, tuple[ExitStack, Piece]]()
        self._sent, self._home = OrderedDict[Run, Any](), list[str]()

    def _shared(self, told: Path) -> None:
        return None

    def _trainer(self, machine: Machine, told: Path) -> Away:
        head = next(node["NodeID"] for node in alive(self.ray) if HEAD in node["Resources"])
        self.told, self.post = told, self.ray.remote(Post).options(num_cpus=0, **at(head)).remote()
        weights = parcel(self.ray, machine.imagenet_weights) if machine.imagenet_weights else None
        return Away(parcel(self.ray, self.store.path), weights, replace(machine, imagenet_weights=None), self.post)

    def look(self) -> None:
        """Put down the runs that are finished, and tell how far others are; OSError where some cannot be written."""
        folders, told = self.ray.get(self.post.take.remote(self._home))
        for name, words in told.items():
            tell_in(self.told, name, words)
        held = {run.hash: run for _, left in self._held.values() for run in left}
        self._home = list(folders.keys() - held.keys())
        failed: OSError | None = None
        for name in folders.keys() & held.keys():
            try:
                put_down(folders[name], held[name].folder(self.root))
                self._home.append(name)
            except OSError as error:
                failed = error
        if failed:
            raise failed

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
        self.look()
        held, left = self._held.pop(done)
        with held:
            outcomes = dict(zip(left, super().collect(left, done), strict=True))
        return [outcomes.get(run, 0.0) for run in piece]

    def end(self) -> None:
        with suppress(self.ray.exceptions.RayError, OSError):
            self.look()  # what is finished is not lost
        super().end()
        for held, _ in self._held.values():
            held.close()
        self._held.clear()

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

"""Where pieces are trained: in this process one after another, or several at once in processes of their own.

Each process has its share of the threads, or its GPU.  One that is lost (ended from outside, or its GPU failed: after a
CUDA error a process can do nothing more there) is replaced.  `tatl.studies.execution.on_ray` has the third place.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from tatl.data.store import Store
from tatl.machine.processes import cores, end, give, raise_unstarted, start
from tatl.run import Run
from tatl.studies.execution.board import tell_in
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.piece import Lost, Outcome, Pending, Piece, Trainer
from tatl.training.device import pick_device

LARGE = ("pyramid",)  # shapes of which a CPU's memory is to hold one at a time


class Executor(Protocol):
    """Where pieces are trained.

    `patient`: at the first Ctrl-C what is under way is left to finish.
    """

    patient: bool

    def look(self) -> None:
        """Take in what came since the last look; called in every round, whether or not a piece is ready."""

    def free(self, alone: bool = False) -> int:
        """How many more pieces it would take now, or how many `alone`; none, with nothing under way, after a while."""

    def submit(self, piece: Piece, alone: bool = False) -> Pending:
        """Begin a piece; `alone` in a process that is fresh and has more room, of one machine all of it."""

    def collect(self, piece: Piece, done: Pending) -> list[Outcome]:
        """An outcome for each run of a piece that is done; Lost where its process was."""

    def end(self) -> None:
        """Leave what is being trained, which goes on from its last checkpoint another time; more may be begun."""


class InOrder:
    """One piece after another, in this process."""

    patient = False

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self._taken = trainer, False

    def look(self) -> None:
        pass

    def free(self, alone: bool = False) -> int:
        return 0 if self._taken else 1

    def submit(self, piece: Piece, alone: bool = False) -> Pending:
        done: Pending = Future()
        done.set_result(self.trainer(piece))
        self._taken = True
        return done

    def collect(self, piece: Piece, done: Pending) -> list[Outcome]:
        self._taken = False
        return done.result()

    def end(self) -> None:
        self._taken = False


class Seat:
    """A process of one trainer, started when it is needed and, once it was lost, anew."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.process: ProcessPoolExecutor | None = None

    def submit(self, piece: Piece) -> Pending:
        if self.process is None:
            self.process = start([self.trainer])
        try:
            return give(self.process, piece)
        except BrokenProcessPool:  # ended while it had nothing to do
            self.end()
            return self.submit(piece)

    def end(self) -> None:
        """End it at once."""
        if self.process is not None:
            end(self.process)
        self.process = None


class Processes:
    """Several at once, each in a process of this machine."""

    patient = False

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.seats = [Seat(trainer) for trainer in trainers]
        self._taken, self._alone = dict[Pending, Seat](), False

    def look(self) -> None:
        pass

    def free(self, alone: bool = False) -> int:
        if alone or (self._alone and self._taken):
            return int(not self._taken)
        return len(self.seats) - len(self._taken)

    def submit(self, piece: Piece, alone: bool = False) -> Pending:
        seat = next(seat for seat in self.seats if seat not in self._taken.values())
        self._alone = alone
        if alone:
            seat.end()
        pending = seat.submit(piece)
        self._taken[pending] = seat
        return pending

    def collect(self, piece: Piece, done: Pending) -> list[Outcome]:
        seat, error = self._taken.pop(done), done.exception()
        if isinstance(error, BrokenProcessPool):
            assert seat.process is not None
            raise_unstarted(seat.process)
            remedy = "give the same command again where more is free, or with a smaller --batch"
            error = Lost(f"its process was ended from outside, most likely because memory ran out: {remedy}")
        found: list[Outcome] = [error] * len(piece) if error else done.result()
        if isinstance(found[-1], Lost):
            seat.end()
        return found

    def end(self) -> None:
        for seat in self.seats:
            seat.end()
        self._taken.clear()


def executor_of(todo: Sequence[Run], pieces: int, root: Path, store: Store, machine: Machine, told: Path) -> Executor:
    """The place that a machine names, for so many pieces.

    On a GPU each process trains for another, even one alone: what a CUDA error leaves of it is not this process.
    ValueError where it is a cluster that cannot train them.
    """
    if machine.cluster.on:
        from tatl.studies.execution.fetching import Fetching
        from tatl.studies.execution.on_ray import OnRay

        return (Fetching if machine.cluster.fetch else OnRay)(root, store, machine, told)
    cuda = pick_device(machine.device).type == "cuda"
    workers = machine.at_once(any(run.shape in LARGE for run in todo))
    tell = partial(tell_in, told)
    share = max(1, cores() // workers) if workers > 1 and not cuda else 0  # in company or alone, a run rounds alike
    if min(workers, pieces) <= 1 and not cuda:
        return InOrder(Trainer(root, store, machine, share, tell=tell))
    names = gpus(torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")) if cuda else [""]
    own = [names[number % len(names)] for number in range(min(workers, pieces))]
    return Processes([Trainer(root, store, machine, share, gpu, tell) for gpu in own])


def gpus(count: int, visible: str | None) -> list[str]:
    """The names of `count` GPUs as CUDA_VISIBLE_DEVICES (`visible`; None: unset) gives them to this process."""
    named = [name.strip() for name in (visible or "").split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]

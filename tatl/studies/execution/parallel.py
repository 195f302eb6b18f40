"""Where runs are trained: in this process one after another, or several at once in processes of their own.

Each has its share of the threads, or its GPU.  Runs on one frozen encoder go to one process, which computes its
features once.  A process that is lost (ended from outside, or its GPU failed: after a CUDA error a process can do
nothing more there) is replaced, and what it was at is tried once more, alone in a fresh one, so that a run that needs
too much memory fails alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from tatl.cli import ERRORS
from tatl.data.store import Store
from tatl.machine.processes import cores, do, end, raise_unstarted, start
from tatl.models.starts import start_rule
from tatl.run import Run, finished
from tatl.studies.execution.board import Teller
from tatl.studies.execution.machine import Machine
from tatl.training import frozen_features as features
from tatl.training.device import pick_device
from tatl.training.trainer import fit

LARGE = ("pyramid",)  # shapes of which a CPU's memory is to hold one at a time
GPU_FAILED = re.compile("CUDA error|CUDA driver error|cuDNN error|CUDNN_STATUS")  # not: CUDA out of memory

Outcome = tuple[Run, float | BaseException]  # the seconds that it took (0: it was there), or why it failed
Piece = tuple[Run, ...]  # runs that one process trains one after another


class Lost(RuntimeError):
    """The process of a run was lost, for no fault of the run as far as anyone can tell."""


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, so many threads of a CPU; 0: as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pieces_of(todo: Sequence[Run]) -> list[Piece]:
    """Runs of one frozen encoder on the same images as one piece, every other run as a piece of its own."""
    pieces: dict[object, list[Run]] = {}
    for run in todo:
        frozen = start_rule(run.start).frozen and not run.recipe.augment
        encoder = (run.start, run.parent, run.shape, run.backbone, run.seed)
        images = (run.fold, run.n_folds, run.split_seed, run.fraction, run.cropper, run.offset)
        pieces.setdefault((*encoder, *images) if frozen else run, []).append(run)
    return [tuple(piece) for piece in pieces.values()]


@dataclass(frozen=True)
class Trainer:
    """Trains the runs of a piece one after another, on so many threads (0: all) or on a GPU; tells it in a folder."""

    root: Path
    store: Store
    machine: Machine
    threads: int = 0
    gpu: str = ""
    told: Path | None = None

    def __call__(self, piece: Piece) -> list[float | BaseException]:
        return [outcome for _, outcome in self.outcomes(piece)]

    def outcomes(self, piece: Piece) -> Iterator[Outcome]:
        """Of one run after another; after a failure of the GPU the others are lost too."""
        if self.gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        lost: Lost | None = None
        for run in piece:
            outcome = lost or self._train(run)
            lost = outcome if isinstance(outcome, Lost) else None
            yield run, outcome
        features.release()

    def _train(self, run: Run) -> float | BaseException:
        if finished(run, self.root):
            return 0.0
        started, own = time.monotonic(), self.machine
        teller = Teller(run, self.told) if self.told else None
        try:
            with threads(self.threads):
                fit(
                    run, self.root, self.store,
                    device=own.device, imagenet_weights=own.imagenet_weights, progress=False, watcher=teller,
                )  # fmt: skip
        except ERRORS as error:
            return Lost(f"its GPU failed in two processes ({error})") if GPU_FAILED.search(str(error)) else error
        return time.monotonic() - started


def gpus(count: int, visible: str | None) -> list[str]:
    """The names of `count` GPUs as CUDA_VISIBLE_DEVICES (`visible`; None: unset) gives them to this process."""
    named = [name.strip() for name in (visible or "").split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]


def outcomes_of(
    todo: Sequence[Run], root: Path, store: Store, machine: Machine, told: Path | None
) -> Iterator[Outcome]:
    """Of every run that can be tried, as they come; those that need a run that failed are left out.

    On a GPU each process trains for another, even one alone: what a CUDA error leaves of it is not this process.
    """
    pieces, cuda = pieces_of(todo), pick_device(machine.device).type == "cuda"
    workers = machine.at_once(any(run.shape in LARGE for run in todo))
    share = max(1, cores() // workers) if workers > 1 and not cuda else 0  # in company or alone, a run rounds alike
    if min(workers, len(pieces)) > 1 or cuda:
        names = gpus(torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")) if cuda else [""]
        own = (names[number % len(names)] for number in range(min(workers, len(pieces))))
        yield from _seated(pieces, [Seat(Trainer(root, store, machine, share, gpu, told)) for gpu in own], root)
        return
    trainer = Trainer(root, store, machine, share, told=told)
    for piece in pieces:
        if all(_ready(run, root) for run in piece):
            yield from trainer.outcomes(piece)


class Seat:
    """A process of one trainer, started when it is needed and, once it was lost, anew."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.process: ProcessPoolExecutor | None = None

    def submit(self, piece: Piece) -> Future:
        if self.process is None:
            self.process = start([self.trainer])
        try:
            return self.process.submit(do, piece)
        except BrokenProcessPool:  # ended while it had nothing to do
            self.end()
            return self.submit(piece)

    def end(self) -> None:
        """End it at once: its run goes on from its last checkpoint another time."""
        if self.process is not None:
            end(self.process)
        self.process = None

    def outcomes(self, piece: Piece, future: Future) -> Iterator[Outcome]:
        """What came of a piece; where the process was lost it is ended."""
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            assert self.process is not None
            raise_unstarted(self.process)
            remedy = "give the same command again where more is free, or with a smaller --batch"
            error = Lost(f"its process was ended from outside, most likely because memory ran out: {remedy}")
        found = future.result() if error is None else [error] * len(piece)
        if isinstance(found[-1], Lost):
            self.end()
        return zip(piece, found, strict=True)


def _seated(pieces: Sequence[Piece], seats: Sequence[Seat], root: Path) -> Iterator[Outcome]:
    """Train pieces as soon as what they need is there; what was lost once more, alone, when all else is done."""
    waiting, again = list(pieces), list[Run]()
    flying = dict[Future[list[float | BaseException]], tuple[Piece, Seat]]()
    try:
        while True:
            taken = [seat for _, seat in flying.values()]
            free = [seat for seat in seats if seat not in taken]
            ready = [piece for piece in waiting if all(_ready(run, root) for run in piece)]
            for piece, seat in zip(ready, free, strict=False):
                flying[seat.submit(piece)] = piece, seat
                waiting.remove(piece)
            alone = bool(again) and not flying
            if alone:
                seats[0].end()
                piece = (again.pop(0),)
                flying[seats[0].submit(piece)] = piece, seats[0]
            if not flying:
                return  # what still waits needs a run that failed
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                piece, seat = flying.pop(future)
                for run, outcome in seat.outcomes(piece, future):
                    if isinstance(outcome, Lost) and not alone:
                        again.append(run)
                    else:
                        yield run, outcome
    finally:
        for seat in seats:
            seat.end()


def _ready(run: Run, root: Path) -> bool:
    return all(finished(needed, root) for needed in run.needs())

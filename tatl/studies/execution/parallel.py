"""Several runs at once, each in a process of its own, on its share of the threads or on its GPU.

Runs on one frozen encoder go to one process, which computes its features once.  A process that is lost (ended from
outside, or its GPU failed: after a CUDA error a process can do nothing more there) is replaced, and what it was at is
tried once more, alone in a fresh one, so that a run that needs too much memory fails alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from tatl.cli import ERRORS
from tatl.data.store import Store
from tatl.machine.processes import cores, do, end, raise_unstarted, start
from tatl.models.starts import start_rule
from tatl.run import Run, finished
from tatl.training import frozen_features as features
from tatl.training.device import pick_device
from tatl.training.trainer import fit

THREADS = 4  # of one run on a CPU with many cores; more only wait for each other at these sizes
LARGE = ("pyramid",)  # shapes of which a CPU's memory is to hold one at a time
GPU_FAILED = re.compile("CUDA error|CUDA driver error|cuDNN error|CUDNN_STATUS")  # not: CUDA out of memory

Outcome = tuple[Run, float | BaseException]  # the seconds that it took (0: it was there), or why it failed
Piece = tuple[Run, ...]  # runs that one process trains one after another


class Lost(RuntimeError):
    """The process of a run was lost, for no fault of the run as far as anyone can tell."""


@dataclass(frozen=True)
class Machine:
    """Where runs are trained.

    device            auto, cpu or cuda
    imagenet_weights  file of ImageNet weights, or folder of one per backbone
    progress          show bars
    workers           runs trained at once; 0: one per GPU, or two on two cores and more, one per four of many
    """

    device: str = "auto"
    imagenet_weights: Path | None = None
    progress: bool = True
    workers: int = 1

    def at_once(self, large: bool = False) -> int:
        """How many runs are trained at once; of large networks one, unless `workers` says more."""
        cuda = pick_device(self.device).type == "cuda"
        there = torch.cuda.device_count() if cuda else 1 if large else max(min(cores(), 2), cores() // THREADS)
        return self.workers or max(1, there)

    @contextmanager
    def share(self, workers: int) -> Iterator[None]:
        """Inside, a CPU's threads are those of one of so many workers: in company or alone, a run rounds alike."""
        before = torch.get_num_threads()
        if workers > 1 and pick_device(self.device).type == "cpu":
            torch.set_num_threads(max(1, cores() // workers))
        try:
            yield
        finally:
            torch.set_num_threads(before)


def together(todo: Sequence[Run]) -> list[Piece]:
    """Runs of one frozen encoder on the same images as one piece, every other run as a piece of its own."""
    pieces: dict[object, list[Run]] = {}
    for run in todo:
        frozen = stands(run)
        encoder = (run.start, run.parent, run.shape, run.backbone, run.seed)
        images = (run.fold, run.n_folds, run.split_seed, run.fraction, run.cropper, run.offset)
        pieces.setdefault((*encoder, *images) if frozen else run, []).append(run)
    return [tuple(piece) for piece in pieces.values()]


def stands(run: Run) -> bool:
    """Whether a run stands on a frozen encoder's features."""
    return start_rule(run.start).frozen and not run.recipe.augment


@dataclass(frozen=True)
class Trainer:
    """Trains the runs of a piece in a process of its own, on its share of the threads or on its GPU."""

    root: Path
    store: Store
    device: str
    imagenet_weights: Path | None
    threads: int
    progress: bool
    gpu: str

    def __call__(self, piece: Piece) -> list[float | BaseException]:
        if self.gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        if self.threads:
            torch.set_num_threads(self.threads)
        outcomes: list[float | BaseException] = []
        for run in piece:
            gone = outcomes and isinstance(outcomes[-1], Lost)
            outcomes.append(outcomes[-1] if gone else self._seconds(run))
        features.release()
        return outcomes

    def _seconds(self, run: Run) -> float | BaseException:
        if finished(run, self.root):
            return 0.0
        started = time.monotonic()
        try:
            fit(
                run,
                self.root,
                self.store,
                device=self.device,
                imagenet_weights=self.imagenet_weights,
                progress=self.progress,
            )
        except ERRORS as error:
            return Lost(f"its GPU failed in two processes ({error})") if GPU_FAILED.search(str(error)) else error
        return time.monotonic() - started


def gpus(count: int, visible: str | None) -> list[str]:
    """The names of `count` GPUs as CUDA_VISIBLE_DEVICES (`visible`; None: unset) gives them to this process."""
    named = [name.strip() for name in (visible or "").split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]


def several(pieces: Sequence[Piece], root: Path, store: Store, machine: Machine, workers: int) -> Iterator[Outcome]:
    """Train pieces as soon as what they need is there, `workers` at a time; the outcome of every run as it comes.

    Pieces that need a run that failed are left out.
    """
    cuda = pick_device(machine.device).type == "cuda"
    threads = 0 if cuda else max(1, cores() // workers)
    names = gpus(torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")) if cuda else [""]
    count = min(workers, len(pieces))
    alone = machine.progress and count == 1  # then its own bar is shown
    given = (root, store, machine.device, machine.imagenet_weights, threads, alone)
    trainers = [Trainer(*given, names[number % len(names)]) for number in range(count)]
    waiting = list(pieces)
    with tqdm(
        desc=f"{count} runs at once", unit="run", total=sum(map(len, pieces)), disable=alone or not machine.progress
    ) as bar:
        again = True
        while again:
            lost = yield from _at_once(waiting, trainers, bar)
            again = bool(lost)
            for run in lost:
                yield from _alone(run, trainers[0], bar)


def _at_once(waiting: list[Piece], trainers: list[Trainer], bar: tqdm) -> Generator[Outcome, None, list[Run]]:
    """Train what waits and can begin; the runs whose process was lost."""
    root, lost = trainers[0].root, list[Run]()
    flying: dict[Future, tuple[Piece, int]] = {}
    with _seats(trainers) as seats:
        while True:
            taken = {seat for _, seat in flying.values()}
            free = [seat for seat in range(len(seats)) if seat not in taken]
            ready = [piece for piece in waiting if all(_ready(run, root) for run in piece)]
            for piece, seat in zip(ready, free, strict=False):
                flying[_submit(piece, seats, seat, trainers)] = piece, seat
                waiting.remove(piece)
            if not flying:
                return lost  # what still waits needs a run that failed or was lost
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                piece, seat = flying.pop(future)
                for run, outcome in _outcomes(piece, future, seats[seat]):
                    if isinstance(outcome, Lost):
                        lost.append(run)
                        continue
                    bar.update()
                    yield run, outcome
                if lost and lost[-1] == piece[-1]:
                    _renew(seats, seat, trainers)


def _submit(piece: Piece, seats: list[ProcessPoolExecutor], seat: int, trainers: list[Trainer]) -> Future:
    try:
        return seats[seat].submit(do, piece)
    except BrokenProcessPool:  # ended while it had nothing to do
        _renew(seats, seat, trainers)
        return seats[seat].submit(do, piece)


def _renew(seats: list[ProcessPoolExecutor], seat: int, trainers: list[Trainer]) -> None:
    end(seats[seat])
    seats[seat] = start([trainers[seat]])


def _alone(run: Run, trainer: Trainer, bar: tqdm) -> Iterator[Outcome]:
    """Train one run with no other beside it."""
    with _seats([trainer]) as (process,):
        future = process.submit(do, (run,))
        wait([future])
        yield from _outcomes((run,), future, process)
    bar.update()


def _outcomes(piece: Piece, future: Future, process: ProcessPoolExecutor) -> Iterator[Outcome]:
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        raise_unstarted(process)
        error = Lost(
            "its process was ended from outside, most likely because memory ran out: give the same command again where "
            "more is free, or with a smaller --batch"
        )
    return zip(piece, future.result() if error is None else [error] * len(piece), strict=True)


@contextmanager
def _seats(trainers: Sequence[Trainer]) -> Iterator[list[ProcessPoolExecutor]]:
    """A process for each trainer, so that one that is lost takes no other with it.

    They are ended at once where this process is stopped: their runs go on from their last checkpoint another time.
    """
    seats = [start([trainer]) for trainer in trainers]
    try:
        yield seats
    finally:
        for seat in seats:
            end(seat)


def _ready(run: Run, root: Path) -> bool:
    return all(finished(needed, root) for needed in run.needs())

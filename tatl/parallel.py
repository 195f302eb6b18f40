"""Several runs at once, each in a process of its own, on its share of the threads or on its GPU.

Runs on one frozen encoder go to one process, which computes its features once.  Where a process is ended from outside,
what it and the others were at is tried again alone, so that one run that needs too much memory fails alone.
"""

from __future__ import annotations

import os
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
from tatl.fit import fit, pick_device
from tatl.inits import initialisation
from tatl.processes import cores, do, pool, raise_unstarted
from tatl.run import Run, finished

THREADS = 4  # of one run on a CPU with many cores; more only wait for each other at these sizes
LARGE = ("pyramid",)  # shapes of which a CPU's memory is to hold one at a time

Outcome = tuple[Run, float | BaseException]  # the seconds that it took, or why it failed
Piece = tuple[Run, ...]  # runs that one process trains one after another


@dataclass(frozen=True)
class Machine:
    """Where runs are trained.

    device            auto, cpu or cuda
    devices           how many of them share every mini-batch
    imagenet_weights  file of ImageNet weights, or folder of one per backbone
    progress          show bars
    workers           runs trained at once; 0: one per GPU, or two on two cores and more, one per four of many
    """

    device: str = "auto"
    devices: int = 1
    imagenet_weights: Path | None = None
    progress: bool = True
    workers: int = 1

    def at_once(self, large: bool = False) -> int:
        """How many runs are trained at once; of large networks one, unless `workers` says more."""
        if self.devices > 1:
            return 1
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
        frozen = initialisation(run.start).frozen and not run.recipe.augment
        encoder = (run.start, run.parent, run.shape, run.backbone, run.seed)
        images = (run.fold, run.n_folds, run.split_seed, run.fraction, run.cropper, run.offset)
        pieces.setdefault((*encoder, *images) if frozen else run, []).append(run)
    return [tuple(piece) for piece in pieces.values()]


@dataclass(frozen=True)
class Trainer:
    """Trains the runs of a piece in a process of its own, on its share of the threads or on its GPU."""

    root: Path
    store: Store
    device: str
    imagenet_weights: Path | None
    threads: int
    gpu: str

    def __call__(self, piece: Piece) -> list[float | BaseException]:
        if self.gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        if self.threads:
            torch.set_num_threads(self.threads)
        return [self._seconds(run) for run in piece]

    def _seconds(self, run: Run) -> float | BaseException:
        started = time.monotonic()
        try:
            fit(run, self.root, self.store, device=self.device, imagenet_weights=self.imagenet_weights, progress=False)
        except ERRORS as error:
            return error
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
    given = (root, store, machine.device, machine.imagenet_weights, threads)
    trainers = [Trainer(*given, names[number % len(names)]) for number in range(min(workers, len(pieces)))]
    waiting = list(pieces)
    with tqdm(
        desc=f"{len(trainers)} runs at once", unit="run", total=sum(map(len, pieces)), disable=not machine.progress
    ) as bar:
        lost: list[Piece] = [()]
        while lost:
            lost = yield from _at_once(waiting, trainers, bar)
            for run in (run for piece in lost for run in piece):
                yield from _alone(run, trainers[0], bar)


def _at_once(waiting: list[Piece], trainers: list[Trainer], bar: tqdm) -> Generator[Outcome, None, list[Piece]]:
    """Train what waits; the pieces that were being trained when a process was ended from outside, or none."""
    flying: dict[Future, Piece] = {}
    root = trainers[0].root
    with pool(trainers) as processes, _ended(processes):
        while True:
            ready = [piece for piece in waiting if all(_ready(run, root) for run in piece)]
            for piece in ready[: len(trainers) - len(flying)]:
                try:
                    flying[processes.submit(do, piece)] = piece
                except BrokenProcessPool:
                    return list(flying.values())
                waiting.remove(piece)
            if not flying:
                return []  # what still waits needs a run that failed
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            broken = {future for future in done if isinstance(future.exception(), BrokenProcessPool)}
            for future in done - broken:
                yield from _outcomes(flying.pop(future), future, bar)
            if broken:
                raise_unstarted(processes)
                return list(flying.values())


def _alone(run: Run, trainer: Trainer, bar: tqdm) -> Iterator[Outcome]:
    """Train one run with no other beside it."""
    with pool([trainer]) as processes, _ended(processes):
        future = processes.submit(do, (run,))
        wait([future])
        if not isinstance(future.exception(), BrokenProcessPool):
            yield from _outcomes((run,), future, bar)
            return
    bar.update()
    yield (
        run,
        RuntimeError(
            "its process was ended from outside, most likely because memory ran out: give the same command again where "
            "more is free, or with a smaller --batch"
        ),
    )


def _outcomes(piece: Piece, future: Future, bar: tqdm) -> Iterator[Outcome]:
    error = future.exception()
    for run, outcome in zip(piece, future.result() if error is None else [error] * len(piece), strict=True):
        bar.update()
        yield run, outcome


@contextmanager
def _ended(processes: ProcessPoolExecutor) -> Iterator[None]:
    """End processes at once where this one is stopped: their runs go on from their last epoch another time."""
    try:
        yield
    except BaseException:
        for process in list(processes._processes.values()):
            process.kill()
        raise


def _ready(run: Run, root: Path) -> bool:
    return all(finished(needed, root) for needed in run.needs())

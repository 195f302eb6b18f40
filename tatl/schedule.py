"""Training what is asked for on one machine: one run after another, or several at once in processes of their own.

*What* is to run is a list of runs (tatl.variants, tatl.studies); this is *where*.  Runs that are there are not
repeated, needed runs come first, and a run that fails is recorded and takes only those with it that need it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from tqdm import tqdm

from tatl.cli import ERRORS
from tatl.data.case import Size
from tatl.data.store import Store
from tatl.fit import fit, pick_device
from tatl.models import build, count_parameters
from tatl.pretext import ROTATION, TEXTURES, TextureClassification
from tatl.processes import cores, do, pool
from tatl.run import Run, finished, write_atomically
from tatl.variants import in_order

FAILED = "failed"  # the file in a run's folder that says why
THREADS = 4  # of one run on a CPU with many cores; more only wait for each other at these sizes
PIXELS_PER_SECOND = 245e3  # a U-shape b0 at 96x128, batch 8, on two CPU cores (measured)


@dataclass(frozen=True)
class Machine:
    """Where runs are trained.

    device            auto, cpu or cuda
    devices           how many of them share every mini-batch
    imagenet_weights  file of ImageNet weights
    progress          show bars
    workers           runs trained at once; 0: one per GPU, or two on two cores and more, one per four of many
    """

    device: str = "auto"
    devices: int = 1
    imagenet_weights: Path | None = None
    progress: bool = True
    workers: int = 1

    def at_once(self, runs: int) -> int:
        """How many of so many runs are trained at the same time."""
        if self.devices > 1:
            return 1
        if self.workers:
            return max(1, min(self.workers, runs))
        there = max(min(cores(), 2), cores() // THREADS)
        if pick_device(self.device).type == "cuda":
            there = torch.cuda.device_count()
        return max(1, min(there, runs))


@dataclass(frozen=True)
class Failure:
    """A run that did not come about, and why."""

    run: Run
    reason: str


def execute(runs: Iterable[Run], root: Path, store: Store, machine: Machine, keep_going: bool = False) -> list[Failure]:
    """Train what is not there yet; says what is to do, what was done and how long the rest may take.

    With `keep_going` a run that fails is recorded in its folder and returned at the end; those that need it are left
    out.  Without, its error is raised.
    """
    ordered = list(in_order(runs))
    todo = [run for run in ordered if not finished(run, root)]
    if machine.progress:
        _announce(ordered, todo)
    clock, failures = Clock(todo, store), list[Failure]()
    workers = machine.at_once(len(todo))
    train = _several if workers > 1 else _one_by_one
    for run, outcome in train(todo, root, store, machine, clock, workers):
        clock.ticked(run)
        if isinstance(outcome, float):
            if machine.progress:
                tqdm.write(f"{clock.count()} {run.title()}: {outcome:.0f} s{clock.left()}")
            continue
        if not keep_going or not isinstance(outcome, ERRORS):
            raise outcome
        failures.append(_record(run, root, str(outcome)))
        tqdm.write(f"{clock.count()} {run.title()} FAILED: {outcome}")
    failed = {failure.run for failure in failures}
    lost = [run for run in todo if failed & set(run.needs())]
    return failures + [Failure(run, "it needs a run that failed") for run in lost]


Outcome = tuple[Run, float | BaseException]


def _one_by_one(
    todo: Sequence[Run], root: Path, store: Store, machine: Machine, clock: Clock, workers: int
) -> Iterator[Outcome]:
    for run in todo:
        if not _ready(run, root):
            continue
        title = f"{clock.count(1)} {run.title()}{clock.left()}"
        started = time.monotonic()
        try:
            fit(
                run,
                root,
                store,
                device=machine.device,
                devices=machine.devices,
                imagenet_weights=machine.imagenet_weights,
                progress=machine.progress,
                title=title,
            )
        except ERRORS as error:
            yield run, error
        else:
            yield run, time.monotonic() - started


@dataclass(frozen=True)
class Trainer:
    """Trains runs in a process of its own, on its share of the threads or on its GPU."""

    root: Path
    store: Store
    device: str
    imagenet_weights: Path | None
    threads: int
    gpu: str

    def __call__(self, run: Run) -> float:
        started = time.monotonic()
        if self.gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        if self.threads:
            torch.set_num_threads(self.threads)
        fit(
            run, self.root, self.store, device=self.device, imagenet_weights=self.imagenet_weights, progress=False
        )  # fmt: skip
        return time.monotonic() - started


def _several(
    todo: Sequence[Run], root: Path, store: Store, machine: Machine, clock: Clock, workers: int
) -> Iterator[Outcome]:
    cuda = pick_device(machine.device).type == "cuda"
    threads = 0 if cuda else max(1, cores() // workers)
    gpus = [str(number % torch.cuda.device_count()) if cuda else "" for number in range(workers)]
    trainers = [Trainer(root, store, machine.device, machine.imagenet_weights, threads, gpu) for gpu in gpus]
    waiting = list(todo)
    flying: dict[Future, Run] = {}
    bar = tqdm(desc=f"{workers} runs at once", unit="run", total=len(todo), disable=not machine.progress)
    with bar, pool(trainers) as processes, _ended(processes):
        while True:
            for run in [run for run in waiting if _ready(run, root)][: workers - len(flying)]:
                waiting.remove(run)
                flying[processes.submit(do, run)] = run
            if not flying:
                return  # what still waits needs a run that failed
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                run, error = flying.pop(future), future.exception()
                bar.update()
                yield run, future.result() if error is None else error


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


def _record(run: Run, root: Path, reason: str) -> Failure:
    folder = run.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FAILED, reason + "\n")
    return Failure(run, reason)


def _announce(ordered: Sequence[Run], todo: Sequence[Run]) -> None:
    tqdm.write(f"{len(ordered)} runs: {len(ordered) - len(todo)} are there, {len(todo)} to do")
    for run in todo:
        tqdm.write(f"  {run.title()}")


def work(run: Run, store: Store) -> float:
    """Pixels seen in training; a Link-shape's counted as 0.6 of a U-shape's (measured on two cores)."""
    size = Size.parse(run.size)
    trained = (1 - 1 / run.n_folds) * 0.9 * run.fraction * len(store)
    images = TextureClassification.trained if run.task == TEXTURES else 4 * trained if run.task == ROTATION else trained
    return run.recipe.epochs * images * size.height * size.width * (0.6 if run.shape == "link" else 1.0)


class Clock:
    """How long the runs still to do may take: their work, at the pace of those that are done.

    Early stopping makes this an upper estimate.
    """

    def __init__(self, todo: Sequence[Run], store: Store) -> None:
        self.remaining, self.runs = sum(work(run, store) for run in todo), len(todo)
        self.store, self.done, self.finished, self.started = store, 0.0, 0, time.monotonic()

    def ticked(self, run: Run) -> None:
        self.done += work(run, self.store)
        self.finished += 1

    def count(self, ahead: int = 0) -> str:
        return f"[{self.finished + ahead}/{self.runs}]"

    def left(self) -> str:
        if not self.done or self.finished == self.runs:
            return ""
        minutes = (self.remaining - self.done) * (time.monotonic() - self.started) / self.done / 60
        return f", about {minutes:.0f} min left" if minutes >= 1 else ", under a minute left"


@dataclass(frozen=True)
class Plan:
    """What a study would do: runs asked for, runs that are there, seconds and bytes of the rest, and the pace used."""

    runs: int
    there: int
    seconds: float
    bytes: float
    measured: bool

    def words(self) -> str:
        """For people."""
        pace = "at the pace of the runs that are there" if self.measured else "at the pace of two CPU cores"
        time = f"{self.seconds / 3600:.1f} h" if self.seconds >= 5400 else f"{self.seconds / 60:.0f} min"
        return (
            f"{self.runs} runs: {self.there} are there, {self.runs - self.there} to do; at most about {time} one after "
            f"another ({pace}), {self.bytes / 1e6:.0f} MB"
        )


def plan(runs: Iterable[Run], root: Path, store: Store) -> Plan:
    """What training these runs would take, nothing trained."""
    ordered = list(in_order(runs))
    there = [run for run in ordered if finished(run, root)]
    todo = [run for run in ordered if not finished(run, root)]
    seconds = [_seconds(run.folder(root) / "log") for run in there]
    known = [(work(run, store), s) for run, s in zip(there, seconds, strict=True) if s]
    pace = sum(w for w, _ in known) / sum(s for _, s in known) if known else PIXELS_PER_SECOND
    needed = sum(work(run, store) for run in todo) / pace
    return Plan(len(ordered), len(there), needed, sum(_bytes(run, store) for run in todo), bool(known))


def _seconds(log: Path) -> float:
    """The seconds of a finished run's log, 0 where it has none."""
    found = re.findall(r"^([\d.]+) s in this process", log.read_text() if log.is_file() else "", re.MULTILINE)
    return sum(map(float, found))


def _bytes(run: Run, store: Store) -> float:
    size = Size.parse(run.score_size) if run.score_size else store.size
    maps = len(store) / run.n_folds * size.height * size.width if run.task != TEXTURES else 0
    return 4 * _parameters(run.shape, run.backbone) + maps


@lru_cache
def _parameters(shape: str, backbone: str) -> int:
    with torch.device("meta"):
        return count_parameters(build("link" if shape == "encoder" else shape, backbone))

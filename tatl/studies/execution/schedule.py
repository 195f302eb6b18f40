"""Training what is asked for on one machine: one run after another, or several at once in processes of their own.

*What* is to run is a list of runs (tatl.studies.planner, tatl.studies.catalogue); this is *where*.  Runs that are there
are not repeated, needed runs come first, and a run that fails is recorded and takes only those with it that need it.  A
run that another process is at is being made elsewhere: others come first, then it is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tatl.cli import ERRORS, sentence
from tatl.data.store import Store
from tatl.run import Run, finished, write_atomically
from tatl.studies.execution.parallel import LARGE, Machine, Outcome, several, stands, together
from tatl.studies.planner import in_order
from tatl.studies.runtime.effort import Clock
from tatl.training import frozen_features as features
from tatl.training.device import pick_device
from tatl.training.trainer import Busy, fit, taken

FAILED = "failed"  # the file in a run's folder that says why
POLL = 2.0  # seconds between two looks at runs that are made elsewhere


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
    clock, failures, left = Clock(todo, store), list[Failure](), todo
    while left:
        busy, done = list[Run](), set[Run]()
        for run, outcome in _outcomes(left, root, store, machine, clock):
            if isinstance(outcome, Busy):
                busy.append(run)
                continue
            done.add(run)
            clock.ticked(run)
            if isinstance(outcome, float):
                (run.folder(root) / FAILED).unlink(missing_ok=True)
                if machine.progress:
                    took = f"{outcome:.0f} s" if outcome else "made by another process"
                    tqdm.write(f"{clock.count()} {run.title()}: {took}{clock.left()}")
                continue
            if not keep_going or not isinstance(outcome, ERRORS):
                raise outcome
            failures.append(_record(run, root, sentence(outcome)))
            tqdm.write(f"{clock.count()} {run.title()} FAILED: {failures[-1].reason}")
        failed = {failure.run for failure in failures}
        left = [run for run in left if run not in done and not failed & set(run.needs())] if busy else []
        _wait(busy, left, root, machine.progress)
    failed = {failure.run for failure in failures}
    lost = [run for run in todo if failed & set(run.needs())]
    return failures + [Failure(run, "it needs a run that failed") for run in lost]


def _outcomes(todo: Sequence[Run], root: Path, store: Store, machine: Machine, clock: Clock) -> Iterator[Outcome]:
    """Of every run that can be tried.

    On a GPU each process trains for another, even one alone: what a CUDA error leaves of it is not this process.
    """
    pieces = together(todo)
    workers = machine.at_once(any(run.shape in LARGE for run in todo))
    if min(workers, len(pieces)) > 1 or pick_device(machine.device).type == "cuda":
        return several(pieces, root, store, machine, workers)
    return _one_by_one(todo, root, store, machine, clock, workers)


def _wait(busy: Sequence[Run], left: Sequence[Run], root: Path, progress: bool) -> None:
    """Return when one of the runs that are left can be tried: another process has made what it waits for, or ended."""
    if busy and progress:
        tqdm.write(f"waiting for {len(busy)} runs that another process makes ({busy[0].title()})")
    while left and all(taken(run, root) for run in left if all(finished(needed, root) for needed in run.needs())):
        time.sleep(POLL)


def _one_by_one(
    todo: Sequence[Run], root: Path, store: Store, machine: Machine, clock: Clock, workers: int
) -> Iterator[Outcome]:
    last = {piece[-1] for piece in together(todo) if stands(piece[-1])}
    for run in todo:
        if not all(finished(needed, root) for needed in run.needs()):
            continue
        if finished(run, root):
            yield run, 0.0
            continue
        title = f"{clock.count(1)} {run.title()}{clock.left()}"
        started = time.monotonic()
        try:
            with machine.share(workers):
                fit(
                    run,
                    root,
                    store,
                    device=machine.device,
                    imagenet_weights=machine.imagenet_weights,
                    progress=machine.progress,
                    title=title,
                )
        except ERRORS as error:
            yield run, error
        else:
            yield run, time.monotonic() - started
        if run in last:
            features.release()


def _record(run: Run, root: Path, reason: str) -> Failure:
    folder = run.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FAILED, reason + "\n")
    return Failure(run, reason)


def _announce(ordered: Sequence[Run], todo: Sequence[Run]) -> None:
    tqdm.write(f"{len(ordered)} runs: {len(ordered) - len(todo)} are there, {len(todo)} to do")
    for run in todo:
        tqdm.write(f"  {run.title()}")

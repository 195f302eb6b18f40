"""Training what is asked for on one machine: one run after another, or several at once in processes of their own.

*What* is to run is a list of runs (tatl.variants, tatl.studies); this is *where*.  Runs that are there are not
repeated, needed runs come first, and a run that fails is recorded and takes only those with it that need it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tatl.cli import ERRORS, sentence
from tatl.data.store import Store
from tatl.effort import Clock
from tatl.fit import fit
from tatl.parallel import LARGE, Machine, Outcome, several, together
from tatl.run import Run, finished, write_atomically
from tatl.variants import in_order

FAILED = "failed"  # the file in a run's folder that says why


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
    pieces = together(todo)
    workers = machine.at_once(any(run.shape in LARGE for run in todo))
    if min(workers, len(pieces)) > 1:
        outcomes = several(pieces, root, store, machine, workers)
    else:
        outcomes = _one_by_one(todo, root, store, machine, clock, workers)
    for run, outcome in outcomes:
        clock.ticked(run)
        if isinstance(outcome, float):
            (run.folder(root) / FAILED).unlink(missing_ok=True)
            if machine.progress:
                tqdm.write(f"{clock.count()} {run.title()}: {outcome:.0f} s{clock.left()}")
            continue
        if not keep_going or not isinstance(outcome, ERRORS):
            raise outcome
        failures.append(_record(run, root, sentence(outcome)))
        tqdm.write(f"{clock.count()} {run.title()} FAILED: {failures[-1].reason}")
    failed = {failure.run for failure in failures}
    lost = [run for run in todo if failed & set(run.needs())]
    return failures + [Failure(run, "it needs a run that failed") for run in lost]


def _one_by_one(
    todo: Sequence[Run], root: Path, store: Store, machine: Machine, clock: Clock, workers: int
) -> Iterator[Outcome]:
    for run in todo:
        if not all(finished(needed, root) for needed in run.needs()):
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
                    devices=machine.devices,
                    imagenet_weights=machine.imagenet_weights,
                    progress=machine.progress,
                    title=title,
                )
        except ERRORS as error:
            yield run, error
        else:
            yield run, time.monotonic() - started


def _record(run: Run, root: Path, reason: str) -> Failure:
    folder = run.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FAILED, reason + "\n")
    return Failure(run, reason)


def _announce(ordered: Sequence[Run], todo: Sequence[Run]) -> None:
    tqdm.write(f"{len(ordered)} runs: {len(ordered) - len(todo)} are there, {len(todo)} to do")
    for run in todo:
        tqdm.write(f"  {run.title()}")

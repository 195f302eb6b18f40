"""Training what is asked for: which run is next, what came of it, and what is tried again.

*What* is to run is a list of runs (tatl.studies.planner, tatl.studies.catalogue), *where* an executor's affair.  Runs
that are there are not repeated, needed runs come first, and a run that fails is recorded and takes only those with it
that need it.  A run that another process is at is being made elsewhere: others come first, then it is waited for.  One
whose process was lost is tried once more in a fresh one: on one machine alone, so that a run that needs too much memory
fails alone, on a cluster with a larger share.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, current_thread, main_thread

from tqdm import tqdm

from tatl.cli import ERRORS, sentence
from tatl.data.store import Store
from tatl.run import Run, finished, in_order, write_atomically
from tatl.studies.execution.board import Board
from tatl.studies.execution.executors import Executor, executor_of
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.piece import Lost, Outcome, Pending, Piece, Vanished, pieces_of
from tatl.training.trainer import Busy, taken

FAILED = "failed"  # the file in a run's folder that says why
POLL = 2.0  # seconds between two looks at runs that are made elsewhere, and at the machines that there are


@dataclass(frozen=True)
class Failure:
    """A run that did not come about, and why."""

    run: Run
    reason: str


def execute(runs: Iterable[Run], root: Path, store: Store, machine: Machine, keep_going: bool = False) -> list[Failure]:
    """Train what is not there yet; says how many there are, what was done and how long the rest may take.

    With `keep_going` a run that fails is recorded in its folder and returned at the end; those that need it are left
    out.  Without, its error is raised.
    """
    ordered = in_order(runs)
    todo = [run for run in ordered if not finished(run, root)]
    failures, left, executor = list[Failure](), todo, None
    with Board(todo, store, machine.progress, root.absolute() if machine.cluster.shares_a_disk else None) as board:
        board.say(f"{len(ordered)} runs: {len(ordered) - len(todo)} are there, {len(todo)} to do")
        while left:
            busy, done = list[Run](), set[Run]()
            pieces = pieces_of(left)
            executor = executor or executor_of(left, len(pieces), root, store, machine, board.folder)
            for run, outcome in outcomes(pieces, executor):
                if isinstance(outcome, Busy):
                    busy.append(run)
                    continue
                done.add(run)
                if isinstance(outcome, float):
                    (run.folder(root) / FAILED).unlink(missing_ok=True)
                    board.end(run, f"{outcome:.0f} s" if outcome else "made by another process")
                    continue
                if not keep_going or not isinstance(outcome, ERRORS):
                    raise outcome
                failures.append(_record(run, root, sentence(outcome)))
                board.end(run, f"FAILED: {failures[-1].reason}")
            failed = {failure.run for failure in failures}
            left = [run for run in left if run not in done and not failed & set(run.needs())] if busy else []
            _wait(busy, left, root, board)
    failed = {failure.run for failure in failures}
    lost = [run for run in todo if failed & set(run.needs())]
    return failures + [Failure(run, "it needs a run that failed") for run in lost]


@dataclass(eq=False)
class _Waiting:
    """A piece, the runs that it waits for, and whether it was lost before: then it is tried alone."""

    piece: Piece
    lacking: set[Run] = field(default_factory=set)
    alone: bool = False


def outcomes(pieces: Sequence[Piece], executor: Executor) -> Iterator[tuple[Run, Outcome]]:
    """Train pieces as soon as the runs among them that they need are made; of each run, as it comes, what came of it.

    Those that need a run that failed are left out.  Of a patient executor, after the first Ctrl-C, none is begun, what
    is under way is waited for, and a KeyboardInterrupt comes then.
    """
    known, needed_by = {run for piece in pieces for run in piece}, defaultdict[Run, list[set[Run]]](list)
    waiting = [_Waiting(piece, {need for run in piece for need in run.needs()} & known) for piece in pieces]
    for each in waiting:
        for need in each.lacking:
            needed_by[need].append(each.lacking)
    lost, flying = set[Run](), dict[Pending, Piece]()
    with ExitStack() as ends:
        ends.callback(executor.end)
        stop = ends.enter_context(_first_ctrl_c()) if executor.patient else Event()
        while True:
            executor.look()
            waiting = waiting if stop.is_set() else _begin(waiting, flying, executor)
            if not flying and (stop.is_set() or all(each.lacking for each in waiting)):
                break  # what still waits needs a run that failed
            done, _ = wait(flying, POLL, FIRST_COMPLETED)
            for pending in [each for each in flying if each in done]:  # in the order in which they were begun
                piece = flying.pop(pending)
                for run, outcome in zip(piece, executor.collect(piece, pending), strict=True):
                    if isinstance(outcome, Vanished) or (isinstance(outcome, Lost) and run not in lost):
                        lost |= set() if isinstance(outcome, Vanished) else {run}
                        waiting.append(_Waiting((run,), alone=run in lost))
                        continue
                    for lacking in needed_by.pop(run, []) if isinstance(outcome, float) else []:
                        lacking.discard(run)
                    yield run, outcome
    if stop.is_set():
        raise KeyboardInterrupt


def _begin(waiting: Sequence[_Waiting], flying: dict[Pending, Piece], executor: Executor) -> list[_Waiting]:
    """Begin what is ready and has room, first what was lost before; returns what still waits."""
    left = list(waiting)
    for alone in (True, False):
        ready = [each for each in left if each.alone is alone and not each.lacking]
        begun = set(ready[: executor.free(alone)] if ready else [])
        flying |= {executor.submit(each.piece, alone): each.piece for each in ready if each in begun}
        left = [each for each in left if each not in begun]
    return left


@contextmanager
def _first_ctrl_c() -> Iterator[Event]:
    """Inside, the first Ctrl-C sets the event; the next does what it did before."""
    stop, before = Event(), signal.getsignal(signal.SIGINT)

    def note(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        stop.set()
        tqdm.write("stopping: what is under way is left to finish, and Ctrl-C again ends it", file=sys.stderr)

    if current_thread() is main_thread():  # no other may ask for signals
        signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        if current_thread() is main_thread():
            signal.signal(signal.SIGINT, before)


def _wait(busy: Sequence[Run], left: Sequence[Run], root: Path, board: Board) -> None:
    """Return when one of the runs that are left can be tried: another process has made what it waits for, or ended."""
    if busy:
        board.say(f"waiting for {len(busy)} runs that another process makes ({busy[0].title()})")
    while left and all(taken(run, root) for run in left if all(finished(needed, root) for needed in run.needs())):
        time.sleep(POLL)


def _record(run: Run, root: Path, reason: str) -> Failure:
    folder = run.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FAILED, reason + "\n")
    return Failure(run, reason)

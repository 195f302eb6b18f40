"""Work spread over processes: bounded tasks in flight, no orphans.

Processes ignore Ctrl-C (the parent stops them) and end with their parent, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 2  # tasks in flight per process

_work: Callable[[Any], Any] | None = None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(workers: Sequence[Callable[[Task], Result]], tasks: Iterable[Task]) -> Iterator[Result]:
    """The results of all tasks, as they come; one process per worker, which is pickled into it.

    One worker alone works here.  A process that is ended from outside is a RuntimeError.
    """
    if len(workers) <= 1:
        yield from map(workers[0], tasks)
        return
    flying = set[Future[Result]]()
    with pool(workers) as processes:
        for task in tasks:
            flying.add(processes.submit(do, task))
            if len(flying) >= AHEAD * len(workers):
                done, flying = wait(flying, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while flying:
            done, flying = wait(flying, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


@contextmanager
def pool(workers: Sequence[Callable[[Any], Any]]) -> Iterator[ProcessPoolExecutor]:
    """One process per worker, which is pickled into it; `submit(do, task)` gives a task to one of them.

    When it is left, what is being done is waited for and the rest is dropped.
    """
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    turns = context.SimpleQueue()
    for number in range(len(workers)):
        turns.put(number)
    processes = ProcessPoolExecutor(len(workers), context, _begin, (list(workers), turns))
    try:
        yield processes
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a process was ended from outside, most likely because memory ran out: "
            "run the same command again, with fewer --workers; it continues"
        ) from error
    finally:
        processes.shutdown(wait=True, cancel_futures=True)


def _begin(workers: list[Callable[[Any], Any]], turns: Any) -> None:
    global _work
    _work = workers[turns.get()]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def do(task: Any) -> Any:
    """The task, by this process's worker."""
    assert _work is not None
    return _work(task)

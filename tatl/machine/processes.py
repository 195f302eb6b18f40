"""Work spread over processes: bounded tasks in flight, no orphans.

Processes ignore Ctrl-C (the parent stops them) and end with their parent, however that ends.  The standard pickler
copies what they are given; multiprocessing's own would share tensors through file descriptors.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import util
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 2  # tasks in flight per process
SOCKET_BYTES = 70  # bytes of a folder's path that leave a socket in it the 104 that every system allows
UNSTARTED = 1  # the exit status of a process that could not import what it was to do; in a task it would be an error

_work: Callable[[Any], Any] | None = None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(workers: Sequence[Callable[[Task], Result]], tasks: Iterable[Task]) -> Iterator[Result]:
    """The results of all tasks, as they come; one process per worker, which is pickled into it.

    One worker alone works here.  A process that is ended from outside, or cannot start, is a RuntimeError.
    """
    if len(workers) <= 1:
        yield from map(workers[0], tasks)
        return
    waiting = iter(tasks)
    with pool(workers) as processes:
        flying = {give(processes, task) for task in islice(waiting, AHEAD * len(workers))}
        while flying:
            done, flying = wait(flying, return_when=FIRST_COMPLETED)
            flying |= {give(processes, task) for task in islice(waiting, len(done))}
            yield from (future.result() for future in done)


def end(processes: ProcessPoolExecutor) -> None:
    """End processes at once, whatever they are at."""
    for process in list((processes._processes or {}).values()):
        process.kill()
    processes.shutdown(wait=True, cancel_futures=True)


@contextmanager
def pool(workers: Sequence[Callable[[Any], Any]]) -> Iterator[ProcessPoolExecutor]:
    """One process per worker, which is pickled into it; `give` hands a task to one of them.

    When it is left, what is being done is waited for and the rest is dropped.  OSError where the system has no shared
    memory for it.
    """
    processes = start(workers)
    try:
        yield processes
    except BrokenProcessPool as error:
        raise_unstarted(processes)
        remedy = "run the same command again, with fewer --workers; it continues"
        raise RuntimeError(f"a process was ended from outside, probably as memory ran out: {remedy}") from error
    finally:
        processes.shutdown(wait=True, cancel_futures=True)


def start(workers: Sequence[Callable[[Any], Any]]) -> ProcessPoolExecutor:
    """One process per worker, which is pickled into it, for those who `end` them themselves."""
    _keep_sockets_short()
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":  # imported once, for all processes that are started from then on
        context.set_forkserver_preload(sorted({worker.__module__ for worker in workers}))
    try:
        turns = context.SimpleQueue()
        for number in range(len(workers)):
            turns.put(number)
        return ProcessPoolExecutor(len(workers), context, _begin, (pickle.dumps(list(workers)), turns))
    except OSError as error:
        what = "several processes need shared memory, and this system's (/dev/shm) is full, read-only or absent"
        raise OSError(f"{what}: mount it (docker run --shm-size 1g), or give --workers 1") from error


def _keep_sockets_short() -> None:
    """multiprocessing lays its sockets where temporary files go, and the path of a socket may have some 100 bytes."""
    before = tempfile.gettempdir()
    if sys.platform != "win32" and len(os.fsencode(before)) > SOCKET_BYTES:
        tempfile.tempdir = "/tmp"
        try:
            util.get_temp_dir()  # which is kept for this process and those that it starts
        finally:
            tempfile.tempdir = before


def raise_unstarted(processes: ProcessPoolExecutor) -> None:
    """RuntimeError if the processes of this broken pool failed before they took any task."""
    known = list(processes._processes.values())
    processes.shutdown(wait=True, cancel_futures=True)
    if any(process.exitcode == UNSTARTED for process in known):
        remedy = 'in a script of your own put what it does under `if __name__ == "__main__":`, or give workers=1'
        raise RuntimeError(f"a process could not start, for the reason above: {remedy}")


def _begin(workers: bytes, turns: Any) -> None:
    global _work
    _work = pickle.loads(workers)[turns.get()]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def give(processes: ProcessPoolExecutor, task: Any) -> Future[Any]:
    """A task for the worker of one of these processes."""
    return processes.submit(_do, pickle.dumps(task))


def _do(task: bytes) -> Any:
    assert _work is not None
    return _work(pickle.loads(task))

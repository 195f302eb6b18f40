"""Processes that decode: bounded work in flight, no torch, no orphans.

Workers ignore Ctrl-C (the parent stops them) and end with their parent, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm

from tatl.data.partial import Decoder, Partial, Record

Chunk = list[tuple[int, int]]

CHUNK = 8  # cases at most that one task decodes: what a kill loses, per process
AHEAD = 2  # tasks in flight per process

_decoder: Decoder | None = None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode(partial: Partial, workers: int | None, progress: bool) -> list[str]:
    """Decode what is not done yet; returns the problems of the bad cases, in the order of the reader."""
    todo = partial.todo()
    if workers is None:
        workers = min(cores(), len(todo) // 4)  # a process that starts for a handful of cases costs more than it saves
    step = max(1, min(CHUNK, len(todo) // (4 * max(1, workers))))
    chunks = [todo[i : i + step] for i in range(0, len(todo), step)]
    problems: dict[str, str] = {}
    done = len(partial.done)
    with tqdm(desc="prepare", unit="case", total=len(todo) + done, initial=done, disable=not progress) as bar:
        try:
            for records in _here(partial, chunks) if workers <= 1 else _pool(partial, chunks, workers):
                partial.add(record for record in records if "slot" in record)
                problems |= {record["id"]: record["problem"] for record in records if "problem" in record}
                bar.update(len(records))
        except KeyboardInterrupt as error:
            error.add_note(f"{len(partial.done)} cases are kept in {partial.folder}; the same command continues")
            raise
    return [f"{name}: {problems[name]}" for name in partial.reader.ids if name in problems]


def _here(partial: Partial, chunks: list[Chunk]) -> Iterator[list[Record]]:
    for chunk in chunks:
        for pair in chunk:
            yield partial.decoder([pair])


def _pool(partial: Partial, chunks: list[Chunk], workers: int) -> Iterator[list[Record]]:
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    pool = ProcessPoolExecutor(workers, context, _begin, (partial.decoder,))
    waiting, flying = iter(chunks), set[Future[list[Record]]]()
    try:
        for chunk in waiting:
            flying.add(pool.submit(_work, chunk))
            if len(flying) >= AHEAD * workers:
                done, flying = wait(flying, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while flying:
            done, flying = wait(flying, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a decoding process was ended from outside, most likely because memory ran out: "
            "run the same command again, with fewer --workers; it continues"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(decoder: Decoder) -> None:
    global _decoder
    _decoder = decoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(chunk: Chunk) -> list[Record]:
    assert _decoder is not None
    return _decoder(chunk)

"""Decoding on all cores, with what was done before left out."""

from __future__ import annotations

from tqdm import tqdm

from tatl.data.prepare.partial import Partial
from tatl.machine.processes import cores, spread

CHUNK = 8  # cases at most that one task decodes: what a kill loses, per process


def decode(partial: Partial, workers: int | None, progress: bool) -> list[str]:
    """Decode what is not done yet; returns the problems of the bad cases, in the order of the reader."""
    todo = partial.todo()
    if workers is None:
        workers = min(cores(), len(todo) // 4)  # a process that starts for a handful of cases costs more than it saves
    workers = max(1, min(workers, len(todo)))
    step = 1 if workers == 1 else max(1, min(CHUNK, len(todo) // (4 * workers)))
    chunks = [todo[i : i + step] for i in range(0, len(todo), step)]
    problems: dict[str, str] = {}
    done = len(partial.done)
    with tqdm(desc="prepare", unit="case", total=len(todo) + done, initial=done, disable=not progress) as bar:
        try:
            for records in spread([partial.decoder] * workers, chunks):
                partial.add(record for record in records if "slot" in record)
                problems |= {record["id"]: record["problem"] for record in records if "problem" in record}
                bar.update(len(records))
        except KeyboardInterrupt as error:
            error.add_note(f"{len(partial.done)} cases are kept in {partial.folder}; the same command continues")
            raise
    return [f"{name}: {problems[name]}" for name in partial.reader.ids if name in problems]

"""A store that is not whole yet: `<path>.partial/`, which survives kill -9 and is never read as a store.

Processes decode cases and write them straight into two files, so that memory does not grow with the
number of cases.  Every case that is written gets a line in `progress.jsonl` with the checksums of its rows, and
only what agrees with its checksum counts as done when the same command runs again: a torn row, a changed source
file or a lost page is simply decoded once more.  Bad cases are read again every time, so that a repaired file
counts and the outcome is that of one uninterrupted run.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from tatl.data.case import MAX_ATTRIBUTES, BadCase, Case, Reader, Size
from tatl.data.prepare.rows import Rows
from tatl.machine.disk import to_disk

VERSION = 1

Record = dict[str, Any]


def stamp(reader: Reader, index: int) -> str:
    """What tells that the files of a case have changed; empty for a reader without files."""
    of = getattr(reader, "stamp", None)
    return of(index) if of else ""


def recipe(reader: Reader, size: Size) -> dict[str, Any]:
    """Everything but the case ids that decides what a row holds, as JSON gives it back."""
    made = {
        "version": VERSION,
        "data": reader.name,
        "attributes": list(reader.attributes),
        "size": str(size),
        "source": dict(reader.provenance),
    }
    return json.loads(json.dumps(made))


class Decoder:
    """Decodes cases into the rows of a partial store; picklable, one for every process."""

    def __init__(self, reader: Reader, size: Size, images: Rows, masks: Rows) -> None:
        self.reader, self.size, self.images, self.masks = reader, size, images, masks

    def __call__(self, chunk: Iterable[tuple[int, int]]) -> list[Record]:
        """Decode (index, slot) pairs; a bad case gives a record with its problem."""
        return [self._decode(index, slot) for index, slot in chunk]

    def _decode(self, index: int, slot: int) -> Record:
        before = stamp(self.reader, index)
        try:
            case = self.reader.read(index, self.size)
        except BadCase as error:
            return {"id": self.reader.ids[index], "problem": str(error)}
        except Exception as error:
            error.add_note(f"while reading case {self.reader.ids[index]}")
            raise
        masks = [case.lesion, *(case.attributes[name] for name in self.reader.attributes)]
        self._check(case, masks)
        bits = np.zeros(self.size, np.uint16)
        for bit, mask in enumerate(masks):
            if mask is not None:
                bits |= mask.astype(np.uint16) << np.uint16(bit)
        return {
            "id": case.id,
            "slot": slot,
            "crc": [self.images.write(slot, case.image), self.masks.write(slot, bits)],
            "stamp": before,
            "height": case.height,
            "width": case.width,
            "states": "".join("u" if m is None else "p" if m.any() else "a" for m in masks),
            "notes": list(case.notes),
        }

    def _check(self, case: Case, masks: list[np.ndarray | None]) -> None:
        """A reader that breaks its contract is a fault of the program, not a bad case."""
        assert len(masks) <= 1 + MAX_ATTRIBUTES
        assert case.image.dtype == np.uint8 and case.image.shape == (*self.size, 3), case.id
        assert all(m is None or (m.dtype == bool and m.shape == tuple(self.size)) for m in masks), case.id


class Partial:
    """The folder, its two row files and its progress log; hold it open with `with`."""

    def __init__(self, path: Path, reader: Reader, size: Size) -> None:
        self.path, self.folder = path, path.with_name(path.name + ".partial")
        self.reader, self.recipe = reader, recipe(reader, size)
        self.images = Rows(self.folder / "images.npy", (*size, 3), np.uint8)
        self.masks = Rows(self.folder / "masks.npy", size, np.uint16)
        self.decoder = Decoder(reader, size, self.images, self.masks)
        self.done: dict[str, Record] = {}
        self._lock = FileLock(f"{self.folder}.lock", timeout=0)  # beside it: Windows renames no folder of open files

    def __enter__(self) -> Partial:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(
                f"another process is writing {self.path}: wait for it, or choose another --store"
            ) from None
        self._log = open(self.folder / "progress.jsonl", "a+b")
        try:
            self._resume()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._lock.release()

    def _close(self) -> None:
        self._log.close()
        self.images.close()
        self.masks.close()

    def _resume(self) -> None:
        """Take over what an earlier run of the same recipe has written and what still agrees with it."""
        begun, records = self._read_log()
        if begun is None:
            self._append([self.recipe])
        elif begun != self.recipe:
            raise ValueError(
                f"{self.folder} was begun from other data, options or size, or by another version: "
                "delete it, or choose another --store"
            )
        index = {name: i for i, name in enumerate(self.reader.ids)}
        for record in records:
            i = index.get(record["id"])
            if i is not None and record["stamp"] == stamp(self.reader, i) and self._whole(record):
                self.done[record["id"]] = record

    def _read_log(self) -> tuple[Any, list[Record]]:
        """The recipe in the first line, and the last record of every slot; a torn last line is cut off."""
        self._log.seek(0)
        content = self._log.read()
        self._log.truncate(content.rfind(b"\n") + 1)
        begun, *records = [_parsed(line) for line in content.split(b"\n")[:-1]] or [None]
        return begun, list({record["slot"]: record for record in records if record}.values())

    def _whole(self, record: Record) -> bool:
        slot = record["slot"]
        return [zlib.crc32(rows.read(slot)) for rows in (self.images, self.masks)] == record["crc"]

    def _append(self, entries: Iterable[dict[str, Any]]) -> None:
        self._log.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
        self._log.flush()

    def todo(self) -> list[tuple[int, int]]:
        """(index of the case, slot to write it to) for all that is not done."""
        used = {record["slot"] for record in self.done.values()}
        missing = [i for i, name in enumerate(self.reader.ids) if name not in self.done]
        own = [i for i in missing if i not in used]  # as a rule a case has its own row from the start
        displaced = [i for i in missing if i in used]
        taken = used.union(own)
        free = (slot for slot in range(len(taken) + len(displaced)) if slot not in taken)
        return sorted([*zip(own, own, strict=True), *zip(displaced, free, strict=False)])

    def missing_bytes(self) -> int:
        return len(self.todo()) * (self.images.nbytes + self.masks.nbytes)

    def add(self, records: Iterable[Record]) -> None:
        """Log cases whose rows are written."""
        records = list(records)
        self._append(records)
        self.done |= {record["id"]: record for record in records}

    def arrange(self) -> list[Record]:
        """Bring the rows into the order of the reader, without gaps; the records in that order.

        A kill in between leaves rows that disagree with their checksums, and those are decoded again.
        """
        order = [self.done[name] for name in self.reader.ids if name in self.done]
        owner = {record["slot"]: record for record in order}
        for row, record in enumerate(order):
            slot = record["slot"]
            if slot != row:
                self.images.exchange(slot, row)
                self.masks.exchange(slot, row)
                del owner[slot]
                if (displaced := owner.get(row)) is not None:
                    displaced["slot"] = slot
                    owner[slot] = displaced
                record["slot"] = row
                owner[row] = record
        self._append(order)
        if broken := [record["id"] for record in order if not self._whole(record)]:
            raise ValueError(
                f"{len(broken)} rows of {self.folder}, such as that of {broken[0]}, are not what was written: "
                "run the same command again, which decodes just these once more"
            )
        return order

    def publish(self) -> None:
        """Give the folder its final name; only now is it a store."""
        self._close()
        to_disk(self.folder)
        if os.name == "nt" and self.path.is_dir():
            self.path.rmdir()  # an empty one, which other systems replace
        os.rename(self.folder, self.path)
        to_disk(self.path.parent)
        (self.path / "progress.jsonl").unlink()
        with suppress(PermissionError):  # Windows removes it when it is given back
            Path(self._lock.lock_file).unlink()


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""One case at a time: decoded, and written as a file of its own that is renamed when it is whole.

The file is called after the case's id and the state of its source files, so that what is there is done: a case whose
sources change has another name.  It holds a line of JSON and the rows of the two arrays, whose checksums the line
tells.  Neither torch nor pandas is imported here, since every process that decodes imports it.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tatl.data.case import MAX_ATTRIBUTES, BadCase, Case, Reader, Size

Record = dict[str, Any]


class Decoder:
    """Decodes the cases of a reader into `folder`; picklable, one for every process."""

    def __init__(self, reader: Reader, size: Size, folder: Path) -> None:
        self.reader, self.size, self.folder = reader, size, folder
        self.stamps = stamps(reader)  # of before anything is read: what changes meanwhile is not done

    def path(self, index: int) -> Path:
        """Where a case is written."""
        return self.folder / sha256_of([self.reader.ids[index], self.stamps[index]])

    def __call__(self, index: int) -> tuple[int, str]:
        """Decode a case; returns what is wrong with it, or nothing."""
        try:
            case = self.reader.read(index, self.size)
        except BadCase as error:
            return index, str(error)
        except Exception as error:
            error.add_note(f"while reading case {self.reader.ids[index]}")
            raise
        self._write(self.path(index), case)
        return index, ""

    def _write(self, path: Path, case: Case) -> None:
        masks = [case.lesion, *(case.attributes[name] for name in self.reader.attributes)]
        self._check(case, masks)
        bits = np.zeros(self.size, np.uint16)
        for bit, mask in enumerate(masks):
            if mask is not None:
                bits |= mask.astype(np.uint16) << np.uint16(bit)
        rows = [np.ascontiguousarray(array).tobytes() for array in (case.image, bits)]
        record = {
            "id": case.id,
            "height": case.height,
            "width": case.width,
            "states": "".join("u" if m is None else "p" if m.any() else "a" for m in masks),
            "notes": list(case.notes),
            "crc": [zlib.crc32(row) for row in rows],
        }
        beside = path.with_suffix(".partial")
        with open(beside, "wb") as file:
            file.writelines([json.dumps(record).encode(), b"\n", *rows])
        os.replace(beside, path)

    def _check(self, case: Case, masks: list[np.ndarray | None]) -> None:
        """A reader that breaks its contract is a fault of the program, not a bad case."""
        assert len(masks) <= 1 + MAX_ATTRIBUTES
        assert case.image.dtype == np.uint8 and case.image.shape == (*self.size, 3), case.id
        assert all(m is None or (m.dtype == bool and m.shape == tuple(self.size)) for m in masks), case.id

    def written(self, index: int) -> tuple[Record, list[bytes]] | None:
        """What is written of a case, the rows of images and masks; None where it is not there or not whole."""
        try:
            line, _, data = self.path(index).read_bytes().partition(b"\n")
            record = json.loads(line)
        except (FileNotFoundError, ValueError):
            return None
        pixels = 3 * self.size.height * self.size.width
        rows = [data[:pixels], data[pixels:]]
        return (record, rows) if [zlib.crc32(row) for row in rows] == record["crc"] else None


def stamps(reader: Reader) -> list[str]:
    """Per case what tells that its files have changed; empty for a reader without files."""
    of = getattr(reader, "stamp", None)
    return [of(index) if of else "" for index in range(len(reader.ids))]


def sha256_of(words: Iterable[str]) -> str:
    """The SHA-256 of words, one a line."""
    return hashlib.sha256("\n".join(words).encode(errors="surrogateescape")).hexdigest()

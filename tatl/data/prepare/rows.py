"""A .npy file that is written row by row, in any order, by any process."""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HEADER = 128  # bytes before the first row


class Rows:
    """Rows at their places; the header comes last, so that a file that is not whole is not a .npy file.

    Rows are written by each process through a file of its own and not through a memory map: a full disk is then an
    error and not a crash, and what is written does not count as this process's memory.
    """

    def __init__(self, path: Path, shape: Sequence[int], dtype: type[np.generic]) -> None:
        self.path, self.shape, self.dtype = path, tuple(shape), np.dtype(dtype)
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        self._file: io.FileIO | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}

    def _at(self, offset: int) -> io.FileIO:
        if self._file is None:
            number = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            self._file = io.FileIO(number, "r+")
        self._file.seek(offset)
        return self._file

    def write(self, row: int, array: np.ndarray) -> int:
        """Write one row and return its checksum."""
        data = np.ascontiguousarray(array).tobytes()
        self._put(data, HEADER + row * self.nbytes)
        return zlib.crc32(data)

    def read(self, row: int) -> bytes:
        return self._at(HEADER + row * self.nbytes).read(self.nbytes)

    def exchange(self, source: int, target: int) -> None:
        """Exchange two rows."""
        first, second = self.read(source), self.read(target)
        self._put(first, HEADER + target * self.nbytes)
        self._put(second, HEADER + source * self.nbytes)

    def finish(self, rows: int) -> None:
        """Cut the file to so many rows, give it its header, and wait for the disk."""
        header = io.BytesIO()
        described = {"descr": self.dtype.str, "fortran_order": False, "shape": (rows, *self.shape)}
        np.lib.format.write_array_header_1_0(header, described)
        assert len(header.getvalue()) == HEADER
        self._at(0).truncate(HEADER + rows * self.nbytes)
        self._put(header.getvalue(), 0)
        os.fsync(self._at(0).fileno())

    def _put(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:  # near a full disk, a write may be short before the next one raises ENOSPC
            done = self._at(offset).write(view)
            view, offset = view[done:], offset + done

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

"""Whether a run is finished: its weights are there as a whole; and files that are whole or not there at all.

A finished run is not trained again.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from tatl.machine.disk import to_disk


def trained(folder: Path) -> bool:
    """Whether a run's folder holds its weights, as a whole."""
    return whole(folder / "weights.safetensors")


def whole(path: Path) -> bool:
    """Whether a safetensors file is there and as long as its header says; one that was cut short is as good as none."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return _whole(path, stat.st_size, stat.st_mtime_ns)


@cache  # a study asks for the same files again and again
def _whole(path: Path, size: int, changed: int) -> bool:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(length) if 0 < length <= size - 8 else b"")
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return False
    return size == 8 + length + max(ends, default=0)


def write_atomically(path: Path, text: str) -> None:
    """Write beside the final name, then rename: a reader sees the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    put_in_place(partial, path)


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a written file so that even a power cut leaves the old file or the new one, whole."""
    to_disk(partial)
    partial.replace(path)
    to_disk(path.parent)

"""Decoded cases as memory-mapped arrays, and how they get there.

    images.npy  uint8  [N, H, W, 3]
    masks.npy   uint16 [N, H, W]     bit 0 the lesion, bit k the k-th attribute: the union of all attributes (Eq. 4)
                                     is masks >> 1 != 0
    cases.csv   id, group, height and width of the original, and per mask: present, absent or unknown
    store.json  what it was made from, with the checksums of the three files

Decoding once leaves every epoch with a memory map.  A store is written in `<path>.partial/`
(`tatl.data.prepare.partial`) and renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tatl.data.case import MAX_ATTRIBUTES, Reader, Size
from tatl.data.prepare.decoding import sha256_of, stamps
from tatl.data.prepare.partial import STORE_FILES, STORE_VERSION, partial_folder, store_recipe, write_store
from tatl.data.prepare.problems import BadCases
from tatl.machine.disk import file_sha256, room_for
from tatl.names import LESION, UNION

GUESSED = "was prepared by an earlier version, which guessed the levels of masks: delete it and prepare it again"


class Store:
    """A whole store, opened read-only; copies and other processes open it again instead of copying arrays."""

    def __init__(self, path: Path, described: dict[str, Any]) -> None:
        self.path = path
        self.name = path.resolve().name
        self.described = described
        self.size = Size.parse(described["size"])
        self.attributes: tuple[str, ...] = tuple(described["attributes"])
        self.source: dict[str, Any] = described["source"]
        self.skipped: list[str] = described["skipped"]
        self.notes: list[str] = described.get("notes", [])  # what a person should know of how cases were read
        self.digest = hashlib.sha256("".join(described["sha256"][f] for f in STORE_FILES).encode()).hexdigest()[:12]
        self.images = self._map("images.npy", np.uint8, (described["cases"], *self.size, 3))
        self.masks = self._map("masks.npy", np.uint16, (described["cases"], *self.size))
        self.cases = self._table(["id", "group", "height", "width", LESION, *self.attributes])

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open a store; FileNotFoundError or ValueError, with the remedy, if there is no whole one of this version.

        Sizes and shapes are checked here, contents by `verify`.
        """
        path = Path(path)
        if not (path / "store.json").is_file():
            raise FileNotFoundError(_absence(path))
        try:
            described = json.loads((path / "store.json").read_text(encoding="utf-8"))
            version = described["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise _broken(path, "store.json cannot be read") from error
        if version != STORE_VERSION:
            what = f"{path} is a store of version {version} and this program reads version {STORE_VERSION}"
            raise ValueError(f"{what}: delete it and prepare it again")
        try:
            return cls(path, described)
        except (KeyError, TypeError) as error:
            raise _broken(path, "store.json lacks what it should say") from error

    def _map(self, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
        try:
            array = np.load(self.path / name, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise _broken(self.path, f"{name} is missing or cut short") from error
        if array.dtype != dtype or array.shape != shape:
            raise _broken(self.path, f"{name} is {array.dtype} {array.shape} and not {np.dtype(dtype)} {shape}")
        return array

    def _table(self, columns: list[str]) -> pd.DataFrame:
        try:
            words = dict.fromkeys(["id", "group", *columns[4:]], str)
            table = pd.read_csv(self.path / "cases.csv", dtype=words, keep_default_na=False, encoding="utf-8")
        except (OSError, ValueError) as error:
            raise _broken(self.path, "cases.csv is missing or cannot be read") from error
        if list(table.columns) != columns or len(table) != len(self.images):
            raise _broken(self.path, f"cases.csv does not have the columns {columns} and {len(self.images)} rows")
        return table

    def verify(self) -> None:
        """Read all of it and compare checksums; ValueError names the first file that has changed."""
        for name in STORE_FILES:
            if file_sha256(self.path / name) != self.described["sha256"][name]:
                raise _broken(self.path, f"{name} has changed since it was written")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}: {len(self)} cases of {self.size}, {', '.join(self.attributes)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.open, (self.path,)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same bytes, wherever they lie: what is computed from one is true of the other."""
        return isinstance(other, Store) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def bits(self, mask_name: str) -> int:
        """The bits of `masks` that make this mask; ValueError for a mask that the store does not have."""
        if mask_name == UNION:
            return sum(1 << k for k in range(1, 1 + len(self.attributes)))
        names = (LESION, *self.attributes)
        if mask_name not in names:
            raise ValueError(f"store {self.name!r} has no mask {mask_name!r}: it has {', '.join((*names, UNION))}")
        return 1 << names.index(mask_name)

    def known(self, mask_name: str) -> np.ndarray:
        """Whether the mask is known to be present or absent: bool [N]; the union if all attributes are.

        Where one is unknown, so is how far the union reaches, whatever the others show.
        """
        return (self._words(mask_name) != "unknown").all(axis=1)

    def present(self, mask_name: str) -> np.ndarray:
        """Whether the mask is known and some pixel is set: bool [N]."""
        return (self._words(mask_name) == "present").any(axis=1) & self.known(mask_name)

    def _words(self, mask_name: str) -> np.ndarray:
        self.bits(mask_name)
        return self.cases[list(self.attributes) if mask_name == UNION else [mask_name]].to_numpy(dtype=str)

    def mask(self, mask_name: str, index: int | np.ndarray) -> np.ndarray:
        """The mask of one case, bool [H, W], or of several, bool [n, H, W]; unknown masks are empty."""
        return (self.masks[index] & np.uint16(self.bits(mask_name))) != 0


def prepare(
    reader: Reader,
    path: str | Path,
    size: Size | tuple[int, int],
    *,
    workers: int | None = None,
    skip_bad: bool = False,
    progress: bool = True,
) -> Store:
    """Decode every case of `reader` into a store at `path`, on all cores, and open it.

    `workers` processes decode (default: one a core; 1 decodes here).  A run that was stopped, even by kill -9,
    is continued; a whole store of the same recipe is left as it is, one of another recipe raises ValueError.
    Bad cases raise `BadCases` once all cases have been tried, or are left out and listed in store.json with
    `skip_bad`; what has been decoded is kept for the next try.
    """
    path, size = Path(path), Size(*size)
    _check(reader, size)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        return _existing(reader, path, size, skip_bad)
    with room_for(path):
        write_store(reader, _place(path), size, workers, skip_bad, progress)
    return Store.open(path)


def _check(reader: Reader, size: Size) -> None:
    if min(size) < 1:
        raise ValueError(f"size {size} is not HEIGHTxWIDTH in pixels, such as 384x512")
    if not reader.ids and not reader.problems:
        raise ValueError(f"data {reader.name!r} has no cases: there is nothing to prepare")
    if len(reader.attributes) > MAX_ATTRIBUTES:
        raise ValueError(f"{len(reader.attributes)} attributes are given, and a store holds {MAX_ATTRIBUTES}")
    if repeated := [name for name, count in Counter(reader.ids).items() if count > 1]:
        raise ValueError(f"{len(repeated)} case ids occur more than once, such as {repeated[0]!r}: rename them")


def _place(path: Path) -> Path:
    """Where links lead; ValueError for a folder that a store cannot take the place of when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place, here = path.resolve(), Path.cwd()
    if place in (here, *here.parents) or place.is_mount():
        what = f"--store {path} is the folder you are in, one above it, or a disk of its own"
        raise ValueError(f"{what}: give a folder that prepare can make, such as {place / 'store'}")
    return place


def _existing(reader: Reader, path: Path, size: Size, skip_bad: bool) -> Store:
    """The whole store at `path`, if this very recipe made it."""
    if not (path / "store.json").is_file():
        raise ValueError(f"{path} exists and is not a store: choose another --store, or move it away")
    store = Store.open(path)
    asked = store_recipe(reader, size) | {"ids": sha256_of(reader.ids), "files": sha256_of(stamps(reader))}
    if differing := [key for key, value in asked.items() if store.described.get(key) != value]:
        what = f"{path} is a store of another recipe (what differs: {', '.join(differing)})"
        raise ValueError(f"{what}: choose another --store, or delete it to prepare it anew")
    if store.skipped and not skip_bad:
        what = f"{path} was prepared with --skip-bad and lacks {len(store.skipped)} bad cases, listed in its store.json"
        raise BadCases(f"{what}: give --skip-bad again, or delete it to prepare it anew", store.skipped)
    if "notes" not in store.described and hasattr(reader, "stamp"):
        store.notes = [f"{path}: {GUESSED}"]
    shutil.rmtree(partial_folder(path.resolve()), ignore_errors=True)  # what a kill while it was removed has left
    return store


def _absence(path: Path) -> str:
    if partial_folder(path.resolve()).is_dir():
        return f"{path} is not whole yet: run the same `python -m tatl prepare` command again, it continues"
    if path.is_dir() and os.listdir(path):
        return f"{path} is a folder but not a store: it has no store.json; give the folder that prepare has written"
    return f"there is no store at {path}: make it with `python -m tatl prepare --store {path}`"


def _broken(path: Path, what: str) -> ValueError:
    return ValueError(f"{path} is damaged ({what}): delete it and prepare it again")


def counts(store: Store) -> pd.DataFrame:
    """Table 2 of a store: mask, present, known, images."""
    names = (LESION, *store.attributes, UNION)
    rows = [(name, int(store.present(name).sum()), int(store.known(name).sum()), len(store)) for name in names]
    return pd.DataFrame(rows, columns=["mask", "present", "known", "images"])


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write beside the final name, then rename."""
    partial = path.with_name(path.name + ".partial")
    table.to_csv(partial, index=False, errors="surrogateescape")  # names of files may be no UTF-8
    os.replace(partial, path)

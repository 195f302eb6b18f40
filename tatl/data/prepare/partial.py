"""A store that is not whole yet: `<path>.partial/`, which survives kill -9 and is never read as a store.

    recipe.json    what it is made from: another recipe does not continue it
    cases/         one file a case, written by any process (`tatl.data.prepare.decoding`)
    problems.txt   the bad cases, all of them
    whole/         the store, joined from the cases in the order of the reader and renamed when it is on the disk

A process holds one case at a time, so that memory does not grow with the number of cases; while it is joined a store
takes twice its room on the disk.  Files are written from beginning to end and not through a memory map: a full disk is
then an error and not a crash.  Bad cases are read again every time, so that a repaired file counts and the outcome is
that of one uninterrupted run.
"""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tatl.data.case import Reader, Size
from tatl.data.prepare.decoding import Decoder, Record, sha256_of
from tatl.data.prepare.problems import bad_cases
from tatl.data.prepare.twins import join_twins
from tatl.machine.disk import file_sha256, locked, to_disk
from tatl.machine.processes import cores, spread
from tatl.names import LESION

STORE_VERSION = 1
STORE_FILES = ("images.npy", "masks.npy", "cases.csv")
_WORDS = {"u": "unknown", "a": "absent", "p": "present"}
_BYTES = 5  # a pixel: three of the image, two of the masks


def store_recipe(reader: Reader, size: Size) -> dict[str, Any]:
    """Everything but the case ids that decides what a row holds, as JSON gives it back."""
    made = {"version": STORE_VERSION, "data": reader.name, "attributes": list(reader.attributes)}
    return json.loads(json.dumps(made | {"size": str(size), "source": dict(reader.provenance)}))


def partial_folder(path: Path) -> Path:
    """Where a store is written before it is whole: beside its place, so that it is renamed within one disk."""
    return path.with_name(path.name + ".partial")


def write_store(reader: Reader, path: Path, size: Size, workers: int | None, skip_bad: bool, progress: bool) -> None:
    """Decode all that is not done yet, and publish the store at `path`, of which links are resolved."""
    folder = partial_folder(path)
    lock = folder.with_name(folder.name + ".lock")  # beside it: Windows removes no folder of open files
    busy = ValueError(f"another process is writing {path}: wait for it, or choose another --store")
    with locked(lock, busy, soft=True):
        folder.mkdir(exist_ok=True)
        _begin(folder, store_recipe(reader, size))
        decoder = Decoder(reader, size, folder / "cases")
        todo = [index for index in range(len(reader.ids)) if decoder.written(index) is None]
        _check_room(folder, (len(todo) + len(reader.ids)) * _BYTES * math.prod(size))
        bad = _decode(decoder, todo, workers, progress)
        good = [index for index in range(len(reader.ids)) if index not in bad]
        problems = [*reader.problems, *(f"{reader.ids[index]}: {bad[index]}" for index in sorted(bad))]
        if problems and not (skip_bad and good):
            raise bad_cases(problems, len(good), folder / "problems.txt")
        _join(decoder, good, problems, folder / "whole")
        _publish(folder, path)
        with suppress(PermissionError):  # Windows removes it when it is given back
            lock.unlink()


def _begin(folder: Path, recipe: dict[str, Any]) -> None:
    """Note the recipe, or find that an earlier run has noted the same."""
    try:
        begun = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # torn: no case was written yet
        begun = recipe
        (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
        (folder / "cases").mkdir(exist_ok=True)
    if begun != recipe:
        what = f"{folder} was begun from other data, options or size, or by another version"
        raise ValueError(f"{what}: delete it, or choose another --store")


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed} bytes are needed and {free} are free")


def _decode(decoder: Decoder, todo: list[int], workers: int | None, progress: bool) -> dict[int, str]:
    """Decode these cases, by default on all cores; what is wrong with the bad ones."""
    if workers is None:
        workers = min(cores(), len(todo) // 4)  # a process that starts for a handful of cases costs more than it saves
    workers = max(1, min(workers, len(todo)))
    count, bad = len(decoder.reader.ids), dict[int, str]()
    with tqdm(desc="prepare", unit="case", total=count, initial=count - len(todo), disable=not progress) as bar:
        try:
            for index, problem in spread([decoder] * workers, todo):
                if problem:
                    bad[index] = problem
                bar.update()
        except KeyboardInterrupt as error:
            error.add_note(f"the cases that are decoded are kept in {decoder.folder}; the same command continues")
            raise
    return bad


def _join(decoder: Decoder, good: list[int], problems: list[str], whole: Path) -> None:
    """Write the four files of a store from the cases that were decoded."""
    whole.mkdir(exist_ok=True)
    records = _join_arrays(decoder, good, whole)
    reader, images = decoder.reader, np.load(whole / "images.npy", mmap_mode="r")
    groups, twins = dict(zip(reader.ids, reader.groups, strict=True)), list[str]()
    if (joined := getattr(reader, "groups_are_ids", None)) is not None:
        groups, twins = join_twins(records, groups, images, joined)
    masks = (LESION, *reader.attributes)
    states = [[_WORDS[letter] for letter in record["states"]] for record in records]
    with open(whole / "cases.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "group", "height", "width", *masks])
        for record, words in zip(records, states, strict=True):
            table.writerow([record["id"], groups[record["id"]], record["height"], record["width"], *words])
    described = store_recipe(reader, decoder.size) | {
        "cases": len(records),
        "counts": {name: dict(Counter(column)) for name, column in zip(masks, zip(*states, strict=True), strict=True)},
        "sha256": {name: file_sha256(whole / name) for name in STORE_FILES},
        "ids": sha256_of(reader.ids),
        "files": sha256_of(decoder.stamps),
        "skipped": problems,
        "notes": [*(f"{record['id']}: {note}" for record in records for note in record["notes"]), *twins],
    }
    (whole / "store.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    for path in whole.iterdir():
        to_disk(path)


def _join_arrays(decoder: Decoder, good: list[int], whole: Path) -> list[Record]:
    """Write images.npy and masks.npy, case after case; the records of the cases."""
    records = []
    with open(whole / "images.npy", "wb") as images, open(whole / "masks.npy", "wb") as masks:
        for file, shape, dtype in ((images, (*decoder.size, 3), np.uint8), (masks, tuple(decoder.size), np.uint16)):
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (len(good), *shape)}
            np.lib.format.write_array_header_1_0(file, header)
        for index in good:
            if (case := decoder.written(index)) is None:
                what = f"what was written of {decoder.reader.ids[index]} is damaged or gone"
                raise ValueError(f"{what}: run the same command again, which decodes it once more")
            records.append(case[0])
            images.write(case[1][0])
            masks.write(case[1][1])
    return records


def _publish(folder: Path, path: Path) -> None:
    """Give the whole store its final name; only now is it a store."""
    to_disk(folder / "whole")
    if os.name == "nt" and path.is_dir():
        path.rmdir()  # an empty one, which other systems replace
    os.rename(folder / "whole", path)
    to_disk(path.parent)
    shutil.rmtree(folder)

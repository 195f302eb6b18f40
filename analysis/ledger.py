"""Curvature of one set of weights over the images of a store: spread over processes, appended as it comes.

    runs/<store>/curvature/<subject>.csv    one row per distinct (image, mask) and options

The subject is named by a checksum of the weights, of the store and of the boxes that cut its images (and of what
else was done to the weights); the name stands in every row too: results of other weights are never taken for these.
The same command reads what is there and goes on; since every solve is a function of its own input, in the end the
numbers are the same.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import pickle
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from analysis.curvature import Options, Solver, digest, weights_digest
from tatl.data.feed import Feed
from tatl.data.store import Store
from tatl.losses import segmentation_loss
from tatl.processes import cores, spread

image_loss = partial(segmentation_loss, pool="image")
FOUND = ["value", "residual", "products", "converged"]
OPTIONS = [f.name for f in dataclasses.fields(Options)]
COLUMNS = ["subject", "image", "mask", *FOUND, *OPTIONS]
Row = dict[str, Any]
Task = tuple[int, int, dict[str, str]]  # a subject, an image, and per checksum of a mask the name of one that has it


@dataclass(frozen=True)
class Subject:
    """Weights (used in evaluation mode) on a store, whole frames or cut to `boxes` int [N, 4], and their name."""

    name: str
    model: nn.Module
    store: Store
    boxes: np.ndarray | None = None

    def image_and_mask(self, index: int, mask: str) -> tuple[Tensor, Tensor]:
        """Image [3, H, W] and mask [1, H, W] as the network sees them."""
        images, masks = Feed(self.store, mask, self.boxes)(np.array([index]))
        return images[0].contiguous(), masks[0]

    def masks(self, index: int, names: Iterable[str]) -> dict[str, str]:
        """The checksum of each mask of one image."""
        return {name: digest(Feed(self.store, name, self.boxes).masks(np.array([index]))[0]) for name in names}


def subject_name(model: nn.Module, store: Store, boxes: np.ndarray | None, *more: object) -> str:
    """A checksum of what decides a subject's curvature; `more` is what else was done to the weights."""
    content = hashlib.sha256(f"{weights_digest(model)} {store.digest} {more}".encode())
    if boxes is not None:
        content.update(np.ascontiguousarray(boxes, np.int64).tobytes())
    return content.hexdigest()[:12]


@dataclass(frozen=True)
class Places:
    """Where solves run: the device, and how many processes (0: one per core, or per GPU) share the images."""

    device: str = "cpu"
    workers: int = 0

    def each(self, tasks: int) -> list[str]:
        """One device name per process; no more processes than tasks."""
        if self.device == "cpu":
            return ["cpu"] * max(1, min(self.workers or cores(), tasks))
        there = torch.cuda.device_count()
        count = self.workers or there
        if count > there:
            raise ValueError(f"{count} devices were asked for and there are {there}: give fewer --workers")
        return [f"cuda:{number}" for number in range(max(1, min(count, tasks)))]


class Ledger:
    """The CSV of one subject."""

    def __init__(self, path: Path, subject: str) -> None:
        self.path, self.subject = path, subject

    def read(self, options: Options) -> pd.DataFrame:
        """Rows of these options, indexed by (image, mask); a line that a stop cut short is left out.

        Raises ValueError where the file is none of these, or holds rows of other weights.
        """
        kept = self._whole()
        remedy = f"move {self.path} away; it will be computed again"
        try:
            words = {name: str for name in ("subject", "image", "mask", "method", "start")}
            table = pd.read_csv(io.StringIO(kept), dtype=words, keep_default_na=False)
            wrong = list(table.columns) != COLUMNS
        except (ValueError, pd.errors.ParserError) as error:
            raise ValueError(f"{self.path} is not a table of curvatures ({error}): {remedy}") from error
        if wrong:
            raise ValueError(f"{self.path} has other columns than {', '.join(COLUMNS)}: {remedy}")
        if strange := set(table["subject"]) - {self.subject}:
            raise ValueError(f"{self.path} holds rows of other weights ({', '.join(sorted(strange))}): {remedy}")
        same = (table[OPTIONS] == pd.Series(dataclasses.asdict(options))).all(axis=1)
        return table[same].drop_duplicates(["image", "mask"]).set_index(["image", "mask"])[FOUND]

    def _whole(self) -> str:
        """The text up to the last line that is whole; what follows is cut off."""
        if not self.path.is_file():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:  # stopped while its first line was written
            header = ",".join(COLUMNS) + "\n"
            self.path.write_text(header, encoding="utf-8")
            return header
        if whole != content:
            with self.path.open("r+b") as stream:
                stream.truncate(len(whole))
        return whole.decode(errors="replace")

    def append(self, rows: Sequence[Row]) -> None:
        text = pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, header=False)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(text)


@dataclass
class Worker:
    """Solves the masks of one image; pickled into its process, where a solver is built per subject.

    With several processes on a CPU each takes one thread: threads of one product wait for each other, images do not.
    """

    subjects: Sequence[Subject]
    options: Options
    device: str
    threads: int = 0
    _current: int = -1
    _solver: Solver | None = field(default=None, repr=False)
    _said: bool = False

    def __getstate__(self) -> dict[str, Any]:
        # The standard pickler copies tensors; multiprocessing's own would share them through file descriptors.
        return self.__dict__ | {"subjects": pickle.dumps(self.subjects), "_solver": None, "_current": -1}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"subjects": pickle.loads(state["subjects"])}

    def solver(self, number: int) -> Solver:
        if self._solver is None or number != self._current:
            if self.threads:
                torch.set_num_threads(self.threads)
            if self.device.startswith("cuda"):
                torch.cuda.set_device(self.device)
            self._solver = None  # its graph goes before the next one comes
            model = copy.deepcopy(self.subjects[number].model).to(self.device)
            self._solver, self._current = Solver(model, image_loss, self.options), number
        return self._solver

    def __call__(self, task: Task) -> tuple[int, list[Row]]:
        """The subject's number, and one row per distinct mask (without the subject's name)."""
        number, index, masks = task
        subject, solver = self.subjects[number], self.solver(number)
        name = str(subject.store.cases["id"].iloc[index])
        rows, image = [], None
        for key, mask in masks.items():
            seen, target = subject.image_and_mask(index, mask)
            image = seen if image is None else image
            found = solver(image, target, f"image {name}")
            values = {column: getattr(found, column) for column in FOUND}
            rows.append({"image": name, "mask": key, **values, **dataclasses.asdict(self.options)})
        if solver.note and not self._said:
            self._said = True
            tqdm.write(f"note: {solver.note}", file=sys.stderr)
        return number, rows


def curvatures(
    subjects: Sequence[Subject],
    wanted: dict[str, np.ndarray],
    options: Options,
    folder: Path,
    places: Places = Places(),
    progress: bool = True,
) -> list[pd.DataFrame]:
    """Curvature of every wanted image of every attribute for each subject, computed where no ledger has it.

    Args:
        subjects: weights on one store
        wanted: per attribute the indices of its images in the store
        options: how it is solved
        folder: of the ledgers, which are appended to
        places: devices and processes
        progress: show a bar

    Returns:
        per subject: attribute, index, image, mask, value (signed), residual, products, converged; as in `wanted`
    """
    ledgers = [Ledger(folder / f"{subject.name}.csv", subject.name) for subject in subjects]
    store = subjects[0].store
    ids = store.cases["id"].to_numpy()
    indices = np.unique(np.concatenate(list(wanted.values())))
    masks = {
        int(index): subjects[0].masks(int(index), [a for a, chosen in wanted.items() if index in chosen])
        for index in indices
    }
    todo: list[Task] = []
    for number, ledger in enumerate(ledgers):
        found = ledger.read(options).index
        for index, each in masks.items():
            missing = {key: mask for mask, key in each.items() if (ids[index], key) not in found}
            if missing:
                todo.append((number, index, missing))
    if todo:
        total = len(indices) * len(subjects)
        bar = tqdm(desc="curvature", unit="image", total=total, initial=total - len(todo), disable=not progress)
        _solve(subjects, todo, options, ledgers, places, bar)
    keys = [(a, int(i), ids[i], masks[int(i)][a]) for a, chosen in wanted.items() for i in chosen]
    table = pd.DataFrame(keys, columns=["attribute", "index", "image", "mask"])
    return [table.join(ledger.read(options), on=["image", "mask"]) for ledger in ledgers]


def _solve(
    subjects: Sequence[Subject],
    todo: list[Task],
    options: Options,
    ledgers: list[Ledger],
    places: Places,
    bar: tqdm,
) -> None:
    devices = places.each(len(todo))
    # However few are left to do: another number of threads rounds otherwise, and results are to be the same.
    threads = 1 if places.device == "cpu" and (places.workers or cores()) > 1 else 0
    workers = [Worker(subjects, options, device, threads) for device in devices]
    solves, failed, before = 0, 0, torch.get_num_threads()
    with bar:
        for number, rows in spread(workers, todo):
            ledgers[number].append([{"subject": subjects[number].name, **row} for row in rows])
            solves, failed = solves + len(rows), failed + sum(not row["converged"] for row in rows)
            bar.set_postfix({"solves": solves, "not converged": failed}, refresh=False)
            bar.update()
    torch.set_num_threads(before)

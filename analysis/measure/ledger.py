"""Curvature of one set of weights over the images of a store: spread over processes, appended as it comes.

    runs/<store>/curvature/<subject>.csv    one row per distinct (image, mask), options and circumstances

The subject is named by a checksum of the weights, of the store and of the boxes that cut its images (and of what
else was done to the weights); the name stands in every row too: results of other weights are never taken for these,
nor are those of another kind of device, precision, loss, or version of the engine.  A ledger without these columns
is from before they were kept: it is set aside as <subject>.csv.old.
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from analysis.curvature.norms import ENGINE, Options, Solver, tensor_digest, weights_digest
from tatl.data.batches import Feed
from tatl.data.store import Store
from tatl.losses import ALPHA, BETA, segmentation_loss
from tatl.machine.processes import cores, spread

image_loss = partial(segmentation_loss, pool="image")
FOUND = ["value", "residual", "products", "converged"]
LOSS = f"{segmentation_loss.__name__} per image alpha {ALPHA:g} beta {BETA:g}"
SINGLE, DOUBLE = "float32", "float64"
_OPTIONS = [f.name for f in dataclasses.fields(Options)]
OLD_COLUMNS = ["subject", "image", "mask", *FOUND, *_OPTIONS]  # columns of ledgers that do not say how they were made
LEDGER_COLUMNS = [*OLD_COLUMNS, "device", "precision", "loss", "engine"]
_WORDS = ["subject", "image", "mask", "method", "start", "device", "precision", "loss"]
_Row = dict[str, Any]
Wanted = dict[str, np.ndarray]
_Task = tuple[int, int, dict[str, str]]  # a subject, an image, and per checksum of a mask the name of one that has it


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

    def mask_digest(self, index: int, mask: str) -> str:
        """The checksum of one mask of one image."""
        return tensor_digest(Feed(self.store, mask, self.boxes).masks(np.array([index]))[0])


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


def circumstances(options: Options, device: str = "cpu", precision: str = SINGLE) -> _Row:
    """All that decides a curvature beside the subject, the image and the mask, by its column."""
    kind = device.partition(":")[0]
    return dataclasses.asdict(options) | {"device": kind, "precision": precision, "loss": LOSS, "engine": ENGINE}


class Ledger:
    """The CSV of one subject."""

    def __init__(self, path: Path, subject: str) -> None:
        self.path, self.subject = path, subject

    def read(self, how: _Row) -> pd.DataFrame:
        """Rows of these `circumstances`, indexed by (image, mask); a line that a stop cut short is left out.

        Raises ValueError where the file is none of these, or holds rows of other weights.
        """
        kept = self._whole()
        remedy = f"move {self.path} away; it will be computed again"
        try:
            table = pd.read_csv(io.StringIO(kept), dtype=dict.fromkeys(_WORDS, str), keep_default_na=False)
            wrong = list(table.columns) != LEDGER_COLUMNS
        except (ValueError, pd.errors.ParserError) as error:
            raise ValueError(f"{self.path} is not a table of curvatures ({error}): {remedy}") from error
        if wrong:
            raise ValueError(f"{self.path} has other columns than {', '.join(LEDGER_COLUMNS)}: {remedy}")
        if strange := set(table["subject"]) - {self.subject}:
            raise ValueError(f"{self.path} holds rows of other weights ({', '.join(sorted(strange))}): {remedy}")
        same = (table[list(how)] == pd.Series(how)).all(axis=1)
        return table[same].drop_duplicates(["image", "mask"]).set_index(["image", "mask"])[FOUND]

    def _whole(self) -> str:
        """The text up to the last line that is whole; what follows is cut off, a ledger of before set aside."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        if content.partition(b"\n")[0] == ",".join(OLD_COLUMNS).encode():
            self.path.replace(self.path.with_name(self.path.name + ".old"))
            content = b""
        header, kept = (",".join(LEDGER_COLUMNS) + "\n").encode(), content.rfind(b"\n") + 1
        if kept != len(content) or not kept:  # a stop cut its last line short, or its first
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.truncate(kept)
                stream.write(b"" if kept else header)
        return (content[:kept] or header).decode(errors="replace")

    def append(self, rows: Sequence[_Row]) -> None:
        text = pd.DataFrame(rows, columns=LEDGER_COLUMNS).to_csv(index=False, header=False)
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
    precision: str = SINGLE
    _current: int = -1
    _solver: Solver | None = field(default=None, repr=False)
    _said: bool = False
    _checked: dict[str, set[Any]] = field(default_factory=dict, repr=False)  # kinds of input per architecture

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
            model = copy.deepcopy(self.subjects[number].model).to(self.device, getattr(torch, self.precision))
            checked = self._checked.setdefault(str(model), set())
            self._solver, self._current = Solver(model, image_loss, self.options, checked), number
        return self._solver

    def __call__(self, task: _Task) -> tuple[int, list[_Row]]:
        """The subject's number, and one row per distinct mask (without the subject's name)."""
        number, index, masks = task
        subject, solver = self.subjects[number], self.solver(number)
        name = str(subject.store.cases["id"].iloc[index])
        rows, image = [], None
        for key, mask in masks.items():
            seen, target = subject.image_and_mask(index, mask)
            image = seen.to(getattr(torch, self.precision)) if image is None else image
            found = solver(image, target, f"image {name}")
            values = {column: getattr(found, column) for column in FOUND}
            how = circumstances(self.options, self.device, self.precision)
            rows.append({"image": name, "mask": key, **values, **how})
        if solver.note and not self._said:
            self._said = True
            tqdm.write(f"note: {solver.note}", file=sys.stderr)
        return number, rows


def curvatures(
    subjects: Sequence[Subject],
    wanted: Wanted | Sequence[Wanted],
    options: Options,
    folder: Path,
    places: Places = Places(),
    progress: bool = True,
    precision: str = SINGLE,
) -> list[pd.DataFrame]:
    """Curvature of every wanted image of every attribute for each subject, computed where no ledger has it.

    Args:
        subjects: weights on one store
        wanted: per attribute the indices of its images in the store; one for all subjects, or one each
        options: how it is solved
        folder: of the ledgers, which are appended to
        places: devices and processes
        progress: show a bar
        precision: float32, or float64 of the same weights and images

    Returns:
        per subject: attribute, index, image, mask, value (signed), residual, products, converged; as in `wanted`
    """
    each = [wanted] * len(subjects) if isinstance(wanted, dict) else wanted
    ledgers = [Ledger(folder / f"{subject.name}.csv", subject.name) for subject in subjects]
    how, tables = circumstances(options, places.device, precision), _pairs(subjects[0], each)
    todo: list[_Task] = []
    for number, (ledger, table) in enumerate(zip(ledgers, tables, strict=True)):
        new = table[~table.set_index(["image", "mask"]).index.isin(ledger.read(how).index)].sort_values("index")
        images: dict[int, dict[str, str]] = {}
        for index, mask, name in zip(new["index"], new["mask"], new["attribute"], strict=True):
            images.setdefault(index, {})[mask] = name
        todo += [(number, index, names) for index, names in images.items()]
    if todo:
        total = sum(table["index"].nunique() for table in tables)
        label = "curvature" if precision == SINGLE else f"curvature in {precision}"
        bar = tqdm(desc=label, unit="image", total=total, initial=total - len(todo), disable=not progress)
        _solve(subjects, todo, options, ledgers, places, bar, precision)
    return [table.join(ledger.read(how), on=["image", "mask"]) for ledger, table in zip(ledgers, tables, strict=True)]


def _pairs(subject: Subject, each: Sequence[Wanted]) -> list[pd.DataFrame]:
    """What is asked for, one table each: attribute, index, image (its name), mask (its checksum)."""
    ids, mask = subject.store.cases["id"].to_numpy(), cache(subject.mask_digest)
    return [
        pd.DataFrame(
            [(name, int(i), ids[i], mask(int(i), name)) for name, chosen in wanted.items() for i in chosen],
            columns=["attribute", "index", "image", "mask"],
        )
        for wanted in each
    ]


def _solve(
    subjects: Sequence[Subject],
    todo: list[_Task],
    options: Options,
    ledgers: list[Ledger],
    places: Places,
    bar: tqdm,
    precision: str = SINGLE,
) -> None:
    devices = places.each(len(todo))
    # However few are left to do: another number of threads rounds otherwise, and results are to be the same.
    threads = 1 if places.device == "cpu" and (places.workers or cores()) > 1 else 0
    workers = [Worker(subjects, options, device, threads, precision) for device in devices]
    solves, failed, before = 0, 0, torch.get_num_threads()
    try:
        with bar:
            for number, rows in spread(workers, todo):
                ledgers[number].append([{"subject": subjects[number].name, **row} for row in rows])
                solves, failed = solves + len(rows), failed + sum(not row["converged"] for row in rows)
                bar.set_postfix({"solves": solves, "not converged": failed}, refresh=False)
                bar.update()
    finally:
        torch.set_num_threads(before)

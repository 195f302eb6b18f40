"""Curvature of one set of weights over the images of a store: spread over processes, appended as it comes.

    runs/<store>/curvature/<subject>.csv    one row per distinct (image, mask) and options

The subject is a checksum of the weights and BatchNorm statistics, of the store and of the boxes that cut its images,
and stands in every row too: results of other weights are never taken for these.  The same command reads what is
there and goes on; since every solve is a function of its own input, in the end the numbers are the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pickle
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
Task = tuple[int, dict[str, str]]  # index of an image, and per distinct mask its checksum and a mask of that content


@dataclass(frozen=True)
class Subject:
    """Weights (in evaluation mode) on a store, whole frames or cut to `boxes` int [N, 4]."""

    model: nn.Module
    store: Store
    boxes: np.ndarray | None = None

    @property
    def digest(self) -> str:
        boxes = b"" if self.boxes is None else np.ascontiguousarray(self.boxes, np.int64).tobytes()
        content = f"{weights_digest(self.model)} {self.store.digest} ".encode() + boxes
        return hashlib.sha256(content).hexdigest()[:12]

    def image_and_mask(self, index: int, mask: str) -> tuple[Tensor, Tensor]:
        """Image [3, H, W] and mask [1, H, W] as the network sees them."""
        images, masks = Feed(self.store, mask, self.boxes)(np.array([index]))
        return images[0].contiguous(), masks[0]

    def masks(self, index: int, names: Iterable[str]) -> dict[str, str]:
        """The checksum of each mask of one image."""
        return {name: digest(self.image_and_mask(index, name)[1]) for name in names}


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
            table = pd.read_csv(io.StringIO(kept), dtype=words, float_precision="round_trip", keep_default_na=False)
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
            self.path.write_text(",".join(COLUMNS) + "\n")
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with self.path.open("r+b") as stream:
                stream.truncate(len(whole))
        return whole.decode(errors="replace")

    def append(self, rows: Sequence[Row]) -> None:
        text = pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, header=False)
        with self.path.open("a") as stream:
            stream.write(text)


@dataclass
class Worker:
    """Solves the masks of one image; pickled into its process, where the solver is built at the first task.

    With several processes on a CPU each takes one thread: threads of one product wait for each other, images do not.
    """

    subject: Subject
    options: Options
    device: str
    threads: int = 0
    _solver: Solver | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # The standard pickler copies tensors; multiprocessing's own would share them through file descriptors.
        return self.__dict__ | {"subject": pickle.dumps(self.subject), "_solver": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"subject": pickle.loads(state["subject"])}

    def __call__(self, task: Task) -> tuple[int, list[Row]]:
        """The image, and one row per distinct mask (without the subject's name)."""
        if self._solver is None:
            if self.threads:
                torch.set_num_threads(self.threads)
            model = self.subject.model
            self._solver = Solver(model.to(self.device), image_loss, self.options)
        index, masks = task
        name = str(self.subject.store.cases["id"].iloc[index])
        rows, image = [], None
        for key, mask in masks.items():
            seen, target = self.subject.image_and_mask(index, mask)
            image = seen if image is None else image
            found = self._solver(image, target, f"image {name}")
            values = {column: getattr(found, column) for column in FOUND}
            rows.append({"image": name, "mask": key, **values, **dataclasses.asdict(self.options)})
        return index, rows


def curvatures(
    subject: Subject,
    wanted: dict[str, np.ndarray],
    options: Options,
    folder: Path,
    places: Places = Places(),
    progress: bool = True,
    title: str = "curvature",
) -> pd.DataFrame:
    """Curvature of every wanted image of every attribute, computed where it is not in the ledger yet.

    Args:
        subject: the weights and the store
        wanted: per attribute the indices of its images in the store
        options: how it is solved
        folder: of the ledgers; this subject's is appended to
        places: devices and processes
        progress: show a bar
        title: of the bar

    Returns:
        attribute, index, image, mask, value (signed), residual, products, converged; in the order of `wanted`
    """
    name = subject.digest
    ledger = Ledger(folder / f"{name}.csv", name)
    found = ledger.read(options)
    ids = subject.store.cases["id"].to_numpy()
    indices = np.unique(np.concatenate(list(wanted.values())))
    masks = {
        int(index): subject.masks(int(index), [a for a, chosen in wanted.items() if index in chosen])
        for index in indices
    }
    todo: list[Task] = []
    for index, each in masks.items():
        missing = {key: mask for mask, key in each.items() if (ids[index], key) not in found.index}
        if missing:
            todo.append((index, missing))
    if todo:
        _solve(subject, todo, options, ledger, places, tqdm(
            desc=title, unit="image", total=len(indices), initial=len(indices) - len(todo), disable=not progress
        ))  # fmt: skip
        found = ledger.read(options)
    keys = [(a, int(i), ids[i], masks[int(i)][a]) for a, chosen in wanted.items() for i in chosen]
    table = pd.DataFrame(keys, columns=["attribute", "index", "image", "mask"])
    return table.join(found, on=["image", "mask"])


def _solve(subject: Subject, todo: list[Task], options: Options, ledger: Ledger, places: Places, bar: tqdm) -> None:
    each = places.each(len(todo))
    threads = 1 if places.device == "cpu" and len(each) > 1 else 0
    workers = [Worker(subject, options, device, threads) for device in each]
    solves, failed = 0, 0
    with bar:
        for _, rows in spread(workers, todo):
            ledger.append([{"subject": ledger.subject, **row} for row in rows])
            solves, failed = solves + len(rows), failed + sum(not row["converged"] for row in rows)
            bar.set_postfix({"solves": solves, "not converged": failed}, refresh=False)
            bar.update()

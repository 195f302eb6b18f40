"""Curvature of weights over the images of a store: what no ledger has yet is solved, spread over processes."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from analysis.curvature.norms import Options, Solver
from analysis.measure.ledger import FOUND, SINGLE, Ledger, Solved, Subject, circumstances, image_loss
from tatl.machine.processes import cores, spread

Wanted = dict[str, np.ndarray]
_Task = tuple[int, int, dict[str, str]]  # a subject, an image, and per checksum of a mask the name of one that has it


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

    def __call__(self, task: _Task) -> tuple[int, list[Solved]]:
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

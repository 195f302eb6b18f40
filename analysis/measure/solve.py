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


@dataclass
class Worker:
    """Solves the masks of one image; pickled into its process, where a solver is built per subject.

    With several processes on a CPU each takes one thread: threads of one product wait for each other, images do not.
    """

    subjects: Sequence[Subject]
    how: Curvatures
    device: str
    threads: int = 0
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
            model = copy.deepcopy(self.subjects[number].model).to(self.device, getattr(torch, self.how.precision))
            checked = self._checked.setdefault(str(model), set())
            self._solver, self._current = Solver(model, image_loss, self.how.options, checked), number
        return self._solver

    def __call__(self, task: _Task) -> tuple[int, list[Solved]]:
        """The subject's number, and one row per distinct mask (without the subject's name)."""
        number, index, masks = task
        subject, solver = self.subjects[number], self.solver(number)
        name = str(subject.store.cases["id"].iloc[index])
        rows, image = [], None
        for key, mask in masks.items():
            seen, target = subject.image_and_mask(index, mask)
            image = seen.to(getattr(torch, self.how.precision)) if image is None else image
            found = solver(image, target, f"image {name}")
            values = {column: getattr(found, column) for column in FOUND}
            rows.append({"image": name, "mask": key, **values, **self.how.circumstances})
        if solver.note and not self._said:
            self._said = True
            tqdm.write(f"note: {solver.note}", file=sys.stderr)
        return number, rows


@dataclass(frozen=True)
class Curvatures:
    """Curvature of images at weights, computed where no ledger has it: how it is sought, where it is kept and solved.

    options    of the solves
    folder     of the ledgers, which are appended to
    device     cpu or cuda
    workers    processes that share the images; 0: one a core, or a GPU
    precision  float32, or float64 of the same weights and images
    progress   show a bar
    """

    options: Options
    folder: Path
    device: str = "cpu"
    workers: int = 0
    precision: str = SINGLE
    progress: bool = True

    def __call__(self, subjects: Sequence[Subject], wanted: Wanted | Sequence[Wanted]) -> list[pd.DataFrame]:
        """Per subject a row for each image that is wanted.

        Args:
            subjects: weights on one store
            wanted: per attribute the indices of its images in the store; one for all subjects, or one each

        Returns:
            attribute, index, image, mask, value (signed), residual, products, converged; as in `wanted`
        """
        each = [wanted] * len(subjects) if isinstance(wanted, dict) else wanted
        ledgers = [Ledger(self.folder / f"{subject.name}.csv", subject.name) for subject in subjects]
        how, tables = self.circumstances, _pairs(subjects[0], each)
        todo: list[_Task] = []
        for number, (ledger, table) in enumerate(zip(ledgers, tables, strict=True)):
            new = table[~table.set_index(["image", "mask"]).index.isin(ledger.read(how).index)].sort_values("index")
            images: dict[int, dict[str, str]] = {}
            for index, mask, name in zip(new["index"], new["mask"], new["attribute"], strict=True):
                images.setdefault(index, {})[mask] = name
            todo += [(number, index, names) for index, names in images.items()]
        if todo:
            total = sum(table["index"].nunique() for table in tables)
            label = "curvature" if self.precision == SINGLE else f"curvature in {self.precision}"
            done = total - len(todo)
            self._solve(
                subjects,
                todo,
                ledgers,
                tqdm(desc=label, total=total, initial=done, unit="image", disable=not self.progress),
            )
        return [
            table.join(ledger.read(how), on=["image", "mask"]) for ledger, table in zip(ledgers, tables, strict=True)
        ]

    @property
    def circumstances(self) -> Solved:
        return circumstances(self.options, self.device, self.precision)

    def places(self, tasks: int) -> list[str]:
        """The device of each process; no more processes than tasks."""
        if self.device == "cpu":
            return ["cpu"] * max(1, min(self.workers or cores(), tasks))
        there = torch.cuda.device_count()
        count = self.workers or there
        if count > there:
            raise ValueError(f"{count} devices were asked for and there are {there}: give fewer --workers")
        return [f"cuda:{number}" for number in range(max(1, min(count, tasks)))]

    def _solve(self, subjects: Sequence[Subject], todo: list[_Task], ledgers: list[Ledger], bar: tqdm) -> None:
        # However few are left to do: another number of threads rounds otherwise, and results are to be the same.
        threads = 1 if self.device == "cpu" and (self.workers or cores()) > 1 else 0
        workers = [Worker(subjects, self, device, threads) for device in self.places(len(todo))]
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


def _pairs(subject: Subject, each: Sequence[Wanted]) -> list[pd.DataFrame]:
    """What is asked for, one table each: attribute, index, image (its name), mask (its checksum)."""
    ids, mask, columns = (
        subject.store.cases["id"].to_numpy(),
        cache(subject.mask_digest),
        ["attribute", "index", "image", "mask"],
    )
    return [
        pd.DataFrame(
            [(name, int(i), ids[i], mask(int(i), name)) for name, chosen in wanted.items() for i in chosen],
            columns=columns,
        )
        for wanted in each
    ]

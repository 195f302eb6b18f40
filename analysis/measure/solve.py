"""Curvature of weights over the images of a store: what no ledger has yet is solved, shared by a crew.

What is wanted is the mean of norms over the images of an attribute (a row of Figure 7), and many norms are a small part
of it.  So a solve stops at an absolute error that is a `share` of the scale of its row, the mean norm

    p * mean over the first positive images + (1 - p) * mean over the first that lack the attribute

of a pilot: `PILOT` images of each kind, solved to the relative tolerance; p is the store's share of positives.  It is a
function of weights, attribute and first images alone, whatever has been solved before and however many images follow.
A pair that is in several rows is solved to the least error of theirs; the pilot's own results are kept as they are.
"""

from __future__ import annotations

import copy
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
from analysis.measure.ledger import FOUND, PAIR, SINGLE, Ledger, Solved, Subject, circumstances, image_loss
from tatl.data.store import Store
from tatl.studies.execution.crew import Crew, Hand

Wanted = dict[str, np.ndarray]
# A subject, an image, and per checksum of a mask the name of one that has it, with the absolute error.
_Task = tuple[int, int, dict[str, tuple[str, float]]]
PILOT = 2  # images of each kind


@dataclass
class Worker(Hand):
    """Solves the masks of one image; a solver is built per subject."""

    subjects: Sequence[Subject]
    how: Curvatures
    _current: int = -1
    _solver: Solver | None = field(default=None, repr=False)
    _said: bool = False
    _checked: dict[str, set[Any]] = field(default_factory=dict, repr=False)  # kinds of input per architecture

    def solver(self, number: int) -> Solver:
        if self._solver is None or number != self._current:
            if self.device.startswith("cuda"):
                torch.cuda.set_device(self.device)
            self._solver = None  # its graph goes before the next one comes
            model = copy.deepcopy(self.subjects[number].model).to(self.device, getattr(torch, self.how.precision))
            kind = str(model)
            checked, trusted = self._checked.setdefault(kind, set()), kind in self.how.trusted
            self._solver, self._current = Solver(model, image_loss, self.how.options, checked, trusted), number
        return self._solver

    def do(self, task: _Task) -> tuple[int, list[Solved]]:
        """The subject's number, and one row per distinct mask (without the subject's name)."""
        number, index, masks = task
        subject, solver = self.subjects[number], self.solver(number)
        name = str(subject.store.cases["id"].iloc[index])
        rows, image = [], None
        for key, (mask, absolute) in masks.items():
            seen, target = subject.image_and_mask(index, mask)
            image = seen.to(getattr(torch, self.how.precision)) if image is None else image
            found = solver(image, target, f"image {name}", absolute)
            values = {column: getattr(found, column) for column in FOUND}
            rows.append({"image": name, "mask": key, **values, "absolute": absolute, **self.how.circumstances})
        if solver.note and not self._said:
            self._said = True
            tqdm.write(f"note: {solver.note}", file=sys.stderr)
        return number, rows


@dataclass(frozen=True)
class Curvatures:
    """Curvature of images at weights, computed where no ledger has it: how it is sought, where it is kept and solved.

    options    of the solves
    folder     of the ledgers, which are appended to
    crew       who shares the images
    precision  float32, or float64 of the same weights and images
    share      of a row's mean norm that a norm in it may be off by; 0: each to the relative tolerance
    progress   show a bar
    trusted    architectures whose products were compared with differences of gradients before, here or in float32
    """

    options: Options
    folder: Path
    crew: Crew = field(default_factory=Crew)
    precision: str = SINGLE
    share: float = 0.0
    progress: bool = True
    trusted: set[str] = field(default_factory=set, compare=False, repr=False)

    def __call__(self, subjects: Sequence[Subject], wanted: Wanted | Sequence[Wanted]) -> list[pd.DataFrame]:
        """Per subject a row for each image that is wanted.

        Args:
            subjects: weights on one store
            wanted: per attribute the indices of its images in the store; one for all subjects, or one each

        Returns:
            attribute, index, image, positive, mask, absolute (error asked for), value (signed), residual, error,
            products, converged; as in `wanted`
        """
        each = [wanted] * len(subjects) if isinstance(wanted, dict) else wanted
        tables = _pairs(subjects[0], each, self.options.absolute)
        if self.share:
            first = [table[_kinds(table).cumcount() < PILOT] for table in tables]
            solved = zip(tables, self._filled(subjects, first, "pilot of curvature"), strict=True)
            tables = [_allowed(table, pilot, self.share, subjects[0].store) for table, pilot in solved]
        return self._filled(subjects, tables, "curvature")

    def _filled(self, subjects: Sequence[Subject], tables: list[pd.DataFrame], label: str) -> list[pd.DataFrame]:
        """The tables of pairs with what was found of each; what no ledger has is solved first."""
        ledgers = [Ledger(self.folder / f"{subject.name}.csv", subject.name) for subject in subjects]
        how = self.circumstances
        todo = [
            (number, index, masks)
            for number, (ledger, table) in enumerate(zip(ledgers, tables, strict=True))
            for index, masks in _missing(table, ledger.read(how)).items()
        ]
        if todo:
            total = sum(table["index"].nunique() for table in tables)
            label = label if self.precision == SINGLE else f"{label} in {self.precision}"
            done = total - len(todo)
            bar = tqdm(desc=label, total=total, initial=done, unit="image", disable=not self.progress)
            self._solve(subjects, todo, ledgers, bar)
        return [table.join(ledger.read(how), on=PAIR) for ledger, table in zip(ledgers, tables, strict=True)]

    @property
    def circumstances(self) -> Solved:
        return circumstances(self.options, self.crew.device, self.precision)

    def _solve(self, subjects: Sequence[Subject], todo: list[_Task], ledgers: list[Ledger], bar: tqdm) -> None:
        solves, failed, shared = 0, 0, self.crew.share(Worker(subjects, self), todo, subjects[0].store)
        with bar:
            for number, rows in shared:
                ledgers[number].append([{"subject": subjects[number].name, **row} for row in rows])
                solves, failed = solves + len(rows), failed + sum(not row["converged"] for row in rows)
                bar.set_postfix({"solves": solves, "not converged": failed}, refresh=False)
                bar.update()
        self.trusted.update(str(subjects[number].model) for number, _, _ in todo)


def _pairs(subject: Subject, each: Sequence[Wanted], absolute: float) -> list[pd.DataFrame]:
    """What is asked for, one table each: attribute, index, image (a name), positive, mask (a checksum), absolute."""
    ids, mask, present = subject.store.cases["id"].to_numpy(), cache(subject.mask_digest), subject.store.present
    columns = ["attribute", "index", "image", "positive", "mask", "absolute"]
    return [
        pd.DataFrame(
            [
                (name, int(i), ids[i], positive, mask(int(i), name), absolute)
                for name, chosen in wanted.items()
                for i, positive in zip(chosen, present(name)[chosen], strict=True)
            ],
            columns=columns,
        )
        for wanted in each
    ]


def _missing(table: pd.DataFrame, there: pd.DataFrame) -> dict[int, dict[str, tuple[str, float]]]:
    """Per image its masks that are not there yet, with the attribute of one that has it and the absolute error."""
    new = table[~table.set_index(PAIR).index.isin(there.index)].sort_values("index", kind="stable")
    images: dict[int, dict[str, tuple[str, float]]] = {}
    for index, mask, name, absolute in zip(new["index"], new["mask"], new["attribute"], new["absolute"], strict=True):
        images.setdefault(index, {})[mask] = name, absolute
    return images


def _kinds(table: pd.DataFrame) -> Any:
    """Grouped by attribute, and by whether the images have it."""
    return table.groupby(["attribute", "positive"], sort=False)


def _allowed(table: pd.DataFrame, pilot: pd.DataFrame, share: float, store: Store) -> pd.DataFrame:
    """The table with the absolute error of every pair, to two digits; the pilot keeps its own."""
    errors = {}
    for name, means in _kinds(pilot.assign(norm=pilot["value"].abs()))["norm"].mean().groupby(level=0):
        p = store.present(name)[store.known(name)].mean()
        scale = np.average(means, weights=[p if positive else 1 - p for _, positive in means.index])
        errors[name] = float(f"{share * scale:.2g}")
    least = table["attribute"].map(errors).groupby([table["image"], table["mask"]]).transform("min")
    kept = table.set_index(PAIR).index.isin(pilot.set_index(PAIR).index)
    return table.assign(absolute=np.where(kept, table["absolute"], least))

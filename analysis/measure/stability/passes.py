"""Passes of one start over the images of a store, kept as they come.

    runs/<store>/stability/<subject>.jsonl    one line a cell: what decides it, its readings, its forks

The subject is named by a checksum of the weights, the store and the boxes (analysis.measure.ledger).  A cell counts
when its line is whole; one with another c, other images or forks, of another loss, kind of device or version of the
engine is another cell.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from analysis.curvature.evaluation import ImageFeed, per_image_losses
from analysis.curvature.replace_one import PASSES, Diverged, forks, within_unit
from analysis.measure.ledger import LOSS, Subject, image_loss
from analysis.measure.stability.protocol import Cell
from tatl.data.batches import Feed
from tatl.studies.execution.crew import Crew, Hand

_loss = within_unit(image_loss)
Found = dict[str, Any]  # of a cell: its key, `readings` and `forks`, one dict each, and `diverged_at`


def key(subject: str, cell: Cell, device: str) -> str:
    """A checksum of all that decides the numbers of a cell."""
    content = json.dumps([subject, dataclasses.asdict(cell), LOSS, device, PASSES])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass
class Passes:
    """Cells of starts, computed where no record has them.

    subjects  the starts
    folder    of the records, which are appended to
    crew      who shares the cells
    """

    subjects: Sequence[Subject]
    folder: Path
    crew: Crew = field(default_factory=Crew)

    def __call__(self, wanted: Sequence[tuple[int, Cell]], label: str = "stability") -> list[Found]:
        """What was found of each (number of the subject, cell), as in `wanted`."""
        keys = [key(self.subjects[number].name, cell, self.crew.device) for number, cell in wanted]
        known = {number: self._read(number) for number in {number for number, _ in wanted}}
        todo = [each for each, name in zip(wanted, keys, strict=True) if name not in known[each[0]]]
        if todo:
            for number, found in self._solve(todo, label, len(wanted)):
                known[number][found["key"]] = found
        return [known[number][name] for (number, _), name in zip(wanted, keys, strict=True)]

    def _solve(self, todo: Sequence[tuple[int, Cell]], label: str, total: int) -> Iterator[tuple[int, Found]]:
        shared = self.crew.share(PassWorker(self.subjects), todo, self.subjects[0].store)
        with tqdm(desc=label, total=sum(cell.steps for _, cell in todo), unit="step", smoothing=0) as bar:
            bar.set_postfix({"cells": f"{total - len(todo)}/{total}"}, refresh=False)
            for done, (number, cell, found) in enumerate(shared, start=total - len(todo) + 1):
                self._append(number, found)
                bar.set_postfix({"cells": f"{done}/{total}"}, refresh=False)
                bar.update(cell.steps)
                yield number, found

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.subjects[number].name}.jsonl"

    def _read(self, number: int) -> dict[str, Found]:
        """The cells on record by their keys; a line that a stop cut short is passed over."""
        path = self._path(number)
        cells = map(_whole, path.read_bytes().splitlines() if path.is_file() else [])
        return {cell["key"]: cell for cell in cells if cell}

    def _append(self, number: int, found: Found) -> None:
        """At once, on a line of its own whatever stands before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._path(number).open("ab", buffering=0) as stream:
            stream.write(f"\n{json.dumps(found)}\n".encode())


def _whole(line: bytes) -> Found:
    """The cell of a line; empty where it is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "key" in found else {}


@dataclass
class PassWorker(Hand):
    """Takes the passes of one cell."""

    subjects: Sequence[Subject]

    def do(self, task: tuple[int, Cell]) -> tuple[int, Cell, Found]:
        """The task, and what was found; ValueError where a loss is outside [0, 1]."""
        number, cell = task
        subject = self.subjects[number]
        model = copy.deepcopy(subject.model).to(self.device)
        feed = partial(Feed(subject.store, cell.attribute, subject.boxes), device=self.device)
        scale = _Scale(model, feed, cell, subject.store.cases["group"].to_numpy())
        kind = self.device.partition(":")[0]
        found: Found = {"key": key(subject.name, cell, kind), "attribute": cell.attribute, "c": cell.c}
        found |= {"readings": scale.readings, "forks": [], "diverged_at": None}
        try:
            for fork in forks(model, feed, _loss, cell.order, cell.swaps, cell.c, cell.ends, scale.read):
                found["forks"].append(dataclasses.asdict(fork))
        except Diverged as error:
            found["diverged_at"] = error.step
            scale.give_up()
        return number, cell, found


class _Scale:
    """Reads off a pass what the weights give: risks on the images taken and on held-out ones, how far they moved."""

    def __init__(self, model: nn.Module, feed: ImageFeed, cell: Cell, groups: np.ndarray) -> None:
        self.model, self.feed, self.cell, self.groups = model, feed, cell, groups
        self.readings: list[Found] = []
        self._start = self._weights()
        self._before = self._losses(len(cell.order))

    def _weights(self) -> Tensor:
        return torch.cat([w.detach().double().flatten() for w in self.model.parameters() if w.requires_grad])

    def _losses(self, m: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the first m images of the pass, and of held-out ones."""
        indices = np.array([*self.cell.order[:m], *self.cell.held])
        losses = per_image_losses(self.model, self.feed, indices, _loss)
        return losses[:m], losses[m:]

    def read(self, m: int) -> None:
        """Append a reading after m images; FloatingPointError where a loss is not finite."""
        try:
            train, held = self._losses(m)
        except FloatingPointError as error:
            raise Diverged(m, self.cell.c) from error
        moved = float((self._weights() - self._start).norm())
        parts = (train, self.cell.order[:m]), (held, self.cell.held)
        apart = np.linalg.norm([_standard_error(losses, self.groups[list(images)]) for losses, images in parts])
        after = {"train_risk": train.mean(), "held_risk": held.mean(), "gap": held.mean() - train.mean()}
        after |= {"gap_error": apart, "moved": moved, "moved_relative": moved / float(self._start.norm())}
        self.readings.append(self._at_start(m) | {name: float(value) for name, value in after.items()})

    def give_up(self) -> None:
        """Of the ends that were not reached append what is known at the start."""
        reached = {reading["m"] for reading in self.readings}
        self.readings += [self._at_start(m) for m in sorted({*self.cell.ends} - reached)]

    def _at_start(self, m: int) -> Found:
        train, held = self._before[0][:m].mean(), self._before[1].mean()
        return {"m": m, "risk_before": float(train), "gap_before": float(held - train)}


def _standard_error(values: np.ndarray, groups: np.ndarray) -> float:
    """Of the mean, over groups: images of one are not independent; NaN for one group."""
    _, number = np.unique(groups, return_inverse=True)
    sums = np.bincount(number, values - values.mean())
    count = len(sums)
    return float(np.sqrt(count / (count - 1) * (sums**2).sum()) / len(values)) if count > 1 else np.nan

"""How long runs take and how much disk: the work in them, and a plan before any training."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tatl.data.case import Size
from tatl.data.store import Store
from tatl.models.starts import start_rule
from tatl.names import ROTATION, TEXTURES
from tatl.run import Run, finished, in_order
from tatl.run.legacy import log_in
from tatl.run.textures import DRAWN
from tatl.studies.runtime.counts import COUNTED, network_count
from tatl.training.device import device_kind

# Seconds of training per operation of a forward pass where nothing was trained yet: of one of two runs at once on two
# CPU cores, where the 31 runs of the quick variants took 12.5 minutes, and of a GPU in bf16 (a guess).
PACES = {"cpu": 1.5e-10, "cuda": 2e-13}

Kind = tuple[str, str, bool]  # backbone, shape, and whether the encoder is kept fixed


def work(run: Run, store: Store) -> float:
    """Floating-point operations of the forward passes of training, by which runs share out the time that they take."""
    return _images(run, store) * operations(run)


def operations(run: Run) -> float:
    """Floating-point operations of a forward pass of one image; an encoder alone counts as a Link shape."""
    size = Size.parse(run.size)
    per_pixel = network_count(run.shape, run.backbone).operations / (COUNTED.height * COUNTED.width)
    return per_pixel * size.height * size.width


@dataclass(frozen=True)
class Plan:
    """What would be trained: the runs in their order, those that are there, and seconds and bytes of the others.

    `pace` says where the seconds come from.
    """

    runs: Sequence[Run]
    there: frozenset[Run]
    seconds: float
    bytes: float
    pace: str

    def words(self) -> str:
        """For people: a line of sums, then one a run."""
        time = f"{self.seconds / 3600:.1f} h" if self.seconds >= 5400 else f"{max(self.seconds / 60, 1):.0f} min"
        todo = len(self.runs) - len(self.there)
        head = f"{len(self.runs)} runs: {len(self.there)} are there, {todo} to do"
        head += f"; about {time} one after another ({self.pace}), {self.bytes / 1e6:.0f} MB" if todo else ""
        return "\n".join([head, *(f"  {'done' if run in self.there else 'to do'}  {run.title()}" for run in self.runs)])


def plan(runs: Iterable[Run], root: Path, store: Store, device: str = "auto") -> Plan:
    """What training these runs would take; nothing is trained, timed or written.

    A network that was trained here takes as long an operation as it did, on this kind of device; another as long as
    those on average; and where nothing was trained, what is usual (PACES).
    """
    ordered, place = in_order(runs), device_kind(device)
    there = frozenset(run for run in ordered if finished(run, root))
    todo = [run for run in ordered if run not in there]
    paces = _paces(there, root, place)
    usual = statistics.median(paces.values()) if paces else PACES[place]
    needed = sum(work(run, store) * paces.get(_kind(run), usual) for run in todo)
    pace = f"at the pace of the runs that are there on this {place}" if paces else "at a usual pace, not measured here"
    return Plan(ordered, there, needed, sum(_bytes(run, store) for run in todo), pace)


def _kind(run: Run) -> Kind:
    return run.backbone, run.shape, start_rule(run.start).frozen


def _paces(there: Iterable[Run], root: Path, device: str) -> dict[Kind, float]:
    """Seconds per operation of the networks of finished runs, their evaluations counted in."""
    taken: dict[Kind, list[float]] = {}
    for run in there:
        history = run.folder(root) / "history.csv"
        if (took := seconds(run, root, device)) and history.is_file():
            steps = pd.read_csv(history)["step"].max() * (4 if run.task == ROTATION else 1)
            total = taken.setdefault(_kind(run), [0.0, 0.0])
            total[0] += took
            total[1] += steps * run.recipe.batch * operations(run)
    return {kind: took / count for kind, (took, count) in taken.items() if count}


def _images(run: Run, store: Store) -> float:
    """Images that training passes, in whole mini-batches; of rotation every turn of each."""
    batches = math.ceil(_trained(run, store) / run.recipe.batch)
    return run.recipe.epochs * batches * run.recipe.batch * (4 if run.task == ROTATION else 1)


def _trained(run: Run, store: Store) -> float:
    if run.task == TEXTURES:
        return DRAWN
    return (1 - 1 / run.n_folds) * 0.9 * run.fraction * len(store)


def seconds(run: Run, root: Path, device: str = "") -> float:
    """What a run's training took, all its processes together, in seconds; 0 where it left no log.

    With a `device` (cpu or cuda) 0 too where any of it was on another kind of device.
    """
    found = re.findall(r"^([\d.]+) s in this process on (.*)", log_in(run.folder(root)), re.MULTILINE)
    here = _gpu() if device == "cuda" else device.upper()
    return sum(float(took) for took, _ in found) if all(where.startswith(here) for _, where in found) else 0.0


def _bytes(run: Run, store: Store) -> float:
    size = Size.parse(run.score_size) if run.score_size else store.size
    maps = len(store) / run.n_folds * size.height * size.width if run.task != TEXTURES else 0
    return 4 * network_count(run.shape, run.backbone).parameters + maps


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name()

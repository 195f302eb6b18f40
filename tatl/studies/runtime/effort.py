"""How long runs take and how much disk: the work in them, and a plan before any training.

Operations and parameters of the studies' networks are in networks.csv, others are counted when asked for: building a
network to count it takes seconds, and a plan is to answer at once.  A test counts the rows anew.
"""

from __future__ import annotations

import csv
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tatl.data.case import Size
from tatl.data.store import Store
from tatl.models.starts import start_rule
from tatl.names import ROTATION, TEXTURES
from tatl.run import Run, finished, in_order
from tatl.run.legacy import log_in
from tatl.run.textures import DRAWN
from tatl.training.device import device_kind

# Seconds of training per operation of a forward pass where nothing was trained yet: of one of two runs at once on two
# CPU cores, where the 31 runs of the quick variants took 12.5 minutes, and of a GPU in bf16 (a guess).
PACES = {"cpu": 1.5e-10, "cuda": 2e-13}
GPUS = 1, 8  # of which a plan speaks where no cluster says how many there are

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

    `pace` says where the seconds come from, `elsewhere` what it would take on GPUs, or on the cores of a cluster.
    """

    runs: Sequence[Run]
    there: frozenset[Run]
    seconds: float
    bytes: float
    pace: str
    elsewhere: str

    def words(self) -> str:
        """For people: a line of sums, then one a run."""
        todo = len(self.runs) - len(self.there)
        head = f"{len(self.runs)} runs: {len(self.there)} are there, {todo} to do"
        if todo:
            here = f"about {_time(self.seconds)} one after another ({self.pace}), {self.bytes / 1e6:.0f} MB"
            head += f"; {here}; {self.elsewhere}"
        return "\n".join([head, *(f"  {'done' if run in self.there else 'to do'}  {run.title()}" for run in self.runs)])


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{max(seconds / 60, 1):.0f} min"


def plan(
    runs: Iterable[Run],
    root: Path,
    store: Store,
    device: str = "auto",
    counts: Sequence[int] = GPUS,
    kind: str = "cuda",
) -> Plan:
    """What training these runs would take, here, and on `counts` of devices of a kind; nothing is trained or written.

    A network that was trained here takes as long an operation as it did, on this kind of device; another as long as
    those on average; and where nothing was trained, what is usual (PACES).
    """
    ordered, place = in_order(runs), device_kind(device)
    there = frozenset(run for run in ordered if finished(run, root))
    todo = [run for run in ordered if run not in there]
    costs, measured = _costs(todo, there, root, store, place)
    pace = f"at the pace of runs that are there on this {place}" if measured else "at a usual pace, not measured here"
    room = sum(_bytes(run, store) for run in todo)
    elsewhere = _on(counts, kind, *_costs(todo, there, root, store, kind))
    return Plan(ordered, there, sum(costs.values()), room, pace, elsewhere)


def _costs(
    todo: Sequence[Run], there: Iterable[Run], root: Path, store: Store, kind: str
) -> tuple[dict[Run, float], bool]:
    """Seconds of each run on a kind of device, and whether any were measured."""
    paces = _paces(there, root, kind)
    usual = statistics.median(paces.values()) if paces else PACES[kind]
    return {run: work(run, store) * paces.get(_kind(run), usual) for run in todo}, bool(paces)


def _on(counts: Sequence[int], kind: str, costs: dict[Run, float], measured: bool) -> str:
    """What all would take on so many devices that never wait but for what a run needs.

    However many share a GPU, it does not do more in all.
    """
    ends = dict[Run, float]()
    for run, cost in costs.items():  # in their order
        ends[run] = cost + max((ends.get(need, 0.0) for need in run.needs()), default=0.0)
    longest, unit = max(ends.values(), default=0.0), "GPU" if kind == "cuda" else "core"
    said = [f"on {n} {unit}{'s' * (n != 1)} {_time(max(sum(costs.values()) / n, longest))}" for n in counts]
    pace = "at the pace of such runs that are there" if measured else f"a guess: no run on a {unit} is there"
    return f"{', '.join(said)} ({pace})"


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

    With a `device` (cpu or cuda) 0 too where any of it was on another kind of device; of GPUs those like the one that
    is here count, and where none is here all.
    """
    found = re.findall(r"^([\d.]+) s in this process on (.*)", log_in(run.folder(root)), re.MULTILINE)
    here = _gpu() if device == "cuda" else device.upper()
    alike = all(where.startswith(here) and (device != "cuda" or not where.startswith("CPU")) for _, where in found)
    return sum(float(took) for took, _ in found) if alike else 0.0


def _bytes(run: Run, store: Store) -> float:
    size = Size.parse(run.score_size) if run.score_size else store.size
    maps = len(store) / run.n_folds * size.height * size.width if run.task != TEXTURES else 0
    return 4 * network_count(run.shape, run.backbone).parameters + maps


def _gpu() -> str:
    """The name of the GPU that is here, empty without one."""
    if device_kind() != "cuda":
        return ""
    import torch

    return torch.cuda.get_device_name()


COUNTED = Size(96, 128)


class Count(NamedTuple):
    """Floating-point operations of a forward pass of one image of 96x128, and parameters as Table 7 counts them."""

    operations: int
    parameters: int


def network_count(shape: str, backbone: str) -> Count:
    """Of one network; an encoder alone counts as a Link shape, and so do Mask R-CNN's operations."""
    return known().get((shape, backbone)) or count(shape, backbone)


@cache
def known() -> dict[tuple[str, str], Count]:
    """By shape and backbone, what networks.csv says."""
    text = files("tatl.studies.runtime").joinpath("networks.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {(r["shape"], r["backbone"]): Count(int(r["operations"]), int(r["parameters"])) for r in rows}


@cache
def count(shape: str, backbone: str) -> Count:
    """Counted without computing; ValueError for an unknown shape or backbone.

    Mask R-CNN's operations depend on what it finds.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tatl.models import build, count_parameters

    with torch.device("meta"):
        model = build("link" if shape == "encoder" else shape, backbone).eval()
        passed = build("link", backbone).eval() if shape == "mask-rcnn" else model
        image = torch.empty(1, 3, *COUNTED)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        passed(image)
    return Count(counter.get_total_flops(), count_parameters(model))

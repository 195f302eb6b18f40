"""How long runs take and how much disk: the work in them, a clock of what is left, and a plan before any training."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch

from tatl.data.case import Size
from tatl.data.store import Store
from tatl.models import build, count_parameters
from tatl.names import ROTATION, TEXTURES
from tatl.run import Run, finished
from tatl.studies.planner import in_order
from tatl.studies.runtime.cost import Network
from tatl.studies.runtime.rates import network_of, operations, rates
from tatl.training.device import pick_device
from tatl.training.pretext import TextureClassification

TIMED = {
    "measured": "steps timed here:",
    "small": "steps of two small images timed here, scaled by operations:",
    "scaled": "not timed, by its operations alone:",
}


def work(run: Run, store: Store) -> float:
    """Floating-point operations of the forward passes of training, by which runs share out the time that they take."""
    return images(run, store) * operations(network_of(run))


@dataclass(frozen=True)
class Plan:
    """What a study would do.

    Runs asked for, runs that are there, seconds and bytes of the rest, whether runs that are there say how long some
    of it takes, and by how their steps were timed the other networks: "measured", "small" or "scaled"
    (tatl.studies.runtime.rates).
    """

    runs: int
    there: int
    seconds: float
    bytes: float
    measured: bool
    timed: dict[str, list[str]]

    def words(self) -> str:
        """For people."""
        paces = ["at the pace of the runs that are there"] if self.measured else []
        paces += [f"{text} {', '.join(self.timed[how])}" for how, text in TIMED.items() if how in self.timed]
        time = f"{self.seconds / 3600:.1f} h" if self.seconds >= 5400 else f"{self.seconds / 60:.0f} min"
        return (
            f"{self.runs} runs: {self.there} are there, {self.runs - self.there} to do; about {time} one after "
            f"another ({'; '.join(paces) or 'nothing to do'}), {self.bytes / 1e6:.0f} MB"
        )


def plan(runs: Iterable[Run], root: Path, store: Store, device: str = "auto") -> Plan:
    """What training these runs would take, nothing trained or written: a few steps of each network are timed.

    Runs of a network of which runs are there take as long an image as these did, on this kind of device.
    """
    ordered, place = list(in_order(runs)), pick_device(device)
    there = [run for run in ordered if finished(run, root)]
    todo = [run for run in ordered if not finished(run, root)]
    known = _known(there, root, place)
    other = rates((network_of(run) for run in todo if network_of(run) not in known), place)
    paces = known | {network: rate.seconds for network, rate in other.items()}
    needed = 0.0
    for run in todo:
        looked = 0 if network_of(run) in known else _looked_at(run, store) / 3  # without gradients
        needed += (images(run, store) + looked) * paces[network_of(run)]
    timed: dict[str, list[str]] = {}
    for network, rate in other.items():
        timed.setdefault(rate.how, []).append(f"{network.backbone} ({network.shape})")
    names = {how: sorted(set(found)) for how, found in timed.items()}
    return Plan(len(ordered), len(there), needed, sum(_bytes(run, store) for run in todo), bool(known), names)


def _known(there: Sequence[Run], root: Path, device: torch.device) -> dict[Network, float]:
    """Seconds per image trained on of the networks of finished runs, their evaluations counted in."""
    taken: dict[Network, list[float]] = {}
    for run in there:
        history = run.folder(root) / "history.csv"
        if (took := seconds(run, root, device)) and history.is_file():
            total = taken.setdefault(network_of(run), [0.0, 0.0])
            total[0] += took
            total[1] += pd.read_csv(history)["step"].max() * run.recipe.batch * (4 if run.task == ROTATION else 1)
    return {network: took / count for network, (took, count) in taken.items()}


def images(run: Run, store: Store) -> float:
    """Images that training passes, in whole mini-batches; of rotation every turn of each."""
    batches = math.ceil(_trained(run, store) / run.recipe.batch)
    return run.recipe.epochs * batches * run.recipe.batch * (4 if run.task == ROTATION else 1)


def _trained(run: Run, store: Store) -> float:
    if run.task == TEXTURES:
        return TextureClassification.trained
    return (1 - 1 / run.n_folds) * 0.9 * run.fraction * len(store)


def _looked_at(run: Run, store: Store) -> float:
    """Images that are evaluated: before the first step and after every epoch, and those that calibrate."""
    return (run.recipe.epochs + 1) * (run.recipe.calibration + _trained(run, store) / 9)


def seconds(run: Run, root: Path, device: torch.device | None = None) -> float:
    """What a run's training took, all its processes together, in seconds; 0 where it left no log.

    With a `device` 0 too where any of it was on another kind of device.
    """
    log = run.folder(root) / "log"
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    found = re.findall(r"^([\d.]+) s in this process on (.*)", text, re.MULTILINE)
    here = "" if device is None else "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return sum(float(took) for took, _ in found) if all(where.startswith(here) for _, where in found) else 0.0


def _bytes(run: Run, store: Store) -> float:
    size = Size.parse(run.score_size) if run.score_size else store.size
    maps = len(store) / run.n_folds * size.height * size.width if run.task != TEXTURES else 0
    return 4 * _parameters(run.shape, run.backbone) + maps


@lru_cache
def _parameters(shape: str, backbone: str) -> int:
    with torch.device("meta"):
        return count_parameters(build("link" if shape == "encoder" else shape, backbone))

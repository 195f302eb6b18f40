"""How long runs take and how much disk: the work in them, a clock of what is left, and a plan before any training."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from tatl.data.case import Size
from tatl.data.store import Store
from tatl.models import build, count_parameters
from tatl.pretext import ROTATION, TEXTURES, TextureClassification
from tatl.run import Run, finished
from tatl.variants import in_order

PIXELS_PER_SECOND = 125e3  # a U-shape b0 at 96x128, batch 8, on two slow CPU cores (measured; twice that on quick ones)
USUAL = "efficientnet-b0"


def work(run: Run, store: Store) -> float:
    """Pixels seen in training; a Link-shape's counted as 0.6 of a U-shape's (measured on two cores)."""
    size = Size.parse(run.size)
    trained = (1 - 1 / run.n_folds) * 0.9 * run.fraction * len(store)
    images = TextureClassification.trained if run.task == TEXTURES else 4 * trained if run.task == ROTATION else trained
    return run.recipe.epochs * images * size.height * size.width * (0.6 if run.shape == "link" else 1.0)


class Clock:
    """How long the runs still to do may take: their work, at the pace of those that are done.

    Early stopping makes this an upper estimate.
    """

    def __init__(self, todo: Sequence[Run], store: Store) -> None:
        self.remaining, self.runs = sum(work(run, store) for run in todo), len(todo)
        self.store, self.done, self.finished, self.started = store, 0.0, 0, time.monotonic()

    def ticked(self, run: Run) -> None:
        self.done += work(run, self.store)
        self.finished += 1

    def count(self, ahead: int = 0) -> str:
        return f"[{self.finished + ahead}/{self.runs}]"

    def left(self) -> str:
        if not self.done or self.finished == self.runs:
            return ""
        minutes = (self.remaining - self.done) * (time.monotonic() - self.started) / self.done / 60
        return f", about {minutes:.0f} min left" if minutes >= 1 else ", under a minute left"


@dataclass(frozen=True)
class Plan:
    """What a study would do.

    Runs asked for, runs that are there, seconds and bytes of the rest, whether the pace is that of the runs that are
    there, and the backbones whose pace is unknown: all count as EfficientNet-b0.
    """

    runs: int
    there: int
    seconds: float
    bytes: float
    measured: bool
    others: list[str]

    def words(self) -> str:
        """For people."""
        pace = "at the pace of the runs that are there" if self.measured else "at the pace of two CPU cores"
        time = f"{self.seconds / 3600:.1f} h" if self.seconds >= 5400 else f"{self.seconds / 60:.0f} min"
        larger = f"; {', '.join(self.others)} counted as {USUAL}, which is smaller" if self.others else ""
        return (
            f"{self.runs} runs: {self.there} are there, {self.runs - self.there} to do; about {time} one after "
            f"another ({pace}{larger}), {self.bytes / 1e6:.0f} MB"
        )


def plan(runs: Iterable[Run], root: Path, store: Store) -> Plan:
    """What training these runs would take, nothing trained."""
    ordered = list(in_order(runs))
    there = [run for run in ordered if finished(run, root)]
    todo = [run for run in ordered if not finished(run, root)]
    taken = [seconds(run, root) for run in there]
    known = [(work(run, store), s) for run, s in zip(there, taken, strict=True) if s]
    pace = sum(w for w, _ in known) / sum(s for _, s in known) if known else PIXELS_PER_SECOND
    needed = sum(work(run, store) for run in todo) / pace
    others = sorted({run.backbone for run in todo} - {USUAL})
    return Plan(len(ordered), len(there), needed, sum(_bytes(run, store) for run in todo), bool(known), others)


def seconds(run: Run, root: Path) -> float:
    """What a run's training took, all its processes together, in seconds; 0 where it left no log."""
    log = run.folder(root) / "log"
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    found = re.findall(r"^([\d.]+) s in this process", text, re.MULTILINE)
    return sum(map(float, found))


def _bytes(run: Run, store: Store) -> float:
    size = Size.parse(run.score_size) if run.score_size else store.size
    maps = len(store) / run.n_folds * size.height * size.width if run.task != TEXTURES else 0
    return 4 * _parameters(run.shape, run.backbone) + maps


@lru_cache
def _parameters(shape: str, backbone: str) -> int:
    with torch.device("meta"):
        return count_parameters(build("link" if shape == "encoder" else shape, backbone))

"""What a network costs: its parameters, the memory of a training step, and seconds per image.

    memory_mb                  peak of training steps above the level before the first, in 1e6 bytes: activations,
                               gradients and the optimiser's state, the weights (4 bytes each) beside them (resident
                               memory of the process on a CPU, what PyTorch allocated on a GPU)
    train_seconds_per_image    of a step (forward, loss, backward, optimiser): the median of STEPS after a warm-up
    predict_seconds_per_image  of probabilities without gradients, alike

Every network is measured in a process of its own, on drawn images at random weights, which cost what trained ones do.
A frozen encoder passes in every step here; training keeps its features where there is room
(tatl.training.frozen_features).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tatl.cli import out_of_memory
from tatl.data.case import Size
from tatl.losses import segmentation_loss
from tatl.machine.processes import give, pool
from tatl.models import OwnLoss, count_parameters
from tatl.run import Recipe, Run, write_atomically
from tatl.training.base import TrainingTask
from tatl.training.device import lightning_precision, pick_device
from tatl.training.inference import infer
from tatl.training.learner import Learner
from tatl.training.tasks import start_model

STEPS = 3
MEASURED = ("memory_mb", "train_seconds_per_image", "predict_seconds_per_image")
KNOWN = "cost.json"  # among the runs: what was measured before


@dataclass(frozen=True)
class Network:
    """What is measured: a network, whether its encoder is kept fixed, and batches of its recipe at HEIGHTxWIDTH."""

    backbone: str
    shape: str
    frozen: bool
    size: str
    recipe: Recipe

    def run(self) -> Run:
        """A run of it that needs no other: from random weights."""
        start = "frozen-random" if self.frozen else "random"
        return Run("", "", self.size, "drawn", self.shape, self.backbone, start, "random", recipe=self.recipe)


@dataclass(frozen=True)
class Place:
    """Where it is measured: cpu or cuda, the hardware's name, threads (of a GPU 0), computer, version of PyTorch."""

    kind: str
    device: str
    threads: int
    computer: str
    torch: str

    @classmethod
    def here(cls, device: str = "auto") -> Place:
        """This computer, with the threads that PyTorch uses now."""
        kind = pick_device(device).type
        name = torch.cuda.get_device_name() if kind == "cuda" else f"{platform.machine()} CPU"
        threads = 0 if kind == "cuda" else torch.get_num_threads()
        return cls(kind, name, threads, platform.node(), torch.__version__)


def networks(runs: Iterable[Run]) -> list[Network]:
    """The networks of runs, each once with its encoder trained and once with it kept fixed."""
    kinds = dict.fromkeys((run.backbone, run.shape, run.size, run.recipe) for run in runs)
    return [Network(*kind[:2], frozen, *kind[2:]) for kind in kinds for frozen in (False, True)]


def costs(wanted: Iterable[Network], root: Path, place: Place) -> pd.DataFrame:
    """One row per network; what this computer measured before is read from the folder of runs, `root`.

    Columns backbone, shape, frozen, parameters, trained, batch, size, memory_mb, train_seconds_per_image,
    predict_seconds_per_image, device, threads; the measured ones are empty (NaN) where memory ran out.
    """
    path = Path(root) / KNOWN
    known: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    rows = []
    for network in tqdm(list(wanted), desc="cost of networks", unit="network"):
        key = json.dumps([dataclasses.asdict(network), dataclasses.asdict(place)], sort_keys=True)
        row = known.get(key) or described(network, place) | _alone(network, place)
        rows.append(row)
        if key not in known and not np.isnan(row[MEASURED[0]]):
            known[key] = row
            write_atomically(path, json.dumps(known, indent=1) + "\n")
    return pd.DataFrame(rows)


def described(network: Network, place: Place) -> dict[str, Any]:
    """The columns that need no measurement, the others empty (NaN).

    `parameters` counts BatchNorm's statistics, as Table 7 does; `trained` are those numbers that have a gradient.
    """
    with torch.device("meta"):
        model = start_model(network.run(), Path())
    return {
        "backbone": network.backbone, "shape": network.shape, "frozen": network.frozen,
        "parameters": count_parameters(model), "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "batch": network.recipe.batch, "size": network.size, **dict.fromkeys(MEASURED, np.nan),
        "device": place.device, "threads": place.threads,
    }  # fmt: skip


def _alone(network: Network, place: Place) -> dict[str, float]:
    """`Measure` in a process of its own; nothing where memory runs out there, which may end the process."""
    try:
        with pool([Measure(place)]) as processes:
            return cast(dict[str, float], give(processes, network).result())
    except (RuntimeError, MemoryError) as error:
        if not (out_of_memory(error) or "a process was ended from outside" in str(error)):
            raise
        print(f"note: memory ran out in a training step of {network.shape} on {network.backbone}", file=sys.stderr)
        return {}


@dataclass(frozen=True)
class Measure:
    """Takes the measures of a network; to be called once, in a process that has done nothing else."""

    place: Place

    def __call__(self, network: Network) -> dict[str, float]:
        _first_to_end()
        if self.place.threads:
            torch.set_num_threads(self.place.threads)
        device, run = torch.device(self.place.kind), network.run()
        small = replace(run, size="32x32")
        Steps(nn.Conv2d(3, 1, 3, padding=1), small, device).train()  # libraries load in a first step
        steps = Steps(start_model(run, Path()), run, device)
        level = resident(device, reset=True)
        training = seconds_of(steps.train, device) / run.recipe.batch
        memory = (resident(device) - level) / 1e6
        prediction = seconds_of(steps.predict, device) / run.recipe.batch
        return dict(zip(MEASURED, (memory, training, prediction), strict=True))


class Steps:
    """One batch of drawn images [B, 3, H, W] and masks, and what `tatl.training.learner` does with it."""

    def __init__(self, model: nn.Module, run: Run, device: torch.device) -> None:
        size, draw = Size.parse(run.size), torch.Generator().manual_seed(0)
        shape = (run.recipe.batch, 3, size.height, size.width)
        self.images = torch.randn(shape, generator=draw).to(device, memory_format=torch.channels_last)
        self.masks = (self.images[:, :1] > 1).float()
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = Learner(run, cast(TrainingTask, SimpleNamespace(model=self.model))).configure_optimizers()
        half = lightning_precision(run) == "bf16-mixed"
        self.precision, self.pool = partial(torch.autocast, device.type, torch.bfloat16, enabled=half), run.recipe.pool

    def train(self) -> None:
        with self.precision():
            loss = self._loss()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _loss(self) -> Tensor:
        if isinstance(self.model, OwnLoss):
            return self.model.training_loss(self.images, self.masks)
        return segmentation_loss(self.model(self.images), self.masks, self.pool).mean()

    def predict(self) -> None:
        with self.precision():
            infer(self.model, self.images)


def seconds_of(step: Callable[[], None], device: torch.device, timed: int = STEPS) -> float:
    """The median of `timed` calls, after one that is not counted."""
    taken = []
    for _ in range(1 + timed):
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:]))


def resident(device: torch.device, reset: bool = False) -> float:
    """Of this process's memory there (of a CPU what is resident, of a GPU what PyTorch has allocated), in bytes:
    the largest number of bytes so far; with `reset` the number now, from which on the largest is looked for."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()  # to what is allocated now
        return torch.cuda.max_memory_allocated()
    if reset:
        with contextlib.suppress(OSError):  # where there is no such file the process's largest so far is the level
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    if sys.platform == "win32":
        return np.nan
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _first_to_end() -> None:
    """Where memory runs out, Linux is to end this process and not the study."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")

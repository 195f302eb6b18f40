"""Training throughput: the toolkit's loop against the bare step, and against decoding files every epoch.

    python benchmarks/training.py                                              two cores, minutes
    python benchmarks/training.py --device cuda --size 384x512 --batches 8,16,32,64 --precisions 32,bf16 --compiled
    python benchmarks/training.py --device cuda --size 384x512 --paper         and what a paper-size study would take

Three loops over the same network, interleaved in rounds, medians over rounds of images/s:
    bare       one constant batch in memory: forward, loss, backward, SGD step.  The limit.
    toolkit    tatl.training.trainer's loop on a store (Lightning, balanced batches, crops, loss record), validation
    left out files      a plain DataLoader that decodes the JPEG and the PNG mask of every image in every epoch
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from tatl import cli
from tatl.data.batches import normalise
from tatl.data.case import Size
from tatl.data.phantom.drawing import Phantom
from tatl.data.store import Store, prepare
from tatl.losses import segmentation_loss
from tatl.models import build
from tatl.names import VARIANTS
from tatl.run import Recipe, Run, in_order
from tatl.studies.planner import Planner
from tatl.studies.runtime.effort import work
from tatl.studies.settings import Settings, load_preset
from tatl.training import device as places
from tatl.training import trainer as fit
from tatl.training.learner import Learner
from tatl.training.tasks import make_task

ATTRIBUTE = "pigment_network"
WARM_UP = 3


class Files(Dataset):
    """Images and masks as files at camera size, decoded each time they are asked for."""

    def __init__(self, folder: Path, cases: int, size: Size, camera: Size) -> None:
        self.folder, self.cases, self.size = folder, cases, size
        phantom = Phantom(cases, seed=1)
        for i in range(cases):
            case = phantom.read(i, camera)
            Image.fromarray(case.image).save(folder / f"{i}.jpg", quality=92)
            mask = case.attributes[ATTRIBUTE]
            assert mask is not None
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{i}.png")

    def __len__(self) -> int:
        return self.cases

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        to = (self.size.width, self.size.height)
        image = Image.open(self.folder / f"{i}.jpg").convert("RGB").resize(to, Image.Resampling.BILINEAR)
        mask = Image.open(self.folder / f"{i}.png").resize(to, Image.Resampling.NEAREST)
        return torch.from_numpy(np.array(image)), torch.from_numpy(np.array(mask) > 127)[None]


class Stopwatch(Callback):
    """Seconds of the steps of an epoch, the first few left out."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.steps = device, 0

    def on_train_batch_end(self, *_: object) -> None:
        self.steps += 1
        if self.steps == WARM_UP:
            self.started = now(self.device)

    def on_train_epoch_end(self, *_: object) -> None:
        self.seconds = (now(self.device) - self.started) / (self.steps - WARM_UP)


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def stepper(device: torch.device, precision: str, compiled: bool) -> Callable[[torch.Tensor, torch.Tensor], None]:
    model = build("u").to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    forward = torch.compile(model) if compiled else model

    def step(images: torch.Tensor, masks: torch.Tensor) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = forward(images)
        loss = segmentation_loss(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds_per_step(step: Callable, batches: Iterator, steps: int, device: torch.device) -> float:
    for number in range(WARM_UP + steps):
        if number == WARM_UP:
            started = now(device)
        step(*next(batches))
    return (now(device) - started) / steps


def constant(store: Store, batch: int, device: torch.device) -> Iterator:
    images = normalise(torch.from_numpy(store.images[np.arange(batch) % len(store)]).to(device))
    images = images.contiguous(memory_format=torch.channels_last)
    masks = torch.from_numpy(store.mask(ATTRIBUTE, np.arange(batch) % len(store))[:, None]).to(device)
    while True:
        yield images, masks


def decoded(files: Files, batch: int, device: torch.device) -> Iterator:
    while True:
        for images, masks in DataLoader(files, batch, shuffle=True, drop_last=True):
            yield normalise(images.to(device)).contiguous(memory_format=torch.channels_last), masks.to(device)


def toolkit(store: Store, batch: int, precision: str, steps: int, device: torch.device, folder: Path) -> float:
    """Seconds per step of `tatl.training.trainer`'s own trainer."""
    recipe = Recipe(epochs=1, batch=batch, precision=precision)
    run = Run(store.name, store.digest, str(store.size), ATTRIBUTE, "u", start="random", source="random", recipe=recipe)
    task = make_task(run, store, folder)
    task.model.to(memory_format=torch.channels_last)
    order = np.resize(task.batches(0), (WARM_UP + steps, batch))
    task.batches = lambda epoch: order  # type: ignore[method-assign]
    watch = Stopwatch(device)
    trainer = fit._trainer(run, folder, device, [watch], fresh=False)
    trainer.limit_val_batches = 0
    with places.deterministic(device):
        trainer.fit(Learner(run, task))
    return watch.seconds


def measure(
    store: Store,
    files: Files | None,
    batch: int,
    precision: str,
    rounds: int,
    steps: int,
    device: str,
    plain: float | None = None,
) -> float:
    """Print images/s of the loops, and return the seconds of a bare step; given a `plain` one, time it compiled."""
    place = torch.device(device)
    compiled = plain is not None
    step, bare = stepper(place, precision, compiled), "bare, compiled" if compiled else "bare"
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        times.setdefault(bare, []).append(seconds_per_step(step, constant(store, batch, place), steps, place))
        if compiled:
            continue
        with tempfile.TemporaryDirectory() as folder:
            times.setdefault("toolkit", []).append(toolkit(store, batch, precision, steps, place, Path(folder)))
        if files is not None:
            seconds = seconds_per_step(step, decoded(files, batch, place), steps, place)
            times.setdefault("files", []).append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    limit = medians[bare] if plain is None else plain
    for name, seconds in medians.items():
        share = f"{limit / seconds:.3f} of the bare step"
        print(f"batch {batch:3d}  {precision:4s}  {name:14s} {batch / seconds:8.1f} images/s, {share}", flush=True)
    return medians[bare]


def paper_time(store: Store, images_per_second: float) -> None:
    """What `study variants --preset paper` takes on one fold, from images/s; early stopping only shortens it."""
    values = load_preset("paper").settings
    planner = Planner(Settings(**{**values, "folds": "0", "source": "random", "score_size": ""}), store)
    runs = in_order(m.run for m in planner.members(VARIANTS))
    frame = store.size.height * store.size.width
    images = sum(work(run, store) for run in runs) / frame * 2594 / len(store)
    hours = images / images_per_second / 3600
    print(f"study variants --preset paper, one fold of 2594 cases: {len(runs)} runs, {hours:.1f} h (extrapolated)")


def main(
    device: str = "cpu",
    size: str = "96x128",
    batches: str = "8",
    precisions: str = "32",
    compiled: bool = False,
    cases: int = 64,
    camera: str = "768x1024",
    rounds: int = 5,
    steps: int = 12,
    paper: bool = False,
) -> None:
    """Print images/s of the three loops.

    Args:
        device: cpu or cuda
        size: of the store
        batches: mini-batch sizes, with commas
        precisions: 32 and bf16, with commas
        compiled: measure the bare step under torch.compile too
        cases: phantom cases in the store
        camera: size of the files that the plain DataLoader decodes; empty: leave it out
        rounds: interleaved repetitions
        steps: timed steps in each
        paper: extrapolate a paper-size study from the last toolkit rate
    """
    L.seed_everything(0, verbose=False)
    fit.quiet_lightning()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = prepare(Phantom(cases, seed=1), folder / "store", Size.parse(size), progress=False)
        (folder / "files").mkdir()
        files = Files(folder / "files", cases, Size.parse(size), Size.parse(camera)) if camera else None
        where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        print(f"U-shape efficientnet-b0 at {size} on {where}, torch {torch.__version__}; files at {camera or 'none'}")
        for batch in map(int, batches.split(",")):
            for precision in precisions.split(","):
                plain = measure(store, files, batch, precision, rounds, steps, device)
                if compiled:
                    measure(store, None, batch, precision, rounds, steps, device, plain)
        if paper:
            place = torch.device(device)
            with tempfile.TemporaryDirectory() as scratch:
                seconds = toolkit(store, 16, places.usual_precision(place.type), steps, place, Path(scratch))
            paper_time(store, 16 / seconds)


if __name__ == "__main__":
    sys.exit(cli.script(main))

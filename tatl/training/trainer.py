"""One training loop for every network: Lightning's, with what makes a run resumable to the bit.

An epoch's batches and the global generator are functions of (seed, epoch), and `last.ckpt` holds weights, momentum,
history and the best weights so far; so a run that broke continues from its last checkpoint to the same weights as
if it had not stopped.  `weights.safetensors`, the best by validation loss, is written last: with it a run is finished.
"""

from __future__ import annotations

import logging
import platform
import signal
import time
import warnings
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from safetensors.torch import save_file
from torch import Tensor

from tatl.data.store import Store
from tatl.machine.disk import locked, room_for, to_disk
from tatl.machine.version import commit, versions
from tatl.run import Run, finished, put_in_place, write_atomically
from tatl.training.base import TrainingTask
from tatl.training.device import deterministic, lightning_precision, pick_device
from tatl.training.learner import VALIDATION_LOSS, Learner
from tatl.training.tasks import make_task
from tatl.training.writers import Log, writer

# A checkpoint is three times the weights (weights, momentum, best), and most runs are shorter than a handful of them.
# Two minutes and the epoch that was begun are what a stop may cost.
CHECKPOINT_SECONDS = 120.0


class Busy(RuntimeError):
    """Another process is at this run: it is being made elsewhere."""


class Keep(Callback):
    """At the end of an epoch, minutes after the last time: the checkpoint, then the history that it holds, as CSV."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kept = folder, time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        if time.monotonic() - self.kept < CHECKPOINT_SECONDS:
            return
        partial = self.folder / "last.ckpt.partial"  # Lightning's own writing is not atomic across file systems
        trainer.save_checkpoint(partial)
        put_in_place(partial, self.folder / "last.ckpt")
        write_history(self.folder, cast(Learner, learner).history)
        self.kept = time.monotonic()


def write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    write_atomically(folder / "history.csv", pd.DataFrame(history).to_csv(index=False))


def fit(
    run: Run,
    root: Path,
    store: Store | None = None,
    *,
    device: str = "auto",
    imagenet_weights: Path | None = None,
    progress: bool = True,
    watcher: Callback | None = None,
    log: Log = "csv",
) -> Path:
    """Train a run unless it is finished, continuing where it broke; returns its folder.

    The runs it needs must be finished.  Raises ValueError for a store or checkpoint that does not fit, Busy where
    another process trains the run, FloatingPointError for a loss that is not finite, OSError for a full disk or one
    without file locks.
    """
    folder = run.folder(root)
    if finished(run, root):
        return folder
    place = pick_device(device)
    own = [torch.cuda.current_device()] if place.type == "cuda" else []  # of several GPUs, the one that is used
    with room_for(folder), holding(folder), torch.random.fork_rng(own), deterministic(place):
        if not finished(run, root):
            task = make_task(run, store, root, imagenet_weights, place)
            write_atomically(folder / "run.json", run.dumps())
            _train(run, task, folder, place, progress and watcher is None, watcher, log)
    return folder


def holding(folder: Path) -> AbstractContextManager[None]:
    """Inside, no other process trains this run; Busy where one does, OSError where files cannot be locked."""
    return locked(folder / "lock", Busy(f"another process is training {folder}: wait for it, or stop it"))


def taken(run: Run, root: Path) -> bool:
    """Whether another process is at this run."""
    try:
        with holding(run.folder(root)):
            return False
    except Busy:
        return True


def _train(
    run: Run,
    task: TrainingTask,
    folder: Path,
    device: torch.device,
    progress: bool,
    watcher: Callback | None,
    log: Log,
) -> None:
    started = time.monotonic()
    quiet_lightning()
    task.model.to(memory_format=torch.channels_last)
    learner = Learner(run, task)
    checkpoint = _checkpoint(run, folder)
    if checkpoint is None or not _complete(checkpoint, run):
        stopper = EarlyStopping(VALIDATION_LOSS, patience=run.recipe.patience, check_finite=False)
        resume = None if checkpoint is None else folder / "last.ckpt"
        callbacks = [stopper, *([watcher] if watcher else []), Keep(folder)]
        told = writer(log, folder, checkpoint["tatl"]["history"][-1]["step"] if checkpoint else -1)
        _interruptible(_trainer(run, folder, device, callbacks, not resume, progress, told), learner, resume)
    else:
        learner.on_load_checkpoint(checkpoint)
    learner.model.load_state_dict(learner.best)
    learner.model.to(device)
    task.finish(folder, device)
    write_history(folder, learner.history)
    _log(folder, learner, time.monotonic() - started, device)
    for path in folder.iterdir():
        to_disk(path)  # a run with weights is finished: all that belongs to it comes first
    save_weights(learner.best, folder / "weights.safetensors")
    (folder / "last.ckpt").unlink(missing_ok=True)


def quiet_lightning() -> None:
    """Leave out what Lightning says to every user of it: hardware, tips, and warnings that do not apply here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for message in (
        ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.15: a deprecation between the two
        "GPU available but not used",  # --device cpu on a machine with a GPU
        ".*does not have a deterministic implementation",  # max-unpooling and a few others have no such kernel
        ".*in eval mode at the start of training",  # a frozen encoder is, and meant to be
    ):
        warnings.filterwarnings("ignore", message=message)


def _interruptible(trainer: L.Trainer, learner: Learner, resume: Path | None) -> None:
    """Train; Ctrl-C, which Lightning turns into an exit that ignores further ones, is a KeyboardInterrupt again."""
    before = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(learner, ckpt_path=resume, weights_only=True)
    except SystemExit as stopped:
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from stopped


def _trainer(
    run: Run,
    folder: Path,
    device: torch.device,
    callbacks: list[Callback],
    fresh: bool,
    progress: bool = False,
    logger: Logger | None = None,
) -> L.Trainer:
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        plugins=LightningEnvironment(),  # or Lightning takes a job of Slurm, MPI or torchrun for its own
        precision=lightning_precision(run),
        max_epochs=run.recipe.epochs,
        callbacks=callbacks,
        default_root_dir=folder,
        logger=logger or False,
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=-1 if fresh else 0,  # the loss of the start; generators are put back after it
        log_every_n_steps=1,
    )


def _checkpoint(run: Run, folder: Path) -> dict[str, Any] | None:
    """The run's last checkpoint, or None; ValueError where the file is none or another run's."""
    path = folder / "last.ckpt"
    if not path.is_file():
        return None
    remedy = f"delete {path} to train this run from its start"
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        owner = checkpoint["tatl"]["run"]
    except Exception as error:  # whatever a damaged file makes torch.load raise
        raise ValueError(f"{path} is not a checkpoint ({type(error).__name__}): {remedy}") from error
    if owner != run.hash:
        raise ValueError(f"{path} belongs to run {owner}, not {run.hash}: {remedy}")
    return cast(dict[str, Any], checkpoint)


def _complete(checkpoint: dict[str, Any], run: Run) -> bool:
    """Whether training had ended, by its epochs or by early stopping, before the run was finished."""
    stalled = checkpoint["epoch"] - checkpoint["tatl"]["best_epoch"] >= run.recipe.patience
    return stalled or checkpoint["epoch"] + 1 >= run.recipe.epochs


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """A state dict as safetensors, renamed into place when whole."""
    partial = path.with_name(path.name + ".partial")
    save_file({k: v.contiguous() for k, v in weights.items()}, partial)
    put_in_place(partial, path)


def _log(folder: Path, learner: Learner, seconds: float, device: torch.device) -> None:
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    lines = [
        f"{datetime.now():%Y-%m-%d %H:%M:%S}  {learner.run.title()}",
        f"{seconds:.1f} s in this process on {where} ({platform.machine()}), torch {torch.__version__}",
        f"precision {learner.run.recipe.precision}; code {commit() or 'of no commit'}; "
        + ", ".join(f"{library} {number}" for library, number in versions().items()),
        f"best epoch {learner.best_epoch} of {learner.run.recipe.epochs}, validation loss {learner.best_loss:.4f}",
    ]
    with (folder / "log").open("a", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")

"""What one process trains at a time: a piece, runs one after another, and how each of them ends.

Runs on one frozen encoder are one piece, whose process computes that encoder's features once.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname

import torch

from tatl.cli import ERRORS, out_of_memory, sentence
from tatl.data.store import Store
from tatl.models.starts import start_rule
from tatl.run import Run, finished
from tatl.studies.execution.board import Tell, Teller
from tatl.studies.execution.machine import Machine
from tatl.training import frozen_features as features
from tatl.training.trainer import fit

GPU_FAILED = re.compile("CUDA error|CUDA driver error|cuDNN error|CUDNN_STATUS")  # not: CUDA out of memory

Outcome = float | BaseException  # the seconds that a run took (0: it was there), or why it failed
Piece = tuple[Run, ...]
Pending = Future[list[Outcome]]  # of a piece that is under way


class Lost(RuntimeError):
    """The process of a run was lost, for no fault of the run as far as anyone can tell."""


class Vanished(Lost):
    """The machine of a run was lost: nothing that the run did."""


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, so many threads of a CPU; 0: as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pieces_of(todo: Sequence[Run]) -> list[Piece]:
    """Runs of one frozen encoder on the same images as one piece, every other run as a piece of its own."""
    pieces: dict[object, list[Run]] = {}
    for run in todo:
        frozen = start_rule(run.start).frozen and not run.recipe.augment
        encoder = (run.start, run.parent, run.shape, run.backbone, run.seed)
        images = (run.fold, run.n_folds, run.split_seed, run.fraction, run.cropper, run.offset)
        pieces.setdefault((*encoder, *images) if frozen else run, []).append(run)
    return [tuple(piece) for piece in pieces.values()]


@dataclass(frozen=True)
class Trainer:
    """Trains the runs of a piece one after another, on so many threads (0: all) or on a GPU.

    It tells how far it is, and on which machine, if it is `elsewhere`.
    """

    root: Path
    store: Store
    machine: Machine
    threads: int = 0
    gpu: str = ""
    tell: Tell | None = None
    elsewhere: bool = False

    def __call__(self, piece: Piece) -> list[Outcome]:
        """One outcome a run; after a failure of the GPU the others are lost too."""
        if self.gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        found = list[Outcome]()
        for run in piece:
            before = found[-1] if found else None
            found.append(before if isinstance(before, Lost) else self.train(run))
        features.release()
        return found

    def train(self, run: Run) -> Outcome:
        """One run of it."""
        if finished(run, self.root):
            return 0.0
        started, own = time.monotonic(), self.machine
        teller = Teller(run, self.tell, gethostname() if self.elsewhere else "") if self.tell else None
        try:
            with threads(self.threads):
                fit(
                    run, self.root, self.store,
                    device=own.device, imagenet_weights=own.imagenet_weights, progress=False, watcher=teller,
                    log=own.log,
                )  # fmt: skip
        except ERRORS as error:
            if self.elsewhere and (out_of_memory(error) or isinstance(error, OSError)):
                return Lost(f"{sentence(error)} (on node {gethostname()})")  # a larger share, or another disk, may do
            return Lost(f"its GPU failed in two processes ({error})") if GPU_FAILED.search(str(error)) else error
        return time.monotonic() - started

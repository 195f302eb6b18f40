"""The starts that Figure 7 compares, as networks: where each comes from, and how its statistics were made ready.

A start is the network of a target segmenter before its first step.  Its untrained parts have placeholders for
BatchNorm statistics, which change its curvature by orders of magnitude; `calibrate` estimates the statistics of every
start alike, in one pass over training images without their masks, as training does before each evaluation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tatl.batch_norm import calibrate as estimate
from tatl.data.feed import Feed, even_chunks
from tatl.data.folds import split
from tatl.data.store import UNION, Store
from tatl.inits import INITIALISATIONS, load_exactly, read_weights
from tatl.models import build
from tatl.run import Recipe, Run
from tatl.tasks import start_model
from tatl.variants import VARIANTS, Planner

STARTS = ("random", "source", "rotation", "context", "tatl")
WHOLE, CROP = VARIANTS["stage23"], VARIANTS["stage123"]
IMAGES = 128  # of the calibration pass, where the settings name no number


@dataclass(frozen=True)
class Start:
    """A name, a network in evaluation mode, the run whose start it is (None: a file), and remarks for the reader."""

    name: str
    model: nn.Module
    run: Run | None
    meaning: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """What all starts of a comparison share."""

    planner: Planner
    root: Path
    shape: str
    fold: int
    seed: int
    crop: bool = False
    calibrate: bool = True
    imagenet_weights: Path | None = None

    @property
    def store(self) -> Store:
        return self.planner.store

    def train(self) -> np.ndarray:
        """Training images of the fold: sorted indices."""
        s = self.planner.settings
        return split(self.store, self.fold, s.n_folds, self.seed, s.fraction).train

    def run(self, name: str) -> Run:
        """The target segmenter that begins at this start; which attribute it is of does not matter to its start."""
        variant = CROP if self.crop else WHOLE
        return self.planner.started(name, variant, self.planner.attributes[0], self.shape, self.fold, self.seed)

    def start(self, name: str, boxes: np.ndarray | None = None) -> Start:
        """A start by its name, or from a file of weights; what it copies from must be trained.

        Raises ValueError or FileNotFoundError for an unknown name, and for weights that do not fit.
        """
        if name in STARTS:
            run = self.run(name)
            model = start_model(run, self.root, self.imagenet_weights)
            made = Start(name, model, run, INITIALISATIONS[name].meaning)
        else:
            made = self._file(Path(name))
        if self.calibrate:
            self._calibrate(made.model, boxes)
        made.model.eval()
        return made

    def _file(self, path: Path) -> Start:
        if not path.is_file():
            raise FileNotFoundError(
                f"start {str(path)!r} is neither one of {', '.join(STARTS)} nor a file of weights that is there"
            )
        model = build(self.shape, self.planner.settings.backbone)
        load_exactly(model, read_weights(path), f"the {self.shape} shape of {self.planner.settings.backbone}")
        return Start(str(path), model, None, "a file of weights", tuple(self._strangers(path)))

    def _strangers(self, path: Path) -> list[str]:
        """A note where the run.json beside a file tells of another store."""
        described = path.parent / "run.json"
        if not described.is_file():
            return [f"{path} has no run.json beside it: which images it was trained on is not known"]
        try:
            run = Run.from_json(json.loads(described.read_text()))
        except (ValueError, KeyError, TypeError) as error:
            return [f"{described} cannot be read ({error}): which images the weights were trained on is not known"]
        notes = []
        if run.digest != self.store.digest:
            notes.append(
                f"{path} was trained on store {run.store!r} ({run.digest}) and is measured on {self.store.name!r} "
                f"({self.store.digest})"
            )
        elif (run.fold, run.n_folds, run.seed) != (self.fold, self.planner.settings.n_folds, self.seed):
            notes.append(
                f"{path} was trained on fold {run.fold} of {run.n_folds} (seed {run.seed}) and is measured on the "
                f"training images of fold {self.fold} of {self.planner.settings.n_folds} (seed {self.seed})"
            )
        return notes

    def _calibrate(self, model: nn.Module, boxes: np.ndarray | None) -> None:
        feed = Feed(self.store, UNION, boxes)
        shuffled = np.random.default_rng([self.seed, 0, 1]).permutation(self.train())
        device = next(model.parameters()).device
        model.train()
        batches = even_chunks(shuffled[: self.planner.settings.calibration or IMAGES])
        with torch.no_grad():
            estimate(model, lambda indices: model(feed(indices, device)[0]), batches)

    def recipe(self) -> Recipe:
        """How the target segmenters are trained, which the theorem has assumptions about."""
        return self.planner.settings.recipe("target")

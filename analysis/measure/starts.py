"""The starts that Figure 7 compares, as networks: where each comes from, and how its statistics were made ready.

A start is the network of a target segmenter before its first step.  Its untrained parts have placeholders for
BatchNorm statistics, which change its curvature by orders of magnitude; `calibrate` estimates the statistics of every
start alike, in one pass over training images without their masks, as training does before each evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tatl.data.store import Store
from tatl.models.starts import load_exactly, read_weights
from tatl.names import BOUND_STARTS, UNION
from tatl.run import Run, read_run
from tatl.studies.planner import STAGES_OF, Planner

if TYPE_CHECKING:
    from torch import nn

    from analysis.curvature.assumptions import Training
    from analysis.measure.ledger import Subject

# torch takes seconds to import: what makes networks imports it, so that a plan does not.
_CALIBRATED = 128  # images of the calibration pass, where the settings name no number


@dataclass(frozen=True)
class StartNetwork:
    """A name, its weights on the store, the run whose start it is (None: a file), remarks for the reader, its seed."""

    name: str
    subject: Subject
    run: Run | None
    notes: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class StartScene:
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
        return self.planner.split(self.fold).train

    def run(self, name: str, attribute: str = "") -> Run:
        """The target segmenter that begins at this start, of the first attribute if none is named."""
        stages = STAGES_OF["stage123" if self.crop else "stage23"]
        named = attribute or self.planner.attributes[0]
        return self.planner.started(name, stages, named, self.shape, self.fold, self.seed)

    def targets(self, starts: Sequence[str]) -> dict[tuple[str, str], Run]:
        """The target segmenter of every start, files aside, and attribute."""
        named = [start for start in starts if start in BOUND_STARTS]
        return {(start, name): self.run(start, name) for start in named for name in self.planner.attributes}

    @property
    def folder(self) -> Path:
        """Where curvatures and estimated statistics are kept."""
        return self.root / self.store.name / "curvature"

    def cropper(self) -> Run | None:
        """Stage 1, where the images are cut to the lesion."""
        return self.planner.lesion(self.fold, self.seed) if self.crop else None

    def boxes(self) -> np.ndarray | None:
        """The boxes that cut the images, int [N, 4]; Stage 1 must be trained."""
        cropper = self.cropper()
        if cropper is None:
            return None
        from tatl.data.crop import grow, read_boxes

        return grow(read_boxes(cropper.folder(self.root)), self.planner.settings.offset, self.store.size)

    def start(self, name: str, boxes: np.ndarray | None = None) -> StartNetwork:
        """A start by its name, or from a file of weights; what it copies from must be trained.

        Raises ValueError or FileNotFoundError for an unknown name, and for weights that do not fit.
        """
        from analysis.measure.ledger import Subject, subject_name
        from tatl.training.tasks import start_model

        run = self.run(name) if name in BOUND_STARTS else None
        model = start_model(run, self.root, self.imagenet_weights) if run else self.of_file(Path(name))
        seen = self.calibration_images() if self.calibrate else None
        called = subject_name(model, self.store, boxes, None if seen is None else seen.tolist())
        if seen is not None:
            self._calibrate(model, boxes, seen, self.folder / f"{called}.safetensors")
        model.eval()
        notes = () if run else tuple(self._strangers(Path(name)))
        return StartNetwork(name, Subject(called, model, self.store, boxes), run, notes, self.seed)

    def of_file(self, path: Path) -> nn.Module:
        """The network with the weights of a file; ValueError where they do not fit."""
        from tatl.models import build

        backbone = self.planner.settings.backbone
        model = build(self.shape, backbone)
        load_exactly(model, read_weights(path), f"the {self.shape} shape of {backbone}")
        return model

    def _strangers(self, path: Path) -> list[str]:
        """A note where the run.json beside a file tells of another store."""
        described = path.parent / "run.json"
        if not described.is_file():
            return [f"{path} has no run.json beside it: which images it was trained on is not known"]
        try:
            run = read_run(described)
        except (ValueError, OSError) as error:
            return [f"{described} cannot be read ({error}): which images the weights were trained on is not known"]
        s, store = self.planner.settings, self.store
        theirs, ours = f"store {run.store!r} ({run.digest})", f"{store.name!r} ({store.digest})"
        if run.digest == store.digest:
            theirs = f"fold {run.fold} of {run.n_folds} (split seed {run.split_seed})"
            ours = f"fold {self.fold} of {s.n_folds} (split seed {s.split_seed})"
        return [f"{path} was trained on {theirs} and is measured on {ours}"] if theirs != ours else []

    def calibration_images(self) -> np.ndarray:
        """The training images that statistics are estimated on, the same for every seed: indices."""
        shuffled = np.random.default_rng([0, 0, 1]).permutation(self.train())
        return shuffled[: self.planner.settings.calibration or _CALIBRATED]

    def _calibrate(self, model: nn.Module, boxes: np.ndarray | None, seen: np.ndarray, path: Path) -> None:
        """Estimate the statistics, or read them: estimated anew, they could differ in the last bit."""
        from safetensors.torch import save_file

        from tatl.data.batches import Feed, even_chunks
        from tatl.training.batch_norm import calibrate as estimate

        if not path.is_file():
            feed = Feed(self.store, UNION, boxes)
            model.train()
            estimate(model, lambda indices: model(feed(indices)[0]), even_chunks(seen))
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(path.name + ".partial")
            save_file({name: value.contiguous() for name, value in model.named_buffers()}, partial)
            partial.replace(path)
        model.load_state_dict(read_weights(path), strict=False)

    def training(self) -> Training:
        """How the target segmenters are trained, which the theorem has assumptions about."""
        from analysis.curvature.assumptions import Training

        recipe = self.planner.settings.recipe("target", self.planner.precision)
        sgd = "SGD" + (f" with momentum {recipe.momentum}" if recipe.momentum else "")
        optimiser = sgd if recipe.optimizer == "sgd" else "AdamW"
        return Training(optimiser, recipe.lr, recipe.epochs, recipe.batch, drawn=recipe.balance != 0)

"""What may predict how stable training from a start is: a row per start, attribute and seed, known before training.

    risk, curvature        means over the few images that the bound is of, and of their norms the median and the mean
                           without a tenth at either end (one image at least): means rest on few large ones
    scaled_curvature       mean of ||D H D||, D = |w|, which does not change where a weight before a BatchNorm is scaled
    trace                  of the mean Hessian of the few images, with its standard error over them
    gradient_norm, _noise  |mean| and tr Cov of the gradients of more images: the first-order baseline is made of it
    feature_distance       1 - linear CKA of the encoder's last features and those of `source`
    path, curvature_trained   after training, and where finished runs are there alone: mean v^T H v, v the way from
                           the start, and the mean norm at its end

What takes long is kept as it comes: norms in their ledgers, the rest as runs/<store>/predictors/<subject>-*.json, named
by a checksum of all that decides it.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from analysis.curvature.distance import hessian_distance, linear_cka
from analysis.curvature.evaluation import ImageFeed, evaluation, exactly
from analysis.curvature.norms import ENGINE, weights_digest
from analysis.curvature.products import Hessians
from analysis.curvature.replace_one import gradient_noise
from analysis.curvature.spectrum import ScaleFree, trace
from analysis.measure import figure7
from analysis.measure.ledger import LOSS, Subject, image_loss
from analysis.measure.sample import TrainingSample
from analysis.measure.solve import Curvatures
from analysis.measure.starts import StartNetwork, StartScene
from tatl.data.batches import Feed
from tatl.models.starts import load_exactly, read_weights
from tatl.run import finished, write_atomically
from tatl.studies.execution.crew import Hand
from tatl.training.tasks import start_model

GRADIENTS = 64  # images of the gradients at most, of the fold's training images
TRACE_PRODUCTS = 4  # of each image: what images differ by is far more than the error of one trace
_KEYS = ["start", "attribute", "seed"]
_Values = dict[str, float]


def predictors(
    starts: Sequence[StartNetwork],
    chosen: dict[str, TrainingSample],
    curvatures: Curvatures,
    scene: StartScene,
    gradients: int = GRADIENTS,
) -> pd.DataFrame:
    """One row per start, attribute and seed: these, images, gradients, and the columns above; NaN where not known.

    Args:
        starts: of every seed
        chosen: of every attribute the few images of risk and curvature
        curvatures: how norms are sought, and where they are kept
        scene: what the starts share; says which finished runs are theirs
        gradients: images of the gradients at most
    """
    cells = list(_cells(starts, chosen, scene, gradients))
    table = _of_norms(figure7.measure(starts, chosen, curvatures)).join(_scaled(starts, chosen, curvatures))
    each = pd.DataFrame(_measured(cells, curvatures), pd.MultiIndex.from_tuples([c.names for c in cells], names=_KEYS))
    table = table.join(each).join(_trained(cells, curvatures))
    distances = _feature_distances(starts, scene.train()[:gradients], curvatures.crew.here)
    return table.join(distances, on=["start", "seed"]).reset_index()


def _of_norms(measured: pd.DataFrame) -> pd.DataFrame:
    """Of risk and norms, as `figure7.measure` has them, by start, attribute and seed."""
    groups = measured.groupby(_KEYS, sort=False)
    return pd.DataFrame({
        "images": groups.size(), "risk": groups["loss"].mean(), "curvature": groups["norm"].mean(),
        "curvature_median": groups["norm"].median(), "curvature_trimmed": groups["norm"].agg(trimmed),
        "unconverged": 1 - groups["converged"].mean(),
    })  # fmt: skip


def trimmed(values: pd.Series | np.ndarray) -> float:
    """The mean without a tenth of the values at either end, one at least; of two or fewer that of all."""
    ordered = np.sort(np.asarray(values, float))
    cut = max(1, round(len(ordered) / 10)) if len(ordered) > 2 else 0
    return float(ordered[cut : len(ordered) - cut].mean())


def _scaled(starts: Sequence[StartNetwork], chosen: dict[str, TrainingSample], curvatures: Curvatures) -> pd.Series:
    """The mean of ||D H D|| by start, attribute and seed."""
    subjects = []
    for subject in (start.subject for start in starts):
        model = ScaleFree(pickle.loads(pickle.dumps(subject.model)))
        subjects.append(dataclasses.replace(subject, name=f"{subject.name}-scaled", model=model))
    tables = curvatures(subjects, {name: sample.indices for name, sample in chosen.items()})
    keyed = [table.assign(start=s.name, seed=s.seed) for s, table in zip(starts, tables, strict=True)]
    every = pd.concat(keyed).assign(scaled_curvature=lambda table: table["value"].abs())
    return every.groupby(_KEYS, sort=False)["scaled_curvature"].mean()


@dataclass(frozen=True)
class _Cell:
    """A start on an attribute, what is measured there in one go, and what it has become where that is trained.

    more, few  indices of the images of the gradients, and of the trace and v^T H v
    """

    start: StartNetwork
    attribute: str
    more: np.ndarray
    few: np.ndarray
    trained: nn.Module | None

    @property
    def names(self) -> tuple[str, str, int]:
        return self.start.name, self.attribute, self.start.seed

    def end(self) -> Subject | None:
        """The trained weights, named by what they are and where they began."""
        if self.trained is None:
            return None
        subject = self.start.subject
        name = hashlib.sha256(f"{weights_digest(self.trained)} {subject.name}".encode()).hexdigest()[:12]
        return dataclasses.replace(subject, name=name, model=self.trained)

    def path(self, folder: Path, device: str) -> Path:
        """Where its values are kept."""
        end = self.end()
        decides = [*self.names, self.more.tolist(), self.few.tolist(), TRACE_PRODUCTS, device, LOSS, ENGINE]
        key = hashlib.sha256(f"{decides} {end.name if end else ''}".encode()).hexdigest()[:12]
        return folder / f"{self.start.subject.name}-{self.attribute}-{key}.json"

    def measure(self, device: str) -> _Values:
        subject = self.start.subject
        model = subject.model.to(device)
        feed = partial(Feed(subject.store, self.attribute, subject.boxes), device=device)
        noise = gradient_noise(model, feed, image_loss, self.more.tolist())
        found = {"gradients": len(self.more), "gradient_norm": noise.squared_mean**0.5, "gradient_noise": noise.trace}
        found |= _traces(model, feed, self.few)
        if self.trained is not None:
            trained = self.trained.to(device)
            found["path"] = hessian_distance(trained, model, feed, self.few, image_loss).mean
        return found


def _traces(model: nn.Module, feed: ImageFeed, indices: np.ndarray) -> _Values:
    """The trace of the mean Hessian, image by image, so that memory is that of one."""
    hessians, found = Hessians(model, image_loss), []
    for number, index in enumerate(indices):
        at = hessians.at(*feed(np.array([index])))
        found.append(trace(at, at.gradient, products=TRACE_PRODUCTS, seed=number).value)
    error = np.std(found, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else np.nan
    return {"trace": float(np.mean(found)), "trace_error": float(error)}


def _cells(
    starts: Sequence[StartNetwork], chosen: dict[str, TrainingSample], scene: StartScene, gradients: int
) -> Iterator[_Cell]:
    order = np.random.default_rng(0).permutation(scene.train())
    for start in starts:
        for name, sample in chosen.items():
            known = order[scene.store.known(name)[order]]
            yield _Cell(start, name, known[:gradients], sample.indices, _end_of(start, name, scene))


def _end_of(start: StartNetwork, attribute: str, scene: StartScene) -> nn.Module | None:
    """The segmenter trained from this start, where its run is finished."""
    if start.run is None:
        return None
    run = dataclasses.replace(scene, seed=start.seed).run(start.name, attribute)
    if not finished(run, scene.root):
        return None
    model = start_model(run, scene.root, scene.imagenet_weights)
    load_exactly(model, read_weights(run.folder(scene.root) / "weights.safetensors"), f"the network of {run.title()}")
    return model.requires_grad_(True).eval()


class _Hand(Hand):
    """Measures cells, on copies of their networks."""

    def do(self, task: tuple[int, _Cell]) -> tuple[int, _Values]:
        number, cell = task
        return number, copy.deepcopy(cell).measure(self.device)


def _measured(cells: Sequence[_Cell], curvatures: Curvatures) -> list[_Values]:
    """The values of every cell, read where they are kept, else measured, in several processes, and kept."""
    crew = curvatures.crew
    paths = [cell.path(curvatures.folder.parent / "predictors", crew.device) for cell in cells]
    todo = [(number, cells[number]) for number, path in enumerate(paths) if not path.is_file()]
    bar = partial(tqdm, desc="gradients and traces", total=len(cells), unit="start", disable=not curvatures.progress)
    shared = crew.share(_Hand(), todo, cells[0].start.subject.store)
    for number, values in bar(shared, initial=len(cells) - len(todo)) if todo else ():
        paths[number].parent.mkdir(parents=True, exist_ok=True)
        write_atomically(paths[number], json.dumps(values) + "\n")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _trained(cells: Sequence[_Cell], curvatures: Curvatures) -> pd.Series:
    """The mean norm at the end of training, where that is known."""
    ends = [(cell, end) for cell in cells if (end := cell.end()) is not None]
    tables = curvatures([end for _, end in ends], [{c.attribute: c.few} for c, _ in ends]) if ends else []
    means = {cell.names: float(table["value"].abs().mean()) for (cell, _), table in zip(ends, tables, strict=True)}
    index = pd.MultiIndex.from_tuples([cell.names for cell in cells], names=_KEYS)
    return pd.Series(means, dtype=float).reindex(index).rename("curvature_trained")


def _feature_distances(starts: Sequence[StartNetwork], indices: np.ndarray, device: str) -> pd.Series:
    """By start and seed; NaN where `source` is not among the starts."""
    features = {(start.name, start.seed): _features(start.subject, indices, device) for start in starts}
    own = next((found for (name, _), found in features.items() if name == "source"), None)
    distances = {key: np.nan if own is None else 1 - linear_cka(found, own) for key, found in features.items()}
    index = pd.MultiIndex.from_tuples(list(distances), names=["start", "seed"])
    return pd.Series(list(distances.values()), index, dtype=float, name="feature_distance")


def _features(subject: Subject, indices: np.ndarray, device: str) -> np.ndarray:
    """The encoder's last features of each image, averaged over places: float64 [n, channels]."""
    model, feed = subject.model.to(device), Feed(subject.store, next(iter(subject.store.attributes)), subject.boxes)
    with evaluation(model), exactly(), torch.no_grad():
        each = [model.features(feed(np.array([i]))[0].to(device))[-1].mean((-2, -1)) for i in indices]  # type: ignore[operator]
    model.to("cpu")
    return cast(np.ndarray, torch.cat(each).double().cpu().numpy())

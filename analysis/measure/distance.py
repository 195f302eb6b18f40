"""The Hessian distance of a fine-tuned network (after Ju, Li & Zhang, ICML 2022), a second opinion on a start.

    h_i = v^T Hess l(w, z_i) v,    v = w - w_start        w: the weights after fine-tuning, z_i: a training image

Their bound on the generalisation gap of fine-tuning grows as sqrt(C max_i h_i+ / m), for a loss in [0, C], here C = 1:
far travel along flat directions is cheap, a short way across a ravine is not.  They take the sum over layers of
truncated, layer-wise Hessians; here v^T H v is taken whole, signed, and its negative values are counted as 0 where a
root is drawn.  Read it as a ranking of starts, not as a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from analysis.curvature.products import Hessians, Loss, flatten
from analysis.measure.ledger import image_loss
from analysis.measure.sample import Sample
from analysis.measure.starts import Scene
from tatl.data.batches import Feed
from tatl.models.starts import load_exactly, read_weights
from tatl.run import Run, finished
from tatl.training.tasks import start_model

Images = Callable[[np.ndarray], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class HessianDistance:
    """Per image v^T H v [n] (signed), and |v|, the plain distance."""

    values: np.ndarray
    length: float

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def largest(self) -> float:
        return float(self.values.max())

    def measure(self, m: int) -> float:
        """sqrt(max_i h_i+ / m) for m training images."""
        return float(np.sqrt(max(self.largest, 0.0) / m))


def hessian_distance(
    model: nn.Module, start: nn.Module, feed: Images, indices: np.ndarray, loss: Loss
) -> HessianDistance:
    """v^T H v of each image, v the way from `start` to `model`; one product an image.

    Args:
        model: after fine-tuning; in evaluation mode for this
        start: before it, the same network
        feed: indices int [1] -> an image [1, C, H, W] and its mask
        indices: int [n]
        loss: (model(images), masks) -> one loss per image

    Raises ValueError where the two are not the same network, or no image is given.
    """
    if not len(indices):
        raise ValueError("no image is given")
    before, after = (dict(m.named_parameters()) for m in (start, model))
    if [(k, p.shape) for k, p in before.items()] != [(k, p.shape) for k, p in after.items()]:
        raise ValueError("the start and the fine-tuned network are not the same network: there is no way between them")
    hessians = Hessians(model, loss)
    values = []
    for index in indices:
        at = hessians.at(*feed(np.array([index])))
        way = flatten([(after[name] - before[name]).detach() for name in hessians.weights])
        values.append(float(way @ at(way)))
    return HessianDistance(np.array(values), float(way.norm()))


def finetuned(scene: Scene, starts: Sequence[str], attributes: Sequence[str]) -> dict[tuple[str, str], Run]:
    """The target segmenter of every start and attribute."""
    return {(start, attribute): scene.run(start, attribute) for start in starts for attribute in attributes}


def distances(
    scene: Scene,
    runs: dict[tuple[str, str], Run],
    chosen: dict[str, Sample],
    boxes: np.ndarray | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """One row per start and attribute: start, attribute, m, images, length, mean, largest, negative, measure.

    The runs must be finished.  `negative`: share of images with v^T H v < 0.
    """
    rows = []
    bar = tqdm(runs.items(), desc="Hessian distance", unit="network", disable=not progress)
    for (name, attribute), run in bar:
        assert finished(run, scene.root)
        start = start_model(run, scene.root, scene.imagenet_weights).to(device)
        model = start_model(run, scene.root, scene.imagenet_weights)
        load_exactly(
            model, read_weights(run.folder(scene.root) / "weights.safetensors"), f"the network of {run.title()}"
        )
        model.requires_grad_(True).to(device)
        sample, feed = chosen[attribute], partial(Feed(scene.store, attribute, boxes), device=device)
        found = hessian_distance(model, start, feed, sample.indices, image_loss)
        rows.append({
            "start": name, "attribute": attribute, "m": sample.m, "images": len(sample.indices),
            "length": found.length, "mean": found.mean, "largest": found.largest,
            "negative": float((found.values < 0).mean()), "measure": found.measure(sample.m),
        })  # fmt: skip
    return pd.DataFrame(rows)

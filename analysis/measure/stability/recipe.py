"""The stability of the recipe that people use (mini-batches, AdamW, several epochs), as Feldman & Zhang (2020) have it.

Every training of a start is one on a random share of the images, the training part of a fold (72 % of five folds), the
same for all starts.  Of an image i of the test part of training r, the others r' that were trained on it show what it
is to have i in the training set:

    d(r, i) = l(A_r, z_i) - mean over r' with i of l(A_r', z_i)

Its mean over images and trainings is what they call memorisation, and Definition 1 with all that belongs to a training
replaced, not z_i alone.  What the starts copy from (Stage 2, a pretext) is trained on the same part.  The validation
part, by which training stops early, counts as neither.  Losses are per image, by the networks that training kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from analysis.curvature.evaluation import per_image_losses
from analysis.measure.ledger import image_loss, subject_name
from analysis.measure.starts import StartScene
from tatl.data.batches import Feed
from tatl.data.store import write_csv
from tatl.names import BOUND_STARTS
from tatl.prediction.ensemble import network
from tatl.run import Run
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.schedule import execute
from tatl.training.device import pick_device


@dataclass(frozen=True)
class Trained:
    """A target segmenter of a start, and the fold whose parts it was trained and tested on."""

    start: str
    attribute: str
    scene: StartScene
    run: Run


def trainings(scene: StartScene, starts: Iterable[str], seeds: Sequence[int]) -> list[Trained]:
    """Of every fold and seed of the settings; ValueError for one fold, whose images are either left out or not."""
    planner = scene.planner
    folds = planner.settings.fold_numbers
    if len(folds) < 2:
        every = ",".join(map(str, range(planner.settings.n_folds)))
        raise ValueError(f"with fold {folds[0]} alone no image is both trained on and left out: give --folds {every}")
    named = [name for name in starts if name in BOUND_STARTS]
    return [
        Trained(name, attribute, place, place.run(name, attribute))
        for attribute in planner.attributes
        if all(attribute in planner.trainable(fold) for fold in folds)
        for name in named
        for place in (replace(scene, fold=fold, seed=seed) for fold in folds for seed in seeds)
    ]


def recipe_tables(
    scene: StartScene, wanted: Sequence[Trained], machine: Machine, about: dict[str, Any]
) -> dict[str, pd.DataFrame]:
    """`stability_recipe`, a row per start and attribute, and `stability_recipe_images`, a row per image of these.

    The rows of the first say what they are `about`; stability and gap are means over trainings, with standard errors
    over trainings.  Trains what is not there.
    """
    execute([training.run for training in wanted], scene.root, scene.store, machine)
    with tqdm(wanted, desc="recipe", unit="network") as bar:
        losses = pd.concat([_losses(training, machine) for training in bar], ignore_index=True)
    keys = ["start", "attribute", "index"]
    seen, unseen = (losses[losses["part"] == part] for part in ("train", "test"))
    with_it = seen.groupby(keys)["loss"].agg(["mean", "size"]).add_prefix("with_")
    compared = unseen.join(with_it, on=keys).dropna(subset="with_mean")
    rows = []
    for (start, attribute), part in compared.groupby(["start", "attribute"], sort=False):
        same = (losses["start"] == start) & (losses["attribute"] == attribute)
        stability, error = _over_trainings((part["loss"] - part["with_mean"]).groupby(part["training"]).mean())
        risks = losses[same].groupby(["training", "part"])["loss"].mean().unstack()
        gap, gap_error = _over_trainings(risks["test"] - risks["train"])
        rows.append(
            {
                "start": start, "attribute": attribute, "runs": len(risks), "images": part["index"].nunique(),
                "stability": stability, "error": error, "gap": gap, "gap_error": gap_error,
                "train_risk": risks["train"].mean(), "held_risk": risks["test"].mean(),
            }
        )  # fmt: skip
    images = compared.groupby(keys, sort=False).agg(
        without=("loss", "mean"), without_runs=("loss", "size"),
        **{"with": ("with_mean", "first"), "with_runs": ("with_size", "first")},
    ).reset_index()  # fmt: skip
    images.insert(2, "image", scene.store.cases["id"].to_numpy()[images["index"]])
    images["memorised"] = images["without"] - images["with"]
    return {"stability_recipe": pd.DataFrame(rows).assign(**about), "stability_recipe_images": images}


def _over_trainings(values: pd.Series) -> tuple[float, float]:
    """The mean, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _losses(training: Trained, machine: Machine) -> pd.DataFrame:
    """Of the images it was trained and tested on: training, start, attribute, part, index, loss; kept beside others."""
    place, run, attribute = training.scene, training.run, training.attribute
    store, device, split = place.store, pick_device(machine.device), place.planner.split(place.fold)
    model, boxes = network(run, place.root, device).to(memory_format=torch.contiguous_format), place.boxes()
    path = place.root / store.name / "stability" / f"{subject_name(model, store, boxes)}-{attribute}.csv"
    if not path.is_file():
        known, feed = store.known(attribute), partial(Feed(store, attribute, boxes), device=device)
        parts = {"train": split.train[known[split.train]], "test": split.test[known[split.test]]}
        indices = np.concatenate(list(parts.values()))
        part = np.repeat(list(parts), [len(each) for each in parts.values()])
        found = per_image_losses(model, feed, indices, image_loss)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(pd.DataFrame({"part": part, "index": indices, "loss": found}), path)
    named = {"training": run.hash, "start": training.start, "attribute": attribute}
    return pd.read_csv(path).assign(**named)

"""Which runs a table needs, in order; training them; and the measured tables.

A study is a list of runs with what they need: runs that are there are not repeated, runs that several variants
share are trained once.  `variants` is Tables 3 and 4 (A.10-A.13): the five variants on the same folds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from tqdm import tqdm

from tatl.data.case import Size
from tatl.data.folds import split
from tatl.data.store import LESION, Store
from tatl.fit import fit
from tatl.inference import truth
from tatl.metrics import SCORES, confusion, score_table, summary
from tatl.pretext import TEXTURES, TextureClassification
from tatl.run import Run, finished
from tatl.variants import Member, in_order

ENSEMBLE = "mean"
KEYS = ["variant", "shape", "seed", "fold"]


@dataclass(frozen=True)
class Machine:
    """Where runs are trained: device (auto, cpu, cuda), how many of them, and the file of ImageNet weights."""

    device: str = "auto"
    devices: int = 1
    imagenet_weights: Path | None = None
    progress: bool = True


def execute(runs: Iterable[Run], root: Path, store: Store, machine: Machine) -> list[Path]:
    """Train what is not there yet, needed runs first; says what is to do and how long it may take."""
    ordered = list(in_order(runs))
    todo = [run for run in ordered if not finished(run, root)]
    if machine.progress:
        _announce(ordered, todo)
    clock = Clock(todo, store)
    for number, run in enumerate(todo, start=1):
        title = f"[{number}/{len(todo)}] {run.title()}{clock.left()}"
        started = time.monotonic()
        fit(run, root, store, title=title, **vars(machine))
        clock.ticked(run, time.monotonic() - started)
        if machine.progress:
            tqdm.write(f"{title}: {time.monotonic() - started:.0f} s")
    return [run.folder(root) for run in ordered]


def _announce(ordered: Sequence[Run], todo: Sequence[Run]) -> None:
    tqdm.write(f"{len(ordered)} runs: {len(ordered) - len(todo)} are there, {len(todo)} to do")
    for run in todo:
        tqdm.write(f"  {run.title()}")


class Clock:
    """How long the runs still to do may take: their work, at the speed of those that are done.

    Early stopping makes this an upper estimate.
    """

    def __init__(self, todo: Sequence[Run], store: Store) -> None:
        self.remaining = sum(self.work(run, store) for run in todo)
        self.store, self.done, self.seconds = store, 0.0, 0.0

    @staticmethod
    def work(run: Run, store: Store) -> float:
        """Pixels seen in training, a Link-shape's counted as 0.6 of a U-shape's (measured on two cores)."""
        size = Size.parse(run.size)
        trained = (1 - 1 / run.n_folds) * 0.9 * run.fraction * len(store)
        images = TextureClassification.trained if run.task == TEXTURES else trained
        return run.recipe.epochs * images * size.height * size.width * (0.6 if run.shape == "link" else 1.0)

    def ticked(self, run: Run, seconds: float) -> None:
        self.done += self.work(run, self.store)
        self.seconds += seconds

    def left(self) -> str:
        if not self.done:
            return ""
        minutes = (self.remaining - self.done) * self.seconds / self.done / 60
        return f", about {minutes:.0f} min left" if minutes >= 1 else ", under a minute left"


def scores_of(members: Sequence[Member], root: Path, store: Store) -> pd.DataFrame:
    """Per-image scores of every shape, and of their averaged probabilities (shape "mean").

    Columns variant, shape, seed, fold, image, attribute, tp, fp, fn, tn.
    """
    parts = []
    ensembles: dict[tuple[str, int, int, str], list[Member]] = {}
    for member in members:
        scores = pd.read_csv(member.run.folder(root) / "scores.csv", dtype={"image": str})
        parts.append(_labelled(scores, member, member.shape))
        ensembles.setdefault((member.variant, member.seed, member.fold, member.attribute), []).append(member)
    parts += [_labelled(_ensemble(group, root, store), group[0], ENSEMBLE) for group in ensembles.values()]
    return pd.concat(parts, ignore_index=True)


def _labelled(scores: pd.DataFrame, member: Member, shape: str) -> pd.DataFrame:
    return scores.assign(variant=member.variant, shape=shape, seed=member.seed, fold=member.fold)


def probabilities_of(runs: Sequence[Run], root: Path) -> np.ndarray:
    """Test-set probabilities averaged over runs: float32 [n, h, w] in units of 1/256."""
    stacks = [np.load(run.folder(root) / "probabilities.npy") for run in runs]
    return np.asarray(np.mean(np.stack(stacks), axis=0, dtype=np.float32))


def _ensemble(members: Sequence[Member], root: Path, store: Store) -> pd.DataFrame:
    run = members[0].run
    mean = probabilities_of([member.run for member in members], root)
    test = split(store, run.fold, run.n_folds, run.seed, run.fraction).test
    size = Size.parse(run.score_size) if run.score_size else store.size
    # Values are floor(256 p), on average half a step below 256 p.
    fractions = confusion(mean + 0.5 >= 128, truth(store, run.task, test, size))
    return score_table(store.cases["id"].to_numpy()[test], run.task, fractions)


def per_fold(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per variant, shape, seed, fold and attribute (and "average" and "micro"): pooled over the fold."""
    rows = []
    for key, part in scores.groupby(KEYS, sort=False):
        rows.append(summary(part).assign(**dict(zip(KEYS, cast(tuple, key), strict=True))))
    return pd.concat(rows, ignore_index=True)[[*KEYS, "attribute", *SCORES, "images", "positives"]]


def over_folds(folds: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (n - 1; empty for one) over folds and seeds of the pooled scores."""
    grouped = folds.groupby(["variant", "shape", "attribute"], sort=False)
    mean, std = grouped[list(SCORES)].mean(), grouped[["jaccard", "dice"]].std(ddof=1)
    counts = pd.DataFrame({"folds": grouped.size(), "positives": grouped["positives"].sum()})
    table = mean.join(std.add_suffix("_std")).join(counts).reset_index()
    order = ["jaccard", "jaccard_std", "dice", "dice_std", "image_jaccard", "image_dice", "folds", "positives"]
    return table[["variant", "shape", "attribute", *order]]


def lesion_scores(members: Sequence[Member], root: Path) -> pd.DataFrame:
    """Stage 1 on its test folds, whole images: start, fold, seed and the scores."""
    stage1 = (m.run if m.run.task == LESION else m.run.cropper for m in members)
    croppers = dict.fromkeys(run for run in stage1 if run is not None)
    rows = []
    for run in croppers:
        table = summary(pd.read_csv(run.folder(root) / "scores.csv"))
        row = table[table["attribute"] == LESION].iloc[0]
        rows.append({"start": f"{run.start} ({run.source})", "fold": run.fold, "seed": run.seed, **row})
    columns = ["start", "fold", "seed", *SCORES, "images"]
    return pd.DataFrame(rows, columns=columns)

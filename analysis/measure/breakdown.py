"""What stands behind the bounds of Figure 7: factors, what they move with, what the theorem assumes.

Each table is of the network that a row of Figure 7 is of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from tqdm import tqdm

from analysis.curvature.assumptions import audit, kinks
from analysis.curvature.distance import hessian_distance
from analysis.curvature.stability import Bound, attribution, bound, lowest
from analysis.measure.ledger import image_loss
from analysis.measure.sample import POSITIVE, Question, TrainingSample
from analysis.measure.starts import StartNetwork, StartScene
from tatl.data.batches import Feed
from tatl.models.starts import load_exactly, read_weights
from tatl.names import AVERAGE
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.schedule import execute
from tatl.training.device import pick_device
from tatl.training.tasks import start_model

_C_GRID = tuple(10.0**k for k in np.arange(-6, 0.5, 0.5))
_KEYS = ["start", "attribute"]
_M_FACTORS, _PAPER_M = (0.25, 0.5, 1, 2, 4), 2594


def _bound_of(row: pd.Series, question: Question) -> Bound:
    return bound(row["risk"], row["curvature"], int(row["m"]), question.sources, question.c, int(row["images"]))


def rests_on(
    table: pd.DataFrame, measured: pd.DataFrame, question: Question, reference: str, positives: dict[str, int]
) -> dict[str, pd.DataFrame]:
    """`bound_anatomy` and `bound_sensitivity` of the rows of Figure 7.

    Args:
        table: Figure 7
        measured: losses and norms of single images
        question: what the bound is asked for
        reference: the start that others are compared with
        positives: how many positive training images the fold has, per attribute
    """
    single = table[table["attribute"] != AVERAGE]
    sensitivity = _sensitivity(single, measured, question, positives)
    return {"bound_anatomy": _anatomy(single, question, reference), "bound_sensitivity": sensitivity}


def _anatomy(table: pd.DataFrame, question: Question, reference: str) -> pd.DataFrame:
    """The factors of Eq. 6 of each row, where the bound turns (g at its lowest), and its log ratio to the reference.

    `log_ratio` = log(bound / bound of the reference) = `by_risk` + `by_curvature`.
    """
    beside = table[table["start"] == reference].set_index("attribute")
    rows = []
    for _, row in table.iterrows():
        b = _bound_of(row, question)
        parts = attribution(b, _bound_of(beside.loc[row["attribute"]], question))
        rows.append({
            **row[_KEYS], "g": b.g, "exponent": b.exponent, "stability": b.stability, "fit": b.fit,
            "candidates": b.candidates, "sample": b.sample, "bound": b.value, "turns_at": lowest(b.risk, b.m, b.c, b.n),
            "rising": b.rising, "reference": reference, "log_ratio": parts.total, "by_risk": parts.by_risk,
            "by_curvature": parts.by_curvature,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _sensitivity(
    table: pd.DataFrame, measured: pd.DataFrame, question: Question, positives: dict[str, int]
) -> pd.DataFrame:
    """The bound over c, over m, and over positive images alone.

    Columns: varied (c, m, images), setting, start, attribute, bound (NaN where no measured image is positive), vacuous,
    rank among the starts (1: lowest).
    """
    frame = pd.DataFrame([
        {"varied": varied, "setting": str(setting), **row[_KEYS], "bound": b.value if b else np.nan,
         "vacuous": b is not None and b.vacuous}
        for _, row in table.iterrows() for varied, setting, b in _settings(row, measured, question, positives)
    ])  # fmt: skip
    return frame.assign(rank=frame.groupby(["varied", "setting", "attribute"])["bound"].rank(method="min"))


def _settings(
    row: pd.Series, measured: pd.DataFrame, question: Question, positives: dict[str, int]
) -> Iterator[tuple[str, object, Bound | None]]:
    """What is varied, its setting and the bound there; none where no measured image is positive."""
    risk, curvature, m, n, c = row["risk"], row["curvature"], int(row["m"]), int(row["images"]), question.c
    of = partial(bound, sources=question.sources)
    for other in _C_GRID:
        yield "c", float(f"{other:.2e}"), of(risk, curvature, m, c=other, n=n)
    for many in sorted({max(1, round(m * factor)) for factor in _M_FACTORS} | {_PAPER_M}):
        yield "m", many, of(risk, curvature, many, c=c, n=min(n, many))
    yield "images", "as measured", _bound_of(row, question)
    if question.images != POSITIVE:
        same = (measured[[*_KEYS, "seed"]] == row[[*_KEYS, "seed"]]).all(axis=1)
        part = measured[same & measured["positive"]]
        means = part["loss"].mean(), part["norm"].mean(), positives[row["attribute"]]
        yield "images", POSITIVE, of(*means, c=c, n=len(part)) if len(part) else None


def audits(
    measured: pd.DataFrame, table: pd.DataFrame, starts: Sequence[StartNetwork], scene: StartScene, c: float
) -> pd.DataFrame:
    """Which assumptions hold, per start, over all of its seeds: start, assumption, holds, found."""
    rows = []
    for name in dict.fromkeys(start.name for start in starts):
        start = next(each for each in starts if each.name == name)
        beta = float(measured.loc[measured["start"] == start.name, "norm"].max())
        m = int(table.loc[table["start"] == start.name, "m"].max())
        image, _ = start.subject.image_and_mask(int(scene.train()[0]), str(table["attribute"].iloc[0]))
        own = None if start.run is None else start.name not in ("random", "source")
        calibrated = len(scene.calibration_images()) if scene.calibrate else 0
        for each in audit(beta, m, c, scene.training(), kinks(start.subject.model, image[None]), own, calibrated):
            rows.append({"start": start.name, **dataclasses.asdict(each)})
    return pd.DataFrame(rows).rename(columns={"name": "assumption"})


def distances(
    scene: StartScene, starts: Sequence[str], chosen: dict[str, TrainingSample], machine: Machine
) -> pd.DataFrame:
    """One row per start and attribute: start, attribute, m, images, length, mean, largest, negative, measure.

    Trains every start's segmenters where they are not there, and measures how far they went.  `negative`: share of
    images with v^T H v < 0.
    """
    runs = scene.targets(starts)
    execute(runs.values(), scene.root, scene.store, machine)
    rows, boxes, device = [], scene.boxes(), pick_device(machine.device)
    for (name, attribute), run in tqdm(runs.items(), desc="Hessian distance", unit="network"):
        start, model = (start_model(run, scene.root, scene.imagenet_weights) for _ in range(2))
        weights = read_weights(run.folder(scene.root) / "weights.safetensors")
        load_exactly(model, weights, f"the network of {run.title()}")
        model.requires_grad_(True)
        sample, feed = chosen[attribute], partial(Feed(scene.store, attribute, boxes), device=device)
        found = hessian_distance(model.to(device), start.to(device), feed, sample.indices, image_loss)
        rows.append({
            "start": name, "attribute": attribute, "m": sample.m, "images": len(sample.indices),
            "length": found.length, "mean": found.mean, "largest": found.largest,
            "negative": float((found.values < 0).mean()), "measure": found.measure(sample.m),
        })  # fmt: skip
    return pd.DataFrame(rows)

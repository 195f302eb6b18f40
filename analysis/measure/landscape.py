"""Spectra of starts as tidy tables: one row of numbers per start and attribute, and the curve of the density."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

from analysis.curvature.evaluation import ImageFeed, memory_ran_out, per_image_losses
from analysis.curvature.spectrum import MeanHessian, density, top, trace
from analysis.measure.ledger import Subject, image_loss
from analysis.measure.sample import TrainingSample
from analysis.measure.starts import StartNetwork
from tatl.data.batches import Feed
from tatl.studies.execution.crew import Crew, Hand


@dataclass(frozen=True)
class Effort:
    """How much is spent on each part: see the functions of `analysis.spectrum`."""

    probes: int = 4
    steps: int = 24
    products: int = 24
    top: int = 5
    tolerance: float = 1e-2
    chunk: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        if self.probes < 2 or self.products < 4 or min(self.steps, self.top, self.chunk) < 1:
            error = f"probes ({self.probes}) must be at least 2 and products ({self.products}) at least 4, for an error"
            raise ValueError(f"{error}; steps ({self.steps}), top ({self.top}) and chunk ({self.chunk}) at least 1")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance {self.tolerance} is a relative residual: give a number between 0 and 1")


def landscapes(
    starts: Sequence[StartNetwork], chosen: dict[str, TrainingSample], effort: Effort, crew: Crew
) -> tuple[dict[str, pd.DataFrame], Effort]:
    """The tables of all starts, and the effort that memory allowed: where it runs out the chunk is halved.

    `spectrum` has start, attribute, images, loss, trace and top1.. with their evidence; `spectrum_density` start,
    attribute, eigenvalue, density, error: the standard error over probes.  MemoryError where one image at a time is too
    much.
    """
    cells = list(product(range(len(starts)), chosen))
    tasks = [(place, number, name, chosen[name].indices) for place, (number, name) in enumerate(cells)]
    surveyor, found = Surveyor([start.subject for start in starts], effort), dict[int, Any]()
    with tqdm(desc="spectrum", unit="spectrum", total=len(cells)) as bar:
        for place, *told in crew.share(surveyor, tasks, starts[0].subject.store):
            found[place] = told
            bar.update()
    rows, curves = [], []
    for place, (number, attribute) in enumerate(cells):
        row, curve, spent = found[place]
        keys: dict[str, Any] = {"start": starts[number].name, "attribute": attribute}
        rows.append({**keys, "images": len(chosen[attribute].indices), **row})
        curves.append(curve.assign(**keys)[[*keys, *curve.columns]])
        effort = min(effort, spent, key=lambda each: each.chunk)
    return {"spectrum": pd.DataFrame(rows), "spectrum_density": pd.concat(curves, ignore_index=True)}, effort


@dataclass
class Surveyor(Hand):
    """Takes one spectrum after another, with the effort that memory allowed the one before."""

    subjects: Sequence[Subject]
    effort: Effort

    def do(self, task: tuple[int, int, str, np.ndarray]) -> tuple[int, dict[str, float], pd.DataFrame, Effort]:
        """The place of the task, a row, the curve of its density, and the effort."""
        place, number, attribute, indices = task
        subject = self.subjects[number]
        model = subject.model.to(self.device)
        feed = partial(Feed(subject.store, attribute, subject.boxes), device=self.device)
        loss = per_image_losses(model, feed, indices, image_loss)
        row, curve, self.effort = _within_memory(model, feed, indices, self.effort)
        return place, {"loss": float(loss.mean()), **row}, curve, self.effort


def _within_memory(
    model: nn.Module, feed: ImageFeed, indices: np.ndarray, effort: Effort
) -> tuple[dict[str, float], pd.DataFrame, Effort]:
    """A row, the curve of its density, and the effort; with half the images at once, again, where memory runs out."""
    while True:
        try:
            return *_measure(MeanHessian(model, feed, indices, image_loss, effort.chunk), effort), effort
        except (RuntimeError, MemoryError) as error:
            if not memory_ran_out(error):
                raise
            if (at_once := min(effort.chunk, len(indices))) == 1:
                remedy = "choose a smaller store (prepare --size), fewer --products, or another --device"
                raise MemoryError(f"memory ran out with one image at a time: {remedy}") from error
        tqdm.write(f"note: memory ran out with {at_once} images at once: going on with {at_once // 2}", file=sys.stderr)
        effort = replace(effort, chunk=at_once // 2)


def _measure(hessian: MeanHessian, effort: Effort) -> tuple[dict[str, float], pd.DataFrame]:
    like = hessian.like
    # Three seeds: the trace that the density gives is a check of the other only if their vectors are others.
    seeds = [3 * effort.seed + k for k in range(3)]
    found = density(hessian, like, probes=effort.probes, steps=effort.steps, seed=seeds[0])
    whole = trace(hessian, like, products=effort.products, seed=seeds[1])
    leading = top(hessian, like, k=effort.top, tolerance=effort.tolerance, seed=seeds[2])
    check, check_error = found.moment(1)
    spent = leading.products + whole.products + int((found.weights > 0).sum())
    row = {
        "weights": len(like), "trace": whole.value, "trace_error": whole.error,
        "trace_by_density": check, "trace_by_density_error": check_error,
        **{f"top{k}": value for k, value in enumerate(leading.values, start=1)},
        "residual": float(leading.residuals.max(initial=0)), "products": spent,
        "converged": leading.converged,
    }  # fmt: skip
    grid, width = found.grid()
    mean, error = found.at(grid, width)
    return row, pd.DataFrame({"eigenvalue": grid, "density": mean, "error": error})

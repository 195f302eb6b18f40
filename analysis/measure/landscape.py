"""Spectra of starts as tidy tables: one row of numbers per start and attribute, and the curve of the density."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from analysis.curvature.spectrum import Density, MeanHessian, density, top, trace
from analysis.measure.ledger import image_loss
from analysis.measure.risk import per_image_losses
from analysis.measure.sample import Sample
from analysis.measure.starts import Start
from tatl.data.batches import Feed


@dataclass(frozen=True)
class Options:
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
            raise ValueError(
                f"probes ({self.probes}) must be at least 2 and products ({self.products}) at least 4, for a standard "
                f"error; steps ({self.steps}), top ({self.top}) and chunk ({self.chunk}) at least 1"
            )
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance {self.tolerance} is a relative residual: give a number between 0 and 1")


def landscapes(
    starts: Sequence[Start], chosen: dict[str, Sample], options: Options, device: torch.device, progress: bool = True
) -> dict[str, pd.DataFrame]:
    """`spectrum` (start, attribute, images, loss, trace and top1.. with their evidence) and `spectrum_density`.

    The latter has start, attribute, eigenvalue, density, error: the standard error over probes.
    """
    rows, curves = [], []
    bar = tqdm(desc="spectrum", unit="spectrum", total=len(starts) * len(chosen), disable=not progress)
    with bar:
        for start in starts:
            model = start.subject.model.to(device)
            for attribute, sample in chosen.items():
                feed = partial(Feed(start.subject.store, attribute, start.subject.boxes), device=device)
                loss = per_image_losses(model, feed, sample.indices, image_loss)
                hessian = MeanHessian(model, feed, sample.indices, image_loss, options.chunk)
                keys: dict[str, Any] = {"start": start.name, "attribute": attribute}
                row, found = _measure(hessian, options)
                rows.append({**keys, "images": len(sample.indices), "loss": float(loss.mean()), **row})
                curves.append(_curve(found).assign(**keys))
                bar.update()
    columns = ["start", "attribute", "eigenvalue", "density", "error"]
    return {"spectrum": pd.DataFrame(rows), "spectrum_density": pd.concat(curves, ignore_index=True)[columns]}


def _measure(hessian: MeanHessian, options: Options) -> tuple[dict[str, float], Density]:
    like = hessian.like
    # Three seeds: the trace that the density gives is a check of the other only if their vectors are others.
    seeds = [3 * options.seed + k for k in range(3)]
    found = density(hessian, like, probes=options.probes, steps=options.steps, seed=seeds[0])
    whole = trace(hessian, like, products=options.products, seed=seeds[1])
    leading = top(hessian, like, k=options.top, tolerance=options.tolerance, seed=seeds[2])
    check, check_error = found.moment(1)
    spent = leading.products + whole.products + int((found.weights > 0).sum())
    row = {
        "weights": len(like), "trace": whole.value, "trace_error": whole.error,
        "trace_by_density": check, "trace_by_density_error": check_error,
        **{f"top{k}": value for k, value in enumerate(leading.values, start=1)},
        "residual": float(leading.residuals.max(initial=0)), "products": spent,
        "converged": leading.converged,
    }  # fmt: skip
    return row, found


def _curve(found: Density) -> pd.DataFrame:
    grid, width = found.grid()
    mean, error = found.at(grid, width)
    return pd.DataFrame({"eigenvalue": np.asarray(grid), "density": mean, "error": error})

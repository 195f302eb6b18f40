"""Tables as `python -m analysis.bound` and `analysis.spectrum` write them, of made-up losses and norms."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.curvature.assumptions import Training, audit
from analysis.measure import breakdown, figure7
from analysis.measure.sample import Question, TrainingSample
from tatl.data.store import write_csv

STARTS, ISIC = ("random", "source", "tatl"), ("globules", "streaks")
SGD = Training("SGD with momentum 0.9", 0.01, 40, 16, drawn=True)
SHARES = {"random": 1.0, "source": 3.0, "tatl": 30.0}  # of curvature


def write(
    folder: Path,
    starts: Sequence[str] = STARTS,
    attributes: Sequence[str] = ISIC,
    images: int = 6,
    scale: float = 1.0,
    risk: float = 0.9,
    m: int = 80,
    distance: bool = False,
    spectrum: bool = False,
    seeds: int = 3,
    **about: Any,
) -> Path:
    """Write every table of the bound; `scale` multiplies all norms, `about` overrides bound.json."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = per_image(starts, attributes, images, scale, risk, seeds)
    question, reference = Question(), "source" if "source" in starts else starts[0]
    chosen = {name: TrainingSample(np.arange(images), m) for name in attributes}
    made = figure7.compared(measured, chosen, question, reference)
    table = made["bound"]
    made |= {
        "bound": table.assign(
            curvature_largest_float64=1.001 * table["curvature_largest"], curvature_largest_converged=True
        ),
        "bound_images": measured,
        **breakdown.rests_on(table, measured, question, reference, dict.fromkeys(attributes, 20)),
        "bound_audit": _audit(measured, starts, m),
    }
    if distance:
        made["bound_distance"] = _distance(starts, attributes, images, m)
    if spectrum:
        made |= _spectra(starts, attributes)
        (folder / "spectrum.json").write_text(json.dumps(described(starts, attributes, question)))
    for name, frame in made.items():
        write_csv(frame, folder / f"{name}.csv")
    (folder / "bound.json").write_text(json.dumps(described(starts, attributes, question, seeds) | about))
    return folder


def per_image(
    starts: Sequence[str],
    attributes: Sequence[str],
    images: int,
    scale: float = 1.0,
    risk: float = 0.9,
    seeds: int = 3,
) -> pd.DataFrame:
    """Norms of every seed; a file of weights has one."""
    rng = np.random.default_rng(0)
    parts = []
    for start, seed in [(name, seed) for name in starts for seed in range(1 if "/" in name else seeds)]:
        for attribute in attributes:
            value = scale * SHARES.get(start, 2.0) * rng.lognormal(0, 1, images) * rng.choice([-1, 1], images)
            part = {
                "start": start, "seed": seed, "attribute": attribute, "index": np.arange(images), "image": "case",
                "positive": np.arange(images) % 3 != 0, "loss": np.full(images, risk), "mask": "m", "value": value,
                "residual": rng.uniform(1e-4, 1e-2, images), "error": 1e-4, "products": 5, "converged": True,
                "norm": np.abs(value),
            }  # fmt: skip
            parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _audit(measured: pd.DataFrame, starts: Sequence[str], m: int) -> pd.DataFrame:
    rows = [
        {"start": start, **dataclasses.asdict(each)}
        for start in starts
        for each in audit(measured.loc[measured["start"] == start, "norm"].max(), m, 0.01, SGD, 15, None)
    ]
    return pd.DataFrame(rows).rename(columns={"name": "assumption"})


def _distance(starts: Sequence[str], attributes: Sequence[str], images: int, m: int) -> pd.DataFrame:
    rows = [
        {
            "start": start, "attribute": attribute, "m": m, "images": images, "length": 2.0, "mean": 0.1,
            "largest": 1.0 + i, "negative": 0.2, "measure": float(np.sqrt((1.0 + i) / m)),
        }
        for i, start in enumerate(starts) for attribute in attributes
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _spectra(starts: Sequence[str], attributes: Sequence[str]) -> dict[str, pd.DataFrame]:
    grid = np.linspace(-5, 20, 60)
    rows, curves = [], []
    for i, start in enumerate(starts):
        for attribute in attributes:
            keys = {"start": start, "attribute": attribute}
            rows.append({
                **keys, "images": 12, "loss": 0.9, "weights": 1000, "trace": 40.0 + i, "trace_error": 2.0,
                "trace_by_density": 41.0, "trace_by_density_error": 3.0, "top1": 18.0 - 40.0 * (i % 2), "top2": 9.0,
                "residual": 0.001, "products": 50, "converged": True,
            })  # fmt: skip
            density = np.exp(-(grid**2)) + 1e-4
            curves.append(pd.DataFrame({**keys, "eigenvalue": grid, "density": density, "error": 0.1 * density}))
    return {"spectrum": pd.DataFrame(rows), "spectrum_density": pd.concat(curves, ignore_index=True)}


def described(starts: Sequence[str], attributes: Sequence[str], question: Question, seeds: int = 3) -> dict[str, Any]:
    return {
        "study": "bound", "data": "phantom", "cases": 100, "size": "96x128", "enrich": True, "source": "textures",
        "preset": "quick", "store": "stores/phantom-quick", "shapes": ["link"], "backbone": "efficientnet-b0",
        "seeds": list(range(seeds)), "folds": [0], "n_folds": 5, "shape": "link", "fold": 0, "seed": 0, "crop": False,
        "calibrated": True, "attributes": list(attributes), "variants": list(starts),
        "notes": ["the phantom is not skin"],
        "command": "python -m analysis.bound --init all --store stores/phantom --c 0.01",
        "question": dataclasses.asdict(question), "options": {"tolerance": 0.01}, "settings": {"epochs": 3},
    }  # fmt: skip

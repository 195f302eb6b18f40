"""Tables as `python -m analysis.stability` writes them, of stability that one predictor ranks and another does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import fake_bound
from analysis.measure.sample import Question
from analysis.tables.bound.stability import stability_ranks
from tatl.data.store import write_csv

STARTS, ATTRIBUTES = ("random", "source", "rotation", "context", "tatl"), ("globules", "streaks")
AT = dict(zip(STARTS, (2, 5, 3, 4, 1), strict=True))  # how unstable each is, in steps


def frames(
    right: str = "gradient_noise",
    starts: Sequence[str] = STARTS,
    attributes: Sequence[str] = ATTRIBUTES,
    error: float = 0.1,
    seeds: int = 3,
) -> dict[str, pd.DataFrame]:
    """`right` grows as stability does, its rivals fall; `error` is in steps between starts."""
    rng, rows, known, forks = np.random.default_rng(0), [], [], []
    for start, attribute, seed in [(s, a, k) for s in starts for a in attributes for k in range(seeds)]:
        keys = {"start": start, "attribute": attribute, "seed": seed, "fold": 0}
        at = AT.get(start, 2.5)
        values = {name: (at if name == right else 6 - at) * (1 + seed / 10) for name in KNOWN}
        known.append({**keys, "images": 8, **values, "risk": values["risk"] / 10, "path": np.nan})
        for c, share, m in [(0.01, 100, 100), (1.0, 30, 30), (1.0, 100, 100)]:
            value = c * at / m * (1 + seed / 10)
            rows.append({
                **keys, "c": c, "m": m, "share": share, "forks": 4, "stability": value, "error": error * c / m,
                "largest": 3 * value, "low": value - 2 * error * c / m, "high": value + 2 * error * c / m,
                "gap": value + c / m * rng.normal(), "gap_error": c / m, "risk_before": 0.9, "train_risk": 0.8,
                "held_risk": 0.8 + value, "moved": c, "moved_relative": c / 10, "diverged_at": np.nan, "positive": 9,
                "data": "phantom", "source": "textures", "preset": "quick", "shape": "link",
            })  # fmt: skip
            forks += [
                {**keys, "c": c, "m": m, "step": step, "replaced": "a", "fresh": "b", "fresh_difference": value,
                 "replaced_difference": value * rng.normal(1, 0.5)}
                for step in np.linspace(1, m, 8).astype(int)
            ]  # fmt: skip
    made = {"stability": pd.DataFrame(rows), "stability_predictors": pd.DataFrame(known)}
    ranks = stability_ranks(made["stability"], made["stability_predictors"])
    return made | {"stability_ranks": ranks, "stability_forks": pd.DataFrame(forks)}


KNOWN = (
    "risk", "curvature", "curvature_median", "curvature_trimmed", "scaled_curvature", "trace", "gradient_norm",
    "gradient_noise", "feature_distance",
)  # fmt: skip


def write(folder: Path, made: dict[str, pd.DataFrame] | None = None, **about: Any) -> Path:
    """Write all tables; `about` overrides stability.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (frames() if made is None else made).items():
        write_csv(frame, folder / f"{name}.csv")
    described = fake_bound.described(STARTS, ATTRIBUTES, Question()) | {"study": "stability", "forks": 4} | about
    (folder / "stability.json").write_text(json.dumps(described), encoding="utf-8")
    return folder

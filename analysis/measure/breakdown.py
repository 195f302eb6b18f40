"""What stands behind the bounds of Figure 7: factors, curves, what they move with, what the theorem assumes.

Each table is of the network that a row of Figure 7 is of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.curvature.assumptions import audit
from analysis.curvature.kinks import kinks
from analysis.curvature.stability import Bound, attribution, bound, curve, lowest
from analysis.measure.sample import POSITIVE, Question
from analysis.measure.starts import Scene, Start
from tatl.names import AVERAGE

C_GRID = tuple(10.0**k for k in np.arange(-6, 0.5, 0.5))
M_FACTORS = (0.25, 0.5, 1, 2, 4)
PAPER_M = 2594


def _bound_of(row: pd.Series, question: Question) -> Bound:
    return bound(row["risk"], row["curvature"], int(row["m"]), question.sources, question.c, int(row["images"]))


def anatomy(table: pd.DataFrame, question: Question, reference: str) -> pd.DataFrame:
    """The factors of Eq. 6 of each row, where the bound turns (g at its lowest), and its log ratio to the reference.

    `log_ratio` = log(bound / bound of the reference) = `by_risk` + `by_curvature`.
    """
    rows = []
    for _, row in _single(table).iterrows():
        b = _bound_of(row, question)
        other = table[(table["start"] == reference) & (table["attribute"] == row["attribute"])].iloc[0]
        parts = attribution(b, _bound_of(other, question))
        rows.append({
            "start": row["start"], "attribute": row["attribute"], "g": b.g, "exponent": b.exponent,
            "stability": b.stability, "fit": b.fit, "candidates": b.candidates, "sample": b.sample, "bound": b.value,
            "turns_at": lowest(b.risk, b.m, b.c, b.n), "rising": b.rising, "reference": reference,
            "log_ratio": parts.total, "by_risk": parts.by_risk, "by_curvature": parts.by_curvature,
        })  # fmt: skip
    return pd.DataFrame(rows)


def curves(table: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Eq. 6 over g at the risk of each start: start, attribute, g, bound."""
    parts = []
    for _, row in _single(table).iterrows():
        g, value = curve(row["risk"], int(row["m"]), question.sources, question.c, int(row["images"]))
        parts.append(pd.DataFrame({"start": row["start"], "attribute": row["attribute"], "g": g, "bound": value}))
    return pd.concat(parts, ignore_index=True)


def sensitivity(
    table: pd.DataFrame, measured: pd.DataFrame, question: Question, positives: dict[str, int]
) -> pd.DataFrame:
    """The bound over c, over m, and over positive images alone (`positives`: how many the fold has, per attribute).

    Columns: varied (c, m, images), setting, start, attribute, bound (NaN where no measured image is positive), vacuous,
    rank among the starts (1: lowest).
    """
    rows = []

    def add(varied: str, setting: str | float, row: pd.Series, value: Bound) -> None:
        rows.append({
            "varied": varied, "setting": setting, "start": row["start"], "attribute": row["attribute"],
            "bound": value.value, "vacuous": value.vacuous,
        })  # fmt: skip

    for _, row in _single(table).iterrows():
        risk, curvature, m, n = row["risk"], row["curvature"], int(row["m"]), int(row["images"])
        for c in C_GRID:
            add("c", float(f"{c:.2e}"), row, bound(risk, curvature, m, question.sources, c, n))
        for other in sorted({max(1, round(m * factor)) for factor in M_FACTORS} | {PAPER_M}):
            add("m", other, row, bound(risk, curvature, other, question.sources, question.c, min(n, other)))
        same = np.logical_and.reduce([measured[key] == row[key] for key in ("start", "attribute", "seed")])
        part = measured[same & measured["positive"]]
        add("images", "as measured", row, _bound_of(row, question))
        if len(part) and question.images != POSITIVE:
            m = positives[row["attribute"]]
            value = bound(part["loss"].mean(), part["norm"].mean(), m, question.sources, question.c, len(part))
            add("images", POSITIVE, row, value)
        elif question.images != POSITIVE:
            keys = {"start": row["start"], "attribute": row["attribute"]}
            rows.append({"varied": "images", "setting": POSITIVE, **keys, "bound": np.nan, "vacuous": False})
    frame = pd.DataFrame(rows)
    frame["rank"] = frame.groupby(["varied", "setting", "attribute"])["bound"].rank(method="min")
    return frame.assign(setting=frame["setting"].astype(str))


def audits(
    measured: pd.DataFrame, table: pd.DataFrame, starts: Sequence[Start], scene: Scene, c: float
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
        for each in audit(beta, m, c, scene.recipe(), kinks(start.subject.model, image[None]), own, calibrated):
            rows.append({"start": start.name, **dataclasses.asdict(each)})
    return pd.DataFrame(rows).rename(columns={"name": "assumption"})


def _single(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["attribute"] != AVERAGE]

"""How fast runs learnt, by their own best score and by what a reference reaches.

    score = 1 - validation loss,    goal = 90 % of the reference's best score on the same shape, seed, fold, attribute

A step reaches a goal where its score is at least the goal.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd

RUN = ["variant", "shape", "seed", "fold", "attribute"]
SHARE = 0.9


def pace(curves: pd.DataFrame, share: float = SHARE, reference: str = "source") -> pd.DataFrame:
    """How fast each run learnt, by its validation loss: score = 1 - loss.

    start (the score before the first step; NaN: not measured, as in histories of older versions), steps (of the whole
    training), best (the highest score after a step), steps_to_90 (the first step whose score is 90 % of it), goal
    (90 % of the best of the row `reference` on the same shape, seed, fold and attribute; NaN where that has none),
    steps_to_goal (the first step whose score is at least the goal; NaN: never, or no goal) and area (the mean score
    over the steps, by the trapezium rule from the first validation after a step on).  Step 0 is the start.
    """
    validated = curves[curves["split"] == "validation"].assign(score=lambda t: 1 - t["loss"].astype(float))
    trained = validated[validated["step"] > 0]
    best = trained.groupby(RUN)["score"].max()
    rows = []
    for key, part in validated.groupby(RUN, sort=False):
        variant, *place = cast(tuple, key)
        if (variant, *place) in best.index:
            goals = {"own": best[variant, *place], "goal": best.get((reference, *place), np.nan)}
            rows.append({**dict(zip(RUN, (variant, *place), strict=True)), **_paced(part, share, **goals)})
    return pd.DataFrame(rows)


def _paced(part: pd.DataFrame, share: float, own: float, goal: float) -> dict[str, float]:
    """The measures of one run, from its validations in order."""
    start, after = part[part["step"] == 0]["score"], part[part["step"] > 0]
    steps, score = after["step"].to_numpy(float), after["score"].to_numpy(float)
    span = steps[-1] - steps[0]
    # Losses of other kinds exceed 1: 90 % of a score below 0 lies above it, and the best step itself counts.
    own, goal = min(share * own, own), min(share * goal, goal)
    return {
        "start": float(start.iloc[0]) if len(start) else np.nan,
        "steps": steps[-1],
        "best": score.max(),
        "steps_to_90": _first(part, own),
        "goal": goal,
        "steps_to_goal": _first(part, goal),
        "area": float(np.trapezoid(score, steps) / span) if span > 0 else float(score[-1]),
    }


def _first(part: pd.DataFrame, goal: float) -> float:
    """The first step whose score is at least `goal`; NaN: never."""
    reached = part["step"][part["score"] >= goal]
    return float(reached.iloc[0]) if len(reached) else np.nan

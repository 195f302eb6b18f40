"""How fast runs learnt, by their own best score and by what a reference reaches, and whether they had learnt enough.

    score = 1 - validation loss,    goal = 90 % of the reference's best score on the same shape, seed, fold, attribute

A step reaches a goal where its score is at least the goal.

A run was *still falling* where its best epoch is its last, or where its loss fell over the last third of its epochs by
more than twice what the scatter of these epochs would make a flat curve fall.  A row is *not trained out* where more
than half of its networks were: on a plateau of E epochs the last is the best in one of E, so that a single network is
called falling by chance in one of six (of 12 epochs), and more than half of several seldom are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from scipy.stats import linregress

RUN = ["variant", "shape", "seed", "fold", "attribute"]
SHARE = 0.9
NOISES = 2  # standard errors of its slope by which the end of a curve falls
MOST = 0.5  # of a row's networks
LONGEST = 3000  # rows of a table of curves: 200 kB


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


def ending(history: pd.DataFrame) -> dict[str, float]:
    """How the validation loss of one run ended; `history` has step, split and loss.

    best_last (1: its lowest loss is the last one), fall (per 100 steps, by the line of least squares through the last
    third of its validations after a step, four at least; NaN of fewer than two) and still_falling (1 where best_last
    is, or where the fall exceeds NOISES standard errors of that line, which fewer than three validations do not have).
    """
    after = history[(history["split"] == "validation") & (history["step"] > 0)].dropna(subset=["loss"])
    if after.empty:
        return {"best_last": np.nan, "fall": np.nan, "still_falling": np.nan}
    best_last = bool(after["loss"].argmin() == len(after) - 1)
    end = after.iloc[-max(4, -(-len(after) // 3)) :]
    line = linregress(end["step"] / 100, end["loss"]) if len(end) > 1 else None
    falling = line is not None and len(end) > 2 and -line.slope > NOISES * line.stderr
    fall = np.nan if line is None else -float(line.slope)
    return {"best_last": float(best_last), "fall": fall, "still_falling": float(best_last or falling)}


def not_trained_out(table: pd.DataFrame) -> pd.Series:
    """Which rows of a study's table are not trained out: bool; none in tables that do not say how losses ended."""
    return table.get("still_falling", pd.Series(np.nan, table.index)) > MOST


def mean_curves(curves: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Validation losses over all runs that agree in `by`: its columns, before, epoch, step, split, loss and loss_std.

    Runs meet by epoch.  One that stopped early keeps its last loss, and goes on in steps as it did, so that a mean is
    over the same runs all along.
    """
    curves = curves[curves["split"] == "validation"].assign(point=lambda t: t["epoch"] + (t["step"] > 0))
    by, runs = list(by), [name for name in RUN if name not in by]
    wide = curves.pivot_table("loss", [*by, "point"], runs).groupby(level=by).ffill()
    found = wide.index.to_frame(index=False).assign(loss=wide.mean(axis=1).array, loss_std=wide.std(axis=1).array)
    each = curves.groupby([*by, *runs])
    pace = pd.DataFrame({"before": each["before"].first(), "pace": each["step"].max() / each["point"].max().clip(1)})
    found = found.join(pace.groupby(level=by).mean(), on=by)
    found = found.assign(epoch=(found["point"] - 1).clip(0), step=found["point"] * found["pace"], split="validation")
    return found[[*by, "before", "epoch", "step", "split", "loss", "loss_std"]]


def thinned(curves: pd.DataFrame, by: Sequence[str], longest: int = LONGEST) -> pd.DataFrame:
    """At most `longest` rows: every k-th validation of each curve, and its last."""
    each = curves.groupby(list(by))
    if len(curves) <= longest:
        return curves
    number, apart = each.cumcount(), -(-int(each.size().max()) // max(1, longest // each.ngroups - 1))
    return curves[(number % apart == 0) | (number == each["step"].transform("size") - 1)]

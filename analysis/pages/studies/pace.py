"""How fast does a start get where the reference gets?

Steps are those to the goal of `tatl.studies.pace`, of whichever reference a page asks for: the first validated step
whose score is at least the goal, empty where no step's is; 0: before the first step.

Measured against its own best score a start that learns little is fast, so that its own best says nothing alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tatl.studies.pace import RUN, pace


def reaching(curves: pd.DataFrame, reference: str) -> pd.DataFrame:
    """One row per run whose reference has a curve: variant, shape, seed, fold, attribute, goal, steps (NaN: never)."""
    paced = pace(curves.dropna(subset=["loss"]).sort_values("step", kind="stable"), reference=reference)
    there = paced.reindex(columns=[*RUN, "goal", "steps_to_goal"]).dropna(subset=["goal"])
    return there.rename(columns={"steps_to_goal": "steps"}).reset_index(drop=True)


def before(curves: pd.DataFrame) -> pd.DataFrame:
    """Scores before the first step, one row per run: variant, shape, seed, fold, attribute, score; older: none."""
    at_start = curves[(curves["split"] == "validation") & (curves["step"] == 0)]
    return at_start.assign(score=1 - at_start["loss"])[[*RUN, "score"]]


def over_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """By attribute and variant: mean and std of the steps, runs, of them those that reached the goal, and in words.

    Words are blank where no run reached it, and say of how many runs where not all did.
    """
    grouped = runs.groupby(["attribute", "variant"], sort=False)["steps"]
    table = pd.DataFrame({"value": grouped.mean(), "std": grouped.std(ddof=1), "runs": grouped.size()})
    table = table.assign(reached=grouped.count())
    return table.assign(words=[_words(row) for row in table.to_dict("records")]).reset_index()


def _words(row: dict) -> str:
    if not row["reached"]:
        return ""
    steps = f"{row['value']:.0f}" + (f" ± {row['std']:.0f}" if np.isfinite(row["std"]) else "")
    return steps if row["reached"] == row["runs"] else f"{steps} ({row['reached']} of {row['runs']} runs)"


def sure(table: pd.DataFrame) -> pd.DataFrame:
    """Mean steps by attribute (rows) and start (columns), NaN where some run never reached the goal."""
    every = table.assign(value=table["value"].where(table["reached"] == table["runs"]).astype(float))
    return every.pivot_table(index="attribute", columns="variant", values="value", sort=False, dropna=False)

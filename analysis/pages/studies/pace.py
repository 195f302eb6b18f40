"""How fast does a start get where the reference gets?

Steps are those to the goal of `tatl.studies.pace`, of whichever reference a page asks for: the first validated step
whose score is at least the goal, empty where no step's is; 0: before the first step.

Measured against its own best score a start that learns little is fast, so that its own best says nothing alone.
"""

from __future__ import annotations

import pandas as pd

from analysis.pages.text import scores
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
    table = pd.DataFrame({"value": grouped.mean(), "value_std": grouped.std(ddof=1), "runs": grouped.size()})
    table = table.assign(reached=grouped.count())
    part = table["reached"].between(1, table["runs"] - 1)
    of = " (" + table["reached"].astype(str) + " of " + table["runs"].astype(str) + " runs)"
    return table.assign(words=of.where(part, "").radd(scores(table, "value", digits=0))).reset_index()


def sure(table: pd.DataFrame) -> pd.DataFrame:
    """Mean steps by attribute (rows) and start (columns), NaN where some run never reached the goal."""
    every = table.assign(value=table["value"].where(table["reached"] == table["runs"]).astype(float))
    return every.pivot_table(index="attribute", columns="variant", values="value", sort=False, dropna=False)

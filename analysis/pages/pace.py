"""How fast does a start get where the reference gets?

Steps are those to the goal of `tatl.studies.pace`, of whichever reference a page asks for: the first validated step
whose score is at least the goal, empty where no step's is; 0: before the first step.

Measured against its own best score a start that learns little is fast, so that its own best says nothing alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.pages.words import counted, listed
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
    """By attribute and variant: mean and std of the steps, runs, and of them those that reached the goal."""
    grouped = runs.groupby(["attribute", "variant"], sort=False)["steps"]
    table = pd.DataFrame({"value": grouped.mean(), "std": grouped.std(ddof=1), "runs": grouped.size()})
    return table.assign(reached=grouped.count()).reset_index()


def sure(table: pd.DataFrame, attributes: list[str], starts: list[str]) -> pd.DataFrame:
    """Mean steps by attribute (rows) and start (columns), NaN where a run never reached the goal."""
    every = table.assign(value=table["value"].where(table["reached"] == table["runs"]).astype(float))
    wide = every.pivot_table(index="attribute", columns="variant", values="value", sort=False, dropna=False)
    return wide.reindex(
        index=[name for name in attributes if name in wide.index], columns=[name for name in starts if name in wide]
    )


def each_start(wide: pd.DataFrame, table: pd.DataFrame) -> str:
    """tatl takes 12 steps (2 of 2 attributes), random never gets there."""
    told = []
    for start in wide:
        steps, mine = wide[start].dropna(), table[table["variant"] == start]
        if len(steps):
            told.append(f"{start} takes {steps.mean():.0f} steps ({len(steps)} of {counted(len(wide), 'attribute')})")
        elif mine["reached"].sum():
            told.append(f"{start} gets there in {mine['reached'].sum()} of {counted(mine['runs'].sum(), 'run')}")
        else:
            told.append(f"{start} never gets there")
    return listed(told)


def cells(table: pd.DataFrame) -> pd.Series:
    """Steps as words, by attribute and variant: blank where never, and of how many runs where not of all."""
    said = []
    for row in table.to_dict("records"):
        steps = f"{row['value']:.0f}" if row["reached"] else ""
        steps += f" ± {row['std']:.0f}" if np.isfinite(row["std"]) else ""
        few = 0 < row["reached"] < row["runs"]
        said.append(f"{steps} ({row['reached']} of {row['runs']} runs)" if few else steps)
    return pd.Series(said, index=pd.MultiIndex.from_frame(table[["attribute", "variant"]]), dtype=object)

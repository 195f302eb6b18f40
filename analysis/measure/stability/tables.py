"""What the passes of starts told, as tables and in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from analysis.curvature.replace_one import Fork, Positions, stability
from analysis.measure.stability.passes import Found, Passes
from analysis.measure.stability.protocol import GRID, Cell, Protocol
from analysis.measure.starts import StartNetwork, StartScene
from analysis.tables.predictors import FEWEST_FORKS
from tatl.studies.execution.crew import Crew

_KEYS = ["start", "attribute", "seed", "fold", "c", "m"]
_READ = [
    "gap", "gap_error", "gap_before", "risk_before", "train_risk", "held_risk", "moved", "moved_relative",
]  # fmt: skip


def largest_stable(passes: Passes, cells: Sequence[tuple[int, Cell]]) -> float | None:
    """The largest c of `GRID` at which no pass diverges or ends with a higher risk than it began with, if any.

    One for all starts and seeds of an attribute: at another c each they could not be compared.
    """
    for c in GRID:
        whole = [(number, replace(cell, c=c, swaps=(), ends=(len(cell.order),))) for number, cell in cells]
        label = f"largest c, {whole[0][1].attribute}: {c:.3g}"
        if all(map(_stable, passes(whole, label))):
            return c
    return None


def _stable(found: Found) -> bool:
    reading = found["readings"][-1]
    return found["diverged_at"] is None and reading["train_risk"] <= reading["risk_before"]


def measured(
    protocol: Protocol,
    drawn: Sequence[tuple[int, Cell]],
    starts: Sequence[StartNetwork],
    scene: StartScene,
    crew: Crew,
) -> dict[str, pd.DataFrame]:
    """The tables of all starts and c; `drawn` are the passes at one c, each with the number of its start."""
    folder, cells = scene.root / scene.store.name / "stability", []
    passes = Passes([start.subject for start in starts], folder, crew)
    for _, group in groupby(drawn, lambda each: each[1].attribute):
        together = list(group)
        largest = largest_stable(passes, together) if protocol.largest else None
        for c in dict.fromkeys([*protocol.steps, *([largest] if largest else [])]):
            cells += [(number, replace(cell, c=c)) for number, cell in together]
    return stability_tables(starts, cells, passes(cells), protocol.percent)


def stability_tables(
    starts: Sequence[StartNetwork], cells: Sequence[tuple[int, Cell]], found: Sequence[Found], shares: Sequence[int]
) -> dict[str, pd.DataFrame]:
    """`stability`, a row per start, attribute, seed, c and m, and `stability_forks`, a row per fork and m.

    Args:
        starts: what the numbers of `cells` count
        cells: the passes asked for, each with the number of its start
        found: what came of each
        shares: percent of the images, one for each of a cell's ends
    """
    rows, forked = [], []
    for (number, cell), told in zip(cells, found, strict=True):
        start, readings = starts[number], {reading["m"]: reading for reading in told["readings"]}
        present = start.subject.store.present(cell.attribute)[list(cell.order)]
        forks = {m: [Fork(**each) for each in group] for m, group in groupby(told["forks"], lambda fork: fork["m"])}
        for share, m in zip(shares, cell.ends, strict=True):
            keys = {"start": start.name, "attribute": cell.attribute, "seed": start.seed, "c": cell.c, "m": m}
            own, lost = forks.get(m, []), told["diverged_at"] if m not in forks else None
            weights = Positions(len(cell.order)).weights(np.array([fork.step for fork in own], int), m)
            rows.append(
                keys | {"share": share} | _told(own, weights, lost)
                | {name: readings[m].get(name, np.nan) for name in _READ} | {"positive": int(present[:m].sum())}
            )  # fmt: skip
            forked += [keys | _named(fork, weight, start) for fork, weight in zip(own, weights, strict=True)]
    return {"stability": pd.DataFrame(rows), "stability_forks": pd.DataFrame(forked)}


def _told(forks: list[Fork], weights: np.ndarray, lost: int | None) -> dict[str, Any]:
    """Of the forks at one m; NaN where the pass was `lost` at a step, or one of them diverged."""
    steps = [fork.diverged_at for fork in forks if not np.isnan(fork.diverged_at)]
    at = min([*steps, *([lost] if lost is not None else [])], default=np.nan)
    given: dict[str, Any] = {"forks": len(forks), "diverged_at": at}
    if not forks or not np.isnan(at):
        return given | dict.fromkeys(["stability", "error", "largest", "low", "high"], np.nan)
    found = stability(forks, weights)._asdict()
    return given | {"stability": found.pop("mean"), **found}


def _named(fork: Fork, weight: float, start: StartNetwork) -> dict[str, Any]:
    ids = start.subject.store.cases["id"]
    names = {"step": fork.step, "replaced": ids.iloc[fork.replaced], "fresh": ids.iloc[fork.fresh], "weight": weight}
    differences = {name: getattr(fork, name) for name in ("fresh_difference", "replaced_difference", "diverged_at")}
    return names | differences


def stability_text(made: dict[str, pd.DataFrame]) -> str:
    """The mean over seeds and folds per start, attribute, c and share, in 1e-6 of the loss, and how sure it is."""
    table = made["stability"]
    groups = ["attribute", "c", "share"]
    of_start = table.groupby([*groups, "start"], sort=False)
    shown = pd.DataFrame(
        {
            "stability x 1e6": of_start["stability"].mean() * 1e6,
            "error x 1e6": of_start["error"].agg(lambda each: np.sqrt((each**2).sum(min_count=1)) / each.count()) * 1e6,
            "largest x 1e6": of_start["largest"].max() * 1e6,
            "gap opened": of_start["gap"].mean() - of_start["gap_before"].mean(),
            "risk before": of_start["risk_before"].mean(), "risk": of_start["train_risk"].mean(),
            "moved": of_start["moved_relative"].mean(), "passes": of_start["stability"].count(),
        }
    )  # fmt: skip
    shown.columns.name = "one pass"
    parts = [shown.to_string(float_format="{:.4g}".format)]
    if "stability_recipe" in made:
        columns = ["runs", "images", "stability", "error", "gap", "gap_error", "train_risk", "held_risk"]
        recipe = made["stability_recipe"].set_index(["attribute", "start"])[columns]
        recipe.columns.name = "the recipe"
        parts.append(recipe.to_string(float_format="{:.4g}".format))
    return "\n\n".join([*parts, "\n".join(f"note: {note}" for note in notes(table, made["stability_forks"]))])


def notes(table: pd.DataFrame, forks: pd.DataFrame) -> list[str]:
    """Where passes diverged or ended at nothing, and whether an estimate tells the starts apart."""
    said = [
        f"{row.start}, {row.attribute}, fold {row.fold}, seed {row.seed}, c {row.c:g}, m {row.m}: diverged at step "
        f"{row.diverged_at:.0f}"
        for row in table[table["diverged_at"].notna()].itertuples()
    ]
    positive = table["positive"] / table["m"]
    nothing = (table["train_risk"] - positive).abs() < 0.05 * positive.clip(lower=1 / table["m"])
    if nothing.any():
        what = f"in {nothing.sum()} of {len(table)} rows the risk after training is the share of images that show the"
        said.append(f"{what} attribute, within 5 %: as it is for a network that predicts nothing")
    for (attribute, c, share), part in table.groupby(["attribute", "c", "share"], sort=False):
        means = part.groupby("start")["stability"].mean().dropna().sort_values()
        apart, error = means.max() - means.min(), float(np.sqrt((part["error"] ** 2).mean()))
        if apart > 0 and error > 0:
            ratio = f"the standard error of one pass is {error / apart:.2f} of the largest difference between starts"
            enough = int(np.ceil((3 * error / apart) ** 2))
            more = f", {enough} times the forks, or seeds, would make it a third" if enough > 1 else ""
            both = _paired(forks, part[part["start"].isin([means.index[0], means.index[-1]])])
            pair = f"{means.index[-1]} and {means.index[0]}, of the same forks, with an error of {both / apart:.2f}"
            said.append(f"{attribute}, c {c:g}, {share} %: {ratio}{more}; it is between {pair}")
    return said + _few(table, forks)


def _few(table: pd.DataFrame, forks: pd.DataFrame) -> list[str]:
    """What the intervals of single passes are worth: few forks, of which one may make most of the estimate."""
    said, few = [], int((table["forks"] < FEWEST_FORKS).sum())
    if few:
        said.append(f"{few} of {len(table)} rows have fewer than {FEWEST_FORKS} forks, too few to tell starts apart")
    sizes = (forks["weight"] * forks["fresh_difference"]).abs().groupby([forks[name] for name in _KEYS])
    if most := int((sizes.max() > sizes.sum() / 2).sum()):
        what = f"in {most} of {len(table)} rows one fork makes more than half of the estimate"
        said.append(f"{what}: the interval is too narrow there (it covered .3 to .9 in simulations, where .95 is said)")
    return said


def _paired(forks: pd.DataFrame, part: pd.DataFrame) -> float:
    """The standard error of the mean difference of two starts, from the differences of their forks."""
    rows = forks.merge(part[_KEYS], on=_KEYS)
    pairs = rows["weight"] * rows["fresh_difference"]
    same = [rows[name] for name in ("seed", "fold", "step", "fresh")]
    each = pairs.groupby(same).agg(lambda two: two.iloc[-1] - two.iloc[0] if len(two) == 2 else np.nan).dropna()
    return float(each.std(ddof=1) / np.sqrt(len(each)))

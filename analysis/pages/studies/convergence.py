"""Does a good pretext mean good targets, and do these learn faster?  Figures 5 and 6.

`pretext` is the agnostic network scored on each attribute as it is; the other rows start from it, from the source
domain or from random weights.  The score of a curve is 1 - validation loss, from step 0 (the start, before anything
is learnt) on; who is fast is told by the steps to 90 % of the best of whichever reference a page asks for
(`tatl.studies.pace`): against its own best score a start that learns little is fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from analysis.pages import drawing, html
from analysis.pages.html import Html
from analysis.pages.studies.page import StudyPage
from analysis.pages.studies.training import Cells, per_row, unequal
from analysis.pages.theme import GREY, INK, Look, Style, label, palette, theme
from analysis.tables.read import command_of, read_table
from analysis.tables.study import RUN_KEYS, StudyTables
from analysis.tables.words import counted, listed, plain, scores, wins
from tatl.names import AVERAGE, CONVERGENCE_ROWS, ENSEMBLE, PRETEXT, TRAINING, UNION
from tatl.studies.pace import RUN, pace

_PACE = (*RUN_KEYS, "attribute", "steps", "best", "steps_to_90", "area")
_TATL, _SOURCE = "tatl", "source"
_CORRELATED = 3  # attributes from which a correlation is given


@dataclass(frozen=True)
class Convergence(StudyPage):
    """The study's loss curves, and how fast these fall; of the shape that is read, or of all."""

    curves: pd.DataFrame
    pace: pd.DataFrame

    study = "convergence"

    @classmethod
    def others(cls, tables: StudyTables) -> Sequence[pd.DataFrame]:
        pace = read_table(tables.folder / "convergence_pace.csv", _PACE, command_of(cls.study))
        return [tables.curves(read_table), pace[pace["shape"] == tables.shape] if tables.shape != ENSEMBLE else pace]

    def whole(self) -> dict[str, tuple[Sequence[Any], Iterable[Any]]]:
        return {"rows": (CONVERGENCE_ROWS, self.rows)}

    @property
    def tasks(self) -> list[str]:
        """The union where it was learnt, then the attributes that have curves."""
        there = set(self.curves["attribute"])
        return [name for name in (UNION, *self.tables.attributes) if name in there]

    def beyond(self, reference: str) -> str:
        """Who gets where the reference gets in the fewest steps."""
        table = sure(over_runs(self._reaching(reference))).dropna(how="all")
        earlier = self.curves.groupby("variant")["before"].mean().reindex(table.columns)
        later = [f"{steps:.0f} of {name}" for name, steps in earlier.items() if steps > 0]
        less = f"; earlier steps are not counted: {listed(later)}" if later else ""
        said = f" To 90 % of {reference}'s best score, {wins(table, 'fastest', lowest=True)}" if len(table) else ""
        return said and f"{said}{less}."

    def draw(self, panels: Sequence[str]) -> Figure:
        """Figure 5: the agnostic network on each attribute, beside what was trained from it and from elsewhere."""
        return self.drawn([], self.tables.panels, "attribute", "variant", self.look)

    def transfer(self) -> Html:
        """Figure 5: is an attribute that the pretext finds one that its target gains on?"""
        table = self.tables.wide().reindex(columns=[PRETEXT, _TATL]).dropna()
        if table.empty:
            return html.paragraph(f"{PRETEXT} and {_TATL} were not both measured: they cannot be compared.")
        above = int((table[_TATL] > table[PRETEXT]).sum())
        said = f"{_TATL} is above {PRETEXT} for {above} of {counted(len(table), 'attribute')}"
        said += unequal(self.tables.average, _TATL, PRETEXT)
        if len(table) >= _CORRELATED and table.nunique().min() > 1:
            found = spearmanr(table[PRETEXT], table[_TATL])
            p = f"p {found.pvalue:.3f}" if found.pvalue >= 0.001 else "p < 0.001"
            said += f"; over attributes their rank correlation is {found.statistic:+.2f} ({p})"
        alt = "Dice of the target against that of the agnostic network it starts from, a point per attribute."
        return html.figure(_scatter(table), alt, f"{said}.")

    def learning(self) -> Html:
        """Figure 6: validation loss over all steps, on average, of the union and of each attribute."""
        curves = self.curves[self.curves["attribute"].isin(self.tasks)]
        return self._learning(curves, [AVERAGE, *self.tasks])

    def _reaching(self, reference: str) -> pd.DataFrame:
        """Steps of every run to 90 % of the reference's best score, of the attributes that are shown."""
        found = reaching(self.curves, reference)
        return found[found["attribute"].isin(self.tables.attributes)]

    def reached(self, reference: str = _SOURCE) -> Html:
        """Figure 6: training steps to 90 % of what the reference reaches."""
        runs = self._reaching(reference)
        if runs.empty:
            return html.paragraph(f"{reference} has no validation loss of these attributes to measure starts by.")
        axis = f"training steps to 90 % of {reference}'s best score"
        note = f"On the same fold and seed as {reference}; no mark: never reached."
        means = over_runs(runs)
        names = [name for name in self.rows if name in set(means["variant"])]
        panels = [name for name in self.tables.attributes if name in set(means["attribute"])]
        drawn = drawing.points(
            means, panels, names, Look.of(names, self.order), axis,
            columns=("attribute", "variant", "variant", "value"), singles=runs.assign(value=runs["steps"]),
        )  # fmt: skip
        alt = f"{axis[0].upper()}{axis[1:]} for every start, for each attribute."
        return html.figure(drawn, alt, self.beyond(reference).strip(), note)

    def table(self, reference: str = _SOURCE) -> Html:
        """The pace of every run, averaged over folds and seeds."""
        keys = ["attribute", "variant"]
        paced = self.pace[self.pace["attribute"].isin(self.tasks)].groupby(keys, sort=False)
        values = paced[["steps", "best", "steps_to_90", "area"]]
        table = values.mean().join(values.std().add_suffix("_std")).assign(runs=paced.size())
        table = table.join(before(self.curves).groupby(keys)["score"].agg(before="mean", before_std="std"))
        table = table.join(over_runs(self._reaching(reference)).set_index(keys)["words"]).reset_index()
        measured = self.tables.measured
        measured = measured[[*keys, *measured.columns.intersection(list(TRAINING[1:]))]]  # steps are those of the pace
        measured = measured.assign(attribute=measured["attribute"].mask(measured["variant"] == PRETEXT, UNION))
        table = table.merge(measured.drop_duplicates(keys), on=keys, how="left")
        cells: Cells = {
            "score before the first step": scores(table, "before"),
            "steps": scores(table[["steps"]], "steps", digits=0),
            f"steps to 90 % of {reference}'s best": table["words"].fillna("").to_list(),
            "best score": scores(table, "best"),
            "steps to 90 % of its own best": scores(table, "steps_to_90", digits=0),
            "mean score": scores(table, "area"),
            "runs": scores(table, "runs", digits=0),
        }
        note = (
            f"Scores are 1 - validation loss; blank: {reference}'s not reached, or of the start: not measured. "
            "Steps count from the start, so that 0 is there before any; the mean score is over those from the first "
            "epoch's end on."
        )
        return per_row(cells, table.drop(columns="steps"), table["attribute"].map(plain), table["variant"], note=note)


def _scatter(table: pd.DataFrame) -> Figure:
    """Dice of the target against that of the pretext, a point per attribute, and the line of no change."""
    colour = palette(list(table.index), ())
    point: Style = {"marker": "o", "linestyle": "none", "markeredgecolor": INK, "markeredgewidth": 0.5, "zorder": 4}
    with theme():
        figure = Figure(figsize=(5.4, 3.6), layout="constrained")
        axes = figure.subplots()
        top = 1.08 * max(float(table.to_numpy().max()), 1e-3)
        axes.plot([0, top], [0, top], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), label="no change")
        for name, row in table.iterrows():
            axes.plot(row[PRETEXT], row[_TATL], color=colour[str(name)], label=label(str(name), 24), **point)
        axes.set(xlabel=f"pooled Dice of {PRETEXT}", ylabel=f"pooled Dice of {_TATL}")
        axes.set(xlim=(-0.02 * top, top), ylim=(-0.02 * top, None))
        axes.grid(True, axis="y")
        figure.legend(loc="outside right center", fontsize=8)
    return figure


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

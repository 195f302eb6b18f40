"""Does a good pretext mean good targets, and do these learn faster?  Figures 5 and 6.

`pretext` is the agnostic network scored on each attribute as it is; the other rows start from it, from the source
domain or from random weights.  The score of a curve is 1 - validation loss, from step 0 (the start, before anything
is learnt) on; who is fast is told by the steps to what the reference reaches (`pace`), not by those to a start's own
best.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas.api.typing import SeriesGroupBy

from analysis.pages import drawing, extent, html, pace, reading, words
from analysis.pages import transfer as points
from analysis.pages.comparison import Comparison, Scored
from analysis.pages.html import Html
from analysis.pages.theme import STYLES
from analysis.pages.transfer import TARGET as TATL
from analysis.pages.words import listed, score
from analysis.tables.narrow import KEYS
from analysis.tables.read import ordered, read_table
from tatl.names import CONVERGENCE_ROWS, ENSEMBLE, PRETEXT, UNION

CURVES = [*KEYS, "attribute", "epoch", "step", "split", "loss"]
PACE = [*KEYS, "attribute", "steps", "best", "steps_to_90", "area"]
BINS = 30
REFERENCE = "source"
SECTIONS = ("headline", "scores", "transfer", "curves", "reached", "steps", "area", "table")


@dataclass(frozen=True)
class Convergence(Scored):
    """The study's scores, its loss curves, and how fast these fall; of the shape that is read, or of all."""

    curves: pd.DataFrame
    pace: pd.DataFrame

    @property
    def starts(self) -> list[str]:
        return ordered(self.scores.variants, tuple(STYLES))

    @property
    def tasks(self) -> list[str]:
        """The union where it was learnt, then the attributes that have curves."""
        there = set(self.curves["attribute"])
        return [name for name in (UNION, *self.scores.attributes) if name in there]

    @property
    def look(self) -> drawing.Look:
        return drawing.Look.of(self.starts, tuple(STYLES))


def read(tables: str | Path, shape: str = ENSEMBLE, attributes: str = "", dataset: str = "") -> Convergence:
    scores = Comparison.read("convergence", tables, (), shape, attributes, dataset)
    frames = []
    for name, columns in (("curves", CURVES), ("pace", PACE)):
        frame = read_table(scores.folder / f"convergence_{name}.csv", columns, scores.command)
        frames.append(frame[frame["shape"] == shape] if shape != ENSEMBLE else frame)
    return Convergence(scores, *frames)


def headline(study: Convergence, reference: str = REFERENCE) -> Html:
    return html.sentence(f"{_scores_reading(study)} {_reached_reading(study, reference)}".strip())


def unmeasured(study: Convergence) -> Html:
    return extent.unmeasured({"rows": (CONVERGENCE_ROWS, study.starts)})


def _scores_reading(study: Convergence) -> str:
    values = reading.averages(study.scores)
    if values.empty:
        return reading.nothing(study.scores)
    each = [f"{name} {score(values[name])}" for name in study.starts if name in values.index]
    return f"Average Dice {reading.over(study.scores)}: {listed(each)} ({words.spread(study.scores)})."


def scores(study: Convergence) -> Html:
    """Figure 5: the agnostic network on each attribute, beside what was trained from it and from elsewhere."""
    if study.scores.measured.empty or not study.scores.panels:
        return html.sentence(reading.nothing(study.scores))
    frame, singles = (drawing.tidy(part, "dice", "attribute", "variant").assign(panel="") for part in _both(study))
    drawn = drawing.dots(frame, [""], study.scores.panels, study.look, "pooled Dice", singles=drawing.several(singles))
    alt = "Dice of the agnostic network and of what starts from it and from elsewhere, for each attribute."
    return html.figure(drawn, alt, _scores_reading(study), study.scores.caption())


def _both(study: Convergence) -> tuple[pd.DataFrame, pd.DataFrame]:
    return study.scores.measured, study.scores.folds


def transfer(study: Convergence) -> Html:
    """Figure 5: is an attribute that the pretext finds one that its target gains on?"""
    table = _transferred(study)
    if table.empty:
        return html.sentence(f"{PRETEXT} and {TATL} were not both measured: pretext and targets cannot be compared.")
    alt = "Dice of the target from the agnostic network against that of the agnostic network, a point per attribute."
    return html.figure(points.scatter(table), alt, points.read_off(table), study.scores.caption())


def _transferred(study: Convergence) -> pd.DataFrame:
    """Dice by attribute (rows) of pretext and tatl."""
    table = reading.wide(study.scores)
    there = {PRETEXT, TATL} <= set(table)
    return table[[PRETEXT, TATL]].dropna() if there else pd.DataFrame(columns=[PRETEXT, TATL])


def curves(study: Convergence) -> Html:
    """Figure 6: validation loss over steps with its standard deviation, training loss thin behind it."""
    frame, tasks = study.curves.dropna(subset=["loss"]), study.tasks
    if frame.empty or not tasks:
        return html.sentence("There are no loss curves: convergence_curves.csv has no rows of these attributes.")
    drawn = drawing.lines(
        _by(frame[frame["split"] == "validation"].assign(epoch=lambda t: t["epoch"].where(t["step"] > 0, -1)), "epoch"),
        tasks,
        study.look,
        ("training step", "validation loss\n(training loss thin)"),
        behind=_by(_binned(frame[frame["split"] == "train"]), "bin"),
        dense=True,
    )
    alt = "Validation and training loss over steps for every start, for each attribute."
    return html.figure(drawn, alt, _curves_reading(study, frame), study.scores.caption())


def _binned(frame: pd.DataFrame) -> pd.DataFrame:
    width = max(1.0, float(frame["step"].max()) / BINS) if len(frame) else 1.0
    return frame.assign(bin=(frame["step"] // width))


def _by(frame: pd.DataFrame, key: str) -> pd.DataFrame:
    """Mean and standard deviation over runs as `lines` takes them; folds of other lengths meet by epoch."""
    grouped = frame.groupby(["attribute", "variant", key], sort=False)
    table = grouped.agg(x=("step", "mean"), value=("loss", "mean"), std=("loss", "std")).reset_index()
    return table.rename(columns={"attribute": "panel", "variant": "lane"})


def _curves_reading(study: Convergence, frame: pd.DataFrame) -> str:
    """Who ends lowest."""
    rows = frame[(frame["split"] == "validation") & frame["attribute"].isin(study.scores.attributes)]
    rows = rows[rows["step"] > 0]
    runs = rows.groupby(["attribute", "variant", "shape", "seed", "fold"])["loss"].min()
    table = runs.groupby(["attribute", "variant"]).mean().unstack()
    if table.empty:
        return "No validation loss of an attribute was kept."
    number = int(runs.groupby(["attribute", "variant"]).size().max())
    over = "one run each: no spread can be given" if number == 1 else f"means of {number} runs"
    return f"By the lowest validation loss of a run, {reading.highest(table, lowest=True, word='best')} ({over})."


def _paced(study: Convergence, name: str) -> pd.DataFrame:
    """Mean of a pace by attribute (rows) and start (columns)."""
    rows = study.pace[study.pace["attribute"].isin(study.scores.attributes)]
    table = rows.pivot_table(index="attribute", columns="variant", values=name, sort=False)
    return table.reindex(columns=[start for start in study.starts if start in table]).dropna(how="all")


def _reaching(study: Convergence, reference: str) -> pd.DataFrame:
    """Steps of every run to 90 % of the reference's best score, of the attributes that are shown."""
    runs = pace.reaching(study.curves, reference)
    return runs[runs["attribute"].isin(study.scores.attributes)]


def _reached_reading(study: Convergence, reference: str) -> str:
    """Who gets where the reference gets, and how fast."""
    table = pace.over_runs(_reaching(study, reference))
    wide = pace.sure(table, study.scores.attributes, study.starts)
    if wide.empty:
        return ""
    said = f"To 90 % of {reference}'s best score, {pace.each_start(wide, table)}"
    known = wide.dropna(how="all")
    fastest = f"; {reading.highest(known, lowest=True, word='fastest')}" if len(known) else ""
    return f"{said}{fastest} {_runs(study)}"


def reached(study: Convergence, reference: str = REFERENCE) -> Html:
    """Figure 6: training steps to 90 % of what the reference reaches."""
    runs = _reaching(study, reference)
    if runs.empty:
        return html.sentence(f"{reference} has no validation loss of these attributes, so no start is measured by it.")
    axis = f"training steps to 90 % of {reference}'s best score"
    note = f"Steps to 90 % of {reference}'s best score on the same fold and seed; no mark: never reached."
    table = pace.over_runs(runs)
    return _pace_figure(study, table, runs.assign(value=runs["steps"]), axis, _reached_reading(study, reference), note)


def _pace_reading(study: Convergence) -> str:
    """Steps to 90 % of a start's own best score."""
    table = _paced(study, "steps_to_90")
    if table.empty:
        return ""
    each = [f"{name} {steps:.0f}" for name, steps in table.mean().items()]
    said = f"To 90 % of its own best score a start takes, on average, steps as follows: {listed(each)}"
    return f"{said}; where a start learns little these are few {_runs(study)}"


def steps(study: Convergence) -> Html:
    """Figure 6: training steps to 90 % of a start's own best score."""
    return _own_figure(study, "steps_to_90", "training steps to 90 % of its own best score", _pace_reading(study))


def area(study: Convergence) -> Html:
    """Figure 6: the mean score over training, from the end of the first epoch on."""
    table = _paced(study, "area")
    said = f"In the mean score over training, {reading.highest(table)} {_runs(study)}" if len(table) else ""
    return _own_figure(study, "area", "mean of 1 - validation loss over the steps", said)


def _runs(study: Convergence) -> str:
    runs = study.pace.groupby(["variant", "attribute"]).size().max()
    return (
        "(one run each: no spread can be given)." if runs == 1 else f"(mean ± standard deviation over {runs:.0f} runs)."
    )


def _own_figure(study: Convergence, name: str, axis: str, said: str) -> Html:
    """A column of convergence_pace.csv, in which every start is measured by itself."""
    if _paced(study, name).empty:
        return html.sentence("No pace can be given: convergence_pace.csv has no rows of these attributes.")
    grouped = study.pace.groupby(["attribute", "variant"], sort=False)[name].agg(value="mean", std="std").reset_index()
    return _pace_figure(study, grouped, study.pace.assign(value=study.pace[name]), axis, said, "")


def _pace_figure(study: Convergence, means: pd.DataFrame, runs: pd.DataFrame, axis: str, said: str, note: str) -> Html:
    frame, singles = (
        part.assign(panel=part["attribute"], row=part["variant"], lane=part["variant"]) for part in (means, runs)
    )
    names = [name for name in study.starts if name in set(means["variant"])]
    panels = [name for name in study.scores.attributes if name in set(means["attribute"])]
    look = drawing.Look.of(names, tuple(STYLES))
    drawn = drawing.dots(frame, panels, names, look, axis, singles=drawing.several(singles[singles["row"].isin(names)]))
    alt = f"{axis[0].upper()}{axis[1:]} for every start, for each attribute."
    return html.figure(drawn, alt, said, f"{note} {study.scores.caption()}".strip())


def table(study: Convergence, reference: str = REFERENCE) -> Html:
    """The pace of every run, averaged over folds and seeds."""
    rows = study.pace[study.pace["attribute"].isin(study.tasks)]
    grouped = rows.groupby(["attribute", "variant"], sort=False)
    reached = pace.cells(pace.over_runs(_reaching(study, reference)))
    frame = pd.DataFrame({
        "score before the first step": "",
        "steps": grouped["steps"].mean().map("{:.0f}".format),
        f"steps to 90 % of {reference}'s best": "",
        "best score": _spreads(grouped["best"]),
        "steps to 90 % of its own best": _spreads(grouped["steps_to_90"], digits=0),
        "mean score": _spreads(grouped["area"]),
        "runs": [str(number) for number in grouped.size()],
    })  # fmt: skip
    frame[f"steps to 90 % of {reference}'s best"] = reached.reindex(frame.index).fillna("")
    starts = pace.before(study.curves).groupby(["attribute", "variant"])["score"]
    before = pd.Series(_spreads(starts), starts.mean().index, dtype=object)
    frame["score before the first step"] = before.reindex(frame.index).fillna("")
    keys = frame.index.to_frame(index=False)
    frame.index = pd.MultiIndex.from_arrays([keys["attribute"].map(words.plain), keys["variant"]], names=[None, None])
    caption = (
        f"Scores are 1 - validation loss; blank: {reference}'s not reached, or of the start: not measured. Steps count "
        "from the start, so that 0 is there before any; the mean is over the steps from the first epoch's end on."
    )
    return html.table(frame, f"{caption} {study.scores.caption()}")


def _spreads(grouped: SeriesGroupBy, digits: int = 3) -> list[str]:
    return [score(mean, std, digits) for mean, std in zip(grouped.mean(), grouped.std(), strict=True)]

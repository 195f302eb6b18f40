"""How few training images are enough, from which start?  Figure 4: scores over nested shares of the training groups."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.pages import drawing, extent, html, reading, words
from analysis.pages.comparison import Comparison
from analysis.pages.html import Html
from analysis.pages.theme import STYLES
from analysis.pages.words import counted, listed, score
from analysis.tables.read import ordered
from tatl.names import ENSEMBLE, FRACTIONS, SIZE_STARTS

OWN = ["start", "fraction"]
TATL = "tatl"
WHOLE = "The validation part, for early stopping, stays whole at every share."
SECTIONS = ("headline", "average", "table", "attributes", "advantage")


def read(tables: str | Path, shape: str = ENSEMBLE, attributes: str = "", dataset: str = "") -> Comparison:
    return Comparison.read("data-size", tables, OWN, shape, attributes, dataset)


def starts(study: Comparison) -> list[str]:
    return ordered(study.measured["start"].dropna(), tuple(STYLES))


def averages(study: Comparison) -> pd.DataFrame:
    """Average Dice by share (rows, the largest first) and start (columns)."""
    part = study.measured[study.measured["attribute"].isin(study.panels[:1])]
    table = part.pivot_table(index="fraction", columns="start", values="dice", sort=False)
    return table.sort_index(ascending=False).reindex(columns=starts(study)).dropna(how="all")


def headline(study: Comparison) -> Html:
    return html.sentence(_reading(study))


def unmeasured(study: Comparison) -> Html:
    there = [_percent(share) for share in study.measured["fraction"].dropna()]
    full = [_percent(share) for share in FRACTIONS]
    return extent.unmeasured({"shares of the training groups": (full, there), "starts": (SIZE_STARTS, starts(study))})


def _caption(study: Comparison) -> str:
    return f"{WHOLE} {study.caption()}"


def _reading(study: Comparison) -> str:
    """What each start loses from the largest to the smallest share."""
    table = averages(study)
    if table.empty:
        return reading.nothing(study)
    most, least = table.index[0], table.index[-1]
    if most == least:
        each = [f"{name} {score(table[name].iloc[0])}" for name in table]
        return f"At {_share(most)}, the only share, average Dice is {listed(each)} ({words.spread(study)})."
    each = [f"{score(table[name][most])} to {score(table[name][least])} for {name}" for name in table.dropna(axis=1)]
    said = f"Between {_percent(most)} and {_share(least)}, average Dice {reading.over(study)} goes from {listed(each)}"
    return f"{said} ({words.spread(study)})."


def _share(fraction: float) -> str:
    return f"{100 * fraction:g} % of the training groups"


def _lines(study: Comparison, panels: list[str]) -> Figure:
    frame, singles = (
        drawing.tidy(part, "dice", "start", "start").assign(x=100 * part["fraction"])
        for part in (study.measured, study.folds)
    )
    return drawing.lines(
        frame,
        panels,
        drawing.Look.of(starts(study), tuple(STYLES)),
        ("share of the training groups (%)", "pooled Dice"),
        singles=drawing.several(singles, ("panel", "lane", "x")),
    )


def average(study: Comparison) -> Html:
    """Figure 4: the average over attributes."""
    if averages(study).empty:
        return html.sentence(reading.nothing(study))
    alt = "Average Dice over attributes against the share of training groups, for every start."
    return html.figure(_lines(study, study.panels[:1]), alt, _reading(study), _caption(study))


def attributes(study: Comparison) -> Html:
    """Each attribute, a panel each."""
    table = reading.wide(study)
    if table.empty:
        return html.sentence(reading.nothing(study))
    least = study.measured[study.measured["fraction"] == study.measured["fraction"].min()]
    part = least[least["attribute"].isin(study.attributes)]
    smallest = part.pivot_table(index="attribute", columns="start", values="dice", sort=False).dropna(how="all")
    said = (
        f"At {_share(part['fraction'].min())}, {reading.highest(smallest)}" if len(smallest) else reading.nothing(study)
    )
    alt = "Dice against the share of training groups for every start, for each attribute."
    return html.figure(_lines(study, study.attributes), alt, f"{said} ({words.spread(study)}).", _caption(study))


def table(study: Comparison) -> Html:
    """Average Dice and Jaccard by share and start."""
    part = study.measured[study.measured["attribute"].isin(study.panels[:1])].sort_values("fraction", ascending=False)
    cells: dict[tuple[str, str], pd.Series] = {}
    for name in ("dice", "jaccard"):
        for start in starts(study):
            mine = part[part["start"] == start]
            cells[name.capitalize(), start] = pd.Series(reading.cells(mine, name), index=mine["fraction"].map(_percent))
    frame = pd.DataFrame(cells).reindex(list(dict.fromkeys(part["fraction"].map(_percent))))
    caption = f"Average over attributes, by share of the training groups; {words.spread(study)}. {_caption(study)}"
    return html.table(frame.fillna("").rename_axis(index=None), caption)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g} %"


def advantage(study: Comparison, reference: str = "source") -> Html:
    """What the agnostic start is worth at every share: paired differences to the reference."""
    frame = study.measured.drop_duplicates("variant").set_index(["start", "fraction"])["variant"]
    found = []
    for fraction in sorted(study.measured["fraction"].dropna().unique(), reverse=True):
        if (TATL, fraction) in frame.index and (reference, fraction) in frame.index:
            told = reading.between(study, frame[TATL, fraction], frame[reference, fraction], study.panels[0])
            found.append((_percent(fraction), told or "not measured"))
    if not found:
        there = listed(starts(study)) or "none"
        return html.sentence(
            f"{TATL} and {reference} share no size, so no difference can be taken: the starts are {there}."
        )
    table = pd.DataFrame(
        {f"{TATL} minus {reference}": [told for _, told in found]}, index=[share for share, _ in found]
    )
    above = sum(told.startswith("+") for _, told in found)
    said = f"{TATL} is above {reference} on average at {above} of {counted(len(found), 'share')}."
    return html.table(table, f"Average Dice, paired over folds and seeds. {_caption(study)}", said)

"""Which start is best, all else alike?  Table 9, its controls, paired differences and ranks.

Every row trains the same network on the same whole images; only where it starts differs (augmentation and attention
start as source and add one thing; stage123 starts as tatl and works on Stage 1's crop).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.pages import drawing, extent, html, reading, words
from analysis.pages.comparison import Comparison
from analysis.pages.html import Html
from analysis.pages.theme import STYLES
from analysis.pages.words import counted, listed, score
from analysis.tables import pairs as statistics
from analysis.tables.paper import read_paper
from analysis.tables.read import ordered
from tatl.names import AVERAGE, CONTROLS, STARTS

OWN = ["start", "augment", "crop"]
# Tables 3 and 4 have Dice .482 with Stage 1's crop and .466 without, Table 9 .471 and .475 for each shape alone.
PAPER_NAMES = {"imagenet": "source", "context-restoration": "context", "tatl": "stage123"}
REMARK = (
    "The paper's TATL stands beside stage123, as most probably it is with Stage 1's crop (inferred); tatl, on whole "
    "images, has no published number."
)
ROTATION = (
    "Rotation is told from the mean and standard deviation of the channels of every level of the encoder, where "
    "Gidaris et al. (2018) tell it from the top level alone: a segmenter's skips carry the other levels."
)
TATL = "tatl"
SECTIONS = ("headline", "average", "table", "attributes", "paired", "ranks", "controls")


def read(tables: str | Path, shape: str = "mean", attributes: str = "", dataset: str = "") -> Comparison:
    return Comparison.read("paradigms", tables, OWN, shape, attributes, dataset)


def starts(study: Comparison) -> list[str]:
    """The rows in the one order of initialisations."""
    return ordered(study.variants, tuple(STYLES))


def published(study: Comparison) -> pd.DataFrame:
    """Table 9: variant, shape, dice, jaccard of the shapes that were trained; none for attributes of other data."""
    table = read_paper("table9").rename(columns={"paradigm": "variant"}).replace({"variant": PAPER_NAMES})
    return table[table["shape"].isin(study.paper_shapes) & (study.reference == "isic2018")]


def headline(study: Comparison, reference: str = "source") -> Html:
    values = reading.averages(study)
    if values.empty:
        return html.sentence(reading.nothing(study))
    said = f"Average Dice {reading.over(study)} is {reading.extremes(values)}"
    return html.sentence(f"{said}{_against(study, reference)} ({words.spread(study)}).")


def unmeasured(study: Comparison) -> Html:
    return extent.unmeasured({"rows": (STARTS, study.variants)})


def _theirs(study: Comparison) -> str:
    """What Table 9 is, for a caption."""
    own = f" {ROTATION}" if "rotation" in study.variants else ""
    if study.reference and published(study).empty:
        return f"The paper's Table 9 is of isic2018 alone.{own}"
    said = study.theirs("Table 9, each shape alone")
    return (f"{said} {REMARK}{own}" if study.reference else f"{said}{own}").strip()


def _against(study: Comparison, reference: str) -> str:
    found = reading.between(study, TATL, reference, study.panels[0])
    return f"; {TATL} minus {reference} is {found}" if found else ""


def average(study: Comparison, reference: str = "source") -> Html:
    """Table 9 as a figure: the average of every start."""
    values = reading.averages(study)
    if values.empty:
        return html.sentence(reading.nothing(study))
    panel, names = study.panels[0], starts(study)
    paper = published(study)
    hollow = pd.DataFrame({"panel": AVERAGE, "row": paper["variant"], "lane": paper["variant"], "value": paper["dice"]})
    drawn = drawing.dots(
        drawing.tidy(study.measured, "dice", "variant", "variant"),
        [panel],
        names,
        drawing.Look.of(names, tuple(STYLES)),
        "pooled Dice",
        singles=_singles(study),
        hollow=hollow[hollow["row"].isin(names) & (panel == AVERAGE)],
    )
    said = f"Average Dice {reading.over(study)} is {reading.extremes(values)}{_against(study, reference)}"
    return html.figure(
        drawn,
        "Average Dice of every start, measured and published.",
        f"{said} ({words.spread(study)}).",
        study.caption(_theirs(study)),
    )


def _singles(study: Comparison) -> pd.DataFrame | None:
    return drawing.several(drawing.tidy(study.folds, "dice", "variant", "variant"))


def table(study: Comparison) -> Html:
    """Table 9: measured beside published, their difference where data and attributes are the paper's."""
    part = study.measured[study.measured["attribute"] == study.panels[0]] if study.panels else study.measured
    frame = part.set_index("variant").reindex(starts(study))
    cells = {(name, "measured"): reading.cells(frame, name.lower()) for name in ("Dice", "Jaccard")}
    for shape in study.paper_shapes if AVERAGE in study.panels and len(published(study)) else ():
        cells |= _beside(study, shape, frame.index)
    for name in ("dice", "jaccard"):
        cells["per-image mean", name.capitalize()] = [score(value) for value in frame[f"image_{name}"]]
    caption = f"Pooled scores, unweighted mean over attributes; {words.spread(study)}. {study.caption(_theirs(study))}"
    return html.table(pd.DataFrame(cells, index=frame.index.to_list()), caption)


def _beside(study: Comparison, shape: str, rows: pd.Index) -> dict[tuple[str, str], list[str]]:
    """The averages of one shape alone, as the paper prints them, measured and published."""
    paper = published(study)
    theirs = paper[paper["shape"] == shape].set_index("variant").reindex(rows)
    part = study.scores[(study.scores["shape"] == shape) & (study.scores["attribute"] == AVERAGE)]
    ours, cells = part.set_index("variant").reindex(rows), {}
    for name in ("dice", "jaccard"):
        head = f"{name.capitalize()}, {shape}"
        cells[head, "measured"] = reading.cells(ours, name)
        cells[head, study.theirs_cell] = reading.cells(theirs, name)
        if study.differing:
            cells[head, "difference"] = [reading.signed(value) for value in ours[name] - theirs[name]]
    return cells


def attributes(study: Comparison) -> Html:
    """Every attribute, a panel each."""
    table = reading.wide(study)
    if table.empty:
        return html.sentence(reading.nothing(study))
    names = starts(study)
    drawn = drawing.dots(
        drawing.tidy(study.measured, "dice", "variant", "variant"),
        study.attributes,
        names,
        drawing.Look.of(names, tuple(STYLES)),
        "pooled Dice",
        singles=_singles(study),
    )
    said = f"Of {counted(len(names), 'start')}, {reading.highest(table)} ({words.spread(study)})."
    return html.figure(drawn, "Dice of every start for each attribute.", said, study.caption())


def paired(study: Comparison, reference: str = "source") -> Html:
    """Paired differences to the reference, with intervals where there are pairs enough."""
    found = reading.differences(study, reference)
    found = found[found["attribute"].isin(study.panels) & np.isfinite(found["difference"].astype(float))]
    if found.empty:
        known = listed(study.variants) or "none"
        return html.sentence(f"No differences to {reference} can be taken: the table has the rows {known}.")
    names = [name for name in starts(study) if name in set(found["variant"])]
    frame = found.rename(columns={"attribute": "panel", "difference": "value"})
    drawn = drawing.dots(
        frame.assign(row=frame["variant"], lane=frame["variant"]),
        study.panels,
        names,
        drawing.Look.of(names, tuple(STYLES)),
        f"Dice minus that of {reference}, same fold and seed",
        zero=True,
    )
    alt = f"Paired difference in Dice of every start to {reference}, for each attribute."
    return html.figure(drawn, alt, _paired_reading(study, found, reference), study.caption())


def _paired_reading(study: Comparison, found: pd.DataFrame, reference: str) -> str:
    """For how many attributes the row that matters is above the reference, and how sure that is."""
    names = set(found["variant"])
    name = TATL if TATL in names else next(each for each in starts(study) if each in names)
    mine = found[(found["variant"] == name) & found["attribute"].isin(study.attributes)]
    above = int((mine["difference"] > 0).sum())
    said = f"{name} is above {reference} for {above} of {counted(len(mine), 'attribute')}"
    if found["low"].isna().all():
        return f"{said}; {reading.without_interval(found['pairs'].max(), ' of fold and seed')}."
    few = mine[mine["low"].isna()]
    small = f" ({len(few)} have too few pairs for one)" if len(few) else ""
    return f"{said}; {reading.clear(mine)}{small}."


def ranks(study: Comparison) -> Html:
    """Mean ranks over attributes, with the difference below which two are not told apart."""
    scores = reading.wide(study)
    if scores.empty:
        return html.sentence(reading.nothing(study))
    if scores.dropna(axis=1).empty:
        return html.sentence("No ranks can be given: no row was measured on every attribute.")
    measured = study.all_folds["attribute"].isin(list(scores.index))
    found = statistics.ranks(study.all_folds[measured], "dice", study.shape)
    if not found["attributes"].any():
        return html.sentence("No ranks can be given: no test fold shows an attribute.")
    cells = {
        "mean rank": [score(value, digits=2) for value in found["mean_rank"]],
        "first for": [f"{number:.3g} attribute{'' if number == 1 else 's'}" for number in found["wins"]],
        "told apart from the first": [_apart(row, found) for row in found.to_dict("records")],
    }
    caption = f"Pooled Dice; an attribute that rows tie for counts in equal parts. {study.caption()}"
    return html.table(pd.DataFrame(cells, index=found["variant"].to_list()), caption, _ranks_reading(found))


def _apart(row: dict, found: pd.DataFrame) -> str:
    if not np.isfinite(row["critical"]):
        return "no test"
    return "yes" if row["mean_rank"] - found["mean_rank"].iloc[0] > row["critical"] else "no"


def _ranks_reading(found: pd.DataFrame) -> str:
    first = found.iloc[0]
    said = f"The best mean rank over {counted(first['attributes'], 'attribute')} is {first['variant']}'s"
    said += f" ({first['mean_rank']:.2f} of {counted(len(found), 'row')})"
    if not np.isfinite(first["critical"]):
        return f"{said}; with one of either there is no test."
    apart = int((found["mean_rank"] - first["mean_rank"] > first["critical"]).sum())
    said += f"; {counted(apart, 'row')} differ{'s' * (apart == 1)} from it by more than Nemenyi's critical"
    said += f" difference ({first['critical']:.2f})"
    return f"{said}, and over fewer than 5 attributes no test says much." if first["small"] else f"{said}."


def controls(study: Comparison) -> Html:
    """What the paper did not run: is it the union, any mask, more steps, or no learning at all that helps?"""
    values, name = reading.averages(study), study.panels[0] if study.panels else AVERAGE
    there = [each for each in CONTROLS if each in values.index]
    if not there or TATL not in values.index:
        return html.sentence(f"The controls ({', '.join(CONTROLS)}) or tatl were not measured here.")
    table = reading.differences(study, TATL)
    found = {row["variant"]: row for row in table[table["attribute"] == name].to_dict("records")}
    cells = {
        "average Dice": [score(values[each]) for each in there],
        f"minus {TATL}": [reading.difference(found[each]) for each in there],
    }
    below = [each for each in there if values[each] < values[TATL]]
    said = f"{TATL} ({score(values[TATL])}) is above {len(below)} of {counted(len(there), 'control')}"
    said += f"; the highest of them is {values[there].idxmax()} ({score(values[there].max())})"
    return html.table(pd.DataFrame(cells, index=there), f"Dice {reading.over(study)}. {study.caption()}", f"{said}.")

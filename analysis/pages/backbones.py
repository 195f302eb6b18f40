"""Does the agnostic start help whatever the backbone, and what does each cost?  Tables 6, 7 and 8.

Table 6 has every backbone from ImageNet, Table 8 the rare attributes from three starts and in both shapes, Table 7 the
parameters (`backbone_costs`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.pages import backbone_costs, drawing, extent, html, reading, words
from analysis.pages.comparison import Comparison, Scored
from analysis.pages.html import Html
from analysis.pages.theme import STYLES
from analysis.pages.words import counted, listed, score
from analysis.tables.paper import read_paper
from analysis.tables.read import ordered
from tatl.names import AVERAGE, BACKBONE_STARTS, BACKBONES, ENSEMBLE, MICRO

OWN = ["backbone", "start"]
TATL, SOURCE = "tatl", "source"
EFFICIENT = {"u-eff-tatl": "u", "l-eff-tatl": "link"}  # Table 6's names for TATL on efficientnet-b0: the shape
CROPPED = (
    "The paper's TATL most probably sees Stage 1's crop (inferred), these rows see whole images: no difference is "
    "taken of tatl and tatl-freeze."
)
HOLLOW = {"backbone": "row", "start": "lane", "attribute": "panel", "dice": "value"}
SIX = "Table 6, the shape given for TATL alone"
SECTIONS = ("headline", "average", "attributes", "table", "parameters", "costs", "cost_table")


@dataclass(frozen=True)
class Backbones(Scored):
    """The study's scores, and what each network costs (no rows where that was not measured)."""

    cost: pd.DataFrame

    @property
    def backbones(self) -> list[str]:
        return ordered([*self.scores.measured["backbone"].dropna(), *self.cost["backbone"].dropna()], BACKBONES)

    @property
    def starts(self) -> list[str]:
        return ordered(self.scores.measured["start"].dropna(), tuple(STYLES))


def read(tables: str | Path, shape: str = ENSEMBLE, attributes: str = "", dataset: str = "") -> Backbones:
    scores = Comparison.read("backbones", tables, OWN, shape, attributes, dataset)
    names = listed(ordered(scores.scores["backbone"].dropna(), BACKBONES))
    scores = dataclasses.replace(scores, about=scores.about | ({"backbone": names} if names else {}))
    return Backbones(scores, backbone_costs.read(scores.folder))


def table6(study: Backbones) -> pd.DataFrame:
    """Published scores: backbone, start, shape (empty where it is not given), attribute, dice, jaccard."""
    table = read_paper("table6")
    shape = table["method"].map(EFFICIENT)
    table = table.assign(
        backbone=table["method"].where(shape.isna(), "efficientnet-b0"),
        start=shape.where(shape.isna(), TATL).fillna(SOURCE),
        shape=shape.fillna(""),
    )
    here = table["backbone"].isin(BACKBONES) & table["shape"].isin(["", *study.scores.paper_shapes])
    return table[here & (study.scores.reference == "isic2018")]


def table8(study: Backbones) -> pd.DataFrame:
    """Published Dice of this data set's rare attributes: backbone, start, attribute, shape, dice."""
    table = read_paper("table8").rename(columns={"initialisation": "start"}).replace({"start": {"imagenet": SOURCE}})
    here = (table["dataset"] == study.scores.reference) & table["attribute"].isin(study.scores.attributes)
    return table[here & table["shape"].isin(study.scores.paper_shapes)].drop(columns="dataset")


def headline(study: Backbones) -> Html:
    return html.sentence(_reading(study))


def unmeasured(study: Backbones) -> Html:
    measured = study.scores.measured["backbone"].dropna()
    return extent.unmeasured({"backbones": (BACKBONES, measured), "starts": (BACKBONE_STARTS, study.starts)})


def _theirs(study: Backbones, table: str, average: bool = True) -> str:
    """What the published numbers of a table are, for a caption."""
    said = study.scores.theirs(table, average)
    return f"{said} {CROPPED}" if study.scores.reference else said


def _reading(study: Backbones) -> str:
    """The best backbone and start, and for how many backbones the agnostic start is above the source domain."""
    scores = study.scores
    part = scores.measured[scores.measured["attribute"].isin(scores.panels[:1])]
    if part["dice"].isna().all():
        return reading.nothing(scores)
    best = reading.extreme(part, "dice")
    said = f"Average Dice {reading.over(scores)} is highest for {best['backbone']} from {best['start']}"
    said += f" ({score(best['dice'], best['dice_std'])})"
    return f"{said}{_gains(study)} ({words.spread(study.scores)})."


def _gains(study: Backbones) -> str:
    """tatl minus source, backbone by backbone."""
    told = {}
    for backbone in study.backbones:
        found = reading.between(study.scores, f"{backbone} {TATL}", f"{backbone} {SOURCE}", study.scores.panels[0])
        if found:
            told[backbone] = found
    if not told:
        return ""
    above = sum(found.startswith("+") for found in told.values())
    each = listed([f"{name} {found}" for name, found in told.items()])
    return f"; {TATL} is above {SOURCE} for {above} of {counted(len(told), 'backbone')}: {each}"


def _dots(study: Backbones, panels: list[str], hollow: pd.DataFrame) -> drawing.Figure:
    frame, singles = (
        drawing.tidy(part, "dice", "backbone", "start") for part in (study.scores.measured, study.scores.folds)
    )
    look = drawing.Look.of(study.starts, tuple(STYLES))
    kept = hollow[hollow["panel"].isin(panels)]
    names = [name for name in study.backbones if name in set(frame["row"])]
    return drawing.dots(frame, panels, names, look, "pooled Dice", singles=drawing.several(singles), hollow=kept)


def average(study: Backbones) -> Html:
    """Table 6 and more: the average of every backbone and start."""
    if study.scores.measured.empty or not study.scores.panels:
        return html.sentence(reading.nothing(study.scores))
    paper = table6(study).rename(columns=HOLLOW)
    drawn = _dots(study, study.scores.panels[:1], paper)
    alt = "Average Dice of every backbone and start, measured and published."
    caption = study.scores.caption(_theirs(study, SIX))
    return html.figure(drawn, alt, _reading(study), caption)


def attributes(study: Backbones) -> Html:
    """Table 8 as a figure: each attribute, a panel each."""
    table = reading.wide(study.scores)
    if table.empty:
        return html.sentence(reading.nothing(study.scores))
    paper = table8(study).rename(columns=HOLLOW)
    drawn = _dots(study, study.scores.attributes, paper)
    said = f"Of {counted(table.shape[1], 'pair')} of backbone and start, {reading.highest(table)}"
    alt = "Dice of every backbone and start for each attribute, measured and published."
    caption = study.scores.caption(_theirs(study, "Table 8, each shape alone, rare attributes", average=False))
    return html.figure(drawn, alt, f"{said} ({words.spread(study.scores)}).", caption)


def table(study: Backbones) -> Html:
    """Tables 6 and 8: every attribute, backbone and start, measured beside published."""
    scores = study.scores
    frame = scores.measured[scores.measured["attribute"] != MICRO].copy()
    place = {name: i for i, name in enumerate([*scores.attributes, AVERAGE, *study.backbones, *study.starts])}
    frame = frame.sort_values(["attribute", *OWN], key=lambda names: names.map(place), kind="stable")
    cells = {("measured", name.capitalize()): reading.cells(frame, name) for name in ("dice", "jaccard")}
    for shape, theirs in table6(study).groupby("shape", sort=False):
        ours = scores.scores[scores.scores["shape"] == shape] if shape else frame
        head = f"Table 6, {shape!s}" if shape else "Table 6"
        cells |= _beside(study, frame, ours, theirs, head, scores.same_average)
    for shape, theirs in table8(study).groupby("shape", sort=False):
        ours = scores.scores[scores.scores["shape"] == shape]
        cells |= _beside(study, frame, ours, theirs, f"Table 8, {shape}", True)
    names = [words.plain(name) for name in frame["attribute"]]
    rows = pd.MultiIndex.from_arrays([names, frame["backbone"], frame["start"]], names=[None, None, None])
    caption = f"Pooled scores; {words.spread(scores)}. {scores.caption(_theirs(study, 'Tables 6 and 8'))}"
    return html.table(pd.DataFrame(cells, index=rows), caption)


def _beside(
    study: Backbones, rows: pd.DataFrame, ours: pd.DataFrame, theirs: pd.DataFrame, head: str, same: bool
) -> dict[tuple[str, str], list[str]]:
    """The measured Dice that a published table is compared with, that table's, and from the source their difference."""
    keys = ["attribute", *OWN]
    columns = rows[keys].merge(ours[[*keys, "dice", "dice_std"]], on=keys, how="left")
    columns = columns.merge(theirs[[*keys, "dice"]], on=keys, how="left", suffixes=("", "_published"))
    cells = {
        (f"Dice, {head}", "measured"): reading.cells(columns.where(columns["dice_published"].notna()), "dice"),
        (f"Dice, {head}", study.scores.theirs_cell): [score(value) for value in columns["dice_published"]],
    }
    alike = (same | (columns["attribute"] != AVERAGE)) & (columns["start"] == SOURCE)
    if study.scores.comparable and (alike & columns["dice_published"].notna()).any():
        difference = (columns["dice"] - columns["dice_published"]).where(alike)
        cells[f"Dice, {head}", "difference"] = [reading.signed(value) for value in difference]
    return cells


def parameters(study: Backbones) -> Html:
    """Table 7."""
    return backbone_costs.parameters(study.cost, study.scores.caption())


def costs(study: Backbones) -> Html:
    """Parameters, memory and time."""
    return backbone_costs.costs(study.cost, _where(study))


def cost_table(study: Backbones) -> Html:
    """Every measured cost."""
    return backbone_costs.table(study.cost, _where(study))


def _where(study: Backbones) -> str:
    """On what the costs were measured, and for which study."""
    store = study.about.get("store_name", "not recorded")
    return (
        f"Drawn images of the size of the store {store}, random weights. Rows as in the study; {study.scores.caption()}"
    )

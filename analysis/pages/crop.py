"""Which lesion network, and how much margin round its box?  Table 5: lesion Dice, and attributes on each crop.

Offsets are pixels of the store's frame; the paper's are pixels at 384x512, and `at_paper_size` converts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.pages import drawing, extent, html, reading, words
from analysis.pages.comparison import Comparison, Scored
from analysis.pages.html import Html
from analysis.pages.words import counted, score
from analysis.tables.paper import read_paper
from analysis.tables.read import ordered, read_table
from tatl.names import AVERAGE, ENSEMBLE, IMAGE_SCORES, LESION, LESION_NETWORKS, OFFSETS

LESION_COLUMNS = ["network", "start", "fold", "seed", "jaccard", "dice", *IMAGE_SCORES, "images"]
PAPER_HEIGHT = 384
PUBLISHED = (
    "Published: Table 5, data set not given by the table (0.387 at 40 px is ISIC 2017's average of the whole TATL), "
    "ImageNet: no difference is taken."
)
STAGES = "The measured rows have no Stage 2."
THEIRS = "published, data set not given"
SECTIONS = ("headline", "lesion", "lesion_table", "average", "table", "attributes")


@dataclass(frozen=True)
class Crop(Scored):
    """The study's scores, and those of its lesion networks, one row per network, fold and seed."""

    lesions: pd.DataFrame

    @property
    def networks(self) -> list[str]:
        return ordered(
            [*self.lesions["network"].dropna(), *self.scores.scores["lesion_network"].dropna()], LESION_NETWORKS
        )

    @property
    def cropped(self) -> bool:
        """Were attributes measured on crops?  A store without any has the lesion alone."""
        measured = self.scores.measured
        return "offset" in measured and bool(measured["offset"].notna().any())


def read(tables: str | Path, shape: str = ENSEMBLE, attributes: str = "", dataset: str = "") -> Crop:
    scores = Comparison.read("crop", tables, ["lesion_network"], shape, attributes, dataset)
    if "offset" in scores.scores and set(scores.attributes) != {LESION}:
        scores = Comparison.read("crop", tables, ["lesion_network", "offset"], shape, attributes, dataset)
    return Crop(scores, read_table(scores.folder / "crop_lesion.csv", LESION_COLUMNS, scores.command))


def at_paper_size(crop: Crop, offset: pd.Series) -> pd.Series:
    """Offsets in pixels of a frame 384 high, as the paper's; NaN where the store's size is not recorded."""
    height = str(crop.about.get("size", "")).partition("x")[0]
    return offset * PAPER_HEIGHT / float(height) if height.isdigit() else offset * np.nan


def lesions(crop: Crop) -> pd.DataFrame:
    """Lesion Dice by network over folds and seeds, and the paper's: network, dice, dice_std, number, published."""
    grouped = crop.lesions.groupby("network", sort=False)["dice"]
    table = pd.DataFrame({"dice": grouped.mean(), "dice_std": grouped.std(ddof=1), "number": grouped.count()})
    paper = read_paper("table5").groupby("lesion_network")["lesion_dice"].first()
    table = table.reindex(ordered(table.index, LESION_NETWORKS))
    return table.assign(published=paper.reindex(table.index)).rename_axis("network").reset_index()


def headline(crop: Crop) -> Html:
    return html.sentence(f"{_lesion_reading(crop)} {_average_reading(crop) if crop.cropped else ''}".strip())


def unmeasured(crop: Crop) -> Html:
    parts: dict = {"lesion networks": (LESION_NETWORKS, crop.networks)}
    if crop.cropped:
        there = at_paper_size(crop, crop.scores.measured["offset"].dropna())
        parts[f"offsets in px at height {PAPER_HEIGHT}"] = (OFFSETS, there.round().to_list())
    return extent.unmeasured(parts)


def _lesion_reading(crop: Crop) -> str:
    table = lesions(crop).dropna(subset=["dice"])
    if table.empty:
        return f"No lesion network was measured: crop_lesion.csv has no rows; `{crop.scores.command}` writes it."
    each = {row["network"]: score(row["dice"], row["dice_std"]) for row in table.to_dict("records")}
    high, low = (str(table["network"].iloc[int(at)]) for at in (table["dice"].argmax(), table["dice"].argmin()))
    said = f"Stage 1 finds the lesion best with {high} (Dice {each[high]})"
    said += f" and worst with {low} ({each[low]})" if high != low else ", the only network"
    number = int(table["number"].max())
    return (
        f"{said}; {'one fold and seed: no spread can be given' if number == 1 else f'over {number} folds and seeds'}."
    )


def lesion(crop: Crop) -> Html:
    """Lesion Dice of every network on whole images."""
    table = lesions(crop).dropna(subset=["dice"])
    if table.empty:
        return html.sentence(_lesion_reading(crop))
    names = list(table["network"])
    frame = table.assign(
        panel=LESION, row=table["network"], lane=table["network"], value=table["dice"], std=table["dice_std"]
    )
    singles = crop.lesions.assign(panel=LESION, row=crop.lesions["network"], lane=crop.lesions["network"])
    drawn = drawing.dots(
        frame,
        [LESION],
        names,
        drawing.Look.of(names, LESION_NETWORKS),
        "pooled Dice of the lesion, whole images",
        singles=drawing.several(singles.assign(value=singles["dice"])),
        hollow=frame.assign(value=frame["published"]).dropna(subset=["value"]),
    )
    alt = "Dice of the lesion for every lesion network, measured and published."
    return html.figure(drawn, alt, _lesion_reading(crop), crop.scores.caption(PUBLISHED))


def lesion_table(crop: Crop) -> Html:
    """Stage 1 by network, fold and seed."""
    frame = crop.lesions
    cells = {name: [f"{value:.0f}" for value in frame[name]] for name in ("seed", "fold", "images")}
    cells |= {name.capitalize(): [score(value) for value in frame[name]] for name in ("dice", "jaccard")}
    cells |= {
        f"per-image {name.capitalize()}": [score(value) for value in frame[f"image_{name}"]]
        for name in ("dice", "jaccard")
    }
    table = pd.DataFrame({"start": frame["start"].to_list(), **cells}, index=frame["network"].to_list())
    return html.table(table, f"Whole images of the test folds, pooled scores. {crop.scores.caption()}")


def _over_offsets(study: Comparison, frame: pd.DataFrame) -> pd.DataFrame:
    table = drawing.tidy(frame, "dice", "lesion_network", "lesion_network")
    return table.assign(x=frame["offset"])


def _lines(crop: Crop, panels: list[str], paper: bool) -> drawing.Figure:
    study = crop.scores
    names = ordered(study.measured["lesion_network"].dropna(), LESION_NETWORKS)
    return drawing.lines(
        _over_offsets(study, study.measured),
        panels,
        drawing.Look.of(names, LESION_NETWORKS),
        ("offset round the lesion's box (px)", "pooled Dice"),
        singles=drawing.several(_over_offsets(study, study.folds), ("panel", "lane", "x")),
        hollow=_hollow(crop, names) if paper else None,
    )


def _hollow(crop: Crop, names: list[str]) -> pd.DataFrame:
    """The paper's averages, at the offsets of this store's frame."""
    paper = read_paper("table5")
    scale = at_paper_size(crop, pd.Series([1.0])).iloc[0]
    table = pd.DataFrame(
        {"lane": paper["lesion_network"], "x": paper["offset_px"] / scale, "value": paper["attribute_dice"]}
    )
    largest = crop.scores.measured["offset"].max()
    return table[table["lane"].isin(names) & (table["x"] <= largest)].assign(panel=AVERAGE)


def average(crop: Crop) -> Html:
    """Average Dice over attributes on every network's crop and offset."""
    study = crop.scores
    if not crop.cropped or not study.panels:
        return html.sentence(_absent(crop))
    drawn = _lines(crop, study.panels[:1], paper=bool(study.reference))
    alt = "Average Dice over attributes against the offset, for every lesion network, measured and published."
    return html.figure(drawn, alt, _average_reading(crop), study.caption(_theirs(crop)))


def _theirs(crop: Crop) -> str:
    """What stands beside attributes measured on crops, for a caption."""
    return f"{STAGES} {PUBLISHED if crop.scores.reference else 'The paper has none of these attributes.'}"


def _absent(crop: Crop) -> str:
    if crop.scores.measured.empty:
        return reading.nothing(crop.scores)
    return "The store has no attributes, or not all of them are known: the lesion alone was measured."


def _average_reading(crop: Crop) -> str:
    """The best network and offset, and how much either matters."""
    study = crop.scores
    part = study.measured[study.measured["attribute"] == study.panels[0]].dropna(subset=["dice"])
    if part.empty:
        return reading.nothing(study)
    best = reading.extreme(part, "dice")
    said = f"Average Dice {reading.over(study)} is highest with {best['lesion_network']} and {best['offset']:.0f} px"
    said += f" ({score(best['dice'], best['dice_std'])})"
    for name, what in (("offset", "offsets"), ("lesion_network", "lesion networks")):
        means = part.groupby(name)["dice"].mean()
        said += f"; between {len(means)} {what} the mean changes by {np.ptp(means):.3f}" if len(means) > 1 else ""
    return f"{said} ({words.spread(study)})."


def table(crop: Crop) -> Html:
    """Table 5: lesion and attribute Dice by network and offset, measured and published."""
    study = crop.scores
    if not crop.cropped or not study.panels:
        return html.sentence(_absent(crop))
    part = study.measured[study.measured["attribute"] == study.panels[0]].copy()
    part["offset_px"] = at_paper_size(crop, part["offset"])
    frame = part.merge(
        lesions(crop)[["network", "dice", "dice_std", "published"]].add_prefix("lesion_"),
        on="lesion_network",
        how="left",
    )
    paper = read_paper("table5")[["lesion_network", "offset_px", "attribute_dice"]]
    frame = frame.merge(paper, on=["lesion_network", "offset_px"], how="left")
    cells = {
        ("offset", "px"): [f"{value:.0f}" for value in frame["offset"]],
        ("offset", f"px at height {PAPER_HEIGHT}"): [words.score(value, digits=0) for value in frame["offset_px"]],
        ("lesion Dice", "measured"): reading.cells(frame, "lesion_dice"),
        ("lesion Dice", THEIRS): [score(value) for value in frame["lesion_published"]],
    }
    cells["average attribute Dice", "measured"] = reading.cells(frame, "dice")
    if study.reference:
        cells["average attribute Dice", THEIRS] = [score(value) for value in frame["attribute_dice"]]
    caption = f"Pooled scores; {words.spread(study)}. {study.caption(_theirs(crop))}"
    return html.table(pd.DataFrame(cells, index=frame["lesion_network"].to_list()), caption)


def attributes(crop: Crop) -> Html:
    """Each attribute, a panel each."""
    study = crop.scores
    if not crop.cropped or reading.wide(study).empty:
        return html.sentence(_absent(crop))
    said = f"Of {counted(len(study.variants), 'crop')}, {reading.highest(reading.wide(study))} ({words.spread(study)})."
    alt = "Dice against the offset for every lesion network, for each attribute."
    return html.figure(_lines(crop, study.attributes, paper=False), alt, said, study.caption(STAGES))

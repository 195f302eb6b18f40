"""Which lesion network, and how much margin round its box?  Table 5: lesion Dice, and attributes on each crop.

Offsets are pixels of the store's frame; the paper's are pixels at 384x512, and `at_paper_size` converts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.pages import drawing, html
from analysis.pages.html import Html
from analysis.pages.studies.page import StudyPage
from analysis.pages.studies.training import Cells, per_row
from analysis.pages.theme import Look
from analysis.tables.paper import PUBLISHED, read_paper
from analysis.tables.read import command_of, ordered, read_table
from analysis.tables.study import StudyTables
from analysis.tables.words import extremes, scores
from tatl.names import AVERAGE, LESION, LESION_NETWORKS, OFFSETS, SCORES

_LESION_COLUMNS = ("network", "start", "fold", "seed", *SCORES, "images")
_PAPER_HEIGHT = 384
_THEIRS = "published, data set not given"
_PUBLISHED = (
    "Published: Table 5, data set not given by the table (0.387 at 40 px is ISIC 2017's average of the whole TATL), "
    "ImageNet: no difference is taken; the measured rows have no Stage 2."
)


@dataclass(frozen=True)
class Crop(StudyPage):
    """Rows are a lesion network and an offset each; `lesions` are the networks' own scores by fold and seed."""

    lesions: pd.DataFrame

    study = "crop"
    own = ("lesion_network",)
    order = LESION_NETWORKS
    noun = "lesion network over the offset"

    @classmethod
    def others(cls, tables: StudyTables) -> Sequence[pd.DataFrame]:
        if "offset" not in tables.scores and set(tables.attributes) - {LESION}:
            path = tables.folder / f"{cls.study}.csv"
            raise ValueError(f"{path} lacks the column offset: write it again with `{tables.command}`")
        return [read_table(tables.folder / "crop_lesion.csv", _LESION_COLUMNS, command_of(cls.study))]

    @property
    def networks(self) -> list[str]:
        measured = self.tables.scores["lesion_network"].dropna()
        return ordered([*self.lesions["network"].dropna(), *measured], LESION_NETWORKS)

    @property
    def cropped(self) -> bool:
        """Were attributes measured on crops?  A store without any has the lesion alone."""
        measured = self.tables.measured
        return "offset" in measured and bool(measured["offset"].notna().any()) and bool(self.tables.panels)

    def whole(self) -> dict[str, tuple[Sequence[Any], Iterable[Any]]]:
        parts: dict[str, tuple[Sequence[Any], Iterable[Any]]] = {"lesion networks": (LESION_NETWORKS, self.networks)}
        if self.cropped:
            there = self.at_paper_size(self.tables.measured["offset"].dropna()).round()
            parts[f"offsets in px at height {_PAPER_HEIGHT}"] = (OFFSETS, there.to_list())
        return parts

    def theirs(self) -> list[str]:
        return [_PUBLISHED] if self.of_skin else []

    @property
    def of_skin(self) -> bool:
        """May the paper's lesions and attributes stand beside those of the store?"""
        return bool(self.tables.reference) or self.tables.data in (*PUBLISHED, "phantom")

    def at_paper_size(self, offset: pd.Series) -> pd.Series:
        """Offsets in pixels of a frame 384 high, as the paper's; NaN where the store's size is not recorded."""
        height = str(self.tables.about.get("size", "")).partition("x")[0]
        return offset * _PAPER_HEIGHT / float(height) if height.isdigit() else offset * np.nan

    def by_network(self) -> pd.DataFrame:
        """Lesion Dice over folds and seeds, and the paper's: by network dice, dice_std, published."""
        grouped = self.lesions.groupby("network", sort=False)["dice"]
        table = pd.DataFrame({"dice": grouped.mean(), "dice_std": grouped.std(ddof=1)})
        paper = read_paper("table5").groupby("lesion_network")["lesion_dice"].first()
        table = table.reindex(ordered(table.index, LESION_NETWORKS))
        return table.assign(published=paper.reindex(table.index)).rename_axis("network")

    def _lesion_reading(self) -> str:
        table = self.by_network().dropna(subset=["dice"])
        if table.empty:
            return f"No lesion network was measured: crop_lesion.csv has no rows; `{self.tables.command}` writes it."
        return f"Dice of the lesion is {extremes(table['dice'], table['dice_std'])}."

    def headline(self, reference: str = "source") -> Html:
        said = self.reading() if self.cropped else ""
        return html.paragraph(f"{self._lesion_reading()} {said}".strip() + self.lengths())

    @property
    def measured(self) -> bool:
        return self.cropped and super().measured

    @property
    def nothing(self) -> str:
        """Why there are no attributes on crops."""
        if self.tables.measured.empty or self.cropped:
            return super().nothing
        return "The store has no attributes, or not all of them are known: the lesion alone was measured."

    def lesion(self) -> Html:
        """Lesion Dice of every network on whole images."""
        table = self.by_network().dropna(subset=["dice"]).reset_index().assign(attribute=LESION)
        if table.empty:
            return html.paragraph(self._lesion_reading())
        names = list(table["network"])
        drawn = drawing.points(
            table, [LESION], names, Look.of(names, LESION_NETWORKS), "pooled Dice of the lesion, whole images",
            columns=("attribute", "network", "network", "dice"), singles=self.lesions.assign(attribute=LESION),
            hollow=table.assign(dice=table["published"]) if self.of_skin else None,
        )  # fmt: skip
        alt = "Dice of the lesion for every lesion network, measured and published."
        return html.figure(drawn, alt, self._lesion_reading())

    def lesion_table(self) -> Html:
        """Stage 1 by network, fold and seed."""
        frame = self.lesions
        return self.stage1(frame.assign(network=frame["network"] + ", " + frame["start"]), "network")

    def draw(self, panels: Sequence[str]) -> Figure:
        """Dice over the offset, and the paper's averages where they are in the frame."""
        names = ordered(self.tables.measured["lesion_network"].dropna(), LESION_NETWORKS)
        frame, paper, scale = self.tables.measured, read_paper("table5"), self.at_paper_size(pd.Series([1.0])).iloc[0]
        hollow = paper.assign(attribute=AVERAGE, offset=paper["offset_px"] / scale, dice=paper["attribute_dice"])
        return drawing.lines(
            frame, panels, Look.of(names, LESION_NETWORKS), ("offset round the lesion's box (px)", "pooled Dice"),
            columns=("attribute", "lesion_network", "offset", "dice"), singles=self.tables.folds,
            hollow=hollow[(hollow["offset"] <= frame["offset"].max()) & bool(self.tables.reference)],
        )  # fmt: skip

    def table(self) -> Html:
        """Table 5: lesion and attribute Dice by network and offset, measured and published."""
        if not self.cropped:
            return html.paragraph(self.nothing)
        frame = self.tables.average.assign(offset_px=self.at_paper_size(self.tables.average["offset"]))
        lesions = self.by_network().add_prefix("lesion_").reset_index(names="lesion_network")
        frame = frame.merge(lesions, on="lesion_network", how="left")
        paper = read_paper("table5")[["lesion_network", "offset_px", "attribute_dice"]]
        frame = frame.merge(paper, on=["lesion_network", "offset_px"], how="left")
        cells: Cells = {
            ("offset", "px"): scores(frame, "offset", digits=0),
            ("offset", f"px at height {_PAPER_HEIGHT}"): scores(frame, "offset_px", digits=0),
            ("lesion Dice", "measured"): scores(frame, "lesion_dice"),
            ("lesion Dice", _THEIRS): scores(frame, "lesion_published"),
            ("average attribute Dice", "measured"): scores(frame, "dice"),
            ("average attribute Dice", _THEIRS): scores(frame, "attribute_dice"),
        }
        cells = {head: column for head, column in cells.items() if head[1] != _THEIRS or (any(column) and self.of_skin)}
        return per_row(cells, frame, frame["lesion_network"])

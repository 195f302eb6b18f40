"""Does the agnostic start help whatever the backbone, and what does each cost?  Tables 6, 7 and 8.

Table 6 has every backbone from ImageNet, Table 8 the rare attributes from three starts and in both shapes, Table 7 the
parameters (`costs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.pages.html import Html
from analysis.pages.studies.costs import COST_COLUMNS, BackboneCosts
from analysis.pages.studies.page import StudyPage
from analysis.pages.studies.training import Cells, per_row, unequal
from analysis.pages.theme import Look
from analysis.tables.paper import read_paper
from analysis.tables.read import ordered, read_optional
from analysis.tables.study import StudyTables
from analysis.tables.words import counted, listed, plain, scores
from tatl.names import AVERAGE, B0, BACKBONE_STARTS, BACKBONES, MICRO

_KEYS = ("backbone", "start")
_TATL, _SOURCE = "tatl", "source"
_EFFICIENT = {"u-eff-tatl": "u", "l-eff-tatl": "link"}  # Table 6's names for TATL on efficientnet-b0: the shape
_CROPPED = (
    "The paper's TATL most probably sees Stage 1's crop (inferred), these rows see whole images: no difference is "
    "taken of tatl and tatl-freeze."
)


@dataclass(frozen=True)
class Backbones(StudyPage):
    """Rows are a backbone and a start each; `cost` is what each network costs."""

    cost: BackboneCosts

    study = "backbones"
    own = _KEYS
    noun = "backbone and start"
    paper = "Table 6, the shape given for TATL alone, and Table 8, rare attributes"

    @classmethod
    def others(cls, tables: StudyTables) -> Sequence[BackboneCosts]:
        if names := ordered(tables.scores["backbone"].dropna(), BACKBONES):
            tables.about["backbone"] = listed(names)
        costs = read_optional(tables.folder / "backbones_cost.csv", COST_COLUMNS, tables.command)
        return [BackboneCosts(costs, str(tables.about.get("store_name", "not recorded")), tables.command)]

    @property
    def backbones(self) -> list[str]:
        return ordered(self.tables.measured["backbone"].dropna(), BACKBONES)

    @property
    def starts(self) -> list[str]:
        return ordered(self.tables.measured["start"].dropna(), self.order)

    def whole(self) -> dict[str, tuple[Sequence[Any], Iterable[Any]]]:
        return {"backbones": (BACKBONES, self.backbones), "starts": (BACKBONE_STARTS, self.starts)}

    def theirs(self) -> list[str]:
        said = super().theirs()
        return [*said, _CROPPED] if said else []

    def table6(self) -> pd.DataFrame:
        """Published scores: backbone, start, shape (empty where it is not given), attribute, dice, jaccard."""
        table = read_paper("table6")
        shape = table["method"].map(_EFFICIENT)
        table = table.assign(
            backbone=table["method"].where(shape.isna(), B0),
            start=np.where(shape.isna(), _SOURCE, _TATL),
            shape=shape.fillna(""),
        )
        here = table["backbone"].isin(BACKBONES) & table["shape"].isin(["", *self.tables.paper_shapes])
        return table[here & (self.tables.reference == "isic2018")]

    def table8(self) -> pd.DataFrame:
        """Published Dice of this data set's rare attributes: backbone, start, attribute, shape, dice."""
        table = read_paper("table8").rename(columns={"initialisation": "start"}).replace({"imagenet": _SOURCE})
        here = (table["dataset"] == self.tables.reference) & table["attribute"].isin(self.tables.attributes)
        return table[here & table["shape"].isin(self.tables.paper_shapes)].drop(columns="dataset")

    def beyond(self, reference: str) -> str:
        """For how many backbones tatl is above source."""
        pairs = [(f"{name} {_TATL}", f"{name} {_SOURCE}") for name in self.backbones]
        apart = {pair: self.minus(*pair).difference for pair in pairs}
        known = {pair: value > 0 for pair, value in apart.items() if np.isfinite(value)}
        if not known:
            return ""
        steps = unequal(self.tables.average, *next(iter(known)))
        said = f" {_TATL} is above {_SOURCE} for {sum(known.values())} of {counted(len(known), 'backbone')}{steps}"
        return f"{said}, whose effect is part of it." if steps else f"{said}."

    def draw(self, panels: Sequence[str]) -> Figure:
        """A row per backbone, its starts as lanes; Table 6's averages and Table 8's attributes."""
        six, look = self.table6(), Look.of(self.starts, self.order)
        hollow = pd.concat([six[six["attribute"] == AVERAGE], self.table8()])
        return self.drawn(panels, self.backbones, "backbone", "start", look, hollow=hollow)

    def table(self) -> Html:
        """Tables 6 and 8: every attribute, backbone and start, measured beside published."""
        tables = self.tables
        frame = tables.measured[tables.measured["attribute"] != MICRO]
        place = {name: i for i, name in enumerate([*tables.attributes, AVERAGE, *self.backbones, *self.starts])}
        frame = frame.sort_values(["attribute", *_KEYS], key=lambda names: names.map(place), kind="stable")
        cells: Cells = {("measured", name.capitalize()): scores(frame, name) for name in ("dice", "jaccard")}
        for number, paper in ((6, self.table6()), (8, self.table8())):
            for shape in paper["shape"].unique():
                theirs = paper[paper["shape"] == shape]
                head = f"Dice, Table {number}, {shape}".removesuffix(", ")
                ours = tables.scores[tables.scores["shape"] == shape] if shape else frame
                cells |= self._compared(head, frame, ours, theirs, same=tables.same_average or number == 8)
        names = [plain(name) for name in frame["attribute"]]
        return per_row(cells, frame, names, frame["backbone"], frame["start"])

    def _compared(self, head: str, rows: pd.DataFrame, ours: pd.DataFrame, theirs: pd.DataFrame, same: bool) -> Cells:
        """The measured Dice that a table is compared with, that table's, and from the source their difference."""
        keys = ["attribute", *_KEYS]
        both = rows[keys].merge(ours[[*keys, "dice", "dice_std"]], on=keys, how="left")
        both = both.merge(theirs[[*keys, "dice"]], on=keys, how="left", suffixes=("", "_published"))
        both.loc[both["dice_published"].isna(), "dice"] = np.nan
        alike = ((both["attribute"] != AVERAGE) | same) & (both["start"] == _SOURCE)
        return self.beside(head, both, "dice", "dice_published", alike)

"""Which start is best, all else alike?  Table 9, paired differences, ranks over attributes, and controls.

`stage123` is the whole of TATL, on the crop of Stage 1; every other row sees whole images, as the paper's paradigms do.
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
from analysis.pages.studies.training import Cells, labelled, per_row, unequal
from analysis.pages.theme import Look
from analysis.tables.effect import BETTER, RULE, UNDECIDED, WORSE
from analysis.tables.paper import read_paper
from analysis.tables.ranks import ranks
from analysis.tables.words import counted, difference, listed, score, scores
from tatl.names import AVERAGE, CONTROLS, STARTS, TEXTURES

# Tables 3 and 4 have Dice .482 with Stage 1's crop and .466 without, Table 9 .471 and .475 for each shape alone.
_PAPER_NAMES = {"imagenet": "source", "context-restoration": "context", "tatl": "stage123"}
_REMARK = (
    "The paper's TATL stands beside stage123, as most probably it is with Stage 1's crop (inferred); tatl, on whole "
    "images, has no published number."
)
_ROTATION = (
    "Rotation is told from the mean and standard deviation of the channels of every level of the encoder, where "
    "Gidaris et al. (2018) tell it from the top level alone: a segmenter's skips carry the other levels."
)
_TATL = "tatl"


@dataclass(frozen=True)
class Paradigms(StudyPage):
    """Rows are starts; the paper's numbers are of each shape alone."""

    study = "paradigms"
    own = ("start", "augment", "crop")
    paper = "Table 9"

    def whole(self) -> dict[str, tuple[Sequence[Any], Iterable[Any]]]:
        beside = self.tables.about.get("source") == "imagenet"  # what the row of textures stands beside
        return {"rows": ([row for row in STARTS if beside or row != TEXTURES], self.tables.variants)}

    def theirs(self) -> list[str]:
        return [*super().theirs(), _REMARK] if len(self.published()) else []

    def remarks(self) -> list[str]:
        return [_ROTATION] if "rotation" in self.tables.variants else []

    def published(self) -> pd.DataFrame:
        """Table 9: variant, shape, dice, jaccard of the shapes that were trained; none for attributes of other data."""
        table = read_paper("table9").rename(columns={"paradigm": "variant"}).replace({"variant": _PAPER_NAMES})
        here = self.tables.reference == "isic2018" and AVERAGE in self.tables.panels
        return table[table["shape"].isin(self.tables.paper_shapes) & here]

    def beyond(self, reference: str) -> str:
        return self.against(_TATL, reference)

    def draw(self, panels: Sequence[str]) -> Figure:
        hollow = self.published().assign(attribute=AVERAGE)
        return self.drawn(panels, self.rows, "variant", "variant", self.look, hollow=hollow)

    def table(self) -> Html:
        """Table 9: measured beside published, their difference where data and attributes are the paper's."""
        frame = self.tables.average.reindex(self.rows)
        cells: Cells = {(name.capitalize(), "measured"): scores(frame, name) for name in ("dice", "jaccard")}
        for shape, paper in self.published().groupby("shape", sort=False):
            part = self.tables.scores[self.tables.scores["shape"] == shape]
            ours = part[part["attribute"] == AVERAGE].set_index("variant").reindex(frame.index)
            both = ours.join(paper.set_index("variant")[["dice", "jaccard"]].add_prefix("published_"))
            for name in ("dice", "jaccard"):
                head = f"{name.capitalize()}, {shape}"
                cells |= self.beside(head, both, name, f"published_{name}", self.tables.same_average)
        return per_row(cells | self.per_image(frame), frame, frame.index)

    def paired(self, reference: str = "source") -> Html:
        """Differences to the reference with their intervals, where images were kept."""
        found = self.differences(reference)
        if found.empty:
            known = listed(list(self.tables.images["variant"].unique())) or "none"
            said = f"No differences to {reference} have an interval: paradigms_images.csv.gz has the rows {known}"
            return html.paragraph(f"{said}; `{self.tables.command}` writes it.")
        low, high = np.fmin(found["low"], found["folds_low"]), np.fmax(found["high"], found["folds_high"])
        found = found.assign(low=low, high=high)
        names = [name for name in self.rows if name in set(found["variant"])]
        axis, look = f"Dice minus that of {reference}, pooled over all test images", Look.of(names, self.order)
        columns = ("attribute", "variant", "variant", "difference")
        drawn = drawing.points(found, self.tables.panels, names, look, axis, columns=columns, zero=True)
        alt = f"Difference in Dice of every start to {reference}, for each attribute."
        return html.figure(drawn, alt, self._above(found, _TATL if _TATL in names else names[0], reference), RULE)

    def _above(self, found: pd.DataFrame, name: str, reference: str) -> str:
        """For how many attributes the row is above the reference and one of as many steps; what could be seen."""
        said, long = self._told(found, name, reference), f"{reference}-long"
        if steps := unequal(self.tables.average, name, reference):
            equal = self.differences(long)
            part = "whose effect is part of it"
            said += f"{steps}; {self._told(equal, name, long)}" if len(equal) else f"{steps}, {part}"
        seen = found[(found["variant"] == name) & (found["attribute"] == self.tables.panels[0])]["detectable"].dropna()
        power = [f" Such a design sees a difference of {value:.3f} in 80 % of cases." for value in seen]
        return f"{said}.{''.join(power)}"

    def _told(self, found: pd.DataFrame, name: str, reference: str) -> str:
        """For how many attributes a row is above the reference, and of how many that is decided."""
        mine = found[(found["variant"] == name) & found["attribute"].isin(self.tables.attributes)]
        words, of = mine["word"].value_counts(), counted(len(mine), "attribute")
        told = ", ".join(f"{word} for {words[word]}" for word in (BETTER, WORSE, UNDECIDED) if word in words)
        return f"{name} is above {reference} for {(mine['difference'] > 0).sum()} of {of}: {told}"

    def ranks(self) -> Html:
        """Mean ranks over attributes, with the difference below which two are not told apart."""
        wide, folds = self.tables.wide(), self.tables.all_folds
        if wide.empty or wide.dropna(axis=1).empty:
            return html.paragraph("No ranks can be given: no row was measured on every attribute.")
        found = ranks(folds[folds["attribute"].isin(list(wide.index))], "dice", self.tables.shape)
        if not found["attributes"].any():
            return html.paragraph("No ranks can be given: no test fold shows an attribute.")
        cells: Cells = {
            "mean rank": [score(value, digits=2) for value in found["mean_rank"]],
            "first for": [f"{number:.3g} attribute{'' if number == 1 else 's'}" for number in found["wins"]],
            "told apart from the first": _apart(found),
        }
        note = "Ranks of pooled Dice; an attribute that rows tie for counts in equal parts."
        return html.table(labelled(cells, found["variant"]), note, _first(found))

    def controls(self) -> Html:
        """What the paper did not run: is it the union, any mask, more steps, or no learning at all that helps?"""
        values = self.tables.average["dice"].dropna()
        there = [each for each in CONTROLS if each in values.index]
        if not there or _TATL not in values.index:
            return html.paragraph(f"No control ({', '.join(CONTROLS)}) was measured beside {_TATL}.")
        cells: Cells = {
            self.what: [score(values[name]) for name in there],
            f"minus {_TATL}": [difference(self.minus(name, _TATL)) for name in there],
        }
        below = int((values[there] < values[_TATL]).sum())
        said = f"{_TATL} ({score(values[_TATL])}) is above {below} of {counted(len(there), 'control')}."
        return per_row(cells, self.tables.average.loc[there], there, reading=said)


def _apart(found: pd.DataFrame) -> list[str]:
    """Whose mean rank differs from the first's by more than Nemenyi's critical difference."""
    far = found["mean_rank"] - found["mean_rank"].iloc[0] > found["critical"]
    return list(np.where(np.isfinite(found["critical"]), np.where(far, "yes", "no"), "no test"))


def _first(found: pd.DataFrame) -> str:
    """Who has the best mean rank, and how many others are told apart from it."""
    first = found.iloc[0]
    said = f"{first['variant']} has the best mean rank ({first['mean_rank']:.2f} of {counted(len(found), 'row')})"
    if not np.isfinite(first["critical"]):
        return f"{said}; with one row or attribute there is no test."
    few = ", and over fewer than 5 attributes no test says much" if first["small"] else ""
    far = f"{_apart(found).count('yes')} of {len(found) - 1} others differ from it by more than"
    return f"{said}; {far} Nemenyi's critical difference ({first['critical']:.2f}){few}."

"""How few training images are enough, from which start?  Figure 4: scores over nested shares of the training groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.pages import drawing, html
from analysis.pages.html import Html
from analysis.pages.studies.page import StudyPage
from analysis.pages.studies.training import EFFORT, Cells, daggered, labelled, mark_note, unequal
from analysis.pages.theme import Look
from analysis.tables.read import ordered
from analysis.tables.words import counted, difference, extremes, listed, scores, wins
from tatl.names import FRACTIONS, SIZE_STARTS

_TATL = "tatl"


@dataclass(frozen=True)
class DataSize(StudyPage):
    """Rows are a start and a share of the training groups each."""

    study = "data-size"
    own = ("start", "fraction")
    noun = "start over the share of the training groups"

    @property
    def starts(self) -> list[str]:
        return ordered(self.tables.measured["start"].dropna(), self.order)

    def whole(self) -> dict[str, tuple[Sequence[Any], Iterable[Any]]]:
        there = [_percent(share) for share in self.tables.measured["fraction"].dropna()]
        shares = [_percent(share) for share in FRACTIONS]
        return {"shares of the training groups": (shares, there), "starts": (SIZE_STARTS, self.starts)}

    def remarks(self) -> list[str]:
        return ["The validation part, for early stopping, stays whole at every share."]

    def reading(self) -> str:
        """Which start is highest and lowest at the smallest share."""
        frame = self.tables.average.dropna(subset=["dice"])
        if frame.empty:
            return self.nothing
        least = frame["fraction"].min()
        part = frame[frame["fraction"] == least].set_index("start")
        said = extremes(part["dice"], part["dice_std"])
        return f"{self.what} at {_percent(least)} of the training groups is {said}."

    def draw(self, panels: Sequence[str]) -> Figure:
        titles, look = ("share of the training groups", "pooled Dice"), Look.of(self.starts, self.order)
        columns = ("attribute", "start", "fraction", "dice")
        return drawing.lines(self.tables.measured, panels, look, titles, columns=columns, singles=self.tables.folds)

    def highest(self) -> str:
        """Which start is highest for most attributes at the smallest share."""
        part = self.tables.measured[self.tables.measured["attribute"].isin(self.tables.attributes)]
        least = part.dropna(subset=["dice"])["fraction"].min()
        smallest = part[part["fraction"] == least]
        wide = smallest.pivot_table(index="attribute", columns="start", values="dice", sort=False)
        return f"At {_percent(least)} of the training groups, {wins(wide)}."

    def table(self) -> Html:
        """Average Dice and Jaccard by share and start, and what each was trained with."""
        part = self.tables.average.sort_values("fraction", ascending=False)
        part = part.assign(share=part["fraction"].map(_percent))
        cells = {}
        took = {title: name for name, title in EFFORT.items() if name in part}
        for title, name in {"Dice": "dice", "Jaccard": "jaccard", **took}.items():
            for start in self.starts:
                mine = part[part["start"] == start].set_index("share")
                words = scores(mine, name, digits=0) if title in took else daggered(scores(mine, name), mine)
                cells[title, start] = pd.Series(words, mine.index, dtype=object)
        frame = pd.DataFrame(cells).reindex(part["share"].unique()).fillna("")
        note = f"{self.what}, by share of the training groups. {mark_note(part)}"
        return html.table(frame.rename_axis(index=None), note.strip())

    def advantage(self, reference: str = "source") -> Html:
        """What the agnostic start is worth at every share: differences to the reference."""
        rows = self.tables.average.set_index(["fraction", "start"])["variant"]
        shares = sorted((rows.xs(_TATL, level="start").index if _TATL in self.starts else []), reverse=True)
        shares = [share for share in shares if (share, reference) in rows.index]
        found = {_percent(share): self.minus(rows[share, _TATL], rows[share, reference]) for share in shares}
        if not found:
            there = listed(self.starts) or "none"
            said = f"{_TATL} and {reference} share no size, so no difference can be taken"
            return html.paragraph(f"{said}: the starts are {there}.")
        above = sum(effect.difference > 0 for effect in found.values())
        steps = unequal(self.tables.average, rows[shares[0], _TATL], rows[shares[0], reference])
        said = f"{_TATL} is above {reference} at {above} of {counted(len(found), 'share')}"
        said += f"{steps} at {_percent(shares[0])}, whose effect is part of it." if steps else "."
        cells: Cells = {f"{_TATL} minus {reference}": list(map(difference, found.values()))}
        return html.table(labelled(cells, found), f"{self.what}, over all test images.", said)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g} %"

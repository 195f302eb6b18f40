"""What the pages of studies share: where their numbers are from, said once; points, tables and differences.

A page reads one study's tables and has a method per section; a notebook calls them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.pages import drawing, html
from analysis.pages.html import Html
from analysis.pages.studies.training import Cells, differ, learning, per_row, unequal
from analysis.pages.theme import STYLES, Look
from analysis.tables.effect import Effect, without_images
from analysis.tables.evidence import checked, contrast, effects
from analysis.tables.paper import published
from analysis.tables.read import ordered
from analysis.tables.study import StudyTables
from analysis.tables.words import counted, difference, extremes, listed, origin, plain, scores, signed, wins
from tatl.names import ENSEMBLE, MICRO
from tatl.studies.pace import not_trained_out


@dataclass(frozen=True)
class StudyPage:
    """The tables of one study, and what its page says of them.

    study: its name; own: columns that only its tables have; order: of its rows; paper: the published table beside it;
    noun: what a row is.
    """

    tables: StudyTables

    study: ClassVar[str]
    own: ClassVar[Sequence[str]] = ()
    order: ClassVar[Sequence[str]] = tuple(STYLES)
    paper: ClassVar[str] = ""
    noun: ClassVar[str] = "start"

    @classmethod
    def read(cls, tables: str, shape: str = ENSEMBLE, attributes: str = "", dataset: str = "") -> Self:
        """The page of a folder of tables; the arguments are those of `StudyTables.read`."""
        found = StudyTables.read(cls.study, tables, cls.own, shape, attributes, dataset)
        return cls(found, *cls.others(found))

    @classmethod
    def others(cls, tables: StudyTables) -> Sequence[Any]:
        """Further tables of the same folder, which only this page has."""
        return ()

    @property
    def rows(self) -> list[str]:
        """The compared rows in the one order that they have everywhere."""
        return ordered(self.tables.variants, self.order)

    @property
    def look(self) -> Look:
        return Look.of(self.rows, self.order)

    def whole(self) -> dict[str, tuple[Sequence[Any], Iterable[Any]]]:
        """By what they are called: the names of the study in full, and those that were measured."""
        raise NotImplementedError

    def remarks(self) -> list[str]:
        """What a reader must know of all numbers of this page."""
        return []

    def draw(self, panels: Sequence[str]) -> Figure:
        """Dice of every row, a panel per attribute or average."""
        return self.drawn(panels, self.rows, "variant", "variant", self.look)

    def beyond(self, reference: str) -> str:
        """What the page says beside who is highest on average, from a space on."""
        return ""

    def headline(self, reference: str = "source") -> Html:
        return html.paragraph(f"{self.reading()}{self.beyond(reference)}{self.lengths()}")

    def lengths(self) -> str:
        """How unequally long rows trained, and how many not out, from a space on; empty where neither is known."""
        frame = self.tables.average
        steps, early = frame.get("steps_in_all", pd.Series(dtype=float)), not_trained_out(frame)
        said = f" Rows took {steps.min():.0f} to {steps.max():.0f} steps in all." if differ(steps) else ""
        return f"{said} Not trained out: {early.sum()} of {counted(len(early), 'row')}." if early.any() else said

    def average(self, reference: str = "source") -> Html:
        """The average over attributes as a figure."""
        return self._figure(self.tables.panels[:1], f"{self.reading()}{self.beyond(reference)}")

    def attributes(self) -> Html:
        """Every attribute, a panel each."""
        return self._figure(self.tables.attributes, self.highest())

    def _figure(self, panels: Sequence[str], said: str) -> Html:
        if not self.measured:
            return html.paragraph(self.nothing)
        over = "on average" if panels == self.tables.panels[:1] else "for each attribute"
        return html.figure(self.draw(panels), f"Dice of every {self.noun}, {over}.", said)

    def learning(self) -> Html:
        """Validation loss over all training steps, those of Stages 1 and 2 or of a pretext counted."""
        return self._learning(self.tables.curves(), self.tables.panels[:1])

    def _learning(self, curves: pd.DataFrame, panels: Sequence[str]) -> Html:
        there = set(curves["variant"])
        shown = learning(curves, panels, Look.of([name for name in self.rows if name in there], self.order))
        none = f"There are no learning curves: `{self.tables.command}` writes {self.study}_curves.csv."
        return shown or html.paragraph(none)

    def highest(self) -> str:
        """Which row is highest for most attributes."""
        table = self.tables.wide()
        return self.nothing if table.empty else f"{wins(table)}."

    def origin(self) -> Html:
        """Where every number of the page comes from, in one paragraph."""
        said = origin(self.tables, self.tables.shape)
        return html.caption(" ".join([said, f"Scores are pooled, {self.spread()}.", *self.theirs(), *self.remarks()]))

    def theirs(self) -> list[str]:
        """What the published numbers of the page are; nothing where none stands beside."""
        tables = self.tables
        if not self.paper or not tables.reference:
            return []
        said = f"Published ({self.paper}): {tables.reference}, five folds, ImageNet, 256x256"
        said += f"{tables.apart}: no difference is taken." if tables.apart else "."
        if tables.same_average:
            return [said]
        theirs, ours = len(published(tables.reference)["attribute"].unique()) - 1, len(tables.attributes)
        return [said, f"Its average is over {theirs} attributes, the measured one over {ours}."]

    def spread(self) -> str:
        """Over what the standard deviation is, or why there is none."""
        counts = self.tables.measured[["attribute", "folds"]].dropna()
        most = counts["folds"].max() if len(counts) else 0
        if most <= 1:
            return "one fold and seed: no spread can be given"
        fewer = {str(name): int(number) for name, number in counts.to_numpy() if number < most}
        less = "".join(f", {plain(name)} over {number}" for name, number in fewer.items() if name != MICRO)
        return f"mean ± standard deviation over {counted(most, 'training')} (folds and seeds){less}"

    def unmeasured(self) -> Html:
        """One sentence that names what a study that was asked for in part lacks; nothing where it is whole."""
        told = []
        for what, (full, there) in self.whole().items():
            seen = set(there)
            if lost := [name for name in full if name not in seen]:
                told.append(f"{len(full) - len(lost)} of {len(full)} {what} (not {listed(lost)})")
        return html.paragraph(f"Only a part of the study was measured: {'; '.join(told)}." if told else "")

    def provenance(self) -> Html:
        return html.made_from(self.tables)

    @property
    def measured(self) -> bool:
        """Is there an average to show?"""
        return bool(self.tables.average["dice"].notna().any())

    @property
    def nothing(self) -> str:
        """Why a page has nothing to draw."""
        shape, command = self.tables.shape, self.tables.command
        return f"Nothing was measured: {self.study}.csv has no score of shape {shape}; `{command}` writes it."

    @property
    def what(self) -> str:
        """Average Dice over 5 attributes."""
        names = self.tables.attributes
        return f"Dice of {plain(names[0])}" if len(names) == 1 else f"Average Dice over {len(names)} attributes"

    def reading(self) -> str:
        """Who is highest and lowest on average."""
        frame = self.tables.average.dropna(subset=["dice"])
        return self.nothing if frame.empty else f"{self.what} is {extremes(frame['dice'], frame['dice_std'])}."

    def differences(self, reference: str) -> pd.DataFrame:
        """`effects` of every row on what the page shows; no rows where there are no images, or not the reference."""
        images = self.tables.images
        there = reference in set(images["variant"])
        table = effects(images, reference, self.tables.shape) if there else pd.DataFrame(columns=["attribute"])
        return table[table["attribute"].isin(self.tables.panels)]

    def minus(self, variant: str, reference: str) -> Effect:
        """The difference of the averages of two rows, or of the one attribute; NaN where there is none."""
        images, panel = self.tables.images, self.tables.panels[:1]
        if panel and {variant, reference} <= set(images["variant"]):
            found = contrast(checked(images, self.tables.shape), {variant: 1, reference: -1})
            return found.get(panel[0], without_images(np.nan))
        dice = self.tables.average["dice"].reindex([variant, reference])
        return without_images(float(dice.iloc[0] - dice.iloc[1]))

    def against(self, variant: str, reference: str) -> str:
        """A sentence on a difference, from a space on; empty where there is none.

        Of rows of unequal steps it gives the difference to `<reference>-long`, which took as many, or says that it
        was not measured.
        """
        found, equal = (self.minus(variant, name) for name in (reference, f"{reference}-long"))
        if not np.isfinite(found.difference):
            return ""
        said = f" {variant} minus {reference} is {difference(found)}"
        if not (steps := unequal(self.tables.average, variant, reference)):
            return f"{said}."
        if not np.isfinite(equal.difference):
            return f"{said}{steps}, whose effect is part of it: no {reference}-long was measured."
        shown = equal.difference * found.difference > 0 and equal.word == found.word
        alone = "" if shown else ", so that steps alone may make it"
        return f"{said}{steps}; minus {reference}-long it is {difference(equal)}{alone}."

    def drawn(self, panels: Sequence[str], rows: Sequence[str], row: str, lane: str, look: Look, **more: Any) -> Figure:
        """Dice as points: a panel per attribute, or all in one where the rows are the attributes."""
        one = row == "attribute"
        return drawing.points(
            self.tables.measured, [""] if one else panels, rows, look, "pooled Dice",
            columns=("" if one else "attribute", row, lane, "dice"), singles=self.tables.folds, **more,
        )  # fmt: skip

    def beside(self, head: str, frame: pd.DataFrame, ours: str, theirs: str, alike: bool | pd.Series = True) -> Cells:
        """Measured beside published, and their difference where data, cases and attributes are the paper's."""
        cells: Cells = {(head, "measured"): scores(frame, ours)}
        if frame[theirs].notna().any():
            cells[head, self.tables.theirs_cell] = scores(frame, theirs)
            apart = (frame[ours] - frame[theirs]).where(np.broadcast_to(alike, len(frame)))
            if self.tables.comparable and apart.notna().any():
                cells[head, "difference"] = [signed(value) for value in apart]
        return cells

    def stage1(self, frame: pd.DataFrame, by: str, said: str = "") -> Html:
        """Scores of the lesion by what it was found with, fold and seed."""
        cells: Cells = {name: scores(frame, name, digits=0) for name in ("seed", "fold")}
        cells |= {name.capitalize(): scores(frame, name) for name in ("jaccard", "dice")}
        cells |= {f"per-image {head}": column for (_, head), column in self.per_image(frame).items()}
        cells["images"] = scores(frame, "images", digits=0)
        return per_row(cells, frame, frame[by], note="Stage 1 on whole images of the test folds.", reading=said)

    def per_image(self, frame: pd.DataFrame) -> Cells:
        return {("per-image mean", name.capitalize()): scores(frame, f"image_{name}") for name in ("dice", "jaccard")}

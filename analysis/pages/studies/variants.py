"""Which stages of TATL help?  Tables 3, 4 and A.10-A.13, Stage 1's lesion, and cases as Figures 8 and 9 print them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from analysis.pages import html
from analysis.pages.gallery.page import Gallery, agreement
from analysis.pages.html import Html
from analysis.pages.studies.page import StudyPage
from analysis.pages.studies.training import Cells, per_row
from analysis.pages.theme import BOX, PREDICTION, TRUTH, label, theme
from analysis.tables.paper import published
from analysis.tables.read import command_of, ordered, read_table
from analysis.tables.study import StudyTables
from analysis.tables.words import extremes, listed, plain, score, scores, wins
from tatl.names import AVERAGE, ENSEMBLE, LESION, MICRO, SCORES, UNION, VARIANTS, WINNERS
from tatl.prediction.contour import contour

_LESION_COLUMNS = ("start", "fold", "seed", *SCORES, "images")
_CALLED = {"isic2018-winner": "ISIC 2018 winner", "isic2017-winner": "ISIC 2017 winner"}


@dataclass(frozen=True)
class Variants(StudyPage):
    """`lesions` are the scores of Stage 1, a row per start, fold and seed."""

    lesions: pd.DataFrame

    study = "variants"
    order = VARIANTS
    noun = "variant"
    paper = "Tables 3, 4 and A.10-A.13"

    @classmethod
    def others(cls, tables: StudyTables) -> Sequence[pd.DataFrame]:
        return [read_table(tables.folder / "lesion.csv", _LESION_COLUMNS, command_of(cls.study))]

    def whole(self) -> dict[str, tuple[Sequence[Any], Iterable[Any]]]:
        return {"variants": (VARIANTS, self.tables.variants)}

    def remarks(self) -> list[str]:
        """Which networks of their own the challenge winners among the rows are."""
        told = []
        for name in (each for each in self.rows if each in WINNERS):
            of = self.tables.scores[self.tables.scores["variant"] == name]["shape"]
            own = [str(shape) for shape in of.unique() if shape != ENSEMBLE]
            told.append(f"{name} is {f'the average of {listed(own)}' if len(own) > 1 else listed(own)}")
        return [f"The winners are networks of their own: {'; '.join(told)}."] if told else []

    def merged(self) -> pd.DataFrame:
        """Every attribute and variant: measured, and `published_*`.

        The paper's own rows that were not measured (the challenge winners, a variant left out) have blank measured
        cells; attributes that were not measured do not appear.
        """
        measured = self.tables.measured[self.tables.measured["attribute"] != MICRO]
        names = [*self.tables.attributes, AVERAGE] if len(measured) else []
        paper = published(self.tables.reference)
        table = measured.merge(paper[paper["attribute"].isin(names)], on=["variant", "attribute"], how="outer")
        place = {name: i for i, name in enumerate([*names, *ordered(table["variant"], self.rows)])}
        table = table[table["attribute"].isin(names)]
        return table.sort_values(["attribute", "variant"], key=lambda s: s.map(place), kind="stable", ignore_index=True)

    def beyond(self, reference: str) -> str:
        return self.against("stage123", "stage3")

    def draw(self, panels: Sequence[str]) -> Figure:
        """The average with a row per variant; attributes in one panel, with a row each and its variants as lanes."""
        paper = self.merged().assign(dice=lambda table: table["published_dice"])
        if panels == self.tables.panels[:1]:
            return self.drawn(panels, self.rows, "variant", "variant", self.look, hollow=paper)
        return self.drawn([], panels, "attribute", "variant", self.look, hollow=paper)

    def average_table(self) -> Html:
        """Tables 3 and 4."""
        frame = self.merged()
        frame = frame[frame["attribute"] == AVERAGE].set_index("variant")
        micro = self.tables.measured[self.tables.measured["attribute"] == MICRO].set_index("variant")
        cells = self._measured_and_published(frame)
        for name in ("jaccard", "dice"):
            cells["micro average", name.capitalize()] = scores(micro.reindex(frame.index), name)
        return per_row(cells | self.per_image(frame), frame, frame.index.to_series().replace(_CALLED))

    def _measured_and_published(self, frame: pd.DataFrame) -> Cells:
        alike = (frame["attribute"] != AVERAGE) | self.tables.same_average
        cells: Cells = {}
        for name in ("jaccard", "dice"):
            cells |= self.beside(name.capitalize(), frame, name, f"published_{name}", alike)
        return cells

    def attribute_table(self) -> Html:
        """A.10-A.13; a star marks the attributes that the study has notes on, which stand below.

        Those of them that no fold measured have a row that says so.
        """
        known = [name for name in self.tables.counts["mask"] if name not in (LESION, UNION)]
        every = [str(note) for note in self.tables.about.get("notes") or []]
        notes = {name: said for name in known if (said := [note for note in every if note.startswith(f"{name}: ")])}
        frame = self.merged()
        lost = [name for name in notes if name not in set(frame["attribute"]) and len(frame)]
        frame = pd.concat([frame, pd.DataFrame({"attribute": lost, "variant": "not measured"})], ignore_index=True)
        cells = self._measured_and_published(frame) | self.per_image(frame)
        with_it = frame.assign(positives=frame["positives"].where(frame["attribute"] != AVERAGE))
        cells["test images", "with it"] = scores(with_it, "positives", digits=0)
        names = [plain(name) + " *" * (name in notes) for name in frame["attribute"]]
        below = " ".join(f"* {note}." for each in notes.values() for note in each)
        return per_row(cells, frame, names, frame["variant"].replace(_CALLED), note=below)

    def shapes(self) -> Html:
        """Average Dice of each shape and of their averaged maps; the winners have shapes of their own."""
        part = self.tables.scores[self.tables.scores["attribute"] == AVERAGE]
        table = part.pivot_table(index="variant", columns="shape", values="dice", sort=False)
        table = table[[*table.columns.drop(ENSEMBLE, errors="ignore"), *table.columns.intersection([ENSEMBLE])]]
        table = table.rename(columns={ENSEMBLE: "averaged"}).reindex(self.rows)
        if table.shape[1] <= 2:
            return html.paragraph(f"One shape was trained: {listed(list(table.columns[:1])) or 'none'}.")
        full = table.drop(index=list(WINNERS), errors="ignore").dropna(axis=1, how="all").dropna()
        said = f"{wins(full, noun='variant')}." if len(full) and full.shape[1] > 1 else ""
        frame = table.map(score).rename_axis(index=None, columns=None).rename(index=_CALLED)
        return html.table(frame, "Average Dice.", said)

    def lesion(self) -> Html:
        """Stage 1 on whole images of its test folds."""
        frame = self.lesions
        if frame.empty:
            return html.paragraph("No variant crops, or the store has no lesion masks: there is no Stage 1.")
        by = frame.groupby("start", sort=False)["dice"]
        said = f"Pooled Dice of the lesion is {extremes(by.mean(), by.std(ddof=1))}."
        return self.stage1(frame, "start", said)

    def cases(self, cases: int = 6, attributes: str = "") -> Html:
        """Figures 8 and 9: test images with their masks and what was found."""
        shown = Gallery.read(self.tables.folder, cases, attributes)
        if shown.nothing:
            return html.paragraph(shown.nothing)
        box = "" if shown.boxes is None else " with the Stage-1 box"
        union = "true union" if shown.union_map is None else "true and predicted union"
        alt = f"Test images{box}, {union}, and each attribute: truth green, prediction red."
        return html.figure(draw_cases(shown), alt, shown.reading(), shown.chosen())


_WIDEST = 8  # panels in a line
_WIDTH = 1.62  # inches of a panel
_DASHES = (0, (3, 1.2))


def draw_cases(shown: Gallery) -> Figure:
    """Image with its Stage-1 box if any, true union, union map and every attribute; a case may take several lines."""
    titles = ["image", "true union", "union map", *shown.attributes]
    lines = ceil(len(titles) / _WIDEST)
    columns = ceil(len(titles) / lines)
    every = len(shown.ids) * lines
    aspect = shown.image.shape[1] / shown.image.shape[2]
    room = 0.25 * (1 if lines == 1 else every) + 0.38
    with theme():
        tight = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
        size = (_WIDTH * columns, every * ((_WIDTH - 0.02) * aspect + 0.02) + room)
        figure = Figure(figsize=size, layout=tight)
        grid = figure.subplots(every, columns, squeeze=False)
        for case in range(len(shown.ids)):
            panels = grid[case * lines : (case + 1) * lines].ravel()
            _case(panels, shown, case)
            for axes, title in zip(panels, titles if case == 0 or lines > 1 else [], strict=False):
                axes.set_title(label(title, 19), fontsize=8.5, pad=3)
        box = [Line2D([], [], color=BOX, label="box of Stage 1, grown by the offset")]
        truth = Line2D([], [], color=TRUTH, label="truth")
        found = Line2D([], [], color=PREDICTION, linestyle=_DASHES, label="prediction")
        handles = [*(box if shown.boxes is not None else []), truth, found]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=8.5)
    return figure


def _case(panels: np.ndarray, shown: Gallery, case: int) -> None:
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(shown.image[case])
    _note(panels[0], shown.ids[case])
    if shown.boxes is not None:
        top, left, bottom, right = map(int, shown.boxes[case])
        corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
        panels[0].add_patch(Rectangle(corner, *size, fill=False, edgecolor=BOX, linewidth=1.6))
    panels[1].imshow(shown.union[case], cmap="gray", vmin=0, vmax=1)
    if shown.union_map is None:
        panels[2].text(0.5, 0.5, "no Stage 2", ha="center", va="center", transform=panels[2].transAxes)
    else:
        panels[2].imshow(shown.union_map[case], cmap="gray", vmin=0, vmax=255)
    for axes, truth, found in zip(panels[3:], shown.truth[case], shown.found[case], strict=False):
        axes.imshow(shown.image[case])
        contour(axes, truth, colors=[TRUTH], linestyles=["solid"], linewidths=1.35)
        contour(axes, found, colors=[PREDICTION], linestyles=[_DASHES], linewidths=1.35)
        _note(axes, agreement(truth, found))


def _note(axes: Axes, text: str) -> None:
    """A word on the picture itself, in its lower left corner."""
    box = {"facecolor": "black", "alpha": 0.55, "linewidth": 0, "pad": 1.2}
    axes.text(0.02, 0.03, text, transform=axes.transAxes, color="white", fontsize=6.5, va="bottom", bbox=box)

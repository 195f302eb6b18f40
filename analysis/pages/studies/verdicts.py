"""Which claims of the paper hold, and on which data?  A word a claim and data set, and the differences behind it."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.pages import drawing, html
from analysis.pages.html import Html
from analysis.pages.studies.training import Cells, labelled
from analysis.pages.theme import Look, palette
from analysis.tables.bound.findings import BOUND_RULES
from analysis.tables.claims import CLAIMS, RULES, VERDICTS, in_points
from analysis.tables.effect import UNDECIDED
from analysis.tables.judgement import DataSet, beside, data_sets
from analysis.tables.words import counted, origin, plain, signed

_CELLS = (
    "Differences in percent points of pooled Dice, with their intervals; how many attributes agree; test images that "
    "show an attribute; folds x seeds."
)
_COUNTED = ("positives", "groups", "folds", "seeds")


@dataclass(frozen=True)
class Verdicts:
    """The claims on the data sets of several folders of tables, the page's own first."""

    sets: list[DataSet]

    @classmethod
    def read(cls, tables: str, attributes: str = "", dataset: str = "") -> Verdicts:
        """Of the folders named with commas; one in `reports` brings the others there.  Errors as `data_sets` says."""
        folders = [Path(name.strip()).expanduser().resolve() for name in tables.split(",") if name.strip()]
        return cls(data_sets(folders if folders[1:] else beside(folders[0]), attributes, dataset))

    def headline(self) -> Html:
        """How many claims have which word, on each data set."""
        said = []
        for each in self.sets:
            count = Counter(finding.word for finding in each.findings)
            said.append(f"{each.title}: {', '.join(f'{count[word]} {word}' for word in VERDICTS if count[word])}")
        return html.paragraph(f"Of {counted(len(self.sets[0].findings), 'claim')}, on {'; on '.join(said)}.")

    def table(self) -> Html:
        """A row a claim, a column a data set; each word links the page with the figure."""
        cells: Cells = {
            each.title: [finding.cell(self._page(each, finding.study)) for finding in each.findings]
            for each in self.sets
        }
        claims = [finding.claim for finding in self.sets[0].findings]
        return html.table(labelled(cells, claims), f"{_CELLS} {RULES} {BOUND_RULES}")

    def _page(self, of: DataSet, study: str) -> str:
        """Where the page of a study lies: beside this one, or beside the tables of another folder."""
        name, own = f"{study.replace('-', '_')}.html", self.sets[0].folder
        if of.folder == own:
            return name
        here = Path(os.environ.get("TATL_PAGE", own.parent / name)).parent
        return Path(relpath(of.folder.parent / name, here)).as_posix()

    def forest(self) -> Html:
        """Every difference that a claim names with its interval, a panel a data set."""
        found = [(each, c) for claim in CLAIMS for each in self.sets for c in each.comparisons[claim]]
        rows = [(each.title, c.title, c.effect.difference, *c.effect.interval) for each, c in found]
        if not rows:
            return html.paragraph("No difference that a claim names was measured.")
        frame = pd.DataFrame(rows, columns=["data", "row", "value", "low", "high"])
        frame[["value", "low", "high"]] *= 100
        names = list(dict.fromkeys(frame["row"]))
        look = Look(names, dict.fromkeys(names, palette(["tatl"], ())["tatl"]), dict.fromkeys(names, "o"))
        drawn = drawing.points(
            frame, [each.title for each in self.sets], names, look, "difference in Dice (percent points)",
            columns=("data", "row", "row", "value"), zero=True, in_line=2,
        )  # fmt: skip
        sure = sum(c.word != UNDECIDED for _, c in found)
        said = f"Taken alone, {sure} of {counted(len(found), 'difference')} {'is' if sure == 1 else 'are'} decided."
        return html.figure(drawn, "Differences that the claims name, with intervals.", said)

    def details(self) -> Html:
        """Every attribute of every difference, folded away."""
        return Html("".join(html.folded(each.title, _details(each)).text for each in self.sets))

    def origin(self) -> Html:
        """Where the numbers of each data set come from."""
        return Html("".join(html.caption(origin(each.tables)).text for each in self.sets))

    def provenance(self) -> Html:
        """What the tables beside this page were made from; those of others are told on their pages."""
        own = [each for each in self.sets if each.folder == self.sets[0].folder]
        parts = {name: tables for each in own for name, tables in each.studies.items()}
        return Html("".join(html.folded(name, html.made_from(tables, name)).text for name, tables in parts.items()))


def _details(each: DataSet) -> Html:
    found = [(c.title, name, effect) for several in each.comparisons.values() for c in several
             for name, effect in c.effects.items()]  # fmt: skip
    effects = [effect for *_, effect in found]
    cells: Cells = {
        "difference (interval)": [in_points(effect) for effect in effects],
        "over groups": [_ends(effect.low, effect.high) for effect in effects],
        "over folds and seeds": [_ends(effect.folds_low, effect.folds_high) for effect in effects],
        "seen in 80 %": [signed(100 * effect.detectable, 1).lstrip("+") for effect in effects],
        **{name: [str(getattr(effect, name)) for effect in effects] for name in _COUNTED},
        "alone": [f"{e.word}, needs {e.needs}" if e.word == UNDECIDED else e.word for e in effects],
    }
    return html.table(labelled(cells, [title for title, *_ in found], [plain(name) for _, name, _ in found]))


def _ends(low: float, high: float) -> str:
    return f"{100 * low:+.1f} to {100 * high:+.1f}" if np.isfinite(low) else ""

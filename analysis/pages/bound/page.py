"""The page of the bound: why which start is lowest, Figure 7 and its anatomy; everything else is folded away."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from analysis.pages import html
from analysis.pages.bound.curves import OverC, OverG, OverM, Positives
from analysis.pages.bound.figure7 import Causes, Factors, Figure7
from analysis.pages.bound.lanes import BoundFigure
from analysis.pages.bound.norms import DistanceTravelled, Residuals, SingleNorms
from analysis.pages.bound.spectra import LeadingEigenvalues, SpectralDensity
from analysis.pages.html import Html
from analysis.tables.bound.frames import BoundFrames, explained
from analysis.tables.bound.tables import BoundTables
from analysis.tables.bound.verdict import Verdict

FOLDED_PARTS: dict[str, tuple[type[BoundFigure], ...]] = {
    "Does more curvature raise the bound?": (OverG,),
    "What does the order depend on?": (OverC, OverM, Positives),
    "What is the mean norm made of?": (SingleNorms,),
    "Were the eigenvalues found?": (Residuals,),
    "A second opinion: the Hessian distance": (DistanceTravelled,),
    "The landscape round the starts": (SpectralDensity, LeadingEigenvalues),
}


@dataclass(frozen=True)
class BoundPage:
    """What the notebook shows of one folder of tables."""

    tables: BoundTables

    @classmethod
    def read(cls, folder: str | Path, attributes: str = "", dataset: str = "") -> BoundPage:
        """The page of a folder; arguments and errors are those of `BoundTables.read`."""
        return cls(BoundTables.read(folder, attributes, dataset))

    @cached_property
    def frames(self) -> BoundFrames:
        return BoundFrames(self.tables)

    @cached_property
    def verdict(self) -> Verdict:
        return Verdict(self.tables)

    def headline(self) -> Html:
        return html.paragraph(str(self.verdict))

    def summary(self) -> Html:
        """A row per start with its measured Dice, and where all numbers of the page are from."""
        frame = self.frames.summary(self.verdict.dice)
        over = "bound x 100: the mean over attributes; multiples and the mean norm: their geometric means"
        averages = [over] if len(self.tables.attributes) > 1 else []
        return html.table(frame, f"{self.tables.origin()} {'; '.join([explained(frame), *averages])}.")

    def figure7(self) -> Html:
        return Figure7(self.tables).html()

    def anatomy(self) -> Html:
        return _joined(Factors(self.tables).html(), Causes(self.tables).html())

    def folded(self) -> Html:
        """The numbers, the audit and every other figure, each under a heading that opens it."""
        numbers = [self.frames.bounds(), self.frames.measured(), self.frames.factors()]
        parts = {"The numbers": [html.table(frame, f"{explained(frame)}.") for frame in numbers]}
        said = f"Kuzborskij and Lampert (2018), Theorem 4, and what Eq. 6 drops of it. {self.verdict.steps()}"
        parts["What does the theorem assume?"] = [html.table(self.frames.audit(), said, self.verdict.assumptions())]
        parts |= {title: [self._part(part) for part in own] for title, own in FOLDED_PARTS.items()}
        return _joined(*(html.folded(title, *part) for title, part in parts.items()))

    def provenance(self) -> Html:
        return html.made_from(self.tables)

    def _part(self, part: type[BoundFigure]) -> Html:
        """A figure, or the command that measures what it shows."""
        if part.of in self.tables.tables:
            return part(self.tables).html()
        does = "analysis.bound --finetune" if part.of == "bound_distance" else "analysis.spectrum"
        command = self.tables.command(shlex.join(["python", "-m", *does.split(), "--init", *self.tables.starts]))
        return html.paragraph(f"Not measured: `{command}` does it.")


def _joined(*parts: Html) -> Html:
    return Html("".join(part.text for part in parts))

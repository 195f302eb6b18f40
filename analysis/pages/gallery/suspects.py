"""Which masks do networks that never saw them not believe?  The most suspect cases, each with its outlines and scores.

The masks of a store are ranked by `python -m analysis.suspects` (analysis.measure.suspects).  A rank says where to look
first, not that a mask is wrong: hard cases are suspect too.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.pages import html
from analysis.pages.html import Html
from analysis.pages.theme import PREDICTION, TRUTH, label, theme
from analysis.tables.paper import Origin
from analysis.tables.read import attributes_asked, read_about, read_arrays, read_table
from analysis.tables.words import counted, listed, origin, plain, score
from tatl.prediction.contour import contour

COMMAND = "python -m analysis.suspects"
_SCORES = ("loss", "disagreement", "improbability", "doubt", "curvature", "suspicion")
_COLUMNS = ("rank", "case", "attribute", "fold", "given", *(name for name in _SCORES if name != "curvature"))
_PICTURES = ("image", "given", "found")
_IN_LINE, _WIDTH = 3, 2.8
_MEANINGS = (
    "loss: Eq. 1-3 of the averaged probabilities; disagreement: 1 - Dice, 0 where both masks are empty; improbability: "
    "1 - mean probability of a pixel's label; doubt: the same, pixels weighted by their improbability (softmin, Lad "
    "and Mueller 2023); curvature: Hessian norm of the loss at the trained weights, of which less is more suspect, as "
    "the loss is flat where it is near its highest; suspicion: mean of the ranks by all of these among the masks of "
    "the attribute, from 0 to 1"
)


@dataclass(frozen=True)
class Suspects(Origin):
    """The ranked masks, and of the first of them what is shown.

    table: a row a mask, the most suspect first; shown: those with a picture; image uint8 [n, H, W, 3], given and found
    bool [n, H, W], in the order of `shown`
    """

    folder: Path
    about: dict[str, Any]
    table: pd.DataFrame
    shown: pd.DataFrame
    image: np.ndarray
    given: np.ndarray
    found: np.ndarray

    @classmethod
    def read(cls, folder: str | Path, attributes: str = "", dataset: str = "", cases: int = 20) -> Suspects:
        """suspects.csv, .npz and .json: of the attributes named with commas, or of all, the first `cases` shown.

        Raises FileNotFoundError or ValueError with the command that writes them, and for unknown attributes.
        """
        folder = Path(folder).expanduser().resolve()
        about = read_about(folder / "suspects.json", COMMAND) | ({"label": dataset} if dataset else {})
        table = read_table(folder / "suspects.csv", _COLUMNS, COMMAND, ["case", "attribute"])
        asked = attributes_asked(attributes, list(table["attribute"].unique()), folder / "suspects.csv")
        pictures = _pictures(folder / "suspects.npz", len(table))
        chosen = table["attribute"].isin(asked)
        rows = np.flatnonzero(chosen[: len(pictures["image"])])[: max(0, cases)]
        drawn = {name: pictures[name][rows] for name in _PICTURES}
        return cls(folder, about, table[chosen], table.iloc[rows], **drawn)

    def reading(self) -> str:
        """How the most suspect masks and what is found differ."""
        if self.shown.empty:
            return "No mask was ranked, or none was asked for."
        given, found = (each.any(axis=(1, 2)) for each in (self.given, self.found))
        many = counted(len(self.shown), "most suspect mask")
        kinds = {"empty where something is found": ~given & found, "not empty where nothing is found": given & ~found}
        kinds["elsewhere than what is found"] = given & found
        said = listed([f"{int(each.sum())} {kind}" for kind, each in kinds.items() if each.any()])
        return f"Of the {many} among {len(self.table)}, as networks see it that never saw the case: {said}."

    def headline(self) -> Html:
        return html.paragraph(self.reading())

    def origin(self) -> Html:
        """What is not judged, and where every number of the page comes from."""
        return html.caption(" ".join([*(f"{note}." for note in self.about.get("notes", [])), origin(self)]))

    def pictures(self) -> Html:
        """The most suspect cases, with the outlines of the given mask and of what is found."""
        if self.shown.empty:
            return html.paragraph(self.reading())
        alt = "The most suspect cases with the outline of the given mask and of what the networks find."
        return html.figure(self._drawn(), alt, caption="By rank; a suspect mask may be right, and its case hard.")

    def _drawn(self) -> Figure:
        count, (_, height, width, _) = len(self.shown), self.image.shape
        columns = min(_IN_LINE, count)
        lines = -(-count // columns)
        with theme():
            figure = Figure((_WIDTH * columns, (_WIDTH * height / width + 0.45) * lines + 0.4), layout="constrained")
            for axes in (grid := figure.subplots(lines, columns, squeeze=False).ravel()):
                axes.set_axis_off()
            panels = zip(grid, self.image, self.given, self.found, self.shown.to_dict("records"), strict=False)
            for axes, image, given, found, row in panels:
                _panel(axes, image, given, found, row)
            keys = [
                Line2D([], [], color=TRUTH, linewidth=1.6, label="given mask"),
                Line2D([], [], color=PREDICTION, linewidth=1.6, linestyle="--", label="found, out of fold"),
            ]
            figure.legend(handles=keys, loc="outside upper center", ncols=2, fontsize=8)
        return figure

    def scores(self) -> Html:
        """The shown masks with every score."""
        there = [name for name in _SCORES if name in self.shown]
        words = self.shown[["rank", "case", "attribute", "fold", "given"]].astype(str)
        words["attribute"] = words["attribute"].map(plain)
        numbers = self.shown[there].astype(float).map(lambda value: score(value) if value < 100 else f"{value:.0f}")
        return html.table(pd.concat([words, numbers], axis=1).set_index("rank"), f"{_MEANINGS}.")

    def provenance(self) -> Html:
        return html.made_from(self)


def _panel(axes: Axes, image: np.ndarray, given: np.ndarray, found: np.ndarray, row: dict[Hashable, Any]) -> None:
    axes.imshow(image)
    contour(axes, given, colors=[TRUTH], linewidths=1.1)
    contour(axes, found, colors=[PREDICTION], linewidths=1, linestyles="--")
    state = {(True, False): ", none found", (False, False): ", none found", (False, True): ", none given"}
    said = state.get((bool(given.any()), bool(found.any())), f", Dice {1 - row['disagreement']:.2f}")
    title = f"{row['rank']:.0f}  {row['case']}\n{label(row['attribute'], 40)}{said}"
    axes.set_title(title, fontsize=7.5, pad=2)


def _pictures(path: Path, most: int) -> dict[str, np.ndarray]:
    """The arrays of suspects.npz, of one length; ValueError or FileNotFoundError where they are not there."""
    arrays = read_arrays(path, COMMAND)
    if missing := [name for name in _PICTURES if name not in arrays]:
        raise ValueError(f"{path} lacks {listed(missing)}: write it again with `{COMMAND}`")
    if len(lengths := {len(arrays[name]) for name in _PICTURES}) > 1 or max(lengths) > most:
        raise ValueError(f"{path} holds pictures of other masks than suspects.csv: write it again with `{COMMAND}`")
    return arrays

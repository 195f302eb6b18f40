"""The page of measured stability: which quantity that is known before training ranks starts as their stability does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from analysis.pages import html
from analysis.pages.bound.lanes import fit_axis, vacuous_kind
from analysis.pages.drawing import axes_grid, legend
from analysis.pages.html import Html
from analysis.pages.theme import GREY, STYLES, Look, theme
from analysis.tables.bound.frames import from_to, three
from analysis.tables.bound.stability import (
    BOUND,
    PREDICTORS,
    PRETRAINED,
    RECIPE,
    StabilityTables,
    pooled,
    said_of,
    tried,
)
from analysis.tables.predictors import rank_predictors
from analysis.tables.words import counted, listed, plain

_LINEAR = 0.1  # share of the sizes that an axis with signs shows linearly, round zero
_DECADES = 30.0
_TITLES = {
    "sign error": "sign_error", "worst": "worst", "tau": "tau", "p": "p", "p wrong": "p_wrong", "pooled tau": "pooled",
    "pairs": "pairs", "worst in": "worst_in",
}  # fmt: skip


@dataclass(frozen=True)
class StabilityPage:
    """What the notebook shows of one folder of tables."""

    tables: StabilityTables

    @classmethod
    def read(cls, folder: str | Path, attributes: str = "", dataset: str = "") -> StabilityPage:
        """The page of a folder; arguments and errors are those of `StabilityTables.read`."""
        return cls(StabilityTables.read(folder, attributes, dataset))

    @cached_property
    def ranks(self) -> pd.DataFrame:
        return self.tables["stability_ranks"]

    @cached_property
    def look(self) -> Look:
        return Look.of(self.tables.starts, list(STYLES))

    def headline(self) -> Html:
        return html.paragraph(said_of(self.ranks))

    def figure(self) -> Html:
        """Measured stability over each predictor, the best first; a line joins the starts of an attribute."""
        points, names = self.tables.points, list(self.ranks["predictor"])
        if points.empty or not names:
            return html.paragraph("No pass has a stability: nothing is drawn.")
        with theme():
            figure, grid = axes_grid(len(names), 2.1, len(self.look.names), sharey=True)
            for axes, row in zip(grid, self.ranks.to_dict("records"), strict=False):
                self._scatter(axes, points, row["predictor"], "stability")
                numbers = f"sign error {row['sign_error']:.2f}, worst {row['worst']:.2f}"
                told = numbers if row["pairs"] else "no pair told apart"
                axes.set_title(f"{PREDICTORS[row['predictor']]}\n{told}", fontsize=9)
            figure.supylabel(f"measured stability, c = {self.tables.c:g}", fontsize=9.5)
            legend(figure, self.look.handles(), vacuous_kind(points[BOUND]))
        alt = "Measured stability of every start and attribute over each predictor."
        said = "Points are means over seeds and folds, with standard errors as if folds shared no images; a line joins "
        said += "those of an attribute."
        note = f"Shown at c = {self.tables.c:g} and the largest m. {self.tables.origin()} {said}"
        return html.figure(figure, alt, self._best(), note)

    def _best(self) -> str:
        """Of how many predictors a chance order would rank as well."""
        known = self.ranks.dropna(subset="p")
        sure = [PREDICTORS[name] for name in known.loc[known["p"] <= 0.05, "predictor"]]
        named = f": {', '.join(sure)}" if sure else ""
        return f"{len(sure)} of {counted(len(known), 'predictor')} rank better than 95 % of chance orders{named}."

    def table(self) -> Html:
        """The ranks, and how they are to be read."""
        frame = pd.DataFrame({title: self.ranks[name].map(_cell) for title, name in _TITLES.items()})
        ends = self.ranks[["resampled_low", "resampled_high"]].map(_cell)
        drawn = ends["resampled_low"].str.cat(ends["resampled_high"], " to ")
        frame.insert(1, "drawn again", drawn.where(self.ranks["resampled_low"].notna(), ""))
        frame.index = pd.Index(self.ranks["predictor"].map(PREDICTORS), name=None)
        return html.table(frame, tried(self.ranks), pooled(self.ranks)) if len(frame) else html.paragraph("No ranks.")

    def gap(self) -> Html:
        """What training opened between held-out and training images, over stability.

        Both have one expectation where a start does not know the training images.
        """
        points = self.tables.points
        if points.empty:
            return html.paragraph("No pass has a gap.")
        with theme():
            figure, (axes,) = axes_grid(1, 3.2, len(self.look.names))
            self._scatter(axes, points, "stability", "gap", joined=False)
            ends = np.array([points["stability"].min(), points["stability"].max()])
            axes.plot(ends, ends, color=GREY, linestyle=":", linewidth=1)
            axes.set_xlabel("measured stability")
            axes.set_ylabel("gap that training opened")
            legend(figure, self.look.handles())
        within = (points["gap"] - points["stability"]).abs() <= 2 * np.hypot(points["gap_error"], points["error"])
        said = (
            f"The gap is {from_to(points['gap'])} and stability {from_to(points['stability'])}; they agree within two"
        )
        said += f" standard errors for {int(within.sum())} of {counted(len(points), 'row')}."
        seen = [name for name in self.tables.starts if name in PRETRAINED]
        known = f"which closes the gap: {listed(seen)} {'have' if len(seen) > 1 else 'has'}"
        note = f"Both have one expectation where a start has not seen the training images, {known}." if seen else ""
        return html.figure(figure, "The gap of every start and attribute over its stability.", said, note)

    def recipe(self) -> Html:
        """Stability of the recipe that people train by, and whether one pass orders starts alike."""
        table = self.tables[RECIPE]
        if table.empty:
            return html.paragraph("Stability of the whole recipe (mini-batches, several epochs) was not measured.")
        one = self.tables.points.set_index(["start", "attribute"])["stability"].rename("one_pass")
        both = table.join(one, on=["start", "attribute"])
        row = rank_predictors(both, ["one_pass"], ["attribute"]).iloc[0]
        told = f"orders {row['sign_error']:.0%} of {row['pairs']} pairs of starts the other way" if row["pairs"] else ""
        said = f"One pass at c = {self.tables.c:g} {told or 'cannot be compared: no pair of starts is told apart'}."
        names = ["runs", "images", "stability", "error", "one_pass", "gap", "gap_error"]
        frame = both.set_index(["attribute", "start"])[names].map(_cell).rename_axis([None, None])
        how = "What a training image gains by being in the training set, over trainings on shared parts of the images."
        return html.table(frame, how, said)

    def forks(self) -> Html:
        """Every pair of trainings that differ in one image, by the step of the exchange."""
        table, attributes = self.tables["stability_forks"], self.tables.attributes
        whole = table["m"] == table.groupby(["attribute", "fold"])["m"].transform("max")
        table = table[(table["c"] == self.tables.c) & whole]
        table = table.assign(pair=table["fresh_difference"]).dropna(subset="pair")
        if table.empty:
            return html.paragraph("No fork was followed to its end.")
        with theme():
            figure, grid = axes_grid(len(attributes), 2.3, len(self.look.names), sharey=True)
            for axes, attribute in zip(grid, attributes, strict=False):
                for start, own in table[table["attribute"] == attribute].groupby("start"):
                    axes.plot(own["step"], own["pair"], linestyle="none", **self.look.point(str(start), size=4))
                fit_axis(axes, table["step"], "x", log=True)
                _signed_axis(axes, table["pair"])
                axes.set_title(plain(attribute), fontsize=9.5)
            figure.supxlabel("step at which one image was exchanged", fontsize=9.5)
            figure.supylabel("difference in loss", fontsize=9.5)
            legend(figure, self.look.handles())
        sizes = table["pair"].abs().groupby(table["start"]).median()
        ends = [f"{three(sizes[name])} for {name}" for name in map(str, (sizes.idxmin(), sizes.idxmax()))]
        said = f"The median size of a difference is from {ends[0]} to {ends[1]}, of {counted(len(table), 'fork')}."
        return html.figure(figure, "The difference that each exchanged image makes, by step.", said)

    def numbers(self) -> Html:
        """What the figures show, folded away."""
        measured = ["stability", "error", "gap", "gap_error", "train_risk", "held_risk", "moved"]
        frame = self.tables.points.set_index(["attribute", "start"]).rename_axis([None, None])
        parts = [frame[measured], frame[list(self.ranks["predictor"])].rename(columns=PREDICTORS)]
        note = f"At c = {self.tables.c:g} and the largest m." * bool(len(frame))
        shown = [html.table(part.map(_cell), note).text for part in parts if len(part.columns)]
        return html.folded("The numbers", Html("".join(shown)))

    def provenance(self) -> Html:
        return html.made_from(self.tables)

    def _scatter(self, axes: Axes, points: pd.DataFrame, x: str, y: str, joined: bool = True) -> None:
        """A point a start and attribute with its standard errors, unknown ones left out, vacuous ones at the edge."""
        known = points[points[x].notna() & points[y].notna()]
        ends = fit_axis(axes, known[x], "x")
        axes.grid(True, axis="both")
        _signed_axis(axes, points[y])
        errors = {"stability": "error", "gap": "gap_error"}
        for _, own in known.sort_values(x).groupby("attribute") if joined else ():
            axes.plot(own[x].clip(*ends), own[y], color=GREY, linewidth=0.7, alpha=0.6, zorder=1)
        for row in known.to_dict("records"):
            style = self.look.point(row["start"], hollow=bool(np.isinf(row[x])))
            bars = {"yerr": row[errors[y]], "xerr": row[errors[x]] if x in errors else None}
            at = np.clip(row[x], *ends), row[y]
            axes.errorbar(*at, **bars, fmt="none", elinewidth=1, ecolor=style["color"])
            axes.plot(*at, **style, clip_on=False, zorder=4)


def _signed_axis(axes: Axes, values: pd.Series) -> None:
    """Up the axis: logarithmic where sizes span decades, and linear round zero where signs differ."""
    known = values[values.notna() & (values != 0)]
    sizes = known.abs()
    if len(sizes) and sizes.max() > _DECADES * sizes.median() and (known > 0).all():
        fit_axis(axes, known, "y", log=True)
    elif len(sizes) and sizes.max() > _DECADES * sizes.median():
        linear = float(sizes.quantile(_LINEAR))
        axes.set_yscale("symlog", linthresh=linear)
        ends = np.floor(np.log10([sizes.max(), np.sqrt(sizes.max() * linear)]))
        axes.yaxis.set_major_locator(FixedLocator([0.0, *(sign * 10.0**end for end in ends for sign in (-1, 1))]))


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else "vacuous" if np.isinf(value) else three(value)

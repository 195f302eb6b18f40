"""What rows were trained with and how their losses fell: steps, images, seconds, and whether that was enough.

Rows may differ in length: TATL trains Stage 2 before its targets.  So the totals stand beside the scores, losses are
drawn over them, and a row whose loss was still falling is marked (`tatl.studies.pace` says by which rule).  Tables of
earlier versions say less, and so do the pages of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.pages import drawing, html
from analysis.pages.html import Html
from analysis.pages.theme import Look, theme
from analysis.tables.words import extremes, scores
from tatl.names import AVERAGE, ENSEMBLE, UNION
from tatl.studies.pace import mean_curves, not_trained_out

Cells = dict[Any, Sequence[str]]
EFFORT = {
    "steps": "steps", "steps_in_all": "steps in all", "images_in_all": "images in all", "seconds": "seconds",
    "seconds_in_all": "seconds in all",
}  # fmt: skip
_MARK = "†"
_NOTE = (
    f"{_MARK} not trained out: the validation loss of more than half of its networks was still falling at the last "
    "epoch, so that a longer training may change this score."
)


def per_row(cells: Cells, frame: pd.DataFrame, *levels: Iterable[Any], note: str = "", reading: str = "") -> Html:
    """A table of the rows of `frame`: `cells`, then what each was trained with where that is known.

    The last of `levels` is what a row is called; those that are not trained out are marked, and the mark is explained.
    """
    over = ("trained with",) if any(isinstance(head, tuple) for head in cells) else ()
    took = {title: scores(frame[[name]], name, digits=0) for name, title in EFFORT.items() if name in frame}
    cells = cells | {(*over, title) if over else title: words for title, words in took.items()}
    *outer, names = levels
    return html.table(labelled(cells, *outer, daggered(names, frame)), f"{note} {mark_note(frame)}".strip(), reading)


def labelled(cells: Cells, *levels: Iterable[Any]) -> pd.DataFrame:
    """A table of words with rows of one label or of several."""
    names = [list(level) for level in levels]
    index = pd.Index(names[0]) if len(names) == 1 else pd.MultiIndex.from_arrays(names, names=[None] * len(names))
    return pd.DataFrame(cells, index=index)


def daggered(names: Iterable[Any], frame: pd.DataFrame) -> list[str]:
    """Names or cells of the rows of `frame`, those that are not trained out with their mark."""
    return [f"{name} {_MARK}" if each else str(name) for name, each in zip(names, not_trained_out(frame), strict=True)]


def mark_note(frame: pd.DataFrame) -> str:
    """What the mark means, where some row has it."""
    return _NOTE if not_trained_out(frame).any() else ""


def unequal(frame: pd.DataFrame, mine: str, theirs: str) -> str:
    """ ", in 120 steps against 45" of two rows by their variant; empty where they took as many, or it is not known."""
    steps = frame.reindex([mine, theirs]).get("steps_in_all", pd.Series(dtype=float))
    return f", in {steps[mine]:.0f} steps against {steps[theirs]:.0f}" if differ(steps.dropna()) else ""


def differ(steps: pd.Series) -> bool:
    """Are they more than 5 % apart?"""
    return bool(steps.max() > 1.05 * steps.min())


def learning(curves: pd.DataFrame, panels: Sequence[str], look: Look) -> Html | None:
    """Mean validation losses over all steps, a panel per attribute or average; None where there are no curves."""
    if curves.empty:
        return None
    if AVERAGE not in set(curves["attribute"]):
        means = mean_curves(curves[curves["attribute"] != UNION], ["variant", "seed", "fold"])
        curves = pd.concat([curves, means.assign(attribute=AVERAGE, shape=ENSEMBLE)], ignore_index=True)
    frame = mean_curves(curves, ["attribute", "variant"]).dropna(subset=["loss"])
    panels = [name for name in panels if name in set(frame["attribute"])]
    if not panels:
        return None
    before = frame["before"].fillna(0)
    drawn = _draw(frame.assign(before=before, step=before + frame["step"]), panels, look)
    lowest = frame[frame["attribute"] == panels[0]].groupby("variant", sort=False)["loss"].min()
    counted = "Steps of Stages 1 and 2 or of a pretext count: a row's own begin at its first marker, after them."
    note = counted if frame["before"].notna().all() else "Steps before a row's own training are not recorded here."
    spread = "Means over folds and seeds, the band is one standard deviation; a run that stopped keeps its last loss."
    alt = "Validation loss of every row over all its training steps."
    return html.figure(drawn, alt, f"At its lowest the mean validation loss is {extremes(lowest)}.", f"{note} {spread}")


def _draw(frame: pd.DataFrame, panels: Sequence[str], look: Look) -> Figure:
    """A line per variant with a band of loss_std: dotted up to its marker at `before`, another marker at its end."""
    with theme():
        figure, grid = drawing.axes_grid(len(panels), 3.2 if len(panels) == 1 else 2.0, len(look.names))
        for axes, panel in zip(grid, panels, strict=False):
            lines = dict(list(frame[frame["attribute"] == panel].groupby("variant")))
            for name in (each for each in look.names if each in lines):
                line, colour = lines[name], look.colour[name]
                begin, first = line.iloc[0][["before", "loss"]]
                axes.plot([0, begin], [first, first], color=colour, linewidth=0.8, linestyle=(0, (1, 2)))
                axes.plot(begin, first, zorder=4, **look.point(name, size=5))
                axes.plot(line["step"], line["loss"], linewidth=1.3, markevery=[-1], **look.point(name, size=5))
                ends = line["loss"] - line["loss_std"], line["loss"] + line["loss_std"]
                axes.fill_between(line["step"], *ends, color=colour, alpha=0.08, linewidth=0)
            drawing.panel_title(axes, panel)
            axes.grid(True, axis="y")
        figure.supxlabel("training steps in all", fontsize=9.5)
        figure.supylabel("validation loss", fontsize=9.5)
        drawing.legend(figure, look.handles(linestyle="solid", linewidth=1.3))
    return figure

"""Is an attribute that the agnostic network finds one that its target finds?  Figure 5 as points."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from analysis.pages.theme import GREY, INK, Style, label, palette, theme
from analysis.pages.words import counted
from tatl.names import PRETEXT

TARGET = "tatl"
FEW = 3  # attributes from which a correlation is given


def read_off(table: pd.DataFrame) -> str:
    above = int((table[TARGET] > table[PRETEXT]).sum())
    said = "Training on the attribute itself raises Dice above the pretext's for"
    said += f" {above} of {counted(len(table), 'attribute')}"
    if len(table) < FEW or table.nunique().min() < 2:
        return f"{said}; {counted(len(table), 'attribute')}: no correlation can be given."
    found = spearmanr(table[PRETEXT], table[TARGET])
    said += f"; over attributes, pretext and target have rank correlation {found.statistic:+.2f}"
    p = f"p {found.pvalue:.3f}" if found.pvalue >= 0.001 else "p < 0.001"
    return f"{said} ({p}, {counted(len(table), 'attribute')})."


def scatter(table: pd.DataFrame) -> Figure:
    colour = palette(list(table.index), ())
    with theme():
        figure = Figure(figsize=(5.4, 3.6), layout="constrained")
        axes = figure.subplots()
        top = 1.08 * max(float(table.to_numpy().max()), 1e-3)
        axes.plot([0, top], [0, top], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), label="no change")
        for name, row in table.iterrows():
            point: Style = {
                "marker": "o",
                "linestyle": "none",
                "markeredgecolor": INK,
                "markeredgewidth": 0.5,
                "zorder": 4,
            }
            axes.plot(row[PRETEXT], row[TARGET], color=colour[str(name)], label=label(str(name), 24), **point)
        axes.set(
            xlabel=f"pooled Dice of {PRETEXT}",
            ylabel=f"pooled Dice of {TARGET}",
            xlim=(-0.02 * top, top),
            ylim=(-0.02 * top, None),
        )
        axes.grid(True, axis="y")
        figure.legend(loc="outside right center", fontsize=8)
    return figure

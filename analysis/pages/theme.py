"""One look for every figure: theme, ink, and what colour and marker a name has, whatever else is drawn.

Variants have Okabe and Ito's colours, initialisations a fixed colour and marker each (`STYLES`), attributes and other
names Tol's: all told apart by colour-blind readers; variants and starts differ in marker too, for print.  Text and
axes are drawn in `INK`, which the page replaces by its own text colour, so that figures are readable in light and
dark.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import seaborn as sns
from matplotlib import style as styles
from matplotlib.lines import Line2D

from tatl.names import VARIANTS

INK = "#26282b"
GREY = "#8a8f98"
TRUTH, PREDICTION, BOX = "#00c853", "#ff1744", "#ffd600"  # outlines on images
OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#0072b2", "#cc79a7", "#d55e00", "#b8a800")
TOL = ("#cc6677", "#44aa99", "#ddcc77", "#88ccee", "#aa4499", "#999933", "#117733", "#882255")
MARKERS = "osD^vPXhp*"
# One order, one colour and one marker per initialisation; stage123 is tatl on crops, augmentation and attention are
# source with one thing more, pretext is the agnostic network that tatl starts from.
STYLES = {
    "random": ("#7d828a", "o"),
    "source": ("#e69f00", "s"),
    "source-long": ("#8c6d00", "8"),
    "rotation": ("#009e73", "D"),
    "context": ("#cc79a7", "^"),
    "augmentation": ("#999933", "<"),
    "attention": ("#d55e00", ">"),
    "tatl": ("#0072b2", "v"),
    "tatl-freeze": ("#56b4e9", "P"),
    "tatl-scratch": ("#7b5ea7", "d"),
    "stage123": ("#0072b2", "*"),
    "pretext": ("#44aa99", "d"),
    "multilabel": ("#117733", "s"),
    "multilabel-direct": ("#117733", "*"),
    "lesion": ("#a65628", "X"),
    "shuffled-union": ("#aa4499", "h"),
    "frozen-random": ("#4f6d8f", "p"),
    "textures": ("#b8860b", "o"),
}

Style = dict[str, Any]
Colour = tuple[float, float, float]


@contextmanager
def theme() -> Iterator[None]:
    """The one theme, whatever a person's matplotlibrc says; every figure is made and saved inside it."""
    inked = {name: INK for name in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")}
    style = sns.axes_style("ticks") | sns.plotting_context("paper", font_scale=1.15) | inked
    extra = {
        **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
        **dict.fromkeys(("axes.grid", "axes.axisbelow"), True),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
        "axes.grid.axis": "x",
        "grid.color": GREY,
        "grid.alpha": 0.25,
        "grid.linewidth": 0.6,
        "font.family": ["DejaVu Sans"],
        "svg.hashsalt": "tatl",
    }
    with styles.context(["default", style | extra]):
        yield


def palette(names: Sequence[str], first: Sequence[str]) -> dict[str, Colour]:
    """Known names keep their colour whatever else is drawn; others get the colours that follow.

    Initialisations have the colour of `STYLES` in every figure that is not of variants, and no other name has it.
    """
    every, fixed = _every(names, first)
    others = [name for name in every if name not in fixed]
    taken = [colour for colour, _ in fixed.values()]
    safe = [colour for colour in (OKABE_ITO if tuple(first) == VARIANTS else TOL) if colour not in taken]
    spare = sns.husl_palette(max(1, len(others) - len(safe)), l=0.6)
    colours = dict(zip(others, [*sns.color_palette(safe), *spare], strict=False))
    return colours | dict(zip(fixed, sns.color_palette(taken), strict=True))


def markers(names: Sequence[str], first: Sequence[str] = VARIANTS) -> dict[str, str]:
    """A marker per name; initialisations have that of `STYLES` in every figure that is not of variants."""
    every, fixed = _every(names, first)
    return {name: fixed[name][1] if name in fixed else MARKERS[i % len(MARKERS)] for i, name in enumerate(every)}


def _every(names: Sequence[str], first: Sequence[str]) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """The known names, then the others; and the styles of those that have one."""
    every = list(dict.fromkeys([*first, *names]))
    return every, {} if tuple(first) == VARIANTS else {name: STYLES[name] for name in every if name in STYLES}


def label(name: str, width: int = 18) -> str:
    """pigment_network -> pigment network, broken into lines of `width` characters."""
    return "\n".join(textwrap.wrap(name.replace("_", " "), width, break_long_words=True)) or name


@dataclass(frozen=True)
class Look:
    """Names in their order with the colour and marker that each has in every figure."""

    names: list[str]
    colour: dict[str, Colour]
    marker: dict[str, str]

    @classmethod
    def of(cls, names: Sequence[str], first: Sequence[str]) -> Look:
        return cls(list(names), palette(names, first), markers(names, first))

    def point(self, name: str, hollow: bool = False, size: float = 6) -> Style:
        """A marker, edged with ink so that light colours are seen on white."""
        style: Style = {"color": self.colour[name], "marker": self.marker[name], "markersize": size}
        edge: Style = {"markerfacecolor": "none", "markeredgecolor": self.colour[name], "markeredgewidth": 1.2}
        return style | (edge if hollow else {"markeredgecolor": INK, "markeredgewidth": 0.5})

    def handles(self, **more: object) -> list[Line2D]:
        style: Style = {"linestyle": "none"} | more
        return [Line2D([], [], label=label(name, 24), **(self.point(name) | style)) for name in self.names]

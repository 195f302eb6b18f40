"""Why the bounds of starts differ: risk, curvature and the factors of Eq. 6 beside a reference, and the curve over g.

    bound = (1 + 1 / (c g-)) * R^e * sqrt(log K) * m^(e - 1),      e = c g+ / (1 + c g+)
            stability          fit   candidates    sample

It falls with g, by stability, until its lowest point, and rises beyond it, by sample: a sharper start may be on either
side.  The log ratio of two bounds is split into parts by risk and by curvature (Shapley values), which add up.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.curvature.stability import bounds
from analysis.pages.bound.figure7 import NOTHING
from analysis.tables.bound import KEYS, Measured, between, three
from analysis.pages.bound.lanes import WIDTH, Lanes, legend, nothing, panels, span, tall, told
from analysis.pages.theme import GREY, INK, theme
from analysis.pages.words import counted, plain

PARTS = {
    "risk": "risk R",
    "curvature": "mean norm",
    "stability": "stability\n1 + 1/(c g⁻)",
    "fit": "fit\n$R^{\\,e}$",
    "sample": "sample\n$m^{\\,e-1}$",
    "bound": "bound",
}
FOCUS = "tatl"
ALIKE = 1e-9
BEYOND = 3.0  # the curve is drawn to so many times the largest g
HIGHEST = 2.0  # and at least up to this bound


def factors(measured: Measured) -> pd.DataFrame:
    """start, attribute, risk, curvature, and the factors of Eq. 6; rows of bound.csv without anatomy have NaN."""
    extra = measured["bound_anatomy"].drop_duplicates(KEYS)[[*KEYS, "stability", "fit", "candidates", "sample"]]
    return measured["bound"][[*KEYS, "risk", "curvature", "bound"]].merge(extra, on=KEYS, how="left")


def relative(measured: Measured) -> pd.DataFrame:
    """`factors` as multiples of the reference's (NaN where that is vacuous); as they are where none is there."""
    table, beside = factors(measured), measured.reference
    if not beside:
        return table
    theirs = table[table["start"] == beside].set_index("attribute")[list(PARTS)].replace(np.inf, np.nan)
    theirs = theirs.reindex(table["attribute"])
    with np.errstate(invalid="ignore", divide="ignore"):
        return table.assign(**{name: table[name].to_numpy() / theirs[name].to_numpy() for name in PARTS})


def anatomy(measured: Measured) -> Figure:
    """Each ingredient and factor of the bound in its own panel, relative to the reference (or as it is, if alone)."""
    table, beside, look = relative(measured), measured.reference, measured.look
    with theme():
        figure = Figure(figsize=(10.2, tall(measured.attributes, look) + 0.2), layout="constrained")
        drawn = figure.subplots(1, len(PARTS), sharey=True)
        for axes, (name, title) in zip(drawn, PARTS.items(), strict=True):
            lanes = Lanes(axes, measured.attributes, look)
            ends = span(axes, [*table[name], *([1.0] if beside else [])], log=True if beside else None)
            for row in table[table[name].notna()].to_dict("records"):
                infinite = np.isinf(row[name])
                point = look.point(row["start"], hollow=bool(infinite), size=5.5)
                axes.plot(np.clip(row[name], *ends), lanes.y(row["attribute"], row["start"]), **point, clip_on=False)
            if axes.get_xscale() == "linear":
                axes.locator_params(axis="x", nbins=3)
            if beside:
                axes.axvline(1, color=INK, linewidth=0.8, zorder=1)
            axes.set_title(title, fontsize=10)
            axes.tick_params(axis="x", labelsize=8)
        if beside:
            drawn[len(PARTS) // 2].set_xlabel(f"as a multiple of {beside}'s")
        extra = [told("vacuous: g⁻ ≤ 0", marker="o", markerfacecolor="none")] * bool(np.isinf(table["bound"]).any())
        legend(figure, look, extra)
    return figure


def _focus(measured: Measured) -> str:
    """The start that a sentence is about: tatl, or the first that is not the reference."""
    others = [name for name in measured.starts if name != measured.reference]
    return FOCUS if FOCUS in others else others[0] if others else ""


def ingredients(measured: Measured) -> str:
    """Is the start less at risk, is it sharper, and how far do the starts lie apart in each?"""
    table, beside = relative(measured), measured.reference
    if table.empty:
        return NOTHING
    if not beside:
        alone = len(measured.starts) == 1
        whose = f"{measured.starts[0]}, the only start," if alone else "The starts, none of which is the reference,"
        return f"{whose} ha{'s' if alone else 've'} risk {_both(table)[0]} and mean norm {_both(table)[1]}."
    focus = _focus(measured)
    own = table[table["start"] == focus]
    known = own[["risk", "curvature"]].dropna()
    lower, sharper = int((known["risk"] < 1).sum()), int((known["curvature"] > 1).sum())
    risk, norm = _both(table[table["start"] != beside])
    return (
        f"Against {beside}, {focus} has the lower risk for {lower} and the higher mean norm for {sharper} of "
        f"{counted(len(known), 'attribute')}; over all other starts, risk is {risk} times {beside}'s and the mean norm "
        f"{norm} times."
    )


def _both(table: pd.DataFrame) -> tuple[str, str]:
    """The ranges of risk and mean norm."""
    known = [table[name].dropna() for name in ("risk", "curvature")]
    risk, norm = (between(values) if len(values) else "not known" for values in known)
    return risk, norm


def causes(measured: Measured) -> Figure:
    """How far risk alone and curvature alone move each bound away from the reference's; the dot is both."""
    table, look = _compared(measured), measured.look
    with theme():
        figure = Figure(figsize=(WIDTH, tall(measured.attributes, look)), layout="constrained")
        axes = figure.subplots()
        lanes = Lanes(axes, measured.attributes, look)
        if table.empty and measured.attributes:
            nothing(axes, "no difference to show")
        values = np.exp(table[["log_ratio", "by_risk", "by_curvature"]].to_numpy()).ravel()
        span(axes, [*values, 1.0], log=True)
        height = 0.36 / max(1, len(look.names))
        for row in table.to_dict("records"):
            y = lanes.y(row["attribute"], row["start"])
            _cause(axes, row["by_risk"], y - height / 2, height, color="none", edgecolor=look.colour[row["start"]])
            _cause(axes, row["by_curvature"], y + height / 2, height, color=look.colour[row["start"]])
            axes.plot(np.exp(row["log_ratio"]), y, **look.point(row["start"], size=5))
        axes.axvline(1, color=INK, linewidth=0.8)
        axes.set_xlabel(f"factor on the bound of {measured.reference or 'the reference'}")
        kinds = [Patch(facecolor="none", edgecolor=GREY, label="by risk"), Patch(color=GREY, label="by curvature")]
        legend(figure, look, [*kinds, told("both", marker="o")])  # type: ignore[list-item]
    return figure


def _cause(axes: Axes, part: float, y: float, height: float, **style: object) -> None:
    axes.barh(y, np.exp(part) - 1, left=1, height=height, linewidth=1.0, **style)  # type: ignore[arg-type]


def _compared(measured: Measured) -> pd.DataFrame:
    """The rows of the anatomy that have a difference from the reference."""
    table = measured["bound_anatomy"]
    known = table[["log_ratio", "by_risk", "by_curvature"]].notna().all(axis=1)
    return table[known & (table["start"] != table["reference"]) & table["start"].isin(measured.starts)]


def reasons(measured: Measured) -> str:
    """Does risk or curvature make most of the differences, and what does risk alone do for the start?"""
    table, beside = _compared(measured), measured.reference
    if len(measured.starts) == 1:
        return f"{measured.starts[0]} is the only start: there is no difference to take apart."
    if table.empty:
        return "There is no finite bound to compare with a reference's, so no difference to take apart."
    more = int((table["by_curvature"].abs() > table["by_risk"].abs() + ALIKE).sum())
    said = f"Curvature makes more of the difference from {beside} than risk in {more} of {counted(len(table), 'row')}"
    own = table[table["start"] == _focus(measured)]
    if len(own):
        risk, norm = (between(np.exp(own[name])) for name in ("by_risk", "by_curvature"))
        said += (
            f"; by risk alone the bound of {_focus(measured)} would be {risk} times {beside}'s, by curvature alone "
            f"{norm} times"
        )
    return f"{said}."


def curve(measured: Measured) -> Figure:
    """Eq. 6 over g at the risk of each start, and where each start stands on it: one panel per attribute."""
    table, look = measured["bound"], measured.look
    xs = [0.3 * table["g"].min(), BEYOND * table["g"].max()]
    ys = [100 * value for value in (*table["bound"], measured["bound_curve"]["bound"].min(), HIGHEST)]
    with theme():
        figure, drawn = panels(measured.attributes, "g = mean norm + √R", "bound x 100")
        for attribute, axes in drawn.items():
            x, y = span(axes, xs, "x", log=True), span(axes, ys, "y", log=True)
            rows = measured.of("bound", attribute).to_dict("records")
            for row in rows:
                axes.plot(*_line(measured, row), color=look.colour[row["start"]], linewidth=1.3, alpha=0.8)
            for row in rows:
                at = np.clip(row["g"], *x), np.clip(100 * row["bound"], *y)
                axes.plot(*at, **look.point(row["start"], hollow=bool(np.isinf(row["bound"]))), clip_on=False, zorder=5)
            _turn(axes, measured, attribute)
        kinds = [told("lowest point: the bound falls before, rises beyond", color=INK, linestyle=":", linewidth=1)]
        kinds += [told("vacuous: g⁻ ≤ 0", marker="o", markerfacecolor="none")] * bool(np.isinf(table["bound"]).any())
        legend(figure, look, kinds)
    return figure


def _line(measured: Measured, row: dict) -> tuple[np.ndarray, np.ndarray]:
    """The curve of bound_curve.csv (x 100), carried on beyond the largest g that was measured."""
    part = measured.of("bound_curve", row["attribute"])
    part = part[part["start"] == row["start"]].sort_values("g")
    g, value = part["g"].to_numpy(), part["bound"].to_numpy()
    end, asked = BEYOND * float(measured["bound"]["g"].max()), measured.asked
    if len(g) and end > g[-1] > 1 and {"sources", "c"} <= set(asked) and 0 <= row["risk"] <= 1 and row["images"] >= 1:
        more = np.geomspace(g[-1], end, 40)
        risk = np.full(len(more), row["risk"])
        m, n = int(row["m"]), int(row["images"])
        further = bounds(risk, more - np.sqrt(risk), m, int(asked["sources"]), float(asked["c"]), n)
        g, value = np.append(g, more), np.append(value, further)
    return g, 100 * value


def _turn(axes: Axes, measured: Measured, attribute: str) -> None:
    """A dotted line where the bound is lowest at the starts' median risk."""
    turns = measured.of("bound_anatomy", attribute)["turns_at"]
    turns = turns[np.isfinite(turns)]
    if len(turns):
        axes.axvline(float(turns.median()), color=INK, linestyle=":", linewidth=1, zorder=1)


def sides(measured: Measured) -> str:
    """How many starts stand where more curvature lowers the bound, and how many where it raises it."""
    table = measured["bound"].merge(measured["bound_anatomy"][[*KEYS, "turns_at"]], on=KEYS, how="inner")
    if table.empty:
        return NOTHING
    vacuous = np.isinf(table["bound"])
    known = table[~vacuous & table["g"].notna() & table["turns_at"].notna()]
    beyond = int((known["g"] > known["turns_at"]).sum())
    said = (
        f"{beyond} of {counted(len(table), 'bound')} stand beyond the lowest point of their curve, where more "
        f"curvature raises them, and {len(known) - beyond} before it, where more curvature lowers them"
    )
    turns = known["turns_at"][np.isfinite(known["turns_at"])]
    said += f" (lowest at g of {between(turns)})" if len(turns) else ""
    return f"{said}; {int(vacuous.sum())} are vacuous." if vacuous.any() else f"{said}."


def numbers(measured: Measured) -> pd.DataFrame:
    """The anatomy in numbers, by attribute and start."""
    beside = measured.reference
    rows = [row for name in measured.attributes for _, row in measured.of("bound_anatomy", name).iterrows()]
    names = {"g": "g", "turns_at": "lowest at g", "stability": "stability", "fit": "fit"}
    names |= {"candidates": "sqrt(log K)", "sample": "sample", "bound": "bound"}
    cells = [{title: three(row[name]) for name, title in names.items()} for row in rows]
    if beside:
        split = {"log_ratio": f"times {beside}'s", "by_risk": "by risk", "by_curvature": "by curvature"}
        for cell, row in zip(cells, rows, strict=True):
            cell |= {title: three(float(np.exp(row[name]))) for name, title in split.items()}
    keys = [(plain(row["attribute"]), row["start"]) for row in rows]
    return pd.DataFrame(cells, index=pd.MultiIndex.from_tuples(keys) if keys else None)

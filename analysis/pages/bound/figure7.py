"""Figure 7 on a page: the bound of every start and attribute, how it spreads, and how sure the order of starts is.

The bound (Eq. 6, `analysis.bound`) is shown x 100, as the paper does.  It stands inside an O(.), so sentences and
tables lead with its ratio to a reference start.  Two spreads are told apart: over the seeds that a start was trained
with, and over resamples of the images, of the seed whose bound is the median; neither is a confidence interval.  A
vacuous bound (g- <= 0) says nothing and is drawn as such, at the edge.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables.bound import SEEDS, Measured, caption, percent, three
from analysis.pages.bound.lanes import WIDTH, Lanes, legend, nothing, span, tall, told
from analysis.pages.theme import GREY, INK, Style, label, theme
from analysis.pages.words import counted, listed, plain
from tatl.names import AVERAGE

__all__ = ["Measured", "caption", "certainty", "figure7", "headline", "numbers"]

NOTHING = "Nothing was measured: bound.csv has no rows of these attributes."
NAMED, SURE = 4, 0.95  # attributes that a sentence names, more are counted; share of resamples
TOLD = 0.13  # of a bar, from which a share is written on it
LUMINANCE = (0.2126, 0.7152, 0.0722)
SPREADS = [f"bound_{kind}_{end}" for kind in ("seeds", "images") for end in ("low", "high")]
IMAGES: Style = {"linewidth": 0.9}
RANGE: Style = {"linewidth": 3.2, "alpha": 0.45}
DOT: Style = {"linestyle": "none", "marker": "|", "markersize": 7, "markeredgewidth": 1.4}


def figure7(measured: Measured) -> Figure:
    """The paper's Figure 7: bound x 100 of each start per attribute, with its spreads, and on average."""
    rows, look = _groups(measured), measured.look
    with theme():
        figure = Figure(figsize=(WIDTH, tall(rows, look)), layout="constrained")
        axes = figure.subplots()
        table = pd.concat([measured["bound"], measured.average])
        ends = span(axes, 100 * table[["bound", *SPREADS]].to_numpy().ravel())
        lanes = Lanes(axes, rows, look)
        for row in table.to_dict("records"):
            _spread(lanes, row, ends, measured[SEEDS])
        if len(table) and not np.isfinite(table["bound"]).any():
            nothing(axes, "no bound is finite")
        if measured.attributes != rows:
            axes.axhline(len(rows) - 1.5, color=INK, linewidth=1)
        axes.set_xlabel("bound x 100 (Eq. 6, up to an unknown constant), lower is better")
        legend(figure, look, _kinds(table))
    return figure


def _groups(measured: Measured) -> list[str]:
    return [*measured.attributes, *([AVERAGE] if len(measured.average) else [])]


def _spread(lanes: Lanes, row: dict, ends: tuple[float, float], seeds: pd.DataFrame) -> None:
    """A bound with its range over seeds (thick, each seed a dot) and its spread over images (thin); an infinite end
    reaches the edge, an infinite bound stands there, hollow."""
    y, start, colour = lanes.y(row["attribute"], row["start"]), row["start"], lanes.look.colour[row["start"]]
    for kind, style in {"images": IMAGES, "seeds": RANGE}.items():
        low, high = (100 * row[f"bound_{kind}_{end}"] for end in ("low", "high"))
        if not np.isnan(low) and not np.isnan(high):
            lanes.axes.plot(np.clip([low, high], *ends), [y, y], color=colour, solid_capstyle="butt", **style)
            if np.isinf(high):
                lanes.axes.plot(ends[1], y, marker=">", color=colour, markersize=5, clip_on=False)
    each = seeds["bound"][(seeds["start"] == start) & (seeds["attribute"] == row["attribute"])].dropna()
    lanes.axes.plot(np.clip(100 * each, *ends), np.full(len(each), y), color=colour, **DOT)
    if np.isinf(row["bound"]):
        lanes.axes.plot(ends[1], y, **lanes.look.point(start, hollow=True), clip_on=False, zorder=5)
    else:
        lanes.axes.plot(100 * row["bound"], y, **lanes.look.point(start), zorder=4)


def _kinds(table: pd.DataFrame) -> list:
    kinds = [told("range over seeds", linestyle="-", **RANGE), told("each seed", **DOT)] * bool(
        (table["seeds"] > 1).any()
    )
    kinds.append(told("95 % of resamples of images", linestyle="-", **IMAGES))
    if np.isinf(table["bound"]).any():
        kinds.append(told("vacuous: g⁻ ≤ 0", marker="o", markerfacecolor="none"))
    if np.isinf(table[["bound_images_high", "bound_seeds_high"]]).any(axis=None):
        kinds.append(told("spread has no upper end", marker=">"))
    return kinds


def order(measured: Measured) -> str:
    """For how many attributes each start is lowest, and whether its range over seeds overlaps the next one's."""
    table = measured["bound"]
    if table.empty:
        return NOTHING
    if len(measured.starts) == 1:
        return f"{_alone(measured)}{_limits(table)}."
    wide = measured.wide("bound", "bound").replace(np.inf, np.nan).dropna(how="all")
    if wide.empty:
        return f"Every bound is vacuous ({counted(len(table), 'row')}): none can be called lower."
    wins = wide.idxmin(axis=1).value_counts(sort=False).reindex(measured.starts).dropna().astype(int)
    wins = wins.sort_values(ascending=False, kind="stable")
    best, number = str(wins.index[0]), int(wins.iloc[0])
    others = [f"{name} for {count}" for name, count in wins.iloc[1:].items()]
    said = f"{best} is lowest for {number} of {counted(len(wide), 'attribute')}"
    said += f", {listed(others)}" if others else ""
    mine = [str(name) for name in wide.index[wide.idxmin(axis=1) == best]]
    return f"{said}; {_overlaps(measured, wide, best, mine)}{_limits(table)}."


def _alone(measured: Measured) -> str:
    table, start = measured["bound"], measured.starts[0]
    finite = table[np.isfinite(table["bound"])]
    if finite.empty:
        return f"{start} is the only start, without a finite bound"
    low, high = (finite.iloc[int(at)] for at in (finite["bound"].argmin(), finite["bound"].argmax()))
    if len(finite) == 1:
        return f"{start}, the only start, has the bound {_times100(low)} on {plain(low['attribute'])}"
    return (
        f"{start}, the only start, has bounds from {_times100(low)} on {plain(low['attribute'])} to "
        f"{_times100(high)} on {plain(high['attribute'])}"
    )


def _overlaps(measured: Measured, wide: pd.DataFrame, best: str, won: list[str]) -> str:
    """For which of the attributes it won the best start's range over seeds reaches that of the next start."""
    if measured.seeds < 2:
        return "of one seed each: how far training moves them is not known"
    low, high = measured.wide("bound", "bound_seeds_low"), measured.wide("bound", "bound_seeds_high")
    alone = not wide.loc[won].drop(columns=best).notna().any(axis=None)
    meets: list[str] = []
    apart: list[str] = []
    for name in won:
        others = wide.loc[name].drop(best).dropna()
        mine, theirs = high[best][name], low[str(others.idxmin())][name] if len(others) else np.nan
        if not np.isnan(mine) and not np.isnan(theirs):
            (meets if mine >= theirs else apart).append(name)
    if not meets and not apart:
        return "no other start has a bound there" if alone else f"there is no range to set {best}'s beside"
    if not meets:
        return f"{best}'s range over seeds lies below that of the next start there"
    return f"{best}'s range over seeds overlaps that of the next start for {named(meets, len(meets) + len(apart))}"


def named(attributes: list[str], of: int) -> str:
    """globules and streaks; or, where there are many, 7 of 9."""
    if len(attributes) == of > 1:
        return f"all {of}"
    return listed([plain(name) for name in attributes]) if len(attributes) <= NAMED else f"{len(attributes)} of {of}"


def _limits(table: pd.DataFrame) -> str:
    """How many bounds say nothing, for one reason or the other."""
    vacuous, unknown = int(np.isinf(table["bound"]).sum()), int(table["bound"].isna().sum())
    said = [f"{vacuous} of {counted(len(table), 'bound')} are vacuous (g- <= 0)"] * bool(vacuous)
    said += [f"{unknown} of {len(table)} are not known"] * bool(unknown)
    return f"; {listed(said)}" if said else ""


def _times100(row: pd.Series, kind: str = "seeds") -> str:
    """24.9 (13.9 to 41.4), with its range over seeds, or the spread over images."""
    return _with_ends(*(_cell(100 * row[name]) for name in ("bound", f"bound_{kind}_low", f"bound_{kind}_high")))


def _ratio(row: pd.Series, kind: str = "seeds") -> str:
    """0.71 (0.52 to 1.20) times the reference."""
    return _with_ends(*(_two(row[name]) for name in ("ratio", f"ratio_{kind}_low", f"ratio_{kind}_high")))


def _with_ends(value: str, low: str, high: str) -> str:
    return f"{value} ({low} to {high})" if value and low and high and not value == low == high else value


def _two(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}" if value < 100 else f"{value:.3g}"


def _cell(value: float) -> str:
    if np.isnan(value):
        return ""
    return "vacuous" if np.isinf(value) else f"{value:.1f}" if value < 1000 else f"{value:.3g}"


def headline(measured: Measured) -> str:
    """The bound of each start as a multiple of the reference's, on average or on the only attribute, lowest first."""
    rows = _groups(measured)
    if not rows:
        return NOTHING
    if (rows[-1] != AVERAGE and len(rows) > 1) or not measured.reference:
        return f"Bound (Eq. 6): {order(measured)}"
    table = measured.of("bound", rows[-1]).sort_values("bound", kind="stable")
    where = "on average over attributes" if rows[-1] == AVERAGE else f"on {plain(rows[-1])}"
    others = table[table["start"] != measured.reference]
    each = ", ".join(
        f"{row['start']} {_ratio(row) or _cell(100 * row['bound']) or 'not known'}" for _, row in others.iterrows()
    )
    seeds = f" (median and range over {measured.seeds} seeds)" if measured.seeds > 1 else " (one seed)"
    said = f"Bound {where} as a multiple of {measured.reference}'s{seeds}: {each}"
    first = table.iloc[0]
    if len(table) > 1 and np.isfinite(first["bound"]) and not np.isnan(first["lowest"]):
        said += f"; {first['start']}, the lowest, is so in {first['lowest']:.0%} of resamples of images and seeds"
    return f"{said}."


def certainty(measured: Measured) -> Figure:
    """In what share of resamples of images and seeds each start is lowest; hatched: none was, all are vacuous."""
    rows, look = _groups(measured), measured.look
    with theme():
        height = 1.1 + 0.2 * (1 + len(look.names) // 5) + 0.4 * max(1, len(rows))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        for y, name in enumerate(rows):
            _shares(axes, y, measured.of("bound", name), look.colour)
        axes.set_yticks(range(len(rows)), [label(name) for name in rows])
        axes.set_ylim(max(1, len(rows)) - 0.4, -0.6)
        axes.set_xlim(0, 100)
        axes.set_xlabel("resamples of images and seeds in which the start's bound is the lowest (%)")
        if not rows:
            nothing(axes)
        legend(figure, look, marker="s", markersize=8)
    return figure


def _shares(axes: Axes, y: int, table: pd.DataFrame, colour: dict) -> None:
    left = 0.0
    for row in table[table["lowest"] > 0].to_dict("records"):
        share = 100 * row["lowest"]
        axes.barh(y, share, left=left, height=0.66, color=colour[row["start"]], edgecolor="white", linewidth=0.5)
        if row["lowest"] >= TOLD:
            ink = "black" if np.dot(colour[row["start"]], LUMINANCE) > 0.4 else "white"
            axes.text(left + share / 2, y, f"{share:.0f}", ha="center", va="center", color=ink, fontsize=9)
        left += share
    if len(table) and left < 99.5 and table["lowest"].notna().all():
        style: Style = {"color": "none", "edgecolor": GREY, "hatch": "///", "linewidth": 0.5}
        axes.barh(y, 100 - left, left=left, height=0.66, **style)


def sureness(measured: Measured) -> str:
    """Which start is lowest most often, and for how many attributes that is beyond doubt."""
    if measured["bound"].empty:
        return NOTHING
    if len(measured.starts) == 1:
        return f"{measured.starts[0]} is the only start, so there is no order to be sure of."
    wide = measured.wide("bound", "lowest").dropna(how="all")
    if wide.empty:
        return "The table does not say how often a start is lowest."
    most, sure = wide.max(axis=1), int((wide.max(axis=1) >= SURE).sum())
    least, best = str(most.idxmin()), str(most.idxmax())
    said = f"One start is lowest in at least {SURE:.0%} of resamples for {sure} of {counted(len(wide), 'attribute')}"
    said += f" (most surely {_share(wide, best)}" + (f"; least so {_share(wide, least)})" if best != least else ")")
    average = measured.average.dropna(subset=["lowest"])
    if len(average):
        row = average.iloc[int(average["lowest"].argmax())]
        said += f"; on average over attributes {row['start']} is lowest most often, in {row['lowest']:.0%}"
    return f"{said}."


def _share(wide: pd.DataFrame, attribute: str) -> str:
    return f"{wide.loc[attribute].idxmax()} in {wide.loc[attribute].max():.0%} on {plain(attribute)}"


def numbers(measured: Measured) -> pd.DataFrame:
    """Figure 7 in numbers, by attribute and start; ratios lead."""
    beside = measured.reference
    rows = [row for name in _groups(measured) for _, row in measured.of("bound", name).iterrows()]
    cells = [
        {
            **({f"times {beside}'s, over seeds": _ratio(row), "over images": _ratio(row, "images")} if beside else {}),
            "lowest in": percent(row["lowest"]), "bound x 100, over seeds": _times100(row),
            "over its images": _times100(row, "images"), "slack of m": _cell(100 * row["bound_slack_m"]),
            "without largest": _cell(100 * row["bound_without_largest"]), "seeds": three(row["seeds"]),
            "risk": three(row["risk"]), "mean norm": three(row["curvature"]),
            "median norm": three(row["curvature_median"]), "largest norm": three(row["curvature_largest"]),
            "in float64": three(row["curvature_largest_float64"]), "g": three(row["g"]), "n": three(row["images"]),
            "m": three(row["m"]), "with it": three(row["positives"]), "not converged": percent(row["unconverged"]),
        }
        for row in rows
    ]  # fmt: skip
    keys = [(plain(row["attribute"]), row["start"]) for row in rows]
    return pd.DataFrame(cells, index=pd.MultiIndex.from_tuples(keys) if keys else None)

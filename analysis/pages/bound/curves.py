"""What the bound rests on: the theorem's assumptions, and how it moves with c, m and the choice of images.

`images` rows of the sensitivity are the bound on positive images alone, m then their number; it stands beside the
bound as it was measured.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.curvature.assumptions import largest_step
from analysis.tables.bound import Measured, between
from analysis.pages.bound.lanes import WIDTH, Lanes, legend, panels, span, tall, told
from analysis.pages.theme import INK, theme
from analysis.pages.words import counted, listed, plain

AS_MEASURED, POSITIVE = "as measured", "positive"
VARIED = {"c": "c, of the steps c/t", "m": "m, training images"}
HOLDS = {1.0: "holds", 0.0: "does not hold"}


def audit(measured: Measured) -> pd.DataFrame:
    """One row per assumption and finding, with the starts that share it."""
    table = measured["bound_audit"]
    rows = []
    for (name, found), part in table.groupby(["assumption", "found"], sort=False):
        whose = "every start" if set(part["start"]) >= set(table["start"]) else listed(list(part["start"]))
        rows.append((name, HOLDS.get(part["holds"].iloc[0], "not known"), whose, found))
    order = {name: i for i, name in enumerate(table["assumption"].unique())}
    rows.sort(key=lambda row: order[row[0]])
    return (
        pd.DataFrame(rows, columns=["assumption", "does it hold", "start", "found"])
        .set_index("assumption")
        .rename_axis(None)
    )


def assumptions(measured: Measured) -> str:
    """How many assumptions hold, and how far c is from the steps that the theorem allows."""
    table = measured["bound_audit"]
    if table.empty:
        return "Nothing was audited: bound_audit.csv has no rows."
    by = table.groupby("assumption", sort=False)["holds"]
    everyone, nobody = int(by.apply(lambda h: (h == 1).all()).sum()), int(by.apply(lambda h: (h == 0).all()).sum())
    said = (
        f"Of {counted(by.ngroups, 'assumption')}, {everyone} hold{'s' * (everyone == 1)} for every start and {nobody} "
        "for none"
    )
    return f"{said}{_steps(measured)}."


def _steps(measured: Measured) -> str:
    """c beside what the theorem allows at the largest norm seen, as `analysis.curvature.assumptions.audit` has it."""
    norms, m = measured["bound_images"].groupby("start")["norm"].max().dropna(), measured["bound"]["m"].max()
    if norms.empty or not m >= 1 or "c" not in measured.asked:
        return ""
    allowed = sorted(largest_step(float(norm), int(m)) for norm in norms)
    most = f"{allowed[0]:.1e} to {allowed[-1]:.1e}" if len(allowed) > 1 else f"{allowed[0]:.1e}"
    return f"; c is {measured.asked['c']:g}, and at most {most} would be allowed at the largest norms seen"


def sensitivity(measured: Measured, varied: str) -> Figure:
    """The bound over `c` or `m`, all else as measured: one panel per attribute."""
    table, look = _settings(measured, varied), measured.look
    finite = 100 * table["bound"][np.isfinite(table["bound"])]
    with theme():
        figure, drawn = panels(measured.attributes, VARIED[varied], "bound x 100")
        for attribute, axes in drawn.items():
            part = table[table["attribute"] == attribute]
            span(axes, table["at"], "x", log=True)
            span(axes, finite, "y", log=True)
            for start in look.names:
                own = part[(part["start"] == start) & np.isfinite(part["bound"])].sort_values("at")
                axes.plot(own["at"], 100 * own["bound"], **look.point(start, size=3.5), linewidth=1.2)
            _used(axes, measured, varied, attribute)
        legend(figure, look, [told("as measured", color=INK, linestyle=":", linewidth=1)])
    return figure


def _settings(measured: Measured, varied: str) -> pd.DataFrame:
    """The rows in which c or m is varied, `at` the setting as a number."""
    table = measured["bound_sensitivity"]
    table = table[(table["varied"] == varied) & table["start"].isin(measured.starts)]
    return table.assign(at=pd.to_numeric(table["setting"], errors="coerce").astype(float))


def _used(axes: Axes, measured: Measured, varied: str, attribute: str) -> None:
    m = measured.of("bound", attribute)["m"].max()
    value = measured.asked.get("c") if varied == "c" else m
    if value is not None and np.isfinite(value) and value > 0:
        axes.axvline(value, color=INK, linestyle=":", linewidth=1, zorder=1)


def swings(measured: Measured, varied: str) -> str:
    """Does the order of the starts depend on c or m, and how far do the bounds move?"""
    table = _settings(measured, varied)
    table = table[np.isfinite(table["bound"])]
    if table.empty:
        return f"No finite bound over {varied} is in the table."
    over = f"Over {varied} from {table['at'].min():g} to {table['at'].max():g}"
    factor = table.groupby(["attribute", "start"])["bound"].agg(lambda b: b.max() / b.min() if b.min() > 0 else np.nan)
    factor = factor.dropna()
    moved = f"single bounds move by factors of {between(factor)}"
    if len(measured.starts) == 1:
        return f"{over}, {moved}."
    lowest = table.loc[table.groupby(["attribute", "at"])["bound"].idxmin()]
    changing = lowest.groupby("attribute")["start"].nunique() > 1
    most = lowest["start"].value_counts()
    return (
        f"{over}, the lowest start changes for {int(changing.sum())} of {counted(len(changing), 'attribute')} and "
        f"{most.index[0]} is it most often ({most.iloc[0]} of {counted(len(lowest), 'case')}); {moved}."
    )


def positives(measured: Measured) -> Figure:
    """The bound on positive images alone (filled) beside that on all measured ones (hollow)."""
    table, look = _positives(measured), measured.look
    with theme():
        figure = Figure(figsize=(WIDTH, tall(measured.attributes, look)), layout="constrained")
        axes = figure.subplots()
        lanes = Lanes(axes, measured.attributes, look)
        ends = span(axes, 100 * table.to_numpy().ravel())
        for row in table.reset_index().to_dict("records"):
            start, y = row["start"], lanes.y(row["attribute"], row["start"])
            both = np.clip([100 * row[AS_MEASURED], 100 * row[POSITIVE]], *ends)
            axes.plot(both, [y, y], color=look.colour[start], linewidth=1)
            axes.plot(both[0], y, **look.point(start, hollow=True), clip_on=False)
            axes.plot(both[1], y, **look.point(start), clip_on=False)
        vacuous = "; vacuous ones at the right edge" if np.isinf(table).any(axis=None) else ""
        axes.set_xlabel(f"bound x 100{vacuous}")
        hollow = told("as measured", marker="o", markerfacecolor="none")
        legend(figure, look, [hollow, told("positive images alone", marker="o")])
    return figure


def _positives(measured: Measured) -> pd.DataFrame:
    """Bound as measured and on positive images, by start and attribute."""
    table = measured["bound_sensitivity"]
    table = table[(table["varied"] == "images") & table["start"].isin(measured.starts)]
    wide = table.drop_duplicates(["start", "attribute", "setting"])
    wide = wide.pivot(index=["start", "attribute"], columns="setting", values="bound")
    return wide.reindex(columns=[AS_MEASURED, POSITIVE]).astype(float)


def rarity(measured: Measured) -> str:
    """Is another start lowest on positive images alone?"""
    table = _positives(measured)
    known = table[table[POSITIVE].notna()]
    if known.empty:
        return "No bound on positive images alone was measured beside the others."
    lower = int((known[POSITIVE] < known[AS_MEASURED]).sum())
    said = f"On positive images alone {lower} of {counted(len(known), 'bound')} are lower"
    if len(measured.starts) > 1:
        best = [known[name].replace(np.inf, np.nan).unstack("start").dropna(how="all").idxmin(axis=1) for name in known]
        both = pd.concat(best, axis=1, join="inner")
        other = [plain(name) for name in both.index[both.iloc[:, 0] != both.iloc[:, 1]]]
        said += f", and the lowest start is another for {len(other)} of {counted(len(both), 'attribute')}"
    absent = sorted({plain(name) for _, name in table.index[table[POSITIVE].isna()]})
    return f"{said}; no measured image has {listed(absent)}." if absent else f"{said}."

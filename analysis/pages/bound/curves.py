"""How the bound moves with g, c, m and the choice of images, all else as measured.

Over g it falls, by its first factor, until a lowest point, and rises beyond it, by the power of m: more curvature may
lower or raise it.  `images` rows of the sensitivity are the bound on positive images alone, m then their number.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.curvature.stability import bounds
from analysis.pages.bound.lanes import BoundFigure, fit_axis, kind, marked, vacuous_kind
from analysis.pages.theme import INK
from analysis.tables.bound.frames import from_to
from analysis.tables.bound.tables import BoundTables
from analysis.tables.words import counted

_BEYOND = 3.0  # the curve over g is drawn to so many times the largest g
_AS_MEASURED, _POSITIVE = "as measured", "positive"


class OverG(BoundFigure):
    """Eq. 6 over one of its ingredients, with each start's place on its line: one panel per attribute."""

    varied, axis = "g", "g = mean norm + √R"
    alt = "The bound over g for every attribute with each start's place on it."

    def lines(self) -> pd.DataFrame:
        """start, attribute, at and bound, at the risk of each start; no rows where K and c are not recorded."""
        asked, known = self.tables.asked, self.table["risk"].between(0, 1) & (self.table["m"] >= 1)
        parts = [pd.DataFrame(columns=["start", "attribute", "at", "bound"], dtype=float)]
        for row in self.table[known & (self.table["images"] >= 1)].to_dict("records") if asked else []:
            norms = np.geomspace(1e-2, _BEYOND * self.table["g"].max(), 200)
            risk, m, n = np.full(len(norms), row["risk"]), int(row["m"]), int(row["images"])
            value = bounds(risk, norms, m, int(asked["sources"]), float(asked["c"]), n)
            line = {"start": row["start"], "attribute": row["attribute"], "at": norms + np.sqrt(risk), "bound": value}
            parts.append(pd.DataFrame(line))
        return pd.concat(parts, ignore_index=True)

    def draw(self) -> Figure:
        lines, places = self.lines(), self.table.assign(c=self.tables.asked.get("c", np.nan))
        turns = self.tables["bound_anatomy"].replace(np.inf, np.nan).groupby("attribute")["turns_at"].median()
        figure, drawn = self.panels(self.axis, "bound x 100")
        for attribute, axes in drawn.items():
            shown = places[self.varied] if self.varied == "g" else lines["at"]
            x = fit_axis(axes, [*shown, _BEYOND * shown.max()] if self.varied == "g" else shown, "x", log=True)
            y = fit_axis(axes, 100 * pd.concat([places["bound"], lines["bound"].clip(upper=2.0)]), "y", log=True)
            for start, line in lines[lines["attribute"] == attribute].sort_values("at").groupby("start"):
                axes.plot(line["at"], 100 * line["bound"], color=self.look.colour[str(start)], linewidth=1.3)
            for row in places[places["attribute"] == attribute].to_dict("records"):
                style = self.look.point(row["start"], hollow=bool(np.isinf(row["bound"])))
                axes.plot(np.clip(row[self.varied], *x), np.clip(100 * row["bound"], *y), **style, clip_on=False)
            marked(axes, turns.get(attribute, np.nan) if self.varied == "g" else np.nan)
        turn = kind("lowest point: the bound falls before, rises beyond", color=INK, linestyle=":", linewidth=1)
        return self.legend(figure, *[turn] * (self.varied == "g"), *vacuous_kind(places["bound"]))

    def reading(self) -> str:
        """How many starts stand where more curvature raises the bound, and how many where it lowers it."""
        table = self.tables["bound_anatomy"]
        known = table[np.isfinite(table["bound"]) & table["g"].notna() & table["turns_at"].notna()]
        beyond, vacuous = int((known["g"] > known["turns_at"]).sum()), int(np.isinf(table["bound"]).sum())
        said = f"More curvature would raise {beyond} of {counted(len(table), 'bound')} and lower {len(known) - beyond}"
        return f"{said}; {vacuous} are vacuous." if vacuous else f"{said}."


class OverC(OverG):
    """The same over c, from the table of the sensitivity."""

    varied, axis = "c", "c, of the steps c/t"
    alt = "The bound of every start over c, per attribute."

    def lines(self) -> pd.DataFrame:
        table = self.tables["bound_sensitivity"]
        table = table[(table["varied"] == self.varied) & np.isfinite(table["bound"])]
        return table.assign(at=pd.to_numeric(table["setting"], errors="coerce").astype(float))

    def reading(self) -> str:
        """Does the order of the starts depend on it?"""
        table = self.lines()
        lowest = table.loc[table.groupby(["attribute", "at"])["bound"].idxmin()]
        changing = lowest.groupby("attribute")["start"].nunique() > 1
        number = f"{changing.sum()} of {counted(len(changing), 'attribute')}"
        return f"Over {self.varied} from {from_to(table['at'])}, the lowest start changes for {number}."


class OverM(OverC):
    """The same over m."""

    varied, axis = "m", "m, training images"
    alt = "The bound of every start over m, per attribute."


class Positives(BoundFigure):
    """The bound on positive images alone (filled) beside that on all measured ones (hollow)."""

    of = "bound_sensitivity"
    alt = "The bound on positive images alone beside the bound as measured."

    def __init__(self, tables: BoundTables) -> None:
        super().__init__(tables)
        table = self.table[self.table["varied"] == "images"].drop_duplicates(["start", "attribute", "setting"])
        wide = table.pivot(index=["attribute", "start"], columns="setting", values="bound")
        self.both = wide.reindex(columns=[_AS_MEASURED, _POSITIVE]).astype(float)

    def draw(self) -> Figure:
        (lanes,), table = self.lanes(), self.both.reset_index()
        lanes.fit(100 * self.both.to_numpy().ravel())
        for row, y, colour in lanes.rows(table):
            both = np.clip([100 * row[_AS_MEASURED], 100 * row[_POSITIVE]], *lanes.ends)
            lanes.axes.plot(both, [y, y], color=colour, linewidth=1)
        lanes.points(table, _AS_MEASURED, hollow=True, times=100)
        lanes.points(table, _POSITIVE, times=100)
        lanes.axes.set_xlabel("bound x 100, vacuous ones at the right edge")
        hollow = kind("as measured", marker="o", markerfacecolor="none")
        return self.legend(lanes.figure, hollow, kind("positive images alone", marker="o"))

    def reading(self) -> str:
        """Is another start lowest on positive images alone?"""
        known = self.both[self.both[_POSITIVE].notna()]
        lower = int((known[_POSITIVE] < known[_AS_MEASURED]).sum())
        best = [known[name].replace(np.inf, np.nan).unstack("start").dropna(how="all").idxmin(axis=1) for name in known]
        both = pd.concat(best, axis=1, join="inner")
        other = int((both.iloc[:, 0] != both.iloc[:, 1]).sum())
        said = f"On positive images alone {lower} of {counted(len(known), 'bound')} are lower"
        return f"{said}, and the lowest start is another for {other} of {counted(len(both), 'attribute')}."

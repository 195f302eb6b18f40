"""What the bound's tables come to: why which start is lowest, how many assumptions hold, and the starts' measured Dice.

A low bound is no support for a start by itself: Eq. 6 falls with curvature up to a point, so that a start may be lowest
*because* it is sharper.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.curvature.stability import largest_step
from analysis.tables.bound.frames import from_to
from analysis.tables.bound.tables import BoundTables
from analysis.tables.read import read_about, read_csv
from analysis.tables.words import counted, listed, plain
from tatl.names import AVERAGE, ENSEMBLE

# The rows of other studies that are trained from a start, on whole images and on crops.
_ROWS = {False: {"stage3": "source", "stage23": "tatl"}, True: {"stage13": "source", "stage123": "tatl"}}
_STUDIES = {"paradigms": "paradigms.json", "variants": "study.json"}
_SAME = ("store_digest", "source", "backbone")


@dataclass(frozen=True)
class Verdict:
    """Sentences on the tables of one folder, and the Dice of the same starts from the studies' tables beside them."""

    tables: BoundTables

    def __str__(self) -> str:
        return " ".join([self.why(), self.assumptions(), self.scores()])

    @cached_property
    def ranking(self) -> pd.Series:
        """Bounds by start, lowest first: on average, or else the geometric mean over the attributes."""
        average = self.tables.average.set_index("start")["bound"].replace(np.inf, np.nan)
        found = average if len(average) else np.exp(self.tables.wide("bound", "bound").map(np.log).mean(skipna=False))
        return found.dropna().sort_values(kind="stable")

    def why(self) -> str:
        """Which start is lowest, and whether for its risk or for its curvature."""
        tables, ranking = self.tables, self.ranking
        if tables["bound"].empty:
            return "Nothing was measured: bound.csv has no rows of these attributes."
        if len(tables.starts) == 1:
            return f"{tables.starts[0]} is the only start: there is nothing to compare its bound with."
        if ranking.empty:
            return f"No start has a finite bound ({counted(len(tables['bound']), 'row')}): none can be called lower."
        best = str(ranking.index[0])
        return f"{best} has the lowest bound {self._where(best)}{self._cause()}."

    def _where(self, best: str) -> str:
        of = self.tables.groups[-1]
        if of != AVERAGE and len(self.tables.groups) > 1:
            return f"in the geometric mean over {len(self.tables.groups)} attributes"
        lowest = self.tables.rows.set_index(["attribute", "start"])["lowest"][of, best]
        over = "images and seeds" if self.tables.seeds > 1 else "images (one seed)"
        sure = "" if np.isnan(lowest) else f", in {lowest:.0%} of resamples of {over}"
        return f"{'on average over attributes' if of == AVERAGE else f'on {plain(of)}'}{sure}"

    def _cause(self) -> str:
        """By risk or by curvature, of the lowest start against the reference, or of the next one where that is it."""
        tables, beside = self.tables, self.tables.reference
        keys, others = ["start", "attribute"], self.ranking.drop(beside, errors="ignore").index
        rows = tables.compared.merge(tables.relative[[*keys, "risk", "curvature"]], on=keys)
        rows = rows[rows["start"].isin(others[:1])]
        if rows.empty or not beside:
            return ""
        curved = int((rows["by_curvature"].abs() > rows["by_risk"].abs()).sum())
        name, number = ("curvature", curved) if 2 * curved >= len(rows) else ("risk", len(rows) - curved)
        sharper = int(((rows["curvature"] > 1) & (rows["by_curvature"] < 0)).sum())
        said = (
            f". Against {beside}, {name} makes most of {others[0]}'s difference for {number} of "
            f"{counted(len(rows), 'attribute')}: its mean norm is {from_to(rows['curvature'])} times {beside}'s, its "
            f"risk {from_to(rows['risk'])} times"
        )
        return f"{said}; for {sharper} its bound is lower because it is sharper" if sharper else said

    def assumptions(self) -> str:
        """How many assumptions of the theorem hold for every start."""
        table = self.tables["bound_audit"]
        if table.empty:
            return "Nothing was audited: bound_audit.csv has no rows."
        holds = table.groupby("assumption", sort=False)["holds"].apply(lambda h: bool((h == 1).all()))
        number = int(holds.sum())
        return f"{number} of {counted(len(holds), 'assumption')} of the theorem hold{'s' * (number == 1)}."

    def steps(self) -> str:
        """c beside what the theorem allows at the largest norm seen of each start."""
        tables, m = self.tables, self.tables["bound"]["m"].max()
        norms = tables["bound_images"].groupby("start")["norm"].max().dropna()
        if norms.empty or not m >= 1 or "c" not in tables.asked:
            return "Which c the theorem allows is not known."
        allowed = sorted(largest_step(float(norm), int(m)) for norm in norms)
        most = " to ".join(dict.fromkeys(f"{step:.1e}" for step in (allowed[0], allowed[-1])))
        return f"c is {tables.asked['c']:g}, and at most {most} would be allowed at the largest norms seen."

    def scores(self) -> str:
        """The measured Dice of the same starts, or the command that measures it."""
        dice, ranking = self.dice, self.ranking
        if dice.empty:
            command = self.tables.command("python -m tatl study paradigms")
            return f"Dice of these starts was not measured on this store: `{command}` does it."
        each = listed([f"{start} {value:.3f}" for start, value in dice.sort_values(ascending=False).items()])
        said, best = f"Measured Dice ({dice.name}): {each}", next(iter(ranking.index), "")
        if best not in dice.index:
            return f"{said}."
        place = int((dice > dice[best]).sum()) + 1
        return f"{said}; {best}, whose bound is lowest, is number {place} of {len(dice)} (no interval: undecided)."

    @cached_property
    def dice(self) -> pd.Series:
        """Mean Dice over the shown attributes that were scored, by start; the name says from where; may be empty."""
        found = [self._dice(study, about) for study, about in _STUDIES.items()]
        return max(found, key=len)

    def _dice(self, study: str, about: str) -> pd.Series:
        path, tables, none = self.tables.folder / f"{study}.csv", self.tables, pd.Series(dtype=float)
        try:
            told = read_about(path.with_name(about), "")
            table = read_csv(path, ["variant", "shape", "attribute", "dice"], "")
        except (FileNotFoundError, ValueError):
            return none
        shape = tables.about.get("shape") if tables.about.get("shape") in set(table["shape"]) else ENSEMBLE
        crop = bool(tables.about.get("crop"))
        rows = _ROWS[crop] | ({} if crop else {name: name for name in tables.starts})
        table = table.assign(start=table["variant"].map(rows), dice=pd.to_numeric(table["dice"], errors="coerce"))
        own = table[(table["shape"] == shape) & table["start"].isin(tables.starts)]
        own = own[own["attribute"].isin(tables.attributes)]
        wide = own.pivot_table(index="attribute", columns="start", values="dice").dropna()
        if wide.empty or any(told.get(name) != tables.about.get(name) for name in _SAME):
            return none
        over = listed([plain(name) for name in tables.attributes if name in wide.index])
        return wide.mean().reindex(tables.starts).dropna().rename(f"{path.name}, {over}")

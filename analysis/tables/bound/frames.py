"""What a terminal and a page show of the bound's tables: frames of words, a row per attribute and start.

A bound is shown x 100, as the paper does; it stands inside an O(.), so its multiple of a reference's leads.  Blank is
not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.bound.tables import BoundTables
from analysis.tables.words import listed, plain

MEANINGS = {
    "bound x 100": "Eq. 6, up to an unknown constant: read ratios, of the network with the median bound of its seeds",
    "lowest in": "share of resamples of images and seeds in which this start's bound is the lowest",
    "over images": "where 95 % of the resamples of its images lie: a spread, not a confidence interval",
    "slack of m": "the bound with the paper's slack, m^(-1/4) for n^(-1/4)",
    "without largest": "the bound without the image of the largest norm",
    "in float64": "the largest norm solved again in double precision",
    "n": "images measured",
    "m": "training images that they stand for",
    "with it": "of the n, those that show the attribute",
    "not converged": "share of norms that are estimates from below",
    "g": "mean norm + sqrt(risk)",
    "g-": "g - n^(-1/4); the bound is vacuous where it is not above 0",
    "more g": "whether more curvature would raise or lower this bound",
    "lowest at g": "the g at which this start's bound would be lowest",
    "stability": "1 + 1/(c g-)",
    "fit": "risk^e",
    "candidates": "sqrt(log K) of the K starts to choose from",
    "sample": "m^(e-1): what m training images are worth",
    "by risk": "the multiple if the risk alone differed",
    "by curvature": "the multiple if the mean norm alone differed; both multiply to the whole",
    "|v|": "how far fine-tuning went from the start",
    "mean": "mean of v^T H v over images",
    "negative": "share of images in which it is negative",
}  # fmt: skip
_HOLDS = {1.0: "holds", 0.0: "does not hold"}


def explained(frame: pd.DataFrame) -> str:
    """What the columns of a frame mean that do not say it themselves."""
    return "; ".join(f"{name}: {MEANINGS[name]}" for name in frame.columns if name in MEANINGS)


def three(value: float) -> str:
    """Three digits; blank where nothing is known."""
    return "" if np.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def from_to(values: pd.Series | np.ndarray) -> str:
    """0.74 to 1.02; one number where the ends do not differ in three digits."""
    known = np.asarray(values, float)[~np.isnan(np.asarray(values, float))]
    if not len(known):
        return "not known"
    low, high = three(float(known.min())), three(float(known.max()))
    return low if low == high else f"{low} to {high}"


def _percent(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.0%}"


def _hundredfold(value: float) -> str:
    return "vacuous" if np.isinf(value) else three(100 * value)


_FORMS: dict[str, Callable[[Any], str]] = {  # how a column is shown; others have three digits
    **dict.fromkeys(("bound", "bound_seeds", "bound_images", "bound_slack_m", "bound_without_largest"), _hundredfold),
    **dict.fromkeys(("lowest", "unconverged", "negative"), _percent),
    "more": str,
    "converged": lambda flag: {1.0: "yes", 0.0: "no"}.get(flag, ""),
}


def _frame(table: pd.DataFrame, titles: dict[str, str]) -> pd.DataFrame:
    """Cells of words by attribute and start of the columns that titles are given to."""
    cells = {title: np.asarray(_column(table, name), dtype=object) for title, name in titles.items()}
    keys = pd.MultiIndex.from_arrays([table["attribute"].map(plain), table["start"]], names=[None, None])
    return pd.DataFrame(cells, index=keys)


def _column(table: pd.DataFrame, name: str) -> list[str]:
    """A column in words; of its ends (<name>_low, <name>_high) 0.52 to 1.20."""
    form = _FORMS.get(name, three)
    if name in table:
        return list(table[name].map(form))
    ends = [(form(low), form(high)) for low, high in table[[f"{name}_low", f"{name}_high"]].to_numpy()]
    return ["" if "" in pair else " to ".join(dict.fromkeys(pair)) for pair in ends]


@dataclass(frozen=True)
class BoundFrames:
    """The frames of one folder's tables."""

    tables: BoundTables

    def bounds(self) -> pd.DataFrame:
        """Figure 7 in numbers; ranges over seeds only where there are several."""
        beside = self.tables.reference
        titles = {f"times {beside}'s": "ratio", "ratio over seeds": "ratio_seeds", "ratio over images": "ratio_images"}
        titles = titles | {"lowest in": "lowest"} if beside else {}
        titles |= {"bound x 100": "bound", "over seeds": "bound_seeds", "over images": "bound_images"}
        titles |= {"slack of m": "bound_slack_m", "without largest": "bound_without_largest"}
        of_seeds = ["ratio over seeds", "over seeds"] if self.tables.seeds < 2 else []
        return _frame(self.tables.rows, titles).drop(columns=of_seeds, errors="ignore")

    def measured(self) -> pd.DataFrame:
        """Risk and norms, which the bounds are of."""
        return _frame(self.tables.rows, {
            "risk": "risk", "mean norm": "curvature", "median norm": "curvature_median",
            "largest norm": "curvature_largest", "in float64": "curvature_largest_float64", "n": "images", "m": "m",
            "with it": "positives", "not converged": "unconverged",
        })  # fmt: skip

    def factors(self) -> pd.DataFrame:
        """Eq. 6 taken apart: bound = stability x fit x candidates x sample, and its multiple by risk and curvature."""
        table = self.tables["bound_anatomy"]
        images = table.merge(self.tables["bound"], on=["start", "attribute"], how="left")["images"]
        rising = np.where(table["g"] > table["turns_at"], "raises", "lowers")
        known = np.isfinite(table["bound"]) & table["turns_at"].notna()
        split = _split(self.tables.reference)
        table = table.assign(g_minus=table["g"] - images**-0.25, more=np.where(known, rising, ""))
        table["turns_at"] = table["turns_at"].replace(np.inf, np.nan)
        table[list(split.values())] = np.exp(table[list(split.values())])
        titles = {"g": "g", "g-": "g_minus", "more g": "more", "lowest at g": "turns_at"}
        titles |= {name: name for name in ("stability", "fit", "candidates", "sample")}
        return _frame(table, titles | {"bound x 100": "bound"} | split)

    def audit(self) -> pd.DataFrame:
        """One row per assumption and finding, with the starts that share it."""
        table = self.tables["bound_audit"]
        groups = table.groupby(["assumption", "found"], sort=False)
        whose = groups["start"].agg(lambda own: "every start" if set(own) >= set(table["start"]) else listed(list(own)))
        holds = groups["holds"].first().map(_HOLDS).fillna("not known")
        frame = pd.DataFrame({"does it hold": holds, "start": whose}).reset_index("found")
        return frame.loc[table["assumption"].unique(), ["does it hold", "start", "found"]].rename_axis(None)

    def distances(self) -> pd.DataFrame:
        """The Hessian distance of fine-tuned networks (Ju, Li & Zhang 2022): v^T H v, v the way from the start."""
        titles = {"m": "m", "|v|": "length", "mean": "mean", "largest": "largest", "sqrt(largest/m)": "measure"}
        return _frame(self.tables["bound_distance"], titles | {"negative": "negative"})

    def summary(self, dice: pd.Series) -> pd.DataFrame:
        """A row per start: the bound on average, its multiple of the reference's over attributes, and measured Dice."""
        tables, beside = self.tables, self.tables.reference
        whole = tables.average.set_index("start")
        cells: dict[str, pd.Series] = {"measured Dice": dice.map("{:.3f}".format)} if len(dice) else {}
        if len(whole):
            cells |= {"bound x 100": whole["bound"].map(_hundredfold), "lowest in": whole["lowest"].map(_percent)}
        if beside:
            means = tables["bound_anatomy"].groupby("start")[list(_split(beside).values())].mean()
            cells |= {title: np.exp(means[name]).map(three) for title, name in _split(beside).items()}
            norms = np.log(tables.relative.set_index("start")["curvature"].replace(0, np.nan)).groupby("start").mean()
            cells["mean norm"] = np.exp(norms).map(three)
        return pd.DataFrame(cells, index=pd.Index(tables.starts, name=None)).fillna("")


def spectra_frame(table: pd.DataFrame) -> pd.DataFrame:
    """Trace and leading eigenvalues of the Hessian of the mean loss, of spectrum.csv."""
    titles = {"loss": "loss", "trace": "trace", "± of trace": "trace_error"}
    titles |= {f"eigenvalue {name[3:]}": name for name in map(str, table) if name.startswith("top")}
    return _frame(table, titles | {"converged": "converged"})


def _split(reference: str) -> dict[str, str]:
    """The columns of the anatomy that compare with a reference; none without one."""
    titles = {f"times {reference}'s": "log_ratio", "by risk": "by_risk", "by curvature": "by_curvature"}
    return titles if reference else {}

"""What a terminal and a page show of the bound's tables: frames of words, a row per attribute and start.

A bound is shown x 100, as the paper does; it stands inside an O(.), so its multiple of a reference's leads.  Blank is
not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.tables.bound import BoundTables
from analysis.tables.words import listed, plain

MEANINGS = {
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


def _span(table: pd.DataFrame, name: str, form: Callable[[float], str]) -> list[str]:
    """0.52 to 1.20 of <name>_low and <name>_high; one number where they are alike, blank where an end is not known."""
    ends = [(form(low), form(high)) for low, high in table[[f"{name}_low", f"{name}_high"]].to_numpy()]
    return ["" if "" in pair else pair[0] if pair[0] == pair[1] else " to ".join(pair) for pair in ends]


@dataclass(frozen=True)
class BoundFrames:
    """The frames of one folder's tables."""

    tables: BoundTables

    def bounds(self) -> pd.DataFrame:
        """Figure 7 in numbers; ranges over seeds only where there are several."""
        table, beside = self.tables.rows, self.tables.reference
        cells: dict[str, object] = {}
        if beside:
            cells |= {f"times {beside}'s": table["ratio"].map(three), "its seeds": _span(table, "ratio_seeds", three)}
            cells |= {"its images": _span(table, "ratio_images", three), "lowest in": table["lowest"].map(_percent)}
        cells |= {
            "bound x 100": table["bound"].map(_hundredfold),
            "over seeds": _span(table, "bound_seeds", _hundredfold),
        }
        cells["over images"] = _span(table, "bound_images", _hundredfold)
        cells["slack of m"] = table["bound_slack_m"].map(_hundredfold)
        cells["without largest"] = table["bound_without_largest"].map(_hundredfold)
        frame = self._frame(table, cells)
        return frame if self.tables.seeds > 1 else frame.drop(columns=["its seeds", "over seeds"], errors="ignore")

    def measured(self) -> pd.DataFrame:
        """Risk and norms, which the bounds are of."""
        names = {"risk": "risk", "curvature": "mean norm", "curvature_median": "median norm"}
        names |= {
            "curvature_largest": "largest norm",
            "curvature_largest_float64": "in float64",
            "images": "n",
            "m": "m",
        }
        names |= {"positives": "with it"}
        table = self.tables.rows
        cells: dict[str, object] = {title: table[name].map(three) for name, title in names.items()}
        return self._frame(table, cells | {"not converged": table["unconverged"].map(_percent)})

    def factors(self) -> pd.DataFrame:
        """Eq. 6 taken apart: bound = stability x fit x candidates x sample, and its multiple by risk and curvature."""
        table, beside = self.tables["bound_anatomy"], self.tables.reference
        images = table.merge(self.tables["bound"], on=["start", "attribute"], how="left")["images"]
        rising = np.where(table["g"] > table["turns_at"], "raises", "lowers")
        known = np.isfinite(table["bound"]) & table["turns_at"].notna()
        cells: dict[str, object] = {"g": table["g"].map(three), "g-": (table["g"] - images**-0.25).map(three)}
        cells |= {
            "more g": np.where(known, rising, ""),
            "lowest at g": table["turns_at"].replace(np.inf, np.nan).map(three),
        }
        cells |= {name: table[name].map(three) for name in ("stability", "fit", "candidates", "sample")}
        cells["bound x 100"] = table["bound"].map(_hundredfold)
        if beside:
            split = {f"times {beside}'s": "log_ratio", "by risk": "by_risk", "by curvature": "by_curvature"}
            cells |= {title: np.exp(table[name]).map(three) for title, name in split.items()}
        return self._frame(table, cells)

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
        table = self.tables["bound_distance"]
        names = {"m": "m", "length": "|v|", "mean": "mean", "largest": "largest", "measure": "sqrt(largest/m)"}
        cells: dict[str, object] = {title: table[name].map(three) for name, title in names.items()}
        return self._frame(table, cells | {"negative": table["negative"].map(_percent)})

    def spectra(self) -> pd.DataFrame:
        """Trace and leading eigenvalues of the Hessian of the mean loss."""
        table = self.tables["spectrum"]
        trace = zip(table["trace"].map(three), table["trace_error"].map(three), strict=True)
        cells: dict[str, object] = {"loss": table["loss"].map(three), "trace": [" ± ".join(pair) for pair in trace]}
        tops = [name for name in map(str, table) if name.startswith("top")]
        cells |= {f"eigenvalue {name[3:]}": table[name].map(three) for name in tops}
        return self._frame(table, cells | {"converged": table["converged"].map({1.0: "yes", 0.0: "no"}).fillna("")})

    def summary(self, dice: pd.Series) -> pd.DataFrame:
        """A row per start: the bound on average, its multiple of the reference's over attributes, and measured Dice."""
        tables, beside = self.tables, self.tables.reference
        whole = tables.average.set_index("start")
        cells: dict[str, pd.Series] = {}
        if len(whole):
            cells |= {"bound x 100": whole["bound"].map(_hundredfold), "lowest in": whole["lowest"].map(_percent)}
        if beside:
            split = {f"times {beside}'s": "log_ratio", "by risk": "by_risk", "by curvature": "by_curvature"}
            means = tables["bound_anatomy"].groupby("start")[list(split.values())].mean()
            cells |= {title: np.exp(means[name]).map(three) for title, name in split.items()}
            norms = np.log(tables.relative.set_index("start")["curvature"].replace(0, np.nan)).groupby("start").mean()
            cells["mean norm"] = np.exp(norms).map(three)
        if len(dice):
            cells["measured Dice"] = dice.map("{:.3f}".format)
        return pd.DataFrame(cells, index=pd.Index(tables.starts, name=None)).fillna("")

    def _frame(self, table: pd.DataFrame, cells: dict[str, object]) -> pd.DataFrame:
        keys = pd.MultiIndex.from_arrays([table["attribute"].map(plain), table["start"]], names=[None, None])
        return pd.DataFrame({name: np.asarray(values, dtype=object) for name, values in cells.items()}, index=keys)

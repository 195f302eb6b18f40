"""Measured stability beside what may predict it: joined, ranked within environments, said, and what it decides.

Starts are compared within an environment: a data set, attribute, m, c, seed, fold (`analysis.tables.predictors`).
Eq. 6 and the first-order baseline c H_m / m tr Cov are taken at each environment's c and m.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.curvature.stability import bound, first_order
from analysis.tables.bound.tables import origin_line
from analysis.tables.claims import CONTRADICTED, SUPPORTED
from analysis.tables.effect import FEWEST_TRAININGS, LEVEL, UNDECIDED
from analysis.tables.paper import Origin
from analysis.tables.predictors import FEWEST_FORKS, rank_predictors
from analysis.tables.read import attributes_asked, ordered, read_about, read_optional, read_table
from analysis.tables.words import counted, listed
from tatl.names import BOUND_STARTS, CONTEXT, ROTATION

STABILITY_COMMAND = "python -m analysis.stability --init all --predictors"
ENVIRONMENT = ("data", "attribute", "m", "c", "seed", "fold")
PRETRAINED = (ROTATION, CONTEXT, "tatl")  # on the training images of the fold, which passes are over
_KEYS = ["start", "attribute", "seed", "fold"]
BOUND, RISK, NOISE = "bound", "risk", "first_order"
BASELINES = (RISK, NOISE)
PREDICTORS = {  # each the larger the less stable a start should be; what a page and a terminal call it
    BOUND: "Eq. 6",
    RISK: "risk",
    NOISE: "gradient noise",
    "gradient_norm": "gradient norm",
    "curvature": "mean norm",
    "curvature_median": "median norm",
    "curvature_trimmed": "trimmed norm",
    "scaled_curvature": "mean ‖DHD‖",
    "trace": "trace",
    "feature_distance": "feature distance",
    "path": "vᵀHv, trained",
    "curvature_trained": "mean norm, trained",
}
TRAINED = ("path", "curvature_trained")  # of these, what is known after training alone
STABILITY_COLUMNS = {
    "stability": [
        *_KEYS, "c", "m", "share", "forks", "stability", "error", "largest", "gap", "gap_error", "risk_before",
        "train_risk", "held_risk", "moved", "diverged_at",
    ],
    "stability_predictors": [*_KEYS[:-1], "images", "risk", "curvature"],
    "stability_forks": [*_KEYS[:-1], "c", "m", "step", "fresh_difference", "replaced_difference"],
}  # fmt: skip
RECIPE = "stability_recipe"  # of the recipe that people train by; where it was asked for
_RECIPE_COLUMNS = ["start", "attribute", "runs", "images", "stability", "error", "gap", "gap_error"]


def beside_predictors(stability: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """stability.csv with the columns of stability_predictors.csv, and `bound` and `first_order` at each c and m."""
    same = [name for name in known if name not in stability or name in _KEYS]
    table = stability.merge(known[same], on=_KEYS, how="left", validate="m:1")
    noise = table.get("gradient_noise", pd.Series(np.nan, table.index))
    bounds = [_bound(row) for _, row in table.iterrows()]
    slopes = [first_order(trace, int(m), c) for trace, m, c in zip(noise, table["m"], table["c"], strict=True)]
    return table.assign(bound=bounds, first_order=slopes)


def _bound(row: pd.Series) -> float:
    """Eq. 6, infinite where vacuous; NaN where something of it is not known."""
    if row[["risk", "curvature", "images", "c", "m"]].isna().any():
        return np.nan
    m = int(row["m"])
    return bound(row["risk"], row["curvature"], m, c=row["c"], n=min(int(row["images"]), m)).value


def stability_ranks(stability: pd.DataFrame, known: pd.DataFrame, forks: pd.DataFrame | None = None) -> pd.DataFrame:
    """Which predictor ranks starts as their measured stability does: the rows of `rank_predictors`, best first.

    With the `forks` of stability_forks.csv, which starts share, two starts are compared fork by fork.
    """
    table = beside_predictors(stability, known)
    there = [name for name in PREDICTORS if name in table and table[name].notna().any()]
    environment = [name for name in ENVIRONMENT if name in table]
    return rank_predictors(table, there, environment, forks=_paired(stability, forks, environment))


def _paired(stability: pd.DataFrame, forks: pd.DataFrame | None, environment: list[str]) -> dict[Any, pd.DataFrame]:
    """By environment what each fork adds to the stability of each start, a column a start."""
    if forks is None or "weight" not in forks or forks.empty:
        return {}
    keys = [*_KEYS, "c", "m"]
    table = forks.merge(stability[list(dict.fromkeys([*keys, *environment]))], on=keys)
    table = table.assign(each=table["weight"] * table["fresh_difference"])
    table = table.assign(turn=table.groupby([*keys, "step"]).cumcount())
    groups = table.groupby(environment, dropna=False)
    return {key: part.pivot(index=["step", "turn"], columns="start", values="each") for key, part in groups}


def ranks_text(ranks: pd.DataFrame) -> str:
    """The table in a terminal, and what it says."""
    counts = ["environments", "groups", "left_out", "untested"]
    shown = ranks.assign(predictor=ranks["predictor"].map(PREDICTORS)).drop(columns=counts)
    text = shown.to_string(index=False, float_format="%.2f", na_rep="-")
    return "\n".join([text, said_of(ranks), *([tried(ranks), pooled(ranks)] if len(ranks) else [])])


def said_of(ranks: pd.DataFrame) -> str:
    """Which predictor ranks best and worst, and Eq. 6 and its baselines where they are neither: one sentence."""
    known = ranks.dropna(subset="sign_error")
    if known.empty and not ranks[["left_out", "untested"]].to_numpy().any():
        return "One start cannot be ranked: measure two or more."
    if known.empty:
        return "No two starts differ in stability by more than its noise: more forks are needed."
    best, worst = known.iloc[0], known.iloc[-1]
    said = f"Of {_number(ranks)}, of which a coin errs in .50, {_errs(best)} ranks stability best, {_errs(worst)} worst"
    rest = known.iloc[1:-1].set_index("predictor", drop=False).reindex([BOUND, *BASELINES]).dropna(subset="predictor")
    return f"{'; beside them '.join([said, *filter(None, [listed([_errs(row) for _, row in rest.iterrows()])])])}."


def _number(ranks: pd.DataFrame) -> str:
    """15 pairs of starts in 7 environments."""
    return f"{counted(ranks['pairs'].max(), 'pair')} of starts in {counted(ranks['environments'].max(), 'environment')}"


def _errs(row: pd.Series) -> str:
    """Eq. 6 (errs .42, at worst .60)."""
    error, worst = (f"{row[name]:.2f}".removeprefix("0") for name in ("sign_error", "worst"))
    return f"{PREDICTORS[row['predictor']]} (errs {error}, at worst {worst})"


def tried(ranks: pd.DataFrame) -> str:
    """How many predictors were tried, on what, and what p is of."""
    left, untested = int(ranks["left_out"].max()), int(ranks["untested"].max())
    few = f", {untested} have fewer than {FEWEST_FORKS} forks, too few to tell" if untested else ""
    return (
        f"{counted(len(ranks), 'predictor')} were tried on {_number(ranks)} ({left} pairs are inside the noise{few}). "
        "p is the share of orders of the starts' names, the same in every environment, under which a predictor errs as "
        f"little, p wrong that under which it errs as much; of the best of all p would have to be below "
        f"{0.05 / max(len(ranks), 1):.4f}, and of five starts none can be below .0083. Environments are drawn again "
        "(95 % from resampled_low to resampled_high), not starts: these intervals are of the starts that were measured."
    )


def pooled(ranks: pd.DataFrame) -> str:
    """The trap: what known before training looks better by most where all rows are thrown together."""
    known = ranks[~ranks["predictor"].isin(TRAINED)].dropna(subset=["pooled", "tau"])
    if known.empty:
        return ""
    first = known.iloc[int((known["pooled"] - known["tau"]).argmax())]
    taus = f"Kendall's tau {first['pooled']:+.2f} and {first['tau']:+.2f} within environments"
    why = "pooling is a trap, as it asks about m and c and not about starts"
    return f"Pooled over m and c, {PREDICTORS[first['predictor']]} has {taus}: {why}."


def decided(ranks: pd.DataFrame) -> tuple[str, str, str]:
    """Does Eq. 6 explain stability?  The word, what it rests on and what would decide, by `BOUND_RULES`."""
    own = ranks[(ranks["predictor"] == BOUND) & (ranks["pairs"] > 0)]
    if own.empty:
        return UNDECIDED, "by measured stability no pair of starts is told apart", "more forks"
    row, others = own.iloc[0], ranks[ranks["predictor"].isin(BASELINES)].dropna(subset="sign_error")
    ends = f"{row['sign_error']:.2f} ({row['resampled_low']:.2f} to {row['resampled_high']:.2f})"
    beside = [f"{PREDICTORS[name]} {error:.2f}" for name, error in others[["predictor", "sign_error"]].to_numpy()]
    chance = f"p {row['p']:.3f}, p wrong {row['p_wrong']:.3f}"
    facts = [f"sign error {ends} of {counted(row['pairs'], 'pair')} of starts", chance, *beside]
    said = f"by measured stability, {', '.join(facts)}"
    if row["groups"] < FEWEST_TRAININGS:
        return UNDECIDED, said, f"{FEWEST_TRAININGS} attributes times seeds"
    if row["p_wrong"] <= 1 - LEVEL:
        return CONTRADICTED, said, ""
    lacks = {
        "an order that chance does not make": not row["p"] <= 1 - LEVEL,
        "gradient noise and risk beside it": len(others) < len(BASELINES),
        "an error no larger than theirs": bool((others["sign_error"] < row["sign_error"]).any()),
    }
    needs = " and ".join(what for what, so in lacks.items() if so)
    return (UNDECIDED, said, needs) if needs else (SUPPORTED, said, "")


@dataclass(frozen=True)
class StabilityTables(Origin):
    """The tables of `python -m analysis.stability` in a folder, by the names of their files."""

    folder: Path
    about: dict[str, Any]
    attributes: list[str]
    tables: dict[str, pd.DataFrame]

    @classmethod
    def read(cls, folder: str | Path, attributes: str = "", dataset: str = "") -> StabilityTables:
        """Read a folder; arguments and errors are those of `BoundTables.read`."""
        folder = Path(folder).expanduser().resolve()
        about = read_about(folder / "stability.json", STABILITY_COMMAND) | ({"label": dataset} if dataset else {})
        tables = {n: read_table(folder / f"{n}.csv", of, STABILITY_COMMAND) for n, of in STABILITY_COLUMNS.items()}
        tables = {n: table if "fold" in table else table.assign(fold=about["fold"]) for n, table in tables.items()}
        tables[RECIPE] = read_optional(folder / f"{RECIPE}.csv", _RECIPE_COLUMNS, STABILITY_COMMAND)
        measured = list(dict.fromkeys(tables["stability"]["attribute"]))
        asked = attributes_asked(attributes, measured, folder)
        tables |= {n: table[table["attribute"].isin(asked)] for n, table in tables.items() if "attribute" in table}
        tables["stability_ranks"] = stability_ranks(*(tables[name] for name in STABILITY_COLUMNS))
        return cls(folder, about, asked, tables)

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.tables[name]

    @cached_property
    def starts(self) -> list[str]:
        return ordered(self["stability"]["start"], BOUND_STARTS)

    @cached_property
    def c(self) -> float:
        """The c that is shown: of those at which most starts were measured that of the largest stability.

        Where c is small hardly anything moves, and where it is large a few steps end at predicting nothing.
        """
        known = self["stability"].dropna(subset=["c", "stability"])
        table = known.assign(size=known["stability"].abs()).groupby("c").agg({"start": "nunique", "size": "median"})
        return float(table.sort_values(["start", "size"]).index[-1]) if len(table) else np.nan

    @cached_property
    def shown(self) -> pd.DataFrame:
        """All rows at that c and the largest share of the images, with the predictors beside them.

        `gap` is what training opened: less what held-out and training images differed by before.
        """
        table = beside_predictors(self["stability"], self["stability_predictors"])
        table = table.assign(gap=table["gap"] - table.get("gap_before", 0))
        whole = table["share"] == table["share"].max()
        return table[(table["c"] == self.c) & whole & table["stability"].notna()]

    @cached_property
    def points(self) -> pd.DataFrame:
        """Means of these per start and attribute over seeds and folds, with errors as if folds shared no images."""
        groups = self.shown.groupby(["start", "attribute"], sort=False)
        means, count = groups.mean(numeric_only=True), groups.size()
        for of, error in (("stability", "error"), ("gap", "gap_error")):
            own = groups[error].agg(lambda each: np.sqrt((each**2).sum()) / len(each))
            means[error] = (groups[of].std() / np.sqrt(count)).where(count > 1, own)
        return means.reset_index()

    def origin(self) -> str:
        """Data, source, preset, seeds, m, c, forks: what a figure must carry."""
        table = self["stability"]
        counts = (table["forks"].dropna(), table["m"], self["stability_predictors"]["images"])
        forks, m, images = (listed(sorted(set(each.astype(int)))) for each in counts)
        of = listed([f"{c:g}" for c in sorted(table["c"].dropna().unique())])
        facts = f"m = {m} training images, c = {of}, {forks} forks a pass; norms of {images} images"
        return origin_line(self, facts)

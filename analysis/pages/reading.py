"""Sentences and cells that several pages share, all computed from what was measured."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.pages.comparison import Comparison
from analysis.pages.text import counted, difference, extremes, listed, score, signed
from analysis.tables.pairs import paired
from tatl.names import AVERAGE, MICRO

__all__ = ["difference", "extremes", "signed"]


def nothing(study: Comparison) -> str:
    """Why a page has nothing to draw."""
    return f"Nothing was measured: {study.study}.csv has no score of shape {study.shape}; `{study.command}` writes it."


def over(study: Comparison) -> str:
    """average over 2 attributes."""
    return f"over {counted(len(study.attributes), 'attribute')}"


def cells(frame: pd.DataFrame, name: str) -> list[str]:
    """Scores with their standard deviation where there is one, blank where nothing was measured."""
    std = frame[f"{name}_std"] if f"{name}_std" in frame else pd.Series(np.nan, index=frame.index)
    return [score(value, spread) for value, spread in zip(frame[name], std, strict=True)]


def differences(study: Comparison, reference: str, name: str = "dice") -> pd.DataFrame:
    """Paired differences to `reference` by attribute and variant; no rows where it is not there or is alone.

    low and high are NaN for fewer than 6 pairs: the interval of three is from the smallest to the largest of them.
    """
    columns = ["attribute", "variant", "pairs", "difference", "low", "high", "p", "small"]
    if study.folds.empty or reference not in set(study.folds["variant"]):
        return pd.DataFrame(columns=columns)
    table = paired(study.all_folds, reference, name, study.shape)
    if table.empty:
        return pd.DataFrame(columns=columns)
    table = table[columns][table["attribute"] != MICRO]
    return table.assign(**{end: table[end].mask(table["small"].astype(bool)) for end in ("low", "high")})


def without_interval(pairs: float, of: str = "") -> str:
    """3 pairs: too few for an interval."""
    return f"{counted(pairs, 'pair')}{of}: too few for an interval"


def between(study: Comparison, variant: str, reference: str, attribute: str = AVERAGE) -> str:
    """The paired difference of two rows in words; empty where it was not measured."""
    table = differences(study, reference)
    row = table[(table["variant"] == variant) & (table["attribute"] == attribute)]
    return difference(row.iloc[0]) if len(row) and np.isfinite(row["difference"].iloc[0]) else ""


def wide(study: Comparison, name: str = "dice") -> pd.DataFrame:
    """Scores by attribute (rows) and variant (columns), unmeasured attributes left out."""
    part = study.measured[study.measured["attribute"].isin(study.attributes)]
    table = part.pivot_table(index="attribute", columns="variant", values=name, sort=False).dropna(how="all")
    return table.loc[[name for name in study.attributes if name in table.index]]


def highest(table: pd.DataFrame, what: str = "attribute", lowest: bool = False, word: str = "") -> str:
    """tatl is highest for 2 of 2 attributes; ties are named, and rows that are all equal."""
    best = table.min(axis=1) if lowest else table.max(axis=1)
    wins = table.eq(best, axis=0).sum().sort_values(ascending=False, kind="stable")
    number, adjective = int(wins.iloc[0]), word or ("lowest" if lowest else "highest")
    if len(wins) > 1 and (wins == len(table)).all():
        return f"{listed(list(wins.index))} are equal for {counted(len(table), what)}"
    first = [str(name) for name in wins.index if wins[name] == number]
    verb = "is" if len(first) == 1 else "are each"
    return f"{listed(first)} {verb} {adjective} for {number} of {counted(len(table), what)}"


def averages(study: Comparison) -> pd.Series:
    """Average Dice by row, unmeasured ones left out; of one attribute, its own Dice."""
    name = AVERAGE if AVERAGE in study.panels else next(iter(study.attributes), AVERAGE)
    part = study.measured[study.measured["attribute"] == name]
    return part.set_index("variant")["dice"].dropna()


def extreme(frame: pd.DataFrame, column: str, lowest: bool = False) -> dict:
    """The row whose value is highest, or lowest; missing values are passed over."""
    values = frame[column].dropna()
    at = int(np.argmin(values)) if lowest else int(np.argmax(values))
    return frame.loc[values.index].iloc[at].to_dict()


def clear(table: pd.DataFrame, most: int = 4) -> str:
    """For how many attributes the interval of a difference excludes zero, and for which."""
    sure = table[(table["low"] > 0) | (table["high"] < 0)]["attribute"].map(str)
    if sure.empty:
        return "its 95 % intervals all hold zero"
    named = f" ({listed(list(sure))})" if len(sure) <= most else ""
    return f"its 95 % interval excludes zero for {len(sure)} of them{named}"

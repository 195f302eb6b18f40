"""Words that a terminal and a page share: names and numbers in a sentence, and what data tables are of.

Sentences are computed from what was measured, by three of them:

extremes   Dice is highest for tatl (0.412) and lowest for random (0.101); ties are named
difference +0.071 (95 % interval +0.010 to +0.130), or what would decide
wins       tatl is highest for 2 of 5 attributes; ties are named
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.effect import Effect
from analysis.tables.paper import Origin, part_of
from tatl.names import ENSEMBLE

_FROM = {"source": "source domain", "preset": "preset"}


def listed(names: Sequence[Any]) -> str:
    """a, b and c."""
    words = [str(name) for name in names]
    return " and ".join(([", ".join(words[:-1])] if words[1:] else []) + words[-1:])


def plain(name: object) -> str:
    """pigment_network -> pigment network."""
    return str(name).replace("_", " ")


def counted(number: float, noun: str) -> str:
    """1 fold, 2 folds."""
    return f"{int(number)} {noun}{'' if number == 1 else 's'}"


def dataset(study: Origin) -> str:
    """phantom, 240 cases at 96x128, rare attributes enriched."""
    about = study.about
    name = study.data if study.data != "manifest" else about.get("store_name", "manifest")
    enriched = ", rare attributes enriched" if about.get("enrich") else ""
    cases, size = about.get("cases", "?"), about.get("size", "unknown size")
    return f"{about.get('label', name)}, {cases} cases at {size}{enriched}"


def measured_on(study: Origin, *facts: str) -> str:
    """Data, source domain, preset and further facts of measured numbers, and what the data are not."""
    words = [f"{name} {study.about.get(key, 'not recorded')}" for key, name in _FROM.items()]
    return " ".join([f"Measured: {'; '.join([dataset(study), *words, *facts])}.", *warnings(study)])


def warnings(study: Origin) -> list[str]:
    """What the data and the source domain are not."""
    part = part_of(study.data, study.about.get("cases"))
    said = [f"The store holds {part}."] if part else []
    if study.data == "phantom":
        said.append("The phantom is not skin.")
    if study.about.get("source") == "textures":
        said.append("textures is not ImageNet.")
    return said


def score(value: float, std: float = np.nan, digits: int = 3) -> str:
    """0.482 ± 0.028; without ± where no spread is known, blank where nothing is."""
    if not np.isfinite(value):
        return ""
    return f"{value:.{digits}f}" + (f" ± {std:.{digits}f}" if np.isfinite(std) else "")


def numbers(values: pd.Series, form: str) -> list[str]:
    """Numbers in words, blank where there is none."""
    return [f"{value:{form}}" if np.isfinite(value) else "" for value in values.astype(float)]


def signed(value: float, digits: int = 3) -> str:
    """+0.071; blank where nothing is known."""
    return "" if not np.isfinite(value) else f"{value:+.{digits}f}"


def scores(frame: pd.DataFrame, name: str, digits: int = 3) -> list[str]:
    """A column with its standard deviations where there are any, blank where nothing was measured."""
    std = frame[f"{name}_std"] if f"{name}_std" in frame else [np.nan] * len(frame)
    return [score(value, spread, digits) for value, spread in zip(frame[name], std, strict=True)]


def extremes(values: pd.Series, spread: pd.Series | None = None, digits: int = 3) -> str:
    """highest for tatl (0.412) and lowest for random and context (0.101), by the index; NaN is passed over."""
    values = values.dropna()

    def told(end: float) -> str:
        names = list(values.index[values == end])
        std = spread[names[0]] if spread is not None and len(names) == 1 else np.nan
        return f"{listed(names)} ({score(end, std, digits)})"

    if values.empty:
        return "not known"
    high, low = values.max(), values.min()
    if len(values) == 1:
        name = values.index[0]
        return f"{score(high, np.nan if spread is None else spread[name], digits)} for {name} alone"
    if high == low:
        return f"equal for {told(high)}"
    return f"highest for {told(high)} and lowest for {told(low)}"


def difference(effect: Effect) -> str:
    """A minus B: what it is, its interval, and what would decide where it is undecided."""
    if not np.isfinite(effect.difference):
        return "not measured"
    low, high = effect.interval
    said = f"95 % interval {signed(low)} to {signed(high)}" if np.isfinite(low) else ""
    open_ = f"undecided, needs {effect.needs}" if effect.needs else ""
    return f"{signed(effect.difference)} ({', '.join(filter(None, [said, open_]))})"


def wins(table: pd.DataFrame, word: str = "highest", lowest: bool = False, noun: str = "attribute") -> str:
    """tatl is highest for 2 of 5 attributes: rows of the table are counted, columns compared; ties are named."""
    best = table.min(axis=1) if lowest else table.max(axis=1)
    here = table.eq(best, axis=0)
    number = here.sum()
    first = [str(name) for name in number.index[number == number.max()]]
    shared = int((here[here.sum(axis=1) > 1].loc[:, number == number.max()]).any(axis=1).sum())
    tied = f", {shared} of them tied" if shared else ""
    of = f"for {number.max()} of {counted(len(table), noun)}"
    if len(first) == table.shape[1] > 1 and number.max() == len(table):
        return f"{listed(first)} are equal {of}"
    return f"{listed(first)} {'is' if len(first) == 1 else 'are each'} {word} {of}{tied}"


def origin(study: Origin, shape: str = ENSEMBLE) -> str:
    """Data, source domain, preset, seeds, folds and network of the measured numbers, and what the data are not."""
    about = study.about
    shapes = [str(name) for name in about.get("shapes", [])] or ["?"]
    averaged = f"the average of shapes {listed(shapes)}" if len(shapes) > 1 else shapes[0]
    network = f"{averaged if shape == ENSEMBLE else shape}, {about.get('backbone', '?')}"
    return measured_on(study, design(study), network)


def design(study: Origin) -> str:
    """Seeds and folds: what a mean is over."""
    about = study.about
    folds, seeds = list(about.get("folds", [])), list(about.get("seeds", []))
    said = f"seed{'s' * (len(seeds) != 1)} {listed(seeds) or '?'}, fold{'s' * (len(folds) != 1)} {listed(folds) or '?'}"
    return f"{said} of {about.get('n_folds', '?')}"

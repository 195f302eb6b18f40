"""Captions and readings: every sentence is computed from the tables, none is a fixed claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import tables
from analysis.tables import AVERAGE, LESION, UNION, Study

BASELINE, WHOLE = "stage3", "stage123"
NOTHING = "Nothing was measured: variants.csv has no rows of this shape."


def listed(names: Sequence[Any]) -> str:
    """a, b and c."""
    words = [str(name) for name in names]
    return " and ".join(([", ".join(words[:-1])] if words[1:] else []) + words[-1:])


def counted(number: float, noun: str) -> str:
    return f"{int(number)} {noun}{'' if number == 1 else 's'}"


def dataset(study: Study) -> str:
    """phantom, 240 cases at 96x128, rare attributes enriched."""
    about = study.about
    name = study.data if study.data != "manifest" else str(about.get("store_name", "manifest"))
    enriched = ", rare attributes enriched" if about.get("enrich") else ""
    return f"{name}, {about.get('cases', '?')} cases at {about.get('size', 'unknown size')}{enriched}"


def design(study: Study) -> str:
    """Seeds and folds: what a mean is over."""
    about = study.about
    folds, seeds = list(about.get("folds", [])), list(about.get("seeds", []))
    return (
        f"{'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds) or '?'}, "
        f"{'fold' if len(folds) == 1 else 'folds'} {listed(folds) or '?'} of {about.get('n_folds', '?')}"
    )


def warnings(study: Study) -> list[str]:
    """What the data and the source domain are not."""
    said = []
    if study.data == "phantom":
        said.append("The phantom is not skin.")
    if study.about.get("source") == "textures":
        said.append("textures is not ImageNet.")
    if not study.comparable:
        said.append(f"Published numbers are from other data ({study.reference}).")
    return said


def caption(study: Study, published: bool = True) -> str:
    """Where the numbers of a table or figure come from."""
    about = study.about
    shape = f"the average of shapes {listed(about['shapes'])}" if len(about.get("shapes", [])) > 1 else ""
    shape = study.shape if study.shape != tables.ENSEMBLE else shape or listed(about.get("shapes", ["?"]))
    measured = (
        f"Measured: {dataset(study)}; source domain {about.get('source', 'not recorded')}; preset "
        f"{about.get('preset', 'not recorded')}; {design(study)}; {shape}, {about.get('backbone', '?')}."
    )
    theirs = f"Published: {study.reference}, five folds, ImageNet, 256x256." if published else ""
    told = warnings(study) if published else [s for s in warnings(study) if not s.startswith("Published")]
    return " ".join(part for part in (measured, theirs, *told) if part)


def spread(study: Study) -> str:
    """Over what the standard deviation is, or why there is none."""
    folds = study.measured["folds"].max() if len(study.measured) else 0
    if folds == 1:
        return f"1 fold, {design(study).partition(',')[0]}: no spread can be given"
    return f"mean ± standard deviation over {counted(folds, 'fold')}"


def _averages(study: Study) -> pd.Series:
    table = tables.averages(study)
    return table.set_index("variant")["dice"].dropna() if len(table) else pd.Series(dtype=float)


def headline(study: Study) -> str:
    """Average Dice per variant, in one line."""
    dice = _averages(study)
    if dice.empty:
        return NOTHING
    each = ", ".join(f"{name} {value:.3f}" for name, value in dice.items())
    return f"Average Dice: {each} ({spread(study)})."


def averages(study: Study) -> str:
    """Who is highest and lowest, and what crop and agnostic stage change."""
    dice = _averages(study)
    if dice.empty:
        return NOTHING
    said = [f"Average Dice is {dice.iloc[0]:.3f} for {dice.index[0]}"]
    if len(dice) > 1:
        high, low = dice.idxmax(), dice.idxmin()
        said = [f"Average Dice is highest for {high} ({dice[high]:.3f}) and lowest for {low} ({dice[low]:.3f})"]
    said += _effects(study, dice)
    return "; ".join(said) + f" ({spread(study)})."


def _effects(study: Study, dice: pd.Series) -> list[str]:
    paper = tables.published(study.reference)
    theirs = paper[paper["attribute"] == AVERAGE].set_index("variant")["published_dice"]
    said = []
    for stage, variant in (("the crop alone", "stage13"), ("the agnostic stage alone", "stage23"), ("both", WHOLE)):
        if {variant, BASELINE} <= set(dice.index):
            ours, published = (each[variant] - each[BASELINE] for each in (dice, theirs))
            said.append(f"over {BASELINE}, {stage} changes it by {ours:+.3f} (published {published:+.3f})")
    return said


def attributes(study: Study) -> str:
    """For how many attributes the best variant wins, and where it gains most over stage3."""
    rows = study.measured[study.measured["attribute"].isin(study.attributes)]
    wide = rows.pivot_table(index="attribute", columns="variant", values="dice", sort=False).dropna(how="all")
    if wide.empty:
        return NOTHING
    wins = wide.eq(wide.max(axis=1), axis=0).sum().sort_values(ascending=False, kind="stable")
    best, number = str(wins.index[0]), int(wins.iloc[0])
    said = f"{best} has the highest mean Dice for {number} of {counted(len(wide), 'attribute')}"
    if tied := [str(name) for name in wins.index[1:] if wins[name] == number]:
        said = f"{listed([best, *tied])} each have the highest mean Dice for {number} of {len(wide)} attributes"
    compared = best if best != BASELINE else WHOLE
    return f"{said}{_gain(study, compared)} ({spread(study)})."


def _gain(study: Study, variant: str) -> str:
    table = tables.gains(study, variant, BASELINE)
    table = table.loc[[name for name in study.attributes if name in table.index]]
    if table.empty or variant == BASELINE:
        return ""
    most, least = table["gain"].idxmax(), table["gain"].idxmin()
    said = f"; over {BASELINE}, {variant} changes Dice most in its favour on {most} ({_signed(table.loc[most])})"
    return said + (f" and least on {least} ({_signed(table.loc[least])})" if most != least else "")


def _signed(row: pd.Series) -> str:
    return f"{row['gain']:+.3f}" + ("" if np.isnan(row["std"]) else f" ± {row['std']:.3f} paired")


def shapes(study: Study) -> str:
    """Is the ensemble better than each shape alone?"""
    table = tables.shapes(study)
    alone = [name for name in table if name != tables.ENSEMBLE]
    if len(alone) < 2 or tables.ENSEMBLE not in table:
        return "One shape was trained, so the ensemble is that shape."
    full = table.dropna()
    better = (full[tables.ENSEMBLE] > full[alone].max(axis=1)).sum()
    return f"Averaging {listed(alone)} beats each of them alone for {better} of {counted(len(full), 'variant')}."


def lesion(study: Study) -> str:
    """Stage 1 in one sentence."""
    table = study.lesion
    if table.empty:
        return "No Stage 1 network belongs to this study: no variant crops, or the store has no lesion masks."
    parts = []
    for start, rows in table.groupby("start", sort=False):
        std = rows["dice"].std(ddof=1)
        dice = f"{rows['dice'].mean():.3f}" + ("" if np.isnan(std) else f" ± {std:.3f}")
        parts.append(f"Dice {dice} from {start} ({counted(len(rows), 'fold')}, {counted(rows['images'].sum(), 'image')})")
    return f"Stage 1 finds the lesion with pooled {'; '.join(parts)}."


def counts(study: Study) -> str:
    """The rarest attribute, here and in the paper."""
    table = tables.counts(study).set_index("mask").drop(index=[LESION, UNION], errors="ignore")
    table = table[table["rate"].notna()]
    if table.empty:
        return "counts.csv names no attribute whose masks are known."
    name = str(table["rate"].idxmin())
    row = table.loc[name]
    said = f"The rarest attribute is {name}: {row['present']:.0f} of {row['known']:.0f} images ({row['rate']:.1f} %)"
    rates = [f"{row[f'{d}_rate']:.1f} % in {d}" for d in tables.PUBLISHED if not np.isnan(row[f"{d}_rate"])]
    return f"{said}; {listed(rates)} as published." if rates else f"{said}; the paper does not have it."


def gallery(study: Study) -> str:
    """How well the shown union maps do, and that the images are chosen."""
    arrays = study.gallery()
    if arrays is None or not len(arrays["image"]):
        return "This study left no gallery.npz, so no case can be shown."
    chosen = f"{counted(len(arrays['image']), 'test image')}, chosen to show the rare attributes and not at random"
    if not len(arrays["union"]):
        return f"{chosen}; {arrays['variant']} has no Stage 2, so there is no union map."
    truth, found = arrays["truth"] >> 1 != 0, arrays["union"] >= 128
    total = truth.sum() + found.sum()
    score = 2 * (truth & found).sum() / total if total else 1.0
    return f"{chosen}; on them the union map of {arrays['variant']}, cut at 0.5, has pooled Dice {score:.3f}."

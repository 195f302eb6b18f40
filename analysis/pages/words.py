"""Captions and readings: every sentence is computed from the tables, none is a fixed claim."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.pages.protocols import Counted, Measured
from analysis.pages.text import Told, counted, dataset, design, listed, plain, score, warnings
from analysis.tables import read as tables
from analysis.tables.paper import PUBLISHED, WINNERS
from analysis.tables.read import Study
from tatl.names import AVERAGE, LESION, UNION

__all__ = ["Told", "counted", "dataset", "design", "listed", "plain", "score", "warnings"]

BASELINE, WHOLE = "stage3", "stage123"
NOTHING = "Nothing was measured: variants.csv has no rows of this shape."


def theirs(study: Study) -> str:
    """Where the published numbers come from."""
    if not study.reference:
        return "The paper has none of these attributes."
    said = f"Published: {study.reference}, five folds, ImageNet, 256x256"
    said += f"{study.apart}: no difference is taken." if study.apart else "."
    number = len(tables.published(study.reference)["attribute"].unique()) - 1
    if not study.same_average:
        said += f" Its average is over {number} attributes, the measured one over {len(study.attributes)}."
    return said


def origin(study: Told, shape: str = tables.ENSEMBLE) -> str:
    """Data, source domain, preset, seeds, folds and network of the measured numbers."""
    about = study.about
    shapes = [str(name) for name in about.get("shapes", [])] or ["?"]
    averaged = f"the average of shapes {listed(shapes)}" if len(shapes) > 1 else shapes[0]
    return (
        f"Measured: {dataset(study)}; source domain {about.get('source', 'not recorded')}; preset "
        f"{about.get('preset', 'not recorded')}; {design(study)}; "
        f"{averaged if shape == tables.ENSEMBLE else shape}, {about.get('backbone', '?')}."
    )


def caption(study: Study, published: bool = True) -> str:
    """Where the numbers of a table or figure come from."""
    said = [origin(study, study.shape), winners(study), theirs(study) if published else "", *warnings(study)]
    return " ".join(filter(None, said))


def winners(study: Study) -> str:
    """Which networks of their own the challenge winners among the rows are; empty where there are none."""
    told = []
    for name in (each for each in study.variants if each in WINNERS.values()):
        rows = study.all_shapes[study.all_shapes["variant"] == name]
        own = [str(shape) for shape in dict.fromkeys(rows["shape"]) if shape != tables.ENSEMBLE]
        told.append(f"{name} is {f'the average of {listed(own)}' if len(own) > 1 else listed(own)}")
    return f"The winners are networks of their own: {'; '.join(told)}." if told else ""


def spread(study: Measured) -> str:
    """Over what the standard deviation is, or why there is none."""
    folds = study.measured["folds"].max() if len(study.measured) else 0
    if folds == 1:
        return f"1 fold, {design(study).partition(',')[0]}: no spread can be given"
    fewer = {row["attribute"]: int(row["folds"]) for row in study.measured.to_dict("records") if row["folds"] < folds}
    less = "".join(f", {name} over {number}" for name, number in fewer.items() if name in study.attributes)
    several = len(list(study.about.get("seeds") or [])) > 1
    over = f"{int(folds)} trainings (folds and seeds)" if several else counted(folds, "fold")
    return f"mean ± standard deviation over {over}{less}"


def notes(study: Told) -> list[str]:
    """What the study says a reader must know, such as attributes too rare for the folds."""
    return [str(note) for note in study.about.get("notes") or []]


def attribute_notes(study: Study) -> dict[str, list[str]]:
    """The notes on each attribute of the store, measured or not; attributes without any are left out."""
    names = [name for name in study.counts["mask"] if name not in (LESION, UNION)]
    found = {name: [note for note in notes(study) if note.startswith(f"{name}: ")] for name in names}
    return {name: said for name, said in found.items() if said}


def _averages(study: Study) -> pd.DataFrame:
    """Average Dice and its standard deviation by variant, unmeasured ones left out."""
    table = tables.averages(study).set_index("variant")[["dice", "dice_std"]]
    return table[table["dice"].notna()]


def headline(study: Study) -> str:
    """Average Dice per variant, in one line."""
    table = _averages(study)
    if table.empty:
        return NOTHING
    each = ", ".join(f"{name} {score(*row)}" for name, row in zip(table.index, table.to_numpy(), strict=True))
    return f"Average Dice: {each} ({spread(study)})."


def averages(study: Study) -> str:
    """Who is highest and lowest, and what crop and agnostic stage change."""
    table = _averages(study)
    if table.empty:
        return NOTHING
    each = {str(name): score(*row) for name, row in zip(table.index, table.to_numpy(), strict=True)}
    high, low = str(table["dice"].idxmax()), str(table["dice"].idxmin())
    said = f"Average Dice is highest for {high} ({each[high]}) and lowest for {low} ({each[low]})"
    if high == low:
        said = f"Average Dice of {high} is {each[high]}"
    return f"{said}{_effects(study, table['dice'])} ({spread(study)})."


def _effects(study: Study, dice: pd.Series) -> str:
    """What each stage changes over stage3, measured and published."""
    paper = tables.published(study.reference)
    average = paper[paper["attribute"] == AVERAGE].set_index("variant")["published_dice"]
    stages = {"stage13": "the crop alone", "stage23": "the agnostic stage alone", WHOLE: "both together"}
    there = [name for name in stages if {name, BASELINE} <= set(dice.index)]
    if not there:
        return ""
    ours = [f"{stages[name]} {dice[name] - dice[BASELINE]:+.3f}" for name in there]
    said = f"; over {BASELINE}, {listed(ours)}"
    if not study.reference:
        return said
    published = [f"{average[name] - average[BASELINE]:+.3f}" for name in there]
    return f"{said} (published on {study.reference}: {listed(published)})"


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
    most, least = str(table["gain"].idxmax()), str(table["gain"].idxmin())
    said = f"; over {BASELINE}, {variant} changes Dice most in its favour on {most} ({_signed(table, most)})"
    return said + (f" and least on {least} ({_signed(table, least)})" if most != least else "")


def _signed(table: pd.DataFrame, name: str) -> str:
    gain, std = (table[column][name] for column in ("gain", "std"))
    return f"{gain:+.3f}" + ("" if np.isnan(std) else f" ± {std:.3f} paired")


def shapes(study: Study) -> str:
    """Is the ensemble better than each shape alone, in the rows that have the same shapes?"""
    table = tables.shapes(study).drop(index=list(WINNERS.values()), errors="ignore").dropna(axis=1, how="all")
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
        dice = score(rows["dice"].mean(), rows["dice"].std(ddof=1))
        over = f"{counted(len(rows), 'fold')}, {counted(rows['images'].sum(), 'image')}"
        parts.append(f"Dice {dice} from {start} ({over})")
    return f"Stage 1 finds the lesion with pooled {'; '.join(parts)}."


def counts(study: Counted) -> str:
    """The rarest attribute, here and in the paper."""
    table = tables.counts(study).set_index("mask").drop(index=[LESION, UNION], errors="ignore")
    table = table[table["rate"].notna()]
    if table.empty:
        return "counts.csv names no attribute whose masks are known."
    name = str(table["rate"].idxmin())
    row = table.loc[name]
    said = f"The rarest attribute is {name}: {row['present']:.0f} of {row['known']:.0f} images ({row['rate']:.1f} %)"
    rates = [f"{row[f'{d}_rate']:.1f} % in {d}" for d in PUBLISHED if not np.isnan(row[f"{d}_rate"])]
    return f"{said}; {listed(rates)} as published." if rates else f"{said}; the paper does not have it."


def gallery(study: Study, cases: int = 6) -> str:
    """How well the shown union maps do, and that the images are chosen."""
    arrays = study.gallery()
    if arrays is None or not len(arrays["image"][:cases]):
        return "This study left no gallery.npz, so no case can be shown."
    chosen = (
        f"{counted(len(arrays['image'][:cases]), 'test image')}, chosen to show the rare attributes and not at random"
    )
    if not len(arrays["union"]):
        return f"{chosen}; {arrays['variant']} has no Stage 2, so there is no union map."
    truth, found = arrays["truth"][:cases] >> 1 != 0, arrays["union"][:cases] >= 128
    total = truth.sum() + found.sum()
    score = 2 * (truth & found).sum() / total if total else 1.0
    return f"{chosen}; on them the union map of {arrays['variant']}, cut at 0.5, has pooled Dice {score:.3f}."

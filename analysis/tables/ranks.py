"""Who comes first over attributes, and the command that compares the rows of a study.

    rank         of a variant among all, averaged over attributes (its scores over folds and seeds averaged first);
                 two mean ranks closer than the Nemenyi critical difference are not told apart (Demsar, JMLR 2006)

A test fold that shows no positive of an attribute scores 0 or 1 there, by 0/0 = 1, whatever the network is worth: it is
left out and counted.

`python -m analysis.statistics --study paradigms --reference source` reads what `python -m tatl study` wrote.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from analysis.tables.effect import RULE
from analysis.tables.evidence import SHOWN_EFFECTS, effects, read_images
from analysis.tables.judgement import write_verdicts
from analysis.tables.read import command_of, of_shape, read_table
from tatl import cli
from tatl.data.store import write_csv
from tatl.names import AVERAGE, ENSEMBLE, MICRO, SCORES
from tatl.studies.settings import StudyName

SIGNIFICANCE = 0.05
_KEYS = ["attribute", "seed", "fold"]
_COLUMNS = ["variant", "shape", *_KEYS, "positives"]


def ranks(folds: pd.DataFrame, score: str = "dice", shape: str = ENSEMBLE) -> pd.DataFrame:
    """One row per variant, best first: mean_rank over attributes (1 is best), wins, attributes, critical, friedman_p.

    Of `wins` each attribute gives one, in equal parts to those that tie for it.  `critical` is the Nemenyi difference
    at 0.05 and NaN below 2 variants or attributes; `small` marks fewer than 5 attributes, of which no test says much;
    `left_out` counts triples of attribute, fold and seed that show no positive.

    Args:
        folds: a `<study>_folds.csv`: variant, shape, seed, fold, attribute, positives and scores
        score: dice, jaccard, image_dice or image_jaccard
        shape: u, link, or mean (their averaged probabilities)

    Raises ValueError where a column or the shape is not there, and where a row is there twice.
    """
    part = of_shape(folds, [*_COLUMNS, score], shape, ["variant", *_KEYS])
    part = part[~part["attribute"].isin([AVERAGE, MICRO])]
    shown = part["positives"] > 0
    table = part[shown].pivot_table(index="attribute", columns="variant", values=score, sort=False)
    means = table.reindex(columns=part["variant"].unique()).dropna(how="all").dropna(axis=1)
    attributes, variants = means.shape
    order = np.apply_along_axis(rankdata, 1, -means.to_numpy()) if means.size else np.zeros((0, variants))
    best = order == order.min(axis=1, keepdims=True, initial=np.inf)
    critical, p = np.nan, np.nan
    if variants > 1 and attributes > 1:
        quantile = studentized_range.ppf(1 - SIGNIFICANCE, variants, np.inf) / np.sqrt(2)
        critical = float(quantile * np.sqrt(variants * (variants + 1) / (6 * attributes)))
    if variants > 2 and attributes > 1:
        p = float(friedmanchisquare(*means.to_numpy().T).pvalue)
    found = pd.DataFrame({
        "variant": means.columns, "mean_rank": order.sum(axis=0) / attributes if attributes else np.nan,
        "wins": (best / best.sum(axis=1, keepdims=True)).sum(axis=0), "attributes": attributes, "critical": critical,
        "friedman_p": p, "small": attributes < 5,
        "left_out": len(part[~shown].drop_duplicates(_KEYS)),
    })  # fmt: skip
    return found.sort_values("mean_rank", ignore_index=True)


def compare(
    study: Literal[StudyName, "verdicts"],
    tables: Path = Path("reports/quick/tables"),
    reference: str = "",
    score: str = "dice",
) -> None:
    """Differences of pooled Dice between a study's rows with their intervals, and mean ranks.

    Example: python -m analysis.statistics --study paradigms --reference source

    Args:
        study: variants, paradigms, crop, backbones, data-size or convergence; verdicts: the claims on all of them, as
            a table in Markdown
        tables: folder that `python -m tatl study` wrote
        reference: the variant that the others are compared with; empty: the first
        score: what is ranked: dice, jaccard, image_dice or image_jaccard
    """
    if score not in SCORES:
        raise ValueError(f"score {score!r} is unknown: choose one of {', '.join(SCORES)}")
    if study == "verdicts":
        return write_verdicts(tables)
    folds = read_table(tables / f"{study}_folds.csv", [*_COLUMNS, score], command_of(study))
    made = {"ranks": ranks(folds, score)}
    if len(images := read_images(tables, study)):
        made["effects"] = effects(images, reference or str(folds["variant"].iloc[0]))
        print(f"{made['effects'][SHOWN_EFFECTS].to_string(index=False, float_format='%.3f', na_rep='-')}\n{RULE}\n")
    else:
        print(f"no differences: {study}_images.csv.gz is not there, and `{command_of(study)}` writes it\n")
    for name, frame in made.items():
        write_csv(frame, tables / f"{study}_{name}.csv")
    print(made["ranks"].to_string(index=False, float_format="%.3f", na_rep="-"))
    if left_out := max(made["ranks"]["left_out"], default=0):
        print(f"note: {left_out} times a test fold shows no positive of an attribute: left out (left_out)")
    print(f"tables are in {tables}: {', '.join(f'{study}_{name}.csv' for name in made)}")
    print(f"next: python -m analysis.report --study {study.replace('-', '_')} --tables {tables}")


run_compare = partial(cli.script, compare, "analysis.statistics")

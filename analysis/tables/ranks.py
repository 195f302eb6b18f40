"""Is one row of a comparison better than another?  Paired over folds and seeds, small samples marked and never starred.

    difference   mean over pairs (same fold, same seed) of score(variant) - score(reference), with the 95 % percentile
                 bootstrap interval over pairs from 6 pairs on: of 3 it would be their smallest and largest, which
                 holds the mean in three of four cases only
    p            two-sided Wilcoxon signed-rank from 6 pairs on: with fewer it cannot fall below 0.05
    rank         of a variant among all, averaged over attributes (its scores over folds and seeds averaged first);
                 two mean ranks closer than the Nemenyi critical difference are not told apart (Demsar, JMLR 2006)

Pairs are not independent: two folds share most of their training images, two seeds of a fold all of its images.
So intervals are too narrow and p is too small, by an amount that cannot be estimated from the folds themselves (Bengio
& Grandvalet, JMLR 2004): they describe these pairs, and promise nothing about other images.

A test fold that shows no positive of an attribute scores 0 or 1 there, by 0/0 = 1, whatever the network is worth: it is
left out and counted, and its `average` is taken over the other attributes.

`python -m analysis.statistics --study paradigms --reference source` reads what `python -m tatl study` wrote.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, rankdata, studentized_range, wilcoxon

from analysis.curvature.bootstrap import interval, resampled
from analysis.tables.effect import RULE
from analysis.tables.evidence import SHOWN_EFFECTS, effects
from analysis.tables.read import command_of, of_shape, read_table
from tatl import cli
from tatl.data.store import write_csv
from tatl.names import AVERAGE, ENSEMBLE, MICRO, SCORES
from tatl.studies.settings import StudyName

ENOUGH_PAIRS = 6  # with fewer no interval and no test
SIGNIFICANCE = 0.05
_KEYS = ["attribute", "seed", "fold"]
_COLUMNS = ["variant", "shape", *_KEYS, "positives"]


def paired(folds: pd.DataFrame, reference: str, score: str = "dice", shape: str = ENSEMBLE) -> pd.DataFrame:
    """One row per attribute and variant other than the reference.

    Columns attribute, variant, reference, pairs, difference, low, high and p (NaN below 6 pairs), wins, losses, ties,
    small (fewer than 6 pairs), left_out (pairs whose test fold shows no positive).

    Args:
        folds: a `<study>_folds.csv`: variant, shape, seed, fold, attribute, positives and scores
        reference: the variant that the others are compared with
        score: dice, jaccard, image_dice or image_jaccard
        shape: u, link, or mean (their averaged probabilities)

    Raises ValueError where a column, the shape or the reference is not there, and where a row is there twice.
    """
    table = _wide(folds, score, shape)
    if reference not in table.columns:
        raise ValueError(f"reference {reference!r} is not there: choose one of {', '.join(table.columns)}")
    return pd.DataFrame(_pairs(table, reference, _left_out(folds, shape)))


def _wide(folds: pd.DataFrame, score: str, shape: str) -> pd.DataFrame:
    """Scores by (attribute, seed, fold) and variant, NaN where the test fold shows no positive."""
    part = of_shape(folds, [*_COLUMNS, score], shape, ["variant", *_KEYS])
    order = list(dict.fromkeys(part["variant"]))
    return _shown(part, score).pivot(index=_KEYS, columns="variant", values=score)[order]


def _shown(part: pd.DataFrame, score: str) -> pd.DataFrame:
    """Scores as NaN where the test fold shows no positive; averages over the other attributes."""
    scores = part[score].where(part["positives"] > 0)
    single = scores.where(~part["attribute"].isin([AVERAGE, MICRO]))
    means = single.groupby([part[name] for name in ("variant", "seed", "fold")]).transform("mean")
    anew = (part["attribute"] == AVERAGE) & means.notna()
    return part.assign(**{score: scores.mask(anew, means)})


def _left_out(folds: pd.DataFrame, shape: str) -> pd.Series:
    """How many pairs of fold and seed show no positive, by attribute."""
    part = folds[folds["shape"] == shape].drop_duplicates(_KEYS)
    return (part["positives"] == 0).groupby(part["attribute"], sort=False).sum()


def _pairs(table: pd.DataFrame, reference: str, left_out: pd.Series) -> Iterator[dict]:
    for attribute in dict.fromkeys(table.index.get_level_values("attribute")):
        part = table.loc[attribute]
        for variant in part.columns.drop(reference):
            differences = (part[variant] - part[reference]).dropna().to_numpy()
            found = {**_compared(differences), "left_out": left_out[attribute]}
            yield {"attribute": attribute, "variant": variant, "reference": reference, **found}


def _compared(differences: np.ndarray) -> dict:
    n = len(differences)
    low, high, p = np.nan, np.nan, np.nan
    if n >= ENOUGH_PAIRS:
        low, high = interval(differences[resampled(n)].mean(axis=1))
        p = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    mean = float(differences.mean()) if n else np.nan
    return {
        "pairs": n, "difference": mean, "low": low, "high": high, "p": p,
        "wins": wins, "losses": losses, "ties": n - wins - losses, "small": n < ENOUGH_PAIRS,
    }  # fmt: skip


def ranks(folds: pd.DataFrame, score: str = "dice", shape: str = ENSEMBLE) -> pd.DataFrame:
    """One row per variant, best first: mean_rank over attributes (1 is best), wins, attributes, critical, friedman_p.

    Of `wins` each attribute gives one, in equal parts to those that tie for it.  `critical` is the Nemenyi difference
    at 0.05 and NaN below 2 variants or attributes; `small` marks fewer than 5 attributes, of which no test says much;
    `left_out` counts triples of attribute, fold and seed that show no positive.
    """
    table = _wide(folds, score, shape).drop([AVERAGE, MICRO], level="attribute", errors="ignore")
    means = table.groupby(level="attribute", sort=False).mean().dropna(how="all").dropna(axis=1)
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
        "left_out": _left_out(folds, shape).drop([AVERAGE, MICRO], errors="ignore").sum(),
    })  # fmt: skip
    return found.sort_values("mean_rank", ignore_index=True)


def compare(
    study: StudyName, tables: Path = Path("reports/quick/tables"), reference: str = "", score: str = "dice"
) -> None:
    """Differences between a study's rows, by groups of images and fold by fold, and mean ranks.

    Example: python -m analysis.statistics --study paradigms --reference source

    Args:
        study: variants, paradigms, crop, backbones, data-size or convergence
        tables: folder that `python -m tatl study` wrote
        reference: the variant that the others are compared with; empty: the first
        score: dice, jaccard, image_dice or image_jaccard
    """
    if score not in SCORES:
        raise ValueError(f"score {score!r} is unknown: choose one of {', '.join(SCORES)}")
    folds = read_table(tables / f"{study}_folds.csv", [*_COLUMNS, score], command_of(study))
    ranked = ranks(folds, score)
    reference = reference or str(folds["variant"].iloc[0])
    pairs = paired(folds, reference, score)
    made = {"pairs": pairs, "ranks": ranked}
    if (images := tables / f"{study}_images.csv.gz").is_file():
        made["effects"] = effects(pd.read_csv(images, dtype={"image": str, "group": str}), reference)
        print(f"{made['effects'][SHOWN_EFFECTS].to_string(index=False, float_format='%.3f', na_rep='-')}\n{RULE}\n")
    for name, frame in made.items():
        write_csv(frame, tables / f"{study}_{name}.csv")
    print(pairs.to_string(index=False, float_format="%.3f", na_rep="-"))
    print(f"\n{ranked.to_string(index=False, float_format='%.3f', na_rep='-')}")
    if pairs["small"].any():
        print(f"note: fewer than {ENOUGH_PAIRS} pairs of fold and seed are too few for an interval or a test")
    if left_out := max(ranked["left_out"], default=0):
        print(f"note: {left_out} times a test fold shows no positive of an attribute: left out (left_out)")
    print(f"tables are in {tables}: {', '.join(f'{study}_{name}.csv' for name in made)}")
    print(f"next: python -m analysis.report --study {study.replace('-', '_')} --tables {tables}")


def run_compare(arguments: list[str] | None = None) -> int:
    parser = cli.parser(prog="python -m analysis.statistics", description=cli.describe(compare, "paired differences"))
    parser.add_function_arguments(compare, as_group=False, as_positional=False)
    given = sys.argv[1:] if arguments is None else arguments
    return cli.run(lambda: compare(**vars(cli.dashed(parser).parse_args(given))))

"""Is one row of a comparison better than another?  Paired over folds and seeds, small samples marked and never starred.

    difference   mean over pairs (same fold, same seed) of score(variant) - score(reference), with the 95 % percentile
                 bootstrap interval over pairs from 3 pairs on
    p            two-sided Wilcoxon signed-rank from 6 pairs on: with fewer it cannot fall below 0.05
    rank         of a variant among all, averaged over attributes (its scores over folds and seeds averaged first);
                 two mean ranks closer than the Nemenyi critical difference are not told apart (Demsar, JMLR 2006)

`python -m analysis.statistics --study paradigms --reference source` reads what `python -m tatl study` wrote.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, rankdata, studentized_range, wilcoxon

from analysis.bootstrap import interval, resampled
from analysis.tables import ENSEMBLE
from tatl import cli
from tatl.data.store import write_csv
from tatl.metrics import AVERAGE, MICRO, SCORES

INTERVAL_PAIRS, TEST_PAIRS = 3, 6
LEVEL = 0.05


def paired(folds: pd.DataFrame, reference: str, score: str = "dice", shape: str = ENSEMBLE) -> pd.DataFrame:
    """One row per attribute and variant other than the reference.

    Columns attribute, variant, reference, pairs, difference, low, high (NaN below 3 pairs), p (NaN below 6), wins,
    losses, ties, small (fewer than 6 pairs).

    Args:
        folds: a `<study>_folds.csv`: variant, shape, seed, fold, attribute and scores
        reference: the variant that the others are compared with
        score: dice, jaccard, image_dice or image_jaccard
        shape: u, link, or mean (their averaged probabilities)

    Raises ValueError where a column, the shape or the reference is not there.
    """
    table = _wide(folds, score, shape)
    if reference not in table.columns:
        raise ValueError(f"reference {reference!r} is not there: choose one of {', '.join(table.columns)}")
    return pd.DataFrame(_pairs(table, reference))


def _wide(folds: pd.DataFrame, score: str, shape: str) -> pd.DataFrame:
    """Scores by (attribute, seed, fold) and variant."""
    if missing := [name for name in ("variant", "shape", "seed", "fold", "attribute", score) if name not in folds]:
        raise ValueError(
            f"the table lacks the columns {', '.join(missing)}: give one that `python -m tatl study` wrote"
        )
    part = folds[folds["shape"] == shape]
    if part.empty:
        raise ValueError(f"the table has no shape {shape!r}: it has {', '.join(sorted(folds['shape'].unique()))}")
    order = list(dict.fromkeys(part["variant"]))
    return part.pivot(index=["attribute", "seed", "fold"], columns="variant", values=score)[order]


def _pairs(table: pd.DataFrame, reference: str) -> Iterator[dict]:
    for attribute in dict.fromkeys(table.index.get_level_values("attribute")):
        part = table.loc[attribute]
        for variant in part.columns.drop(reference):
            differences = (part[variant] - part[reference]).dropna().to_numpy()
            yield {"attribute": attribute, "variant": variant, "reference": reference, **_compared(differences)}


def _compared(differences: np.ndarray) -> dict:
    n = len(differences)
    low, high, p = np.nan, np.nan, np.nan
    if n >= INTERVAL_PAIRS:
        low, high = interval(differences[resampled(n)].mean(axis=1))
    if n >= TEST_PAIRS:
        p = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    mean = float(differences.mean()) if n else np.nan
    return {
        "pairs": n, "difference": mean, "low": low, "high": high, "p": p,
        "wins": wins, "losses": losses, "ties": n - wins - losses, "small": n < TEST_PAIRS,
    }  # fmt: skip


def ranks(folds: pd.DataFrame, score: str = "dice", shape: str = ENSEMBLE) -> pd.DataFrame:
    """One row per variant, best first: mean_rank over attributes (1 is best), wins, attributes, critical, friedman_p.

    `critical` is the Nemenyi difference at 0.05 and NaN below 2 variants or attributes; `small` marks fewer than 5
    attributes, of which no test says much.
    """
    table = _wide(folds, score, shape).drop([AVERAGE, MICRO], level="attribute", errors="ignore")
    means = table.groupby(level="attribute", sort=False).mean().dropna(axis=1)
    attributes, variants = means.shape
    order = np.apply_along_axis(rankdata, 1, -means.to_numpy()) if means.size else np.zeros((0, variants))
    critical, p = np.nan, np.nan
    if variants > 1 and attributes > 1:
        quantile = studentized_range.ppf(1 - LEVEL, variants, np.inf) / np.sqrt(2)
        critical = float(quantile * np.sqrt(variants * (variants + 1) / (6 * attributes)))
    if variants > 2 and attributes > 1:
        p = float(friedmanchisquare(*means.to_numpy().T).pvalue)
    found = pd.DataFrame({
        "variant": means.columns, "mean_rank": order.mean(axis=0), "wins": (order == 1).sum(axis=0),
        "attributes": attributes, "critical": critical, "friedman_p": p, "small": attributes < 5,
    })  # fmt: skip
    return found.sort_values("mean_rank", ignore_index=True)


def compare(study: str, tables: Path = Path("reports/quick/tables"), reference: str = "", score: str = "dice") -> None:
    """Paired differences and mean ranks of a study's variants.

    Example: python -m analysis.statistics --study paradigms --reference source

    Args:
        study: variants, paradigms, crop, backbones, data-size or convergence
        tables: folder that `python -m tatl study` wrote
        reference: the variant that the others are compared with; empty: the first
        score: dice, jaccard, image_dice or image_jaccard
    """
    if score not in SCORES:
        raise ValueError(f"score {score!r} is unknown: choose one of {', '.join(SCORES)}")
    path = tables / f"{study}_folds.csv"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: make it with `python -m tatl study {study}`")
    folds = pd.read_csv(path, keep_default_na=False, na_values=[""])
    pairs = paired(folds, reference or str(folds["variant"].iloc[0]), score)
    ranked = ranks(folds, score)
    write_csv(pairs, tables / f"{study}_pairs.csv")
    write_csv(ranked, tables / f"{study}_ranks.csv")
    print(pairs.to_string(index=False, float_format="%.3f", na_rep="-"))
    print(f"\n{ranked.to_string(index=False, float_format='%.3f', na_rep='-')}")
    if pairs["small"].any():
        print(f"note: fewer than {TEST_PAIRS} pairs of fold and seed: no test, and intervals mean little")
    print(f"tables are in {tables}: {study}_pairs.csv, {study}_ranks.csv")
    print(f"next: python -m analysis.report --study {study.replace('-', '_')} --tables {tables}")


def main(arguments: list[str] | None = None) -> int:
    parser = cli.parser(prog="python -m analysis.statistics", description=cli.describe(compare, "paired differences"))
    parser.add_function_arguments(compare, as_group=False, as_positional=False)
    given = sys.argv[1:] if arguments is None else arguments
    return cli.run(lambda: compare(**vars(cli.dashed(parser).parse_args(given))))


if __name__ == "__main__":
    sys.exit(main())

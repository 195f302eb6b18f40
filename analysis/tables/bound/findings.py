"""What tables say of the claims on the bound: that TATL's is lowest, and that it explains which start is better.

Measured stability decides the second where it is there, since that is what Eq. 6 bounds; the order of Dice elsewhere.
"""

from __future__ import annotations

import pandas as pd

from analysis.tables.bound.stability import StabilityTables, decided
from analysis.tables.bound.tables import BoundTables
from analysis.tables.claims import CONTRADICTED, SUPPORTED, Claim, Finding, comparisons_of
from analysis.tables.effect import LEVEL, UNDECIDED
from analysis.tables.study import StudyTables
from analysis.tables.words import counted

FEWEST_SEEDS = 2  # of a bound, which is of one fold
LOWEST, EXPLAINS = "TATL's bound is lowest", "The bound explains which start is better"
BOUND_RULES = (
    "The bound is lowest: in 95 % of resamples of images (contradicted: in at most 5 %), of two seeds or more. It "
    "explains, where stability was measured: Eq. 6 orders pairs of starts better than 95 % of orders of their names "
    "do, and errs no more than gradient noise and risk (contradicted: worse than 95 % of these orders), of five "
    "attributes times seeds or more. Elsewhere: it orders starts against the reference as Dice does, wherever both "
    "tell them apart."
)
_TATL = "tatl"


def explains(bound: BoundTables | None, study: StudyTables | None, stability: StabilityTables | None) -> Finding:
    """Does it explain which start is better: more stable, or where that was not measured of higher Dice?"""
    if stability is None:
        return _by_dice(bound, study)
    return Finding(EXPLAINS, "stability", *decided(stability["stability_ranks"]))


def _by_dice(bound: BoundTables | None, study: StudyTables | None) -> Finding:
    """For how many starts bound and Dice part them from the reference alike, where both do."""
    nothing, reference = Finding(EXPLAINS, "bound"), bound.reference if bound else ""
    if bound is None or study is None or reference not in study.variants:
        return nothing
    apart = _apart(bound)
    signs = {}
    for start in (name for name in apart if name in study.variants):
        (each,) = comparisons_of(Claim("", "paradigms", ((start, reference),)), study)
        signs[start] = apart[start] * {SUPPORTED: 1, CONTRADICTED: -1, UNDECIDED: 0}[each.word]
    if not signs:
        return nothing
    agree, against = (sum(sign == wanted for sign in signs.values()) for wanted in (1, -1))
    said = f"by Dice, against {reference} agree for {agree} of {counted(len(signs), 'start')}, disagree for {against}"
    word = CONTRADICTED if against else SUPPORTED if agree == len(signs) else UNDECIDED
    return Finding(EXPLAINS, "bound", word, said, "" if word != UNDECIDED else "starts that both tell apart")


def _overall(bound: BoundTables) -> pd.DataFrame:
    """The average over attributes, or the only one's rows, by start; none of several without their average."""
    of = bound.groups[-1:] if len(bound.average) or len(bound.attributes) == 1 else []
    return bound.rows[bound.rows["attribute"].isin(of)].set_index("start")


def is_lowest(bound: BoundTables | None) -> Finding:
    """Is TATL's bound the lowest, over resamples of images?"""
    rows = _overall(bound) if bound else pd.DataFrame()
    if bound is None or _TATL not in rows.index or len(rows) < 2:
        return Finding(LOWEST, "bound")
    mine, values = pd.Series(rows.loc[_TATL]), rows["bound"]
    each = bound.wide("bound", "bound").dropna(subset=[_TATL])
    first = int((each[_TATL] <= each.min(axis=1)).sum())
    share, seeds = float(rows["lowest"][_TATL]), bound.seeds
    word = SUPPORTED if share >= LEVEL else CONTRADICTED if share <= 1 - LEVEL else UNDECIDED
    needs = "" if word != UNDECIDED else "more images"
    if seeds < FEWEST_SEEDS:
        word, needs = UNDECIDED, " and ".join(filter(None, ["a second seed", needs]))
    ratio, low, high = mine[["ratio", "ratio_images_low", "ratio_images_high"]].astype(float).tolist()
    beside = f"{ratio:.2f} ({low:.2f} to {high:.2f}) times {bound.reference}'s" if bound.reference else ""
    said = [f"number {1 + int((values < mine['bound']).sum())} of {len(values)}", beside,
            f"lowest in {share:.0%} of resamples", f"for {first} of {counted(len(each), 'attribute')}"]  # fmt: skip
    return Finding(LOWEST, "bound", word, ", ".join(filter(None, said)), needs, ratio, low, high)


def _apart(bound: BoundTables) -> dict[str, int]:
    """1 where a start's bound is below the reference's over images and seeds, -1 where it is above, else 0."""
    rows = _overall(bound).drop(bound.reference, errors="ignore")
    ends = rows[[f"ratio_{over}_{end}" for over in ("images", "seeds") for end in ("low", "high")]]
    sure = bound.seeds >= FEWEST_SEEDS
    signs = sure * ((ends < 1).all(axis=1).astype(int) - (ends > 1).all(axis=1).astype(int))
    return {str(start): int(sign) for start, sign in signs.items()}

"""What the paper claims, row against row, and by what rule tables support or contradict it.

A claim is judged by the interval of its difference (`analysis.tables.effect`), and one of several differences by all of
them.  `RULES` says how, for people.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.tables.effect import UNDECIDED, Effect, without_images
from analysis.tables.evidence import RARER, checked, contrast
from analysis.tables.study import StudyTables
from analysis.tables.words import counted
from tatl.names import AVERAGE
from tatl.studies.pace import not_trained_out

SUPPORTED, CONTRADICTED, NOT_MEASURED = "supported", "contradicted", "not measured"
VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_MEASURED)
_ORDER = (CONTRADICTED, UNDECIDED, SUPPORTED)
ALIKE = 0.02  # of Dice: what is called about as good
MARGIN, PAPER_HEIGHT = 40, 384  # Table 5: pixels round the lesion's box, in images of this height
RULES = (
    "Supported: the 95 % interval of every difference that the claim names lies above zero; contradicted: that of one "
    "lies below. The interval reaches as far as that over groups of images or that over folds and seeds, with Nadeau "
    "and Bengio's correction, whichever is wider. Otherwise undecided, as is all with one fold, fewer than five "
    "trainings (folds times seeds), fewer than 20 groups of images or no positive. About as good: the interval lies "
    "within 2 percent points of zero (contradicted: wholly beyond). A row of more steps than its reference supports "
    "nothing, unless one of equal steps does too. What is common to all trainings of one seed is in no interval, and "
    "there is no correction for the number of claims."
)


@dataclass(frozen=True)
class Finding:
    """What tables say of a claim; `study` is the page that shows it.

    difference, low, high  of Dice, with its interval; of the bound as a multiple of the reference's; NaN where unknown
    """

    claim: str
    study: str
    word: str = NOT_MEASURED
    said: str = ""
    needs: str = ""
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")

    def cell(self, link: str = "") -> str:
        """undecided: +3.1 (-1.0 to +7.2) ...; needs 20 groups."""
        word = f"[{self.word}]({link})" if link and self.word != NOT_MEASURED else self.word
        needs = f"needs {self.needs}" if self.needs else ""
        return ": ".join(filter(None, [word, "; ".join(filter(None, [self.said, needs]))]))


@dataclass(frozen=True)
class Claim:
    """Rows of a study and the references that they should beat; of `a|b` the first that is there.

    of: average over attributes, or what the rarer ones gain more than the others; same: they should be about as good;
    source: the source domain without which it says nothing.
    """

    sentence: str
    study: str
    pairs: tuple[tuple[str, str], ...]
    of: str = AVERAGE
    same: bool = False
    source: str = ""


def _tatl(*references: str) -> tuple[tuple[str, str], ...]:
    return tuple(("tatl", reference) for reference in references)


_STAGE2 = (("stage23", "stage3-long|stage3"),)
CLAIMS = (
    Claim("Stage 2 helps, whole images", "variants", _STAGE2),
    Claim("Stage 2 helps, on the crop", "variants", (("stage123", "stage13-long|stage13"),)),
    Claim("Rare attributes gain most from it", "variants", _STAGE2, of=RARER),
    Claim("TATL beats ImageNet", "paradigms", _tatl("source", "source-long"), source="imagenet"),
    Claim("TATL beats self-supervision", "paradigms", _tatl("rotation", "context")),
    Claim("TATL beats augmentation and attention", "paradigms", _tatl("augmentation", "attention")),
    Claim("TATL beats one network of all attributes", "paradigms", _tatl("multilabel", "multilabel-direct")),
    Claim("The crop helps", "variants", (("stage13", "stage3-long|stage3"),)),
    Claim("A margin of 40 px (of 384) beats none", "crop", ((f"{MARGIN} px", "0 px"),)),
    Claim("Freezing is about as good", "paradigms", (("tatl-freeze", "tatl"),), same=True),
    Claim("It is the right union that matters", "paradigms", _tatl("shuffled-union", "lesion")),
    Claim("TATL loses less with less data", "data-size", _tatl("source-long|source")),
)


def weights(study: str, row: str, reference: str, rows: Iterable[str], size: str = "") -> dict[str, float]:
    """How the rows of a study's table add up to row minus reference; empty where one is not there.

    data-size: what is lost from the largest to the smallest share that both have; crop: the mean over lesion networks,
    margins as in images 384 px high, `size` being the store's.
    """
    rows = list(rows)
    there = _first(reference, rows)
    amounts: dict[str, list[float]] = defaultdict(list)
    for found in filter(None, (re.fullmatch(r"(.+) ([\d.]+) (?:%|px)", name) for name in rows)):
        amounts[found[1]].append(float(found[2]))
    if study == "data-size":
        shares = sorted(set(amounts[row]) & set(amounts[there]))
        ends = {shares[0]: 1, shares[-1]: -1} if len(shares) > 1 else {}
        of = {row: 1, there: -1}
        return {f"{name} {share:g} %": sign * end for name, sign in of.items() for share, end in ends.items()}
    if study == "crop":
        height = size.partition("x")[0]
        wanted = MARGIN * int(height) / PAPER_HEIGHT if height.isdigit() else np.nan
        near = {name: [amount for amount in each if abs(amount - wanted) <= 0.5] for name, each in amounts.items()}
        both = {name: near[name][0] for name in amounts if near[name] and 0 in amounts[name]}
        plus = {f"{name} {margin:g} px": 1 / len(both) for name, margin in both.items()}
        return plus | {f"{name} 0 px": -1 / len(both) for name in both}
    return {row: 1, there: -1} if row in rows and there else {}


def _first(reference: str, rows: Iterable[str]) -> str:
    """Of `a|b` the first that is a row, or a row at some share (`a 40 %`); empty where none is."""
    known = {name for row in rows for name in (row, re.sub(r" [\d.]+ %$", "", row))}
    return next((name for name in reference.split("|") if name in known), "")


@dataclass(frozen=True)
class Comparison:
    """One difference that a claim names, by attribute and over them."""

    claim: Claim
    title: str
    effects: dict[str, Effect]
    unequal: str = ""  # at unequal steps (120 against 45); empty where they are equal
    unfinished: str = ""  # a and b not trained out; empty where all are, or it is not known

    @property
    def effect(self) -> Effect:
        """What the claim is judged by; of one attribute, that one's; of several without a common fold, nothing's."""
        alone = next(iter(self.effects.values())) if len(self.effects) == 1 else without_images(np.nan)
        return self.effects.get(self.claim.of, alone)

    @property
    def single(self) -> dict[str, Effect]:
        return {name: effect for name, effect in self.effects.items() if name not in (AVERAGE, RARER)}

    @property
    def word(self) -> str:
        """Said of this difference alone, whatever its steps."""
        (low, high), effect = self.effect.interval, self.effect
        if effect.lacks:
            return UNDECIDED
        if self.claim.same:
            inside, beyond = -ALIKE <= low <= high <= ALIKE, low > ALIKE or high < -ALIKE
        else:
            inside, beyond = low > 0, high < 0
        return SUPPORTED if inside else CONTRADICTED if beyond else UNDECIDED

    @property
    def needs(self) -> str:
        if np.isnan(self.effect.difference):
            return "a fold that all attributes have"
        alike = self.claim.same and self.word == UNDECIDED
        return self.effect.lacks or ("more groups or seeds" if alike else self.effect.needs)

    @property
    def least(self) -> tuple[int, float]:
        """Of two, the one that supports the claim less has the lower one."""
        low = self.effect.interval[0]
        return _ORDER.index(self.word), low if np.isfinite(low) else self.effect.difference

    @cached_property
    def said(self) -> str:
        """+3.1 (-1.0 to +7.2) tatl - source, 3 of 4 attributes, 412 positives, 5 x 3; in percent points."""
        effect, single = self.effect, self.single.values()
        agree = sum(abs(each.difference) <= ALIKE if self.claim.same else each.difference > 0 for each in single)
        of = f"{agree} of {counted(len(single), 'attribute')}" if self.claim.of == AVERAGE else ""
        design = f"{effect.folds} x {effect.seeds}" if effect.folds else ""
        facts = f"{in_points(effect)} {self.title}", of, f"{effect.positives} positives", design
        return ", ".join(filter(None, [*facts, self.unequal, self.unfinished]))


def in_points(effect: Effect) -> str:
    """+3.1 (-1.0 to +7.2), in percent points; an interval where there is one, empty without a difference."""
    if np.isnan(effect.difference):
        return ""
    low, high = (100 * end for end in effect.interval)
    return f"{100 * effect.difference:+.1f}" + (f" ({low:+.1f} to {high:+.1f})" if np.isfinite(low) else "")


def comparisons_of(claim: Claim, tables: StudyTables) -> list[Comparison]:
    """The differences of a claim that a study measured."""
    found = []
    for row, reference in claim.pairs:
        of = weights(claim.study, row, reference, tables.variants, str(tables.about.get("size", "")))
        effects = _effects(tables, of) if of else {}
        if effects.keys() & ({claim.of} if claim.of == RARER else effects.keys()):
            there = _first(reference, tables.variants) or reference
            title = f"{row} - {there}" + ", less data" * (claim.study == "data-size") + ", rarer" * (claim.of == RARER)
            found.append(Comparison(claim, title, effects, _unequal(tables, of), _unfinished(tables, of)))
    return found


def _unequal(tables: StudyTables, of: Iterable[str]) -> str:
    """Of a row that was given over 5 % more steps than its reference, all stages counted, each with all of its data.

    The most that one of its networks took: patience may end others before.  Empty where it is not known, and of
    margins, which share their steps.
    """
    rows = list(of)[1::2] if tables.study == "data-size" else list(of)
    most = tables.folds.groupby("variant").max(numeric_only=True)  # of every attribute, fold and seed
    steps = most.reindex(rows).get("steps_in_all", pd.Series(dtype=float)).dropna()
    if tables.study == "crop" or len(steps) != 2 or steps.iloc[0] <= 1.05 * steps.iloc[1]:
        return ""
    return f"at unequal steps ({steps.iloc[0]:.0f} against {steps.iloc[1]:.0f})"


def _unfinished(tables: StudyTables, of: Iterable[str]) -> str:
    early = not_trained_out(tables.average.reindex(list(of)))
    return f"{' and '.join(early.index[early])} not trained out" if early.any() else ""


def _effects(tables: StudyTables, of: dict[str, float]) -> dict[str, Effect]:
    """By attribute, and over them; without intervals where the study kept no images."""
    if set(of) <= set(tables.images["variant"]):
        return contrast(checked(tables.images, tables.shape), of)
    part = tables.measured[tables.measured["attribute"].isin([*tables.attributes, AVERAGE])]
    wide = part.pivot_table(index="attribute", columns="variant", values="dice", sort=False)
    if not set(of) <= set(wide):
        return {}
    differences = (wide[list(of)] * pd.Series(of)).sum(axis=1, skipna=False).dropna()
    first = part[part["variant"] == next(iter(of))].set_index("attribute")["positives"].reindex(differences.index)
    each = zip(differences.index, differences, first.fillna(0), strict=True)
    return {str(name): without_images(float(value), int(positives)) for name, value, positives in each}

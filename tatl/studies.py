"""Named studies: which rows a table or figure of the paper compares, and the runs that make them.

variants   Tables 3, 4, A.10-A.13   the five variants
paradigms  Table 9                  starts on whole images, alike in all else; beside them, where lesions are known,
                                    TATL with its crop (stage123); controls: lesion, shuffled-union, frozen-random
data-size  Figure 4                 the agnostic start, the same from random weights, and the source domain alone, on
                                    nested shares of the training groups

A row is called `variant` in every table.  Runs that several studies share are the same runs, and trained once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tatl.data.store import LESION, UNION
from tatl.settings import names
from tatl.variants import VARIANTS, Member, Planner

WHOLE = VARIANTS["stage23"]
SCRATCH = dataclasses.replace(WHOLE, scratch=True)
PARADIGMS = (
    "tatl", "tatl-freeze", "source", "rotation", "context", "augmentation", "random",
    "lesion", "shuffled-union", "frozen-random", "stage123",
)  # fmt: skip
SIZES = {"tatl": ("tatl", WHOLE), "tatl-scratch": ("tatl", SCRATCH), "source": ("source", WHOLE)}
FRACTIONS = "100,80,60,40"


@dataclass(frozen=True)
class Asked:
    """What narrows a study: its variants, and for data-size the percentages of the training groups; empty: all."""

    variants: str = ""
    fractions: str = ""


Rows = list[tuple[Member, dict[str, Any]]]  # a member, and what its row is, as columns of the tables


def variants(planner: Planner, asked: Asked) -> Rows:
    """The five variants."""
    return [(member, {}) for member in planner.members(chosen(asked.variants, VARIANTS, "variant"))]


def paradigms(planner: Planner, asked: Asked) -> Rows:
    """Every start on whole images."""
    lesions = bool(planner.store.known(LESION).all())
    rows = chosen(asked.variants, PARADIGMS, "variant")
    if not asked.variants and not lesions:
        rows = [row for row in rows if row not in ("lesion", "stage123")]
    if needing := [row for row in rows if row in ("lesion", "stage123")]:
        planner.require(LESION, f"the row {', '.join(needing)} of paradigms", "choose other --variants")
    planner.require(UNION, "the study paradigms", "choose a store whose attributes are all known")
    return [
        (member, {"start": member.run.start, "augment": member.run.recipe.augment, "crop": bool(member.run.cropper)})
        for row in rows
        for member in _row(planner, row)
    ]


def _row(planner: Planner, row: str) -> Iterator[Member]:
    for member in planner.each(row):
        place = (member.attribute, member.shape, member.fold, member.seed)
        if row in VARIANTS:
            run = planner.target(VARIANTS[row], *place)
        elif row == "augmentation":
            run = planner.started("source", WHOLE, *place)
            run = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, augment=True))
        else:
            run = planner.started(row, WHOLE, *place)
        yield dataclasses.replace(member, run=run)


def data_size(planner: Planner, asked: Asked) -> Rows:
    """Three starts at every share of the training groups; where lesions are known or not, on whole images."""
    planner.require(UNION, "the study data-size", "choose a store whose attributes are all known")
    found: Rows = []
    for fraction in percentages(asked.fractions or FRACTIONS):
        smaller = planner.at(fraction / 100)
        for row in chosen(asked.variants, SIZES, "variant"):
            start, variant = SIZES[row]
            for member in smaller.each(f"{row} {fraction:g} %"):
                run = smaller.started(start, variant, member.attribute, member.shape, member.fold, member.seed)
                found.append((dataclasses.replace(member, run=run), {"start": row, "fraction": fraction / 100}))
    return found


@dataclass(frozen=True)
class Study:
    """A name, what it is in the paper, and its rows."""

    name: str
    paper: str
    rows: Callable[[Planner, Asked], Rows]


STUDIES = {
    study.name: study
    for study in (
        Study("variants", "Tables 3, 4, A.10-A.13", variants),
        Study("paradigms", "Table 9", paradigms),
        Study("data-size", "Figure 4", data_size),
    )
}


def study(name: str) -> Study:
    """The study called so; ValueError lists the known ones."""
    if name not in STUDIES:
        raise ValueError(f"study {name!r} is unknown: choose one of {', '.join(STUDIES)}")
    return STUDIES[name]


def chosen(text: str, known: Sequence[str] | dict[str, Any], what: str) -> list[str]:
    """The names in `text`, all known ones where it is empty; ValueError for an unknown one."""
    if unknown := [name for name in names(text) if name not in known]:
        raise ValueError(f"{what} {', '.join(unknown)} unknown: choose of {', '.join(known)}")
    return names(text) or list(known)


def percentages(text: str) -> list[float]:
    """`100,40` as numbers, the largest first; ValueError for what is no share."""
    try:
        found = [float(word) for word in names(text)]
    except ValueError:
        found = []
    if not found or not all(0 < number <= 100 for number in found):
        raise ValueError(f"fractions {text!r} are percentages of the training groups such as {FRACTIONS}")
    return sorted(found, reverse=True)

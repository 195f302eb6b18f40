"""Named studies: which rows a table or figure of the paper compares, and the runs that make them.

variants   Tables 3, 4, A.10-A.13   the five variants; where asked for, stage3-long and stage13-long, whose targets
                                    train for the epochs of Stage 2 and Stage 3 together, and the challenges' winners
paradigms  Table 9                  starts on whole images, alike in all else; beside them, where lesions are known,
                                    TATL with its crop (stage123); controls: source-long (as many steps as Stage 2
                                    and 3 together), lesion, shuffled-union, frozen-random
crop       Table 5                  lesion networks and offsets: the lesion's Dice, and the attributes' on each crop
backbones  Tables 6, 7, 8           backbones from the source domain, from the agnostic network, and with it kept fixed
convergence  Figures 5, 6           the pretext scored as it is beside what starts from it, and loss curves
data-size  Figure 4                 the agnostic start, the same from random weights, and the source domain alone, on
                                    nested shares of the training groups
bound      Figure 7                 starts before their first step, per attribute; analysis.bound measures them

A row is called `variant` in every table.  Runs that several studies share are the same runs, and trained once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tatl.names import (
    BACKBONE_STARTS,
    BACKBONES,
    BOUND_STARTS,
    CONVERGENCE_ROWS,
    FRACTIONS,
    LESION,
    LESION_NETWORKS,
    OFFSETS,
    PRETEXT,
    SIZE_STARTS,
    STAGE1,
    STARTS,
    UNION,
    VARIANTS,
    WINNERS,
)
from tatl.studies.planner import STAGES_OF, Member, Planner
from tatl.studies.settings import names, numbers

WHOLE = STAGES_OF["stage23"]
SCRATCH = dataclasses.replace(WHOLE, scratch=True)
LONG = {f"{name}-long": name for name in ("stage3", "stage13")}  # rows of `variants` that can be asked for
SIZES = dict(zip(SIZE_STARTS, (("tatl", WHOLE), ("tatl", SCRATCH), ("source", WHOLE)), strict=True))
BOUND = "bound"


@dataclass(frozen=True)
class Asked:
    """What narrows a study; empty: all.

    variants   its rows
    fractions  of data-size: percentages of the training groups
    offsets    of crop: pixels of the store's frame
    networks   of crop: lesion networks
    backbones  of backbones
    """

    variants: str = ""
    fractions: str = ""
    offsets: str = ""
    networks: str = ""
    backbones: str = ""


Rows = list[tuple[Member, dict[str, Any]]]  # a member, and what its row is, as columns of the tables


def variants(planner: Planner, asked: Asked) -> Rows:
    """The five variants, and where they are asked for longer ones and the winners of two challenges."""
    rows = chosen(asked.variants, (*VARIANTS, *LONG, *WINNERS), "variant") if asked.variants else list(VARIANTS)
    five = planner.members([row for row in rows if row in VARIANTS]) if set(rows) & set(VARIANTS) else []
    long = [member for row in rows if row in LONG for member in _longer(planner, row)]
    if long and planner.settings.freeze_encoder and not five:
        raise ValueError("freeze_encoder keeps Stage 2's encoder, and stage3-long and stage13-long have no Stage 2")
    if won := [row for row in rows if row in WINNERS]:
        planner.require_attributes(", ".join(won))
        if planner.settings.freeze_encoder and not five:
            raise ValueError(f"freeze_encoder keeps Stage 2's encoder, and {', '.join(won)} has no Stage 2")
    others = [member for row in won for member in _winner(planner, row)]
    return [(member, {}) for member in (*five, *long, *others)]


def _longer(planner: Planner, row: str) -> Iterator[Member]:
    """Targets of a variant without Stage 2 that train for its epochs too."""
    for member in planner.but(freeze_encoder=False).members([LONG[row]]):
        place = (member.attribute, member.shape, member.fold, member.seed)
        yield dataclasses.replace(member, variant=row, run=planner.started("source-long", STAGES_OF[LONG[row]], *place))


def _winner(planner: Planner, row: str) -> Iterator[Member]:
    """A challenge's winner on whole images: one network, or four that are averaged."""
    for backbone in WINNERS[row]:
        other = planner.but(backbone=backbone, shapes="u")
        shape = "pyramid" if row == "isic2018-winner" else row
        for member in other.each(row):
            run = other.started("source", WHOLE, member.attribute, shape, member.fold, member.seed)
            yield dataclasses.replace(member, run=run, shape=f"{shape}-{backbone}")


def paradigms(planner: Planner, asked: Asked) -> Rows:
    """Every start on whole images."""
    lesions = bool(planner.store.known(LESION).all())
    rows = chosen(asked.variants, STARTS, "variant")
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
            run = planner.target(STAGES_OF[row], *place)
        elif row == "augmentation":
            run = planner.started("source", WHOLE, *place)
            run = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, augment=True))
        elif row == "attention":
            gated = f"attention-{member.shape}"
            run = planner.started("source", WHOLE, member.attribute, gated, member.fold, member.seed)
        else:
            run = planner.started(row, WHOLE, *place)
        yield dataclasses.replace(member, run=run)


def crop(planner: Planner, asked: Asked) -> Rows:
    """Every lesion network with every offset; where no attribute is known the lesion networks alone."""
    planner.require(LESION, "the study crop", "choose a store with lesion masks")
    offsets = numbers("offsets", asked.offsets or ",".join(map(str, OFFSETS)))
    height, width = planner.store.size
    if largest := [offset for offset in offsets if offset >= min(height, width)]:
        raise ValueError(f"offset {largest[0]} is larger than the images of {height}x{width}: give smaller --offsets")
    unknown = [name for name in planner.attributes if not planner.store.known(name).all()]
    known = bool(planner.attributes) and not unknown
    if unknown:
        planner.remarks.append(f"{', '.join(unknown)} unknown in some images; the lesion's Dice alone is measured")
    found: Rows = []
    for network in chosen(asked.networks, LESION_NETWORKS, "lesion network"):
        if not known:
            stage1 = planner.but(lesion_network=network).members([STAGE1])
            found += [(dataclasses.replace(m, variant=network), {"lesion_network": network}) for m in stage1]
            continue
        for offset in offsets:
            other = planner.but(lesion_network=network, offset=offset)
            for member in other.each(f"{network} {offset} px"):
                place = (member.attribute, member.shape, member.fold, member.seed)
                run = other.target(STAGES_OF["stage13"], *place)
                kind = {"lesion_network": network, "offset": offset}
                found.append((dataclasses.replace(member, run=run), kind))
    return found


def backbones(planner: Planner, asked: Asked) -> Rows:
    """Every backbone from the source domain, from its agnostic network, and with that encoder kept fixed."""
    planner.require(UNION, "the study backbones", "choose a store whose attributes are all known")
    found: Rows = []
    for backbone in names(asked.backbones) or BACKBONES:
        other = planner.but(backbone=backbone)
        for start in chosen(asked.variants, BACKBONE_STARTS, "variant"):
            for member in other.each(f"{backbone} {start}"):
                run = other.started(start, WHOLE, member.attribute, member.shape, member.fold, member.seed)
                found.append((dataclasses.replace(member, run=run), {"backbone": backbone, "start": start}))
    return found


def convergence(planner: Planner, asked: Asked) -> Rows:
    """The agnostic network scored on every attribute as it is, and targets from it and from the source domain."""
    planner.require(UNION, "the study convergence", "choose a store whose attributes are all known")
    found: Rows = []
    for row in chosen(asked.variants, CONVERGENCE_ROWS, "variant"):
        for member in planner.each(row):
            place = (member.attribute, member.shape, member.fold, member.seed)
            run = planner.started("tatl" if row == PRETEXT else row, WHOLE, *place)
            if row == PRETEXT:
                assert run.parent is not None
                run = run.parent
            found.append((dataclasses.replace(member, run=run), {}))
    return found


def data_size(planner: Planner, asked: Asked) -> Rows:
    """Three starts at every share of the training groups; where lesions are known or not, on whole images."""
    planner.require(UNION, "the study data-size", "choose a store whose attributes are all known")
    found: Rows = []
    for fraction in percentages(asked.fractions) if asked.fractions else FRACTIONS:
        smaller = planner.but(fraction=fraction / 100)
        _require_positives(planner, smaller)
        for row in chosen(asked.variants, SIZES, "variant"):
            start, variant = SIZES[row]
            for member in smaller.each(f"{row} {fraction:g} %"):
                run = smaller.started(start, variant, member.attribute, member.shape, member.fold, member.seed)
                found.append((dataclasses.replace(member, run=run), {"start": row, "fraction": fraction / 100}))
    return found


def _require_positives(planner: Planner, smaller: Planner) -> None:
    """ValueError where a share of the training groups has no positive of an attribute that the whole of them has."""
    for fold in planner.settings.fold_numbers:
        there = smaller.trainable(fold)
        if lost := [name for name in planner.trainable(fold) if name not in there]:
            raise ValueError(
                f"{smaller.settings.fraction:.0%} of the training groups of fold {fold} leave no image with "
                f"{', '.join(lost)}: give larger --fractions, or other --attributes"
            )


def bound(planner: Planner, asked: Asked) -> Rows:
    """Starts of every attribute and seed, of the first shape and fold, on whole images; none is trained itself."""
    settings = planner.settings
    shape, fold = names(settings.shapes)[0], settings.fold_numbers[0]
    starts = chosen(asked.variants, BOUND_STARTS, "start")
    if "tatl" in starts:
        planner.require(UNION, "the start tatl of bound", "choose other --variants")
    return [
        (Member(start, shape, seed, fold, attribute, planner.started(start, WHOLE, attribute, shape, fold, seed)), {})
        for start in starts
        for seed in settings.seed_numbers
        for attribute in planner.attributes
    ]


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
        Study("crop", "Table 5", crop),
        Study("backbones", "Tables 6, 7, 8", backbones),
        Study("data-size", "Figure 4", data_size),
        Study("convergence", "Figures 5, 6", convergence),
        Study(BOUND, "Figure 7", bound),
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
        raise ValueError(f"fractions {text!r} are percentages of the training groups such as 100,80,60,40")
    return sorted(found, reverse=True)

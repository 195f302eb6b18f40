"""Named studies: which rows a table or figure of the paper compares, and the runs that make them.

variants   Tables 3, 4, A.10-A.13   the five variants; where asked for, stage3-long and stage13-long, whose targets
                                    train for the epochs of Stage 2 and Stage 3 together, and the challenges' winners
paradigms  Table 9                  starts on whole images, alike in all else; beside them, where lesions are known,
                                    TATL with its crop (stage123); controls: source-long (as many steps as Stage 2
                                    and 3 together), multilabel (from one network of all attributes at once),
                                    multilabel-direct (that network as it is, as many epochs as Stage 2 and 3
                                    together), lesion, shuffled-union, frozen-random, textures beside ImageNet
crop       Table 5                  lesion networks and offsets: the lesion's Dice, and the attributes' on each crop
backbones  Tables 6, 7, 8           backbones from the source domain, from the agnostic network, and with it kept fixed
convergence  Figures 5, 6           the pretext scored as it is beside what starts from it, and loss curves
data-size  Figure 4                 the agnostic start, the same from random weights, and the source domain alone, on
                                    nested shares of the training groups; where asked for, source-long and multilabel

A row is called `variant` in every table.  Runs that several studies share are the same runs, and trained once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tatl import names
from tatl.names import LESION, PRETEXT, STAGE1, VARIANTS, WINNERS
from tatl.run.recipe import among
from tatl.studies.planner import STAGES_OF, WHOLE, Member, Planner
from tatl.studies.settings import Asked, comma_list, comma_numbers

SCRATCH = replace(WHOLE, scratch=True)
LONG = {f"{name}-long": name for name in ("stage3", "stage13")}  # rows of `variants` that can be asked for
SIZES = dict(zip(names.SIZE_STARTS, (("tatl", WHOLE), ("tatl", SCRATCH), ("source", WHOLE)), strict=True))
MORE_SIZES = {row: (row, WHOLE) for row in ("source-long", names.MULTILABEL)}  # that can be asked for


def _variants(planner: Planner, asked: Asked) -> list[Member]:
    """The five variants, and where they are asked for longer ones and the winners of two challenges."""
    rows = _chosen(asked.variants, (*VARIANTS, *LONG, *WINNERS), "variant") if asked.variants else list(VARIANTS)
    five = planner.members([row for row in rows if row in VARIANTS]) if set(rows) & set(VARIANTS) else []
    planner.check_frozen(rows)
    found = list(five)
    for row in [row for row in rows if row in LONG]:  # a target without Stage 2 that trains for its epochs too
        planner.but(freeze_encoder=False).members([LONG[row]])
        found += planner.row(row, "source-long", STAGES_OF[LONG[row]])
    if won := [row for row in rows if row in WINNERS]:
        planner.require_attributes(", ".join(won))
    return found + [member for row in won for member in _winner(planner, row)]


def _winner(planner: Planner, row: str) -> Iterable[Member]:
    """A challenge's winner on whole images: one network, or four that are averaged."""
    shape = "pyramid" if row == "isic2018-winner" else row
    for backbone in WINNERS[row]:
        for member in planner.but(backbone=backbone, shapes="u").row(row, "source", network=shape):
            yield replace(member, shape=f"{shape}-{backbone}")


def _paradigms(planner: Planner, asked: Asked) -> list[Member]:
    """Every start on whole images."""
    rows = _chosen(asked.variants, names.STARTS, "variant")
    if not asked.variants and not planner.store.known(LESION).any():
        rows = [row for row in rows if row not in ("lesion", "stage123")]
    if planner.settings.source != "imagenet" and names.TEXTURES in rows:
        if asked.variants:
            raise ValueError(f"the row textures stands beside --source imagenet, and it is {planner.settings.source}")
        rows.remove(names.TEXTURES)
    if needing := [row for row in rows if row in ("lesion", "stage123")]:
        planner.require(LESION, f"the row {', '.join(needing)} of paradigms", "choose other --variants")
    planner.require_union("paradigms")
    members = [member for row in rows for member in _paradigm(planner, row)]
    return [replace(m, kind={"start": m.run.start, "augment": m.run.recipe.augment, "crop": bool(m.run.cropper)})
            for m in members]  # fmt: skip


def _paradigm(planner: Planner, row: str) -> list[Member]:
    if row in VARIANTS:
        return planner.variant(row)
    if row == "attention":
        return planner.row(row, "source", network="attention-{}")
    if row == "augmentation":
        plain = [(member, member.run.recipe) for member in planner.row(row, "source")]
        return [replace(m, run=replace(m.run, recipe=replace(recipe, augment=True))) for m, recipe in plain]
    if row == names.TEXTURES:
        return planner.but(source=row).row(row, "source")
    if row == "multilabel-direct":  # scored as it is, after as many epochs as Stage 2 and 3 together
        both = planner.settings.recipe("agnostic").epochs
        return [
            replace(m, run=replace(parent, recipe=replace(parent.recipe, epochs=m.run.recipe.epochs + both)))
            for m in planner.row(row, names.MULTILABEL)
            if (parent := m.run.parent)
        ]
    return planner.row(row, row)


def _crop(planner: Planner, asked: Asked) -> list[Member]:
    """Every lesion network with every offset; where no attribute is known the lesion networks alone."""
    planner.require(LESION, "the study crop", "choose a store with lesion masks")
    offsets = comma_numbers("offsets", asked.offsets or ",".join(map(str, names.OFFSETS)))
    networks = _chosen(asked.networks, names.LESION_NETWORKS, "lesion network")
    if unknown := [name for name in planner.attributes if not planner.store.known(name).any()]:
        planner.remarks.append(f"{', '.join(unknown)} unknown in all images; the lesion's Dice alone is measured")
    if unknown or not planner.attributes:
        each = [(name, planner.but(lesion_network=name).members([STAGE1])) for name in networks]
        return [replace(m, variant=name, kind={"lesion_network": name}) for name, members in each for m in members]
    return [
        member
        for network in networks
        for offset in offsets
        for member in planner.but(lesion_network=network, offset=offset).row(
            f"{network} {offset} px", "source", STAGES_OF["stage13"], kind={"lesion_network": network, "offset": offset}
        )
    ]


def _backbones(planner: Planner, asked: Asked) -> list[Member]:
    """Every backbone from the source domain, from its agnostic network, and with that encoder kept fixed."""
    planner.require_union("backbones")
    starts = _chosen(asked.variants, names.BACKBONE_STARTS, "variant")
    return [
        member
        for backbone in comma_list(asked.backbones) or names.BACKBONES
        for start in starts
        for member in planner.but(backbone=backbone).row(
            f"{backbone} {start}", start, kind={"backbone": backbone, "start": start}
        )
    ]


def _convergence(planner: Planner, asked: Asked) -> list[Member]:
    """The agnostic network scored on every attribute as it is, and targets from it and from the source domain."""
    planner.require_union("convergence")
    found = list[Member]()
    for row in _chosen(asked.variants, names.CONVERGENCE_ROWS, "variant"):
        members = planner.row(row, "tatl" if row == PRETEXT else row)
        found += [replace(m, run=m.run.parent) for m in members if m.run.parent] if row == PRETEXT else members
    return found


def _data_size(planner: Planner, asked: Asked) -> list[Member]:
    """Three starts at every share of the training groups; where lesions are known or not, on whole images."""
    planner.require_union("data-size")
    found = list[Member]()
    for percent in _percentages(asked.fractions) if asked.fractions else [100 * part for part in names.FRACTIONS]:
        smaller = planner.but(fraction=percent / 100)
        _require_positives(planner, smaller)
        for row in _chosen(asked.variants, SIZES | MORE_SIZES, "variant") if asked.variants else SIZES:
            kind = {"start": row, "fraction": percent / 100}
            found += smaller.row(f"{row} {percent:g} %", *(SIZES | MORE_SIZES)[row], kind=kind)
    return found


def _require_positives(planner: Planner, smaller: Planner) -> None:
    """ValueError where a share of the training groups has no positive of an attribute that the whole of them has."""
    for fold in planner.settings.fold_numbers:
        there = smaller.trainable(fold)
        if lost := [name for name in planner.trainable(fold) if name not in there]:
            share = f"{smaller.settings.fraction:.0%} of the training groups of fold {fold}"
            remedy = "give larger --fractions, or other --attributes"
            raise ValueError(f"{share} leave no image with {', '.join(lost)}: {remedy}")


@dataclass(frozen=True)
class Study:
    """What it is in the paper, and its members."""

    paper: str
    members: Callable[[Planner, Asked], list[Member]]


__all__ = ["STUDIES", "Asked", "Study"]
STUDIES = {
    "variants": Study("Tables 3, 4, A.10-A.13", _variants),
    "paradigms": Study("Table 9", _paradigms),
    "crop": Study("Table 5", _crop),
    "backbones": Study("Tables 6, 7, 8", _backbones),
    "data-size": Study("Figure 4", _data_size),
    "convergence": Study("Figures 5, 6", _convergence),
}


def _chosen(text: str, known: Sequence[str] | dict[str, Any], what: str) -> list[str]:
    """The names in `text`, all known ones where it is empty; ValueError for an unknown one."""
    found = comma_list(text) or list(known)
    among(what, found, list(known))
    return found


def _percentages(text: str) -> list[float]:
    """`100,40` as numbers, the largest first; ValueError for what is no share."""
    try:
        found = [float(word) for word in comma_list(text)]
    except ValueError:
        found = []
    if not found or not all(0 < number <= 100 for number in found):
        raise ValueError(f"fractions {text!r} are percentages of the training groups such as 100,80,60,40")
    return sorted(found, reverse=True)

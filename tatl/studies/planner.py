"""The five variants of TATL (Tables 3 and 4) as runs: which networks each needs, and what each starts from.

stage3            targets on the whole image, encoder from the source domain
stage23           agnostic network on the whole image, targets start from it
stage13           targets on the crop round the lesion
stage123          crop, agnostic network, targets: the whole of TATL
stage123-scratch  the same, every network's first weights random instead of from the source domain
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tatl.data.folds import Split, split
from tatl.data.store import Store
from tatl.models.starts import start_rule
from tatl.names import CONTEXT, LESION, MULTILABEL, PLAIN, RIVALS, ROTATION, SHUFFLED, STAGE1, TEXTURES, UNION, VARIANTS
from tatl.run import Run
from tatl.run.hub import hub_weights
from tatl.run.recipe import among
from tatl.run.textures import TEXTURE_RECIPE, texture_run
from tatl.studies.places import open_store
from tatl.studies.settings import Settings, Where, comma_list
from tatl.training.device import device_kind, usual_precision


@dataclass(frozen=True)
class Variant:
    crop: bool
    agnostic: bool
    scratch: bool = False


STAGES_OF = {
    "stage3": Variant(crop=False, agnostic=False),
    "stage23": Variant(crop=False, agnostic=True),
    "stage13": Variant(crop=True, agnostic=False),
    "stage123": Variant(crop=True, agnostic=True),
    "stage123-scratch": Variant(crop=True, agnostic=True, scratch=True),
}
WHOLE = STAGES_OF["stage23"]


@dataclass(frozen=True)
class Member:
    """One target segmenter's place in a study; `kind` is what its row is, as columns of the tables."""

    variant: str
    shape: str
    seed: int
    fold: int
    attribute: str
    run: Run
    kind: dict[str, Any] = field(default_factory=dict, compare=False)


class Planner:
    """Settings, a store and a device to runs; raises ValueError before any training where the store lacks something.

    Of the device only its usual precision is part of a run.  What `tatl.run.finished` finds is not trained again.
    """

    def __init__(
        self, settings: Settings, store: Store, imagenet_weights: Path | None = None, device: str = "auto"
    ) -> None:
        self.settings, self.store, self.imagenet_weights, self.device = settings, store, imagenet_weights, device
        self.precision = usual_precision(device_kind(device))
        self.remarks = list[str]()  # what a study found about the store
        if (given := imagenet_weights) and settings.source != "imagenet":
            raise ValueError(f"ImageNet weights are given and the source is {settings.source}: add --source imagenet")
        if given and not given.exists():
            raise FileNotFoundError(f"no ImageNet weights at {given}: give a .safetensors or .pth file, or a folder")
        self.attributes = comma_list(settings.attributes) or list(store.attributes)
        if unknown := [name for name in self.attributes if name not in store.attributes]:
            known = ", ".join(store.attributes)
            raise ValueError(f"store {store.name!r} has no attribute {', '.join(unknown)}: it has {known}")

    @classmethod
    def of(cls, settings: Settings, place: Where, write: bool = True) -> Planner:
        """On the store of a place, which is only outlined unless `write`."""
        store = open_store(place.store, place.preset, write)
        return cls(settings, store, place.imagenet_weights, place.device)

    def base(self, task: str, stage: str, shape: str, fold: int, seed: int, scratch: bool) -> Run:
        """A run at its first weights: from the source domain, or random (as what has no known encoder always is)."""
        s = self.settings
        backbone = RIVALS.get(shape, s.backbone)
        source = "random" if scratch or backbone == PLAIN else s.source
        recipe = replace(TEXTURE_RECIPE, precision=self.precision)
        return Run(
            store=self.store.name,
            digest=self.store.digest,
            size=str(self.store.size),
            task=task,
            shape=shape,
            backbone=backbone,
            start="random" if source == "random" else "source",
            source=source,
            weights=self._weights(backbone) if source == "imagenet" else "",
            parent=texture_run(backbone, recipe) if source == TEXTURES else None,
            fold=fold,
            n_folds=s.n_folds,
            fraction=s.fraction,
            seed=seed,
            split_seed=s.split_seed,
            score_size=s.score_size,
            recipe=s.recipe(stage, self.precision),
        )

    def _weights(self, backbone: str) -> str:
        """What names the file of ImageNet weights in a run's identity: its checksum, or its name on the hub."""
        if not (given := self.imagenet_weights):
            return hub_weights(backbone)
        from tatl.models.imagenet import file_digest, weights_file

        return file_digest(weights_file(given, backbone))

    def lesion(self, fold: int, seed: int, scratch: bool = False) -> Run:
        """Stage 1: the lesion in the whole image."""
        return self.base(LESION, "lesion", self.settings.lesion_network, fold, seed, scratch)

    def start_of(self, variant: Variant) -> str:
        """How the targets of a variant start."""
        return "source" if not variant.agnostic else "tatl-freeze" if self.settings.freeze_encoder else "tatl"

    def started(self, start: str, variant: Variant, attribute: str, shape: str, fold: int, seed: int) -> Run:
        """The target segmenter of one attribute from any start; `variant` says whether it sees the crop."""
        parts = start_rule(start).parts
        scratch = variant.scratch or not parts
        run = self._cropped(self.base(attribute, "target", shape, fold, seed, scratch), variant)
        if start in ("random", "source"):
            return run
        if start_rule(start).long:  # an epoch of Stage 2 has as many steps: both see the same images
            both = run.recipe.epochs + self.settings.recipe("agnostic").epochs
            return replace(run, start=start, recipe=replace(run.recipe, epochs=both))
        return replace(run, start=start, parent=self._parent(start, variant, shape, fold, seed) if parts else None)

    def _parent(self, start: str, variant: Variant, shape: str, fold: int, seed: int) -> Run:
        """What a start copies from: a pretext sees whole images, Stage 2 and its controls see what the targets see."""
        pretexts, controls = (ROTATION, CONTEXT), (LESION, SHUFFLED, MULTILABEL)
        task = start if start in pretexts + controls else UNION
        scratch = variant.scratch and start not in pretexts
        run = self.base(task, "agnostic", "encoder" if start == ROTATION else shape, fold, seed, scratch)
        return run if start in pretexts else self._cropped(run, variant)

    def _cropped(self, run: Run, variant: Variant) -> Run:
        if not variant.crop:
            return run
        cropper = self.lesion(run.fold, run.seed, variant.scratch)
        return replace(run, cropper=cropper, offset=self.settings.offset)

    def members(self, variants: Iterable[str]) -> list[Member]:
        """Every target segmenter that the variants need, attributes without a training positive left out."""
        chosen = list(variants)
        self._check(chosen)
        seeds, folds = self.settings.seed_numbers, self.settings.fold_numbers
        members = [member for name in chosen for member in self.variant(name)]
        if not members:
            what = f"no training image of store {self.store.name!r} has any of {', '.join(self.attributes)}"
            raise ValueError(f"{what}: choose other --attributes or a larger --fraction")
        return sorted(members, key=lambda member: (seeds.index(member.seed), folds.index(member.fold)))

    def variant(self, name: str) -> list[Member]:
        """The members of one variant."""
        if name == STAGE1:
            network, places = self.settings.lesion_network, self._places()
            return [Member(name, network, seed, fold, LESION, self.lesion(fold, seed)) for seed, fold in places]
        return self.row(name, self.start_of(STAGES_OF[name]), STAGES_OF[name])

    def row(
        self, name: str, start: str, variant: Variant = WHOLE, network: str = "{}", kind: dict[str, Any] | None = None
    ) -> list[Member]:
        """A target from this start for every seed, fold, attribute and shape, the members of a row called `name`.

        `network` is what is trained for a shape: "attention-{}", say.
        """
        return [
            Member(
                name, shape, seed, fold, attribute,
                self.started(start, variant, attribute, network.format(shape), fold, seed), kind or {},
            )
            for seed, fold in self._places()
            for attribute in self.trainable(fold)
            for shape in comma_list(self.settings.shapes)
        ]  # fmt: skip

    def _places(self) -> list[tuple[int, int]]:
        return [(seed, fold) for seed in self.settings.seed_numbers for fold in self.settings.fold_numbers]

    def but(self, **changed: Any) -> Planner:
        """The same with other settings, such as `fraction=0.4`."""
        given = None if "source" in changed else self.imagenet_weights
        return Planner(replace(self.settings, **changed), self.store, given, self.device)

    def split(self, fold: int) -> Split:
        """The images of a fold, which all seeds share."""
        s = self.settings
        return split(self.store, fold, s.n_folds, s.split_seed, s.fraction)

    def trainable(self, fold: int) -> list[str]:
        """The attributes that some training image of the fold has, and that are known in some test image."""
        parts, store = self.split(fold), self.store
        there = [name for name in self.attributes if store.present(name)[parts.train].any()]
        return [name for name in there if store.known(name)[parts.test].any()]

    def _check(self, variants: list[str]) -> None:
        among("variant", variants, (*VARIANTS, STAGE1))
        targets = [name for name in variants if name != STAGE1]
        if cropping := [name for name in variants if name == STAGE1 or STAGES_OF[name].crop]:
            self.require(LESION, f"Stage 1 of {', '.join(cropping)}", "choose --variants stage3,stage23")
        if targets:
            self.require_attributes(", ".join(targets))
        if agnostic := [name for name in targets if STAGES_OF[name].agnostic]:
            self.require(UNION, f"Stage 2 of {', '.join(agnostic)}", "choose stage3 or stage13, or prepare without it")
        self.check_frozen(variants)

    def check_frozen(self, rows: list[str]) -> None:
        """ValueError where Stage 2's encoder is to be kept and no variant among the rows has a Stage 2."""
        if self.settings.freeze_encoder and not any(STAGES_OF[row].agnostic for row in rows if row in STAGES_OF):
            raise ValueError(f"freeze_encoder keeps Stage 2's encoder, and {', '.join(rows)} has no Stage 2")

    def require_attributes(self, what: str) -> None:
        """ValueError where some attribute is unknown in all images."""
        for name in self.attributes:
            self.require(name, f"the target of {name} in {what}", "choose other --attributes, or stage1 alone")

    def require_union(self, study: str) -> None:
        """ValueError where the union is unknown in all images."""
        self.require(UNION, f"the study {study}", "choose a store with images whose attributes are all known")

    def require(self, mask: str, what: str, remedy: str) -> None:
        """ValueError where the mask is unknown in all images; `what` needs it.  Those where it is known are used."""
        if not self.store.known(mask).any():
            where = f"unknown in all {len(self.store)} images of store {self.store.name!r}"
            raise ValueError(f"{what} needs {mask} masks, {where}: {remedy}")
        for fold in self.settings.fold_numbers if mask in (LESION, UNION) else ():
            if self.trainable(fold) and not self.store.present(mask)[self.split(fold).train].any():
                raise ValueError(f"{what} needs {mask} masks, and no training image of fold {fold} has one: {remedy}")

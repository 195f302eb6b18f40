"""Settings of a study, and the presets that fix them.

A preset is a YAML file with the phantom it prepares where no store is given (`data`), the settings of training
(`settings`), and what single studies change of these (`studies`); the command line overrides any field.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from tatl.data.case import Size
from tatl.names import LESION_NETWORKS, SHAPES, SOURCES
from tatl.run import Recipe
from tatl.run.recipe import among

# tatl.studies.catalogue.STUDIES, without importing torch
StudyName = Literal["variants", "paradigms", "crop", "backbones", "data-size", "convergence"]


@dataclass(frozen=True)
class Settings(Recipe):
    """What a study is trained with, the recipe and what is round it; lists are written with commas, empty means all.

    Args:
        epochs: most epochs of a target segmenter (Stage 3)
        patience: epochs without a lower validation loss before training stops
        batch: images in a mini-batch
        optimizer: sgd (the paper's) or adamw
        lr: learning rate, constant
        momentum: of SGD
        weight_decay: L2 penalty (of sgd), or decoupled decay per step (of adamw)
        pool: loss pooled over the mini-batch (batch) or taken per image and averaged (image)
        balance: least share of a mini-batch drawn from images whose mask is not empty
        calibration: training images that re-estimate BatchNorm statistics before every evaluation; 0: running averages
        precision: 32, bf16, or auto (bf16 on a GPU)
        augment: turn, flip, shift, zoom and brighten training images at random
        shapes: decoders whose probabilities are averaged, with commas: u, link, attention-u, attention-link, pyramid
        backbone: efficientnet-lite0, efficientnet-b0, or any encoder of segmentation-models-pytorch
        source: source domain of the first weights: imagenet, textures (an offline stand-in) or random
        attributes: which attributes get a target segmenter, with commas; empty: all of the store
        folds: which test folds to run, counted from 0, with commas; empty: all
        n_folds: number of folds
        seeds: how many trainings on the same folds (3: seeds 0, 1 and 2), or their seeds with commas (0,1,2; seed 7
            alone: 7,)
        split_seed: draws the folds, fractions and the early-stopping part
        fraction: share of the training groups that is used, 0 to 1
        lesion_network: the network of Stage 1: u, unet (plain, from random weights), segnet or mask-rcnn
        offset: pixels of the store's frame added round the lesion box on every side
        freeze_encoder: TATL-Freeze: the target's encoder stays at the agnostic network's weights
        score_size: HEIGHTxWIDTH in pixels at which scores are taken; empty: the store's size
        lesion_epochs: most epochs of Stage 1; 0: as epochs
        agnostic_epochs: most epochs of Stage 2; 0: as epochs
    """

    shapes: str = "u,link"
    backbone: str = "efficientnet-b0"
    source: str = "imagenet"
    attributes: str = ""
    folds: str = ""
    n_folds: int = 5
    seeds: str = "0"
    split_seed: int = 0
    fraction: float = 1.0
    lesion_network: str = "u"
    offset: int = 40
    freeze_encoder: bool = False
    score_size: str = "256x256"
    lesion_epochs: int = 0
    agnostic_epochs: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        among("shapes", comma_list(self.shapes), SHAPES)
        among("source", [self.source], SOURCES)
        among("lesion_network", [self.lesion_network], LESION_NETWORKS)
        if self.score_size:
            Size.parse(self.score_size)
        if self.offset < 0:
            raise ValueError(f"offset {self.offset} is negative: give pixels to add round the lesion box")
        if bad := [fold for fold in self.fold_numbers if not 0 <= fold < self.n_folds]:
            raise ValueError(f"folds {bad} do not exist: there are {self.n_folds}, counted from 0")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction {self.fraction} is a share of the training groups: give more than 0, up to 1")
        if self.n_folds < 2:
            raise ValueError(f"n_folds {self.n_folds} leaves nothing to test on: give at least 2")
        if self.split_seed < 0:
            raise ValueError(f"split_seed {self.split_seed} is negative: give a whole number from 0")
        comma_numbers("seeds", self.seeds)
        among("precision", [self.precision], ("auto", "32", "bf16"))
        for stage in ("lesion", "agnostic", "target"):
            self.recipe(stage)

    @property
    def fold_numbers(self) -> list[int]:
        return comma_numbers("folds", self.folds) or list(range(self.n_folds))

    @property
    def seed_numbers(self) -> list[int]:
        """The seeds; a number alone is how many."""
        found = comma_numbers("seeds", self.seeds) or [0]
        return found if "," in self.seeds or found == [0] else list(range(found[0]))

    def recipe(self, stage: str, auto: str = "32") -> Recipe:
        """The recipe of Stage 1 ("lesion"), 2 ("agnostic") or 3 ("target"); `auto` is the device's usual precision."""
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(Recipe)}
        shared["precision"] = auto if self.precision == "auto" else self.precision
        own = {"lesion": self.lesion_epochs, "agnostic": self.agnostic_epochs}.get(stage, 0)
        return Recipe(**{**shared, "epochs": own or self.epochs})


@dataclass(frozen=True)
class Where:
    """What is trained on, where the runs are, and what makes them.

    Args:
        store: folder written by prepare; without it the preset's phantom is made
        preset: quick, paper or smoke: the defaults of all that follows, which --help shows for the preset beside it
        runs: folder of trained networks; finished ones are not trained again
        device: auto, cpu or cuda
        imagenet_weights: file of the backbone's ImageNet weights, .safetensors or .pth, as torchvision, timm or
            segmentation-models-pytorch save it, or a folder of them, each called by its backbone (resnet152.pth)
    """

    store: Path | None = None
    preset: str = "quick"
    runs: Path = Path("runs")
    device: str = "auto"
    imagenet_weights: Path | None = None


@dataclass(frozen=True)
class Chosen:
    """Which trained networks are used.

    Args:
        variant: whose networks to use: stage1, stage3, stage23, stage13, stage123 or stage123-scratch
        runs: folder of trained networks
        store: name or folder of the store they were trained on, by which predict knows its images; needed if `runs`
            holds several, and to predict if it is not in stores/
        folds: average the networks of these folds; empty: of all that are there
        where: FIELD=VALUE,... of the networks' run.json, such as epochs=40,start=tatl; needed if `runs` holds several
    """

    variant: str = "stage123"
    runs: Path = Path("runs")
    store: str = ""
    folds: str = ""
    where: str = ""


@dataclass(frozen=True)
class Asked:
    """What narrows a study.

    Args:
        variants: which rows of the comparison, with commas; empty: all that the store allows
        fractions: of data-size: percentages of the training groups, with commas; empty: 100,80,60,40
        offsets: of crop: pixels of the store's frame round the lesion's box, with commas; empty: 0,20,40,60
        networks: of crop: lesion networks, with commas; empty: u,unet,segnet,mask-rcnn
        backbones: of backbones: with commas; empty: vgg16,resnet152,inceptionresnetv2,densenet169,efficientnet-b0
    """

    variants: str = ""
    fractions: str = ""
    offsets: str = ""
    networks: str = ""
    backbones: str = ""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that trains the runs and measures starts; by default none does.

    Args:
        on: a Ray cluster to work on, where Ctrl-C begins no more and a second one ends what runs: ray (the one of this
            job, else one that runs on this machine, else this machine alone), HOST:6379 or ray://HOST:10001; empty:
            this machine, without Ray
        gpus_per_run: of a cluster, the share of a GPU that a run has: 0.25 trains four small networks on each
        fetch: its nodes share no disk: the store is copied to each, and a finished run comes back
    """

    on: str = ""
    gpus_per_run: float = 1.0
    fetch: bool = False

    def __post_init__(self) -> None:
        share = self.gpus_per_run
        if share <= 0 or (share > 1 and share != int(share)):
            remedy = "give more than 0 up to 1, such as 0.25, or a whole number of GPUs"
            raise ValueError(f"gpus_per_run {share:g} is no share of a GPU and no number of them: {remedy}")
        if not self.on and (self.fetch or share != 1):
            raise ValueError("--fetch and --gpus-per-run are for a Ray cluster: give --on, such as --on ray")

    @property
    def shares_a_disk(self) -> bool:
        """Whether there is a cluster, whose nodes see the folder of runs."""
        return bool(self.on) and not self.fetch


class Preset(NamedTuple):
    """The phantom that is prepared where no store is given, settings, and what is asked of a study (of `Asked`)."""

    data: dict[str, Any]
    settings: dict[str, Any]
    options: dict[str, Any]


def comma_list(text: str) -> list[str]:
    """`a,b` as a list, each name once; spaces beside the commas are allowed."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def comma_numbers(field: str, text: str) -> list[int]:
    """`0,1` as a list; ValueError for anything else."""
    if not all(word.isdigit() for word in comma_list(text)):
        raise ValueError(f"{field} {text!r} is not a list of whole numbers such as 0,1")
    return list(dict.fromkeys(int(word) for word in comma_list(text)))


def presets() -> list[str]:
    """The names of the presets that come with the package."""
    return sorted(Path(f.name).stem for f in files("tatl.studies.presets").iterdir() if f.name.endswith(".yaml"))


def load_preset(name: str, study: str = "") -> Preset:
    """A preset, with what it changes for one study; what it leaves out keeps its default.

    ValueError for an unknown preset.
    """
    if name not in presets():
        raise ValueError(f"preset {name!r} is unknown: choose one of {', '.join(presets())}")
    values = yaml.safe_load((files("tatl.studies.presets") / f"{name}.yaml").read_text(encoding="utf-8"))
    given = {**values["settings"], **values.get("studies", {}).get(study, {})}
    fields = Settings.__dataclass_fields__
    settings = {key: value for key, value in given.items() if key in fields}
    Settings(**settings)  # a wrong value raises here, not in a study
    return Preset(values["data"], settings, {k: v for k, v in given.items() if k not in fields})


def beyond_preset(settings: Settings, preset: str, study: str = "") -> dict[str, Any]:
    """The settings that are not those of the preset for this study."""
    usual = Settings(**load_preset(preset, study).settings)
    return {key: value for key, value in vars(settings).items() if value != getattr(usual, key)}

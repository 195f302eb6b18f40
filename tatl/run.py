"""A run: everything that makes one trained network, and the folder that is a formula of it.

    runs/<store>/<task>/<shape>-<backbone>-<start>/fold0of5-seed0-<hash>/
        run.json             the identity: this dataclass, its parents inside it
        weights.safetensors  written last: a run is finished when its weights are there
        history.csv          epoch, step, split (train or validation), loss, lr
        scores.csv           per test image: image, attribute, tp, fp, fn, tn (fractions of the area)
        probabilities.npy    uint8 [n, h, w] of the test images, floor(256 p)
        boxes.csv            Stage 1 only: the crop of every image of the store
        log                  when, where, how long, with which versions

The hash covers the run and the runs it starts from, so two runs share a folder only if they are the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
SHAPES = ("u", "link", "attention-u", "attention-link", "pyramid")  # decoders, for any backbone
# Networks of one backbone each, which is what their runs are called by: segnet-vgg16_bn-random.
PLAIN = "plain"  # a backbone of no source domain
RIVALS = {"isic2017-winner": "vgg16", "segnet": "vgg16_bn", "unet": PLAIN, "mask-rcnn": "resnet50"}
LESION_NETWORKS = ("u", "unet", "segnet", "mask-rcnn")  # Table 5
ISIC2018_WINNER = ("resnet152", "densenet169", "xception", "inceptionresnetv2")  # "pyramid" on each, averaged
SOURCES = ("textures", "imagenet", "random")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.  Defaults are the paper's where it gives them (Section 5.1).

    optimizer "sgd" (the paper's, with momentum) or "adamw"
    pool      "batch": the loss is pooled over the mini-batch; "image": a loss per image, averaged
    balance   least share of each mini-batch drawn from images whose mask is not empty
    patience  epochs without a lower validation loss before training stops
    calibration  training images over which BatchNorm statistics are re-estimated before every evaluation
                 (tatl.batch_norm); 0: the running averages are used
    precision "32", "bf16" (autocast), or "auto": bf16 on a GPU, 32 on a CPU
    augment   training images are turned, flipped, shifted, zoomed and brightened at random (tatl.augment)
    """

    epochs: int = 40
    patience: int = 10
    batch: int = 16
    optimizer: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    pool: str = "batch"
    balance: float = 0.5
    calibration: int = 128
    precision: str = "auto"
    augment: bool = False

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.patience) < 1 or self.lr <= 0:
            raise ValueError(
                f"epochs ({self.epochs}), batch ({self.batch}), patience ({self.patience}) and lr ({self.lr}) must be "
                "positive"
            )
        if self.calibration < 0:
            raise ValueError(f"calibration {self.calibration} is a number of images: give 0 or more")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance {self.balance} is a share of the mini-batch: give a number from 0 to 1")
        if self.optimizer not in ("sgd", "adamw"):
            raise ValueError(f"optimizer {self.optimizer!r} is unknown: choose sgd or adamw")
        if self.pool not in ("batch", "image"):
            raise ValueError(f"pool {self.pool!r} is unknown: choose batch or image")
        if self.precision not in ("auto", "32", "bf16"):
            raise ValueError(f"precision {self.precision!r} is unknown: choose auto, 32 or bf16")


@dataclass(frozen=True)
class Run:
    """One trained network.

    size     HEIGHTxWIDTH of the store's frame, which is the network's input
    task     "lesion" (Stage 1), "union" (Stage 2), an attribute (Stage 3), or a pretext (tatl.pretext)
    shape    one of SHAPES or of RIVALS; "encoder" for a pretext that has no decoder
    start    how the weights begin: a key of `tatl.inits.INITIALISATIONS`
    source   where the chain of starts begins: "imagenet", "textures" or "random"
    weights  which file the ImageNet weights came from (its checksum), if one was given
    parent   the run that `start` copies from
    cropper  the Stage 1 run whose boxes cut the images; None for whole images
    offset   pixels of the store's frame by which those boxes are grown
    fraction of the training groups
    """

    store: str
    digest: str
    size: str
    task: str
    shape: str = "u"
    backbone: str = "efficientnet-b0"
    start: str = "source"
    source: str = "imagenet"
    weights: str = ""
    parent: Run | None = None
    cropper: Run | None = None
    offset: int = 0
    fold: int = 0
    n_folds: int = 5
    fraction: float = 1.0
    seed: int = 0
    score_size: str = ""
    recipe: Recipe = field(default_factory=Recipe)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **dataclasses.asdict(self)}

    def dumps(self) -> str:
        return json.dumps(self.to_json(), indent=1) + "\n"

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Run:
        """The run of a `run.json`; ValueError where it is of another format, or has unknown or missing keys."""
        values = dict(values)
        if values.pop("format", FORMAT) != FORMAT:
            raise ValueError(f"this run.json has another format than {FORMAT}: train again with this version")
        _check_keys(values, cls)
        _check_keys(values["recipe"], Recipe)
        for key in ("parent", "cropper"):
            if values.get(key) is not None:
                values[key] = cls.from_json(values[key])
        return cls(**{**values, "recipe": Recipe(**values["recipe"])})

    @property
    def hash(self) -> str:
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        fraction = "" if self.fraction == 1 else f"-{self.fraction:.0%}".replace("%", "pc")
        return f"fold{self.fold}of{self.n_folds}{fraction}-seed{self.seed}-{self.hash}"

    def folder(self, root: Path) -> Path:
        kind = f"{self.shape}-{self.backbone}-{self.start}"
        return Path(root) / self.store / self.task / kind / self.name

    def title(self) -> str:
        """For people: task, shape, start, crop, fold."""
        crop = "crop" if self.cropper else "whole"
        return f"{self.task} {self.shape} {self.start} ({self.source}) {crop} fold {self.fold} seed {self.seed}"

    def needs(self) -> Iterator[Run]:
        """The runs that must be finished first, deepest first, without repetition."""
        seen: set[Run] = set()
        for run in (self.parent, self.cropper):
            if run is not None:
                for needed in (*run.needs(), run):
                    if needed not in seen:
                        seen.add(needed)
                        yield needed


def _check_keys(values: dict[str, Any], cls: type[Run] | type[Recipe]) -> None:
    known = {f.name for f in dataclasses.fields(cls)}
    if unknown := set(values) - known:
        raise ValueError(f"run.json has unknown keys: {', '.join(sorted(unknown))}")
    if missing := known - set(values):
        raise ValueError(f"run.json lacks {', '.join(sorted(missing))}: delete its folder and train again")


def finished(run: Run, root: Path) -> bool:
    """Whether the run's weights are there."""
    return (run.folder(root) / "weights.safetensors").is_file()


def write_atomically(path: Path, text: str) -> None:
    """Write beside the final name, then rename: a reader sees the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def find_runs(root: Path, store: str = "") -> Iterator[tuple[Run, Path]]:
    """Every finished run under `root`, with its folder.

    ValueError names a run.json that cannot be read; where a `store` is asked for, one of another is warned of alone.
    """
    for path in sorted(Path(root).rglob("run.json")):
        if not (path.parent / "weights.safetensors").is_file():
            continue
        try:
            run = Run.from_json(json.loads(path.read_text()))
        except (ValueError, TypeError, OSError) as error:
            problem = f"{path} cannot be read ({error})"
            if store in ("", *path.resolve().parts[-5:-4]):
                raise ValueError(f"{problem}: delete its folder, or choose another --store") from error
            print(f"note: {problem}; it is not of store {store} and left out", file=sys.stderr)
            continue
        yield run, path.parent

"""A run: everything that makes one trained network, and the folder that is a formula of it.

    runs/<store>/<task>/<shape>-<backbone>-<start>/fold0of5-seed0-<hash>/
        run.json             the identity: this dataclass, its parents inside it
        weights.safetensors  written last: a run is finished when its weights are there
        history.csv          epoch, step, split (train or validation), loss, lr
        scores.csv           per test image: image, attribute, tp, fp, fn, tn (fractions of the area; empty: unknown)
        probabilities.npz    uint8 [n, h, w] of the test images, floor(256 p)
        boxes.csv            Stage 1 only: the crop of every image of the store
        log                  when, where, how long, with which versions

The hash covers what changes the result, in the run and in the runs it starts from, so two runs share a folder only
if they are the same.  A field at its default is left out of it, and so is the store's name (its digest counts): a new
field orphans no run, and the runs of a store that was renamed, or of an earlier version, are found where they lie.
Which code, libraries and machine trained a run is in its log.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from tatl.legacy import Outdated, log_in, modern
from tatl.machine.disk import to_disk

FORMAT = 2
# What a task means: its number is raised when the same fields would train something else (a mended crop, say), and
# runs of a lower number are then named and trained again.  "target" is any attribute.
MEANING = {
    "lesion": 1, "union": 1, "target": 1, "rotation": 1, "context": 1, "shuffled-union": 1, "textures": 1,
}  # fmt: skip
# Networks of one backbone each, which is what their runs are called by: segnet-vgg16_bn-random.


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.  Defaults are the paper's where it gives them (Section 5.1).

    optimizer "sgd" (the paper's, with momentum) or "adamw"
    pool      "batch": the loss is pooled over the mini-batch; "image": a loss per image, averaged
    balance   least share of each mini-batch drawn from images whose mask is not empty
    patience  epochs without a lower validation loss before training stops
    calibration  training images over which BatchNorm statistics are re-estimated before every evaluation
                 (tatl.training.batch_norm); 0: the running averages are used
    precision "32" or "bf16" (autocast)
    augment   training images are turned, flipped, shifted, zoomed and brightened at random (tatl.data.augment)

    A default is never changed, here or in `Run`: it says what a hash without the field means.
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
    precision: str = "32"
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
        if self.precision not in ("32", "bf16"):
            raise ValueError(f"precision {self.precision!r} is unknown: choose 32 or bf16")


@dataclass(frozen=True)
class Run:
    """One trained network.

    store    its name, by which people find the folder; `digest` says which store it is
    size     HEIGHTxWIDTH of the store's frame, which is the network's input
    task     "lesion" (Stage 1), "union" (Stage 2), an attribute (Stage 3), or a pretext (tatl.training.pretext)
    shape    one of SHAPES or of RIVALS; "encoder" for a pretext that has no decoder
    start    how the weights begin: a key of `tatl.models.starts.START_RULES`
    source   where the chain of starts begins: "imagenet", "textures" or "random"
    weights  which file the ImageNet weights came from: its checksum if one was given, or its name on the hub
    parent   the run that `start` copies from
    cropper  the Stage 1 run whose boxes cut the images; None for whole images
    offset   pixels of the store's frame by which those boxes are grown
    fraction of the training groups
    seed     draws first weights, the order of images, augmentation and the lenders of shuffled masks
    split_seed  draws the partition alone: folds, fractions and the early-stopping part
    """

    store: str = field(compare=False)
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
    split_seed: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **_with_meaning(dataclasses.asdict(self))}

    def dumps(self) -> str:
        return json.dumps(self.to_json(), indent=1) + "\n"

    @classmethod
    def from_json(cls, values: dict[str, Any], log: str = "", root: Path | None = None) -> Run:
        """The run of a `run.json`, fields that it lacks at their defaults.

        Of an old one `log` is the text beside it, and `root` the folder of all runs.

        ValueError where it is of an unknown format, has unknown keys or lacks one without a default; Outdated where
        it was trained as its task is not any more.
        """
        values = dict(values)
        given = values.pop("format", FORMAT)
        if given not in (1, FORMAT):
            raise ValueError(f"this run.json has another format than {FORMAT}: train again with this version")
        return cls._from_values(modern(values, log, root) if given == 1 else values)

    @classmethod
    def _from_values(cls, values: dict[str, Any]) -> Run:
        meant, now = values.pop("meaning", 1), meaning(values.get("task", ""))
        _check_keys(values, cls)
        recipe = values.get("recipe", {})
        _check_keys(recipe, Recipe)
        if meant != now:
            raise Outdated(f"it was trained when {values['task']} meant something else ({meant}, now {now})")
        for key in ("parent", "cropper"):
            if values.get(key) is not None:
                values[key] = cls._from_values(dict(values[key]))
        return cls(**{**values, "recipe": Recipe(**recipe)})

    @property
    def hash(self) -> str:
        text = json.dumps(_changed(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def kind(self) -> str:
        return f"{self.shape}-{self.backbone}-{self.start}"

    @property
    def name(self) -> str:
        fraction = "" if self.fraction == 1 else f"-{self.fraction:.0%}".replace("%", "pc")
        partition = f"-split{self.split_seed}" if self.split_seed else ""
        return f"fold{self.fold}of{self.n_folds}{fraction}{partition}-seed{self.seed}-{self.hash}"

    def folder(self, root: Path) -> Path:
        """Its own folder, or where that is not finished and another is, under an earlier name, that one."""
        own = Path(root) / self.store / self.task / self.kind / self.name
        if trained(own):
            return own
        return next((there for there, found in _alike(self, root) if found == self), own)

    def title(self) -> str:
        """For people: task, shape, start, crop, fold."""
        crop = "crop" if self.cropper else "whole"
        return f"{self.task} {self.shape} {self.start} ({self.source}) {crop} fold {self.fold} {self.seeds}"

    @property
    def seeds(self) -> str:
        """For people: the seed, and that of the partition where it is not the usual one."""
        return f"seed {self.seed}" + (f" split {self.split_seed}" if self.split_seed else "")

    def needs(self) -> Iterator[Run]:
        """The runs that must be finished first, deepest first, without repetition."""
        seen: set[Run] = set()
        for run in (self.parent, self.cropper):
            if run is not None:
                for needed in (*run.needs(), run):
                    if needed not in seen:
                        seen.add(needed)
                        yield needed


def meaning(task: str) -> int:
    """The number of what a task means today."""
    return MEANING.get(task, MEANING["target"])


def _with_meaning(values: dict[str, Any]) -> dict[str, Any]:
    """A run's fields with the number of what its task means, where that is above 1, and so those of its parents."""
    found = {key: _with_meaning(v) if key in ("parent", "cropper") and v else v for key, v in values.items()}
    return found | ({"meaning": meaning(values["task"])} if meaning(values["task"]) > 1 else {})


def _changed(thing: Run | Recipe) -> dict[str, Any]:
    """The identity: the fields that differ from their defaults, and the number of the task's meaning above 1."""
    found = dict[str, Any]()
    for each in dataclasses.fields(thing):
        value = getattr(thing, each.name)
        usual = each.default if each.default_factory is dataclasses.MISSING else each.default_factory()
        if each.compare and value != usual:
            found[each.name] = _changed(value) if isinstance(value, Run | Recipe) else value
    if isinstance(thing, Run) and meaning(thing.task) > 1:
        found["meaning"] = meaning(thing.task)
    return found


def _check_keys(values: dict[str, Any], cls: type[Run] | type[Recipe]) -> None:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := set(values) - set(fields):
        raise ValueError(f"run.json has unknown keys: {', '.join(sorted(unknown))}")
    needed = {n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING}
    if missing := needed - set(values):
        raise ValueError(f"run.json lacks {', '.join(sorted(missing))}: delete its folder and train again")


def trained(folder: Path) -> bool:
    """Whether a run's folder holds its weights, as a whole."""
    return whole(folder / "weights.safetensors")


def whole(path: Path) -> bool:
    """Whether a safetensors file is there and as long as its header says; one that was cut short is as good as none."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return _whole(path, stat.st_size, stat.st_mtime_ns)


@cache  # a study asks for the same files again and again
def _whole(path: Path, size: int, changed: int) -> bool:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(length) if 0 < length <= size - 8 else b"")
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return False
    return size == 8 + length + max(ends, default=0)


def finished(run: Run, root: Path) -> bool:
    """Whether the run's weights are there."""
    return trained(run.folder(root))


def read_run(path: Path) -> Run:
    """The run of a run.json, of any version; ValueError (Outdated among them) or OSError where it cannot be counted."""
    found = _read(path, path.stat().st_mtime_ns)
    if isinstance(found, ValueError):
        raise found
    return found


@lru_cache(maxsize=1 << 16)
def _read(path: Path, changed: int) -> Run | ValueError:
    root = next(iter(path.absolute().parents[4:5]), None)  # store/task/kind/fold/run.json
    try:
        return Run.from_json(json.loads(path.read_text(encoding="utf-8")), log_in(path.parent), root)
    except ValueError as error:
        return error
    except (TypeError, AttributeError, KeyError) as error:  # what values of a wrong type make
        return ValueError(f"{type(error).__name__}: {error}")


def _alike(run: Run, root: Path) -> Iterator[tuple[Path, Run | Exception]]:
    """Finished folders in the place of a run, of any store's name and hash, with what their run.json says."""
    start, end = f"fold{run.fold}of{run.n_folds}-", f"-seed{run.seed}-"
    for store in _names(str(root)):
        place = os.path.join(root, store, run.task, run.kind)
        for name in _names(place):
            if name.startswith(start) and end in name and trained(folder := Path(place, name)):
                try:
                    yield folder, read_run(folder / "run.json")
                except (ValueError, OSError) as error:
                    yield folder, error


def _names(folder: str) -> list[str]:
    """Sorted, or none where there is no such folder; thousands of runs ask, so that a glob would be felt."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def outdated(runs: Iterable[Run], root: Path) -> list[str]:
    """What is there in the place of unfinished runs and no longer counts: a sentence for each reason."""
    found = {
        folder: str(said)
        for run in runs
        if not finished(run, root)
        for folder, said in _alike(run, root)
        if isinstance(said, Outdated)
    }
    return _said(found)


def _said(found: dict[Path, str]) -> list[str]:
    first = {reason: folder for folder, reason in reversed(found.items())}
    return [
        f"finished runs that no longer count, since {reason}: {count}; they are to be trained again (first: "
        f"{first[reason]})"
        for reason, count in Counter(found.values()).items()
    ]


def write_atomically(path: Path, text: str) -> None:
    """Write beside the final name, then rename: a reader sees the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    put_in_place(partial, path)


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a written file so that even a power cut leaves the old file or the new one, whole."""
    to_disk(partial)
    partial.replace(path)
    to_disk(path.parent)


def find_runs(root: Path) -> Iterator[tuple[Run, Path]]:
    """Every finished run under `root`, with its folder; a note names what cannot be read or no longer counts."""
    old = dict[Path, str]()
    for path in sorted(Path(root).rglob("run.json")):
        if not trained(path.parent):
            continue
        try:
            yield read_run(path), path.parent
        except Outdated as error:
            old[path.parent] = str(error)
        except (ValueError, OSError) as error:
            print(f"note: {path} cannot be read ({error}); it is left out", file=sys.stderr)
    for said in _said(old):
        print(f"note: {said}", file=sys.stderr)

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
from functools import lru_cache
from pathlib import Path
from typing import Any

from tatl.names import B0
from tatl.run.completeness import put_in_place, trained, whole, write_atomically
from tatl.run.identity import changed, check_keys, meaning, with_meaning
from tatl.run.legacy import Outdated, log_in, modern
from tatl.run.recipe import Recipe

__all__ = [
    "Outdated", "Recipe", "Run", "find_runs", "finished", "in_order", "outdated", "put_in_place", "read_run", "trained",
    "whole", "write_atomically",
]  # fmt: skip
FORMAT = 2  # of run.json


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
    backbone: str = B0
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
        return {"format": FORMAT, **with_meaning(dataclasses.asdict(self))}

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
        check_keys(values, cls)
        recipe = values.get("recipe", {})
        check_keys(recipe, Recipe)
        if meant != now:
            raise Outdated(f"it was trained when {values['task']} meant something else ({meant}, now {now})")
        for key in ("parent", "cropper"):
            if values.get(key) is not None:
                values[key] = cls._from_values(dict(values[key]))
        return cls(**{**values, "recipe": Recipe(**recipe)})

    @property
    def hash(self) -> str:
        text = json.dumps(changed(self), sort_keys=True)
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

    def needs(self) -> list[Run]:
        """The runs that must be finished first, deepest first, without repetition."""
        return in_order(run for run in (self.parent, self.cropper) if run is not None)


def in_order(runs: Iterable[Run]) -> list[Run]:
    """Every run and what it needs, each once, needed ones first."""
    return list(dict.fromkeys(each for run in runs for each in (*run.needs(), run)))


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
    what, remedy = "finished runs that no longer count", "they are to be trained again"
    counted = Counter(found.values()).items()
    return [f"{what}, since {reason}: {count}; {remedy} (first: {first[reason]})" for reason, count in counted]


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

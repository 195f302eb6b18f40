"""Which networks may segment an image: of the images that they were trained on, only those that never saw it.

An image is in the store when its file is called by an id of the store, or is the same picture under another name: of
the same original size and, decoded as `prepare` decodes it, equal pixel for pixel.  A network has not seen it when
its test fold holds it, and those of the networks that it rests on (Stage 1, Stage 2) too; which images these are is
written in each run's scores.csv.  A new image is segmented by all networks.

The store is the one given, else stores/<name>.  Where it is not there (or is another than the networks'), ids are
those that the runs themselves name, so that an image of no run is taken for a new one, and this is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from tatl.data.folds import split
from tatl.data.images.pictures import read_image
from tatl.data.images.reading import AS_THEY_ARE, Reading
from tatl.data.store import Store
from tatl.prediction.select import parts
from tatl.run import Run

SampleKind = Literal["new", "out of fold", "in sample", "unknown"]
STORES = Path("stores")


@dataclass(frozen=True)
class Assigned:
    """Images that the same networks segment, and whether these saw them: "unknown" where no store could tell."""

    images: list[Path]
    runs: list[Run]
    sample: SampleKind


def assign(
    images: Sequence[Path],
    runs: Sequence[Run],
    root: Path,
    store: str = "",
    in_sample: bool = False,
    reading: Reading = AS_THEY_ARE,
) -> list[Assigned]:
    """Images by the networks that may segment them.

    With `in_sample` an image of the store that all networks saw gets all of them; without, ValueError says which
    fold's networks are missing.
    """
    there, tests = find_store(runs, store), {run: tested(run, root) for run in runs}
    named = set(there.cases["id"]) if there else set().union(*tests.values(), *(_boxed(run, root) for run in runs))
    groups: dict[tuple[tuple[Run, ...], SampleKind], list[Path]] = {}
    lacking: list[str] = []
    for image in images:
        known = image.stem if image.stem in named else _same_picture(image, there, reading) if there else ""
        unseen = tuple(run for run in runs if known in tests[run])
        sample: SampleKind = "out of fold" if unseen else "in sample" if known else "new" if there else "unknown"
        if sample == "in sample" and not in_sample:
            lacking.append(f"{image.name} ({_place(known, runs[0], there)})")
        groups.setdefault((unseen or tuple(runs), sample), []).append(image)
    if lacking:
        folds = ", ".join(map(str, sorted({run.fold for run in runs})))
        what = f"{len(lacking)} of {len(images)} images are of store {runs[0].store}"
        seen = f"all chosen networks (of folds {folds}) were trained on them: {'; '.join(lacking[:5])}"
        remedy = "train the networks of these folds, or give --in-sample, whose scores say nothing about new images"
        raise ValueError(f"{what}, and {seen}; {remedy}")
    return [Assigned(each, list(chosen), sample) for (chosen, sample), each in groups.items()]


def find_store(runs: Sequence[Run], store: str = "") -> Store | None:
    """The store that the runs were trained on, where it is at `store` or among `STORES`; else None."""
    for path in (Path(store), *(STORES / name for name in dict.fromkeys(run.store for run in runs))):
        if (path / "store.json").is_file() and (there := Store.open(path)).digest == runs[0].digest:
            return there
    return None


def sample_notes(groups: Sequence[Assigned], tasks: Sequence[str]) -> list[str]:
    """For people: how many images are of the store and what segments them, and which masks no such network finds."""
    lines = []
    for group in groups:
        folds = ", ".join(map(str, sorted({run.fold for run in group.runs})))
        said = {
            "out of fold": f"of the store, segmented by the networks of fold {folds}, which have not seen them",
            "in sample": "of the store, segmented by networks that were trained on them (--in-sample)",
            "unknown": f"that no run names; the store of the runs is not at {STORES / group.runs[0].store}, so that "
            "they may still be of its training images: give its folder with --store",
        }
        if group.sample in said:
            lines.append(f"note: {len(group.images)} image{'s' * (len(group.images) > 1)} {said[group.sample]}")
        lost = [task for task in tasks if task not in parts(group.runs)]
        if lost and group.sample == "out of fold":
            lines.append(f"note: fold {folds} has no network of {', '.join(lost)}, which is not looked for there")
    return lines


def tested(run: Run, root: Path) -> set[str]:
    """The ids of the images that neither a run nor what it rests on was trained with."""
    chain = [each for each in (*run.needs(), run) if each.digest == run.digest]
    return set.intersection(*(_ids(each.folder(root) / "scores.csv") for each in chain))


def _boxed(run: Run, root: Path) -> set[str]:
    return set() if run.cropper is None else _ids(run.cropper.folder(root) / "boxes.csv")


def _ids(path: Path) -> set[str]:
    """The images of a run's table, none where it left none."""
    return set(pd.read_csv(path, dtype={"image": str}, keep_default_na=False)["image"]) if path.is_file() else set()


def _same_picture(image: Path, store: Store, reading: Reading) -> str:
    """The id of the same picture in the store; empty where it has none, or where the file cannot be read."""
    try:
        frame, original = read_image(image, store.size, reading)
    except (ValueError, OSError):
        return ""
    alike = np.flatnonzero((store.cases[["height", "width"]].to_numpy() == original).all(axis=1))
    middle = store.size.height // 2
    alike = alike[(store.images[alike, middle] == frame[middle]).all(axis=(1, 2))]
    return next((str(store.cases["id"].iloc[at]) for at in alike if np.array_equal(store.images[at], frame)), "")


def _place(known: str, run: Run, store: Store | None) -> str:
    """Which fold tests an image of the store."""
    if store is None:
        return "tested by another fold"
    (at,) = np.flatnonzero(store.cases["id"].to_numpy() == known)
    folds = range(run.n_folds)
    held = [fold for fold in folds if at in split(store, fold, run.n_folds, run.split_seed, run.fraction).test]
    return f"tested by fold {held[0]}"

"""Who judges a mask: the networks that have not seen its case, with the maps of probabilities that they left.

A network has not seen a case when its test fold holds it, and those of the networks that it rests on (Stage 1, Stage 2)
too (tatl.prediction.unseen).  Validation images count as seen: they chose the epoch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tatl.data.case import Size
from tatl.data.folds import split
from tatl.data.store import Store
from tatl.names import LESION
from tatl.prediction.select import choose, variant_of
from tatl.prediction.unseen import tested
from tatl.run import Run, find_runs
from tatl.studies.results import probabilities_of
from tatl.studies.settings import comma_list
from tatl.training.inference import truth

LEVELS = 256


@dataclass(frozen=True)
class Jury:
    """The networks of one attribute and fold, and the cases that none of them has seen.

    runs   of every shape and seed
    place  where these cases stand among the fold's test images, int [n]
    cases  indices into the store, int [n]; their mask is known
    """

    store: Store
    root: Path
    runs: tuple[Run, ...]
    place: np.ndarray
    cases: np.ndarray

    @property
    def attribute(self) -> str:
        return self.runs[0].task

    @property
    def fold(self) -> int:
        return self.runs[0].fold

    @property
    def size(self) -> Size:
        """At which the networks were scored."""
        return Size.parse(self.runs[0].score_size) if self.runs[0].score_size else self.store.size

    def probabilities(self, some: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The averaged probabilities of some of the cases, float32 [n, h, w].

        What is kept is floor(256 p): half a step is added, but to nothing, of which a whole image would make much.
        """
        levels = probabilities_of(self.runs, self.root)[self.place[some]]
        return (levels + 0.5 * (levels > 0)) / LEVELS

    def masks(self) -> np.ndarray:
        """The given masks, bool [n, h, w]."""
        return truth(self.store, self.attribute, self.cases, self.size)


def juries(runs: Sequence[Run], root: Path, store: Store) -> list[Jury]:
    """Networks by attribute and fold; ValueError where they have several partitions, or see every case."""
    if len(partitions := sorted({run.split_seed for run in runs})) > 1:
        remedy = f"choose one with --where split_seed={partitions[0]}"
        raise ValueError(f"the networks have the partitions {', '.join(map(str, partitions))} of the store: {remedy}")
    together: dict[tuple[str, int], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.task, run.fold)):
        together.setdefault((run.task, run.fold), []).append(run)
    ids, made = store.cases["id"].to_numpy(dtype=str), list[Jury]()
    for (task, _), these in together.items():
        first = these[0]
        test = split(store, first.fold, first.n_folds, first.split_seed, first.fraction).test
        unseen = set.intersection(*(tested(run, root) for run in these))
        place = np.flatnonzero(store.known(task)[test] & np.isin(ids[test], list(unseen)))
        if len(place):
            made.append(Jury(store, root, tuple(these), place, test[place]))
    if not made:
        raise ValueError(f"every case of store {store.name!r} was seen by the networks in {root}: train further folds")
    return made


def find_judges(
    root: Path, store: Store, variant: str = "", attributes: str = "", folds: str = "", where: str = ""
) -> list[Run]:
    """The finished networks of a variant (empty: of the one with most networks) on the store.

    ValueError or FileNotFoundError where an attribute or a fold is unknown, there are no such networks, or they are of
    several settings; `where` chooses among these.
    """
    asked, known = comma_list(attributes), (LESION, *store.attributes)
    if unknown := [name for name in asked if name not in known]:
        raise ValueError(f"store {store.name!r} has no mask {', '.join(unknown)}: it has {', '.join(known)}")
    chosen = choose(root, variant or _usual(root, store), str(store.path), folds, where)
    there = list(dict.fromkeys(run.task for run in chosen))
    if lacking := [name for name in asked if name not in there]:
        what = f"{root} has no finished {variant_of(chosen[0])} network of {', '.join(lacking)}"
        raise FileNotFoundError(f"{what}, only of {', '.join(there)}: leave --attributes out, or train them first")
    return [run for run in chosen if not asked or run.task in asked]


def _usual(root: Path, store: Store) -> str:
    """The variant that has most finished networks on the store."""
    there = [(variant_of(run), run) for run, _ in find_runs(root)]
    counted = Counter(name for name, run in there if name and run.digest == store.digest)
    if not counted:
        others = ", ".join(sorted({f"{name} on {run.store}" for name, run in there if name})) or "none"
        what = f"{root} has no finished networks of store {store.name!r} (there are: {others})"
        raise FileNotFoundError(f"{what}: give the --store they were trained on, or train with `python -m tatl train`")
    return counted.most_common(1)[0][0]

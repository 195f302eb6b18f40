"""Who judges a mask, and how little it is believed, by five scores; more is more suspect, but for the curvature.

The networks that have not seen its case judge it, with the maps of probabilities that they left.  A network has not
seen a case when its test fold holds it, and those of the networks that it rests on (Stage 1, Stage 2) too
(tatl.prediction.unseen).  Validation images count as seen: they chose the epoch.

For the averaged out-of-fold probabilities p of one image, its given mask y, and q = p where y, 1 - p elsewhere:

    loss           Eq. 1-3
    disagreement   1 - Dice of p >= 1/2 and y; 0 where both are empty
    improbability  1 - mean q
    doubt          1 - q . softmax((1 - q) / t), t = 0.1: the softmin of Lad and Mueller (arXiv 2307.05080)
    curvature      ||Hess l||_2 of the image's loss at the trained weights, the mean over the networks that judge it
    suspicion      the mean of its ranks by all of these among the masks of its attribute, as shares: nothing is tuned

Of curvature less is more suspect: the loss is below 1 whatever is predicted, so that a mask which is not believed lies
where it is flat.  (benchmarks/suspects.py: on leaves wrong masks have a median norm of 4, right ones of 280.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax

from analysis.measure.ledger import Subject, subject_name
from analysis.measure.solve import Curvatures
from tatl.data.case import Size
from tatl.data.crop import grow, read_boxes
from tatl.data.folds import split
from tatl.data.store import Store
from tatl.losses import loss_from_overlaps
from tatl.names import LESION
from tatl.prediction.ensemble import network
from tatl.prediction.select import choose, variant_of
from tatl.prediction.unseen import tested
from tatl.run import Run, find_runs
from tatl.studies.results import probabilities_of
from tatl.studies.settings import comma_list
from tatl.training.inference import truth
from tatl.training.metrics import CONFUSION, confusion, dice

BY_MAPS, BY_WEIGHTS = ("loss", "disagreement", "improbability", "doubt"), "curvature"
SUSPICION = "suspicion"
TEMPERATURE = 0.1


def suspects(juries: Sequence[Jury], curvatures: Curvatures | None = None) -> pd.DataFrame:
    """One row per case and attribute, the most suspect first.

    Columns case, group, attribute, fold (whose networks judged), networks, given (the mask: present or absent), the
    scores (curvature where `curvatures` are given), suspicion, rank (from 1).
    """
    table = pd.concat([_rows(jury) for jury in juries], ignore_index=True)
    if curvatures is not None:
        table[BY_WEIGHTS] = np.concatenate(_norms(juries, curvatures))
    return ranked(table)


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """With suspicion, of the scores that the table has, and rank, sorted by it."""
    suspicion = more_suspect(table).groupby(table["attribute"], sort=False).rank(pct=True).mean(axis=1)
    table = table.assign(**{SUSPICION: suspicion}).sort_values([SUSPICION, "loss"], ascending=False, kind="stable")
    return table.assign(rank=np.arange(1, len(table) + 1)).reset_index(drop=True)


def more_suspect(table: pd.DataFrame) -> pd.DataFrame:
    """The scores that the table has, turned so that more is more suspect."""
    scores = table[[name for name in (*BY_MAPS, BY_WEIGHTS) if name in table]]
    return scores * [-1 if name == BY_WEIGHTS else 1 for name in scores]


def _rows(jury: Jury) -> pd.DataFrame:
    masks, cases = jury.masks(), jury.store.cases.iloc[jury.cases]
    return pd.DataFrame({
        "case": cases["id"].astype(str).to_numpy(),
        "group": cases["group"].astype(str).to_numpy(),
        "attribute": jury.attribute,
        "fold": jury.fold,
        "networks": len(jury.runs),
        "given": np.where(masks.any(axis=(1, 2)), "present", "absent"),
        **by_maps(jury.probabilities(), masks),
    })  # fmt: skip


def by_maps(p: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """The scores `BY_MAPS`, float64 [n], of probabilities and masks [n, h, w]."""
    p, y = (each.reshape(len(p), -1).astype(float) for each in (p, y))
    overlaps = np.stack([(y * p).sum(1), p.sum(1), y.sum(1)], axis=1)
    areas = dict(zip(CONFUSION, confusion(p[:, None] >= 0.5, y[:, None] > 0).T, strict=True))
    believed = np.where(y > 0, p, 1 - p)
    softmin = (believed * softmax((1 - believed) / TEMPERATURE, axis=1)).sum(1)
    found = loss_from_overlaps(torch.from_numpy(overlaps)).numpy(), 1 - dice(areas["tp"], areas["fp"], areas["fn"])
    return dict(zip(BY_MAPS, [*found, 1 - believed.mean(1), 1 - softmin], strict=True))


def _norms(juries: Sequence[Jury], curvatures: Curvatures) -> list[np.ndarray]:
    """Per jury the Hessian norm of each case's loss, the mean over its networks: float64 [n]."""
    found: list[list[np.ndarray]] = [[] for _ in juries]
    pairs = [(number, run) for number, jury in enumerate(juries) for run in jury.runs]
    for of in dict.fromkeys((run.fold, run.cropper) for _, run in pairs):  # networks that see the same frames
        these = [(number, run) for number, run in pairs if (run.fold, run.cropper) == of]
        subjects = _subjects([run for _, run in these], juries[0])
        wanted = [{run.task: juries[number].cases} for number, run in these]
        for (number, _), table in zip(these, curvatures(subjects, wanted), strict=True):
            found[number].append(table["value"].abs().to_numpy())
    return [np.mean(each, axis=0) for each in found]


def _subjects(runs: Sequence[Run], jury: Jury) -> list[Subject]:
    """Trained networks on the frames that they see, which are the same for all."""
    store, boxes = jury.store, None
    if (cropper := runs[0].cropper) is not None:
        boxes = grow(read_boxes(cropper.folder(jury.root)), runs[0].offset, store.size)
    models = [network(run, jury.root, torch.device("cpu")) for run in runs]
    models = [model.to(memory_format=torch.contiguous_format) for model in models]  # as the engine has weights
    return [Subject(subject_name(model, store, boxes), model, store, boxes) for model in models]


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

"""From finished runs to measured tables: scores per image, pooled over a fold, over folds.

A row of a comparison is a `variant` (of `tatl.studies.planner`, or of `tatl.studies.catalogue`); its shapes are
averaged ("mean").
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from tatl.data.case import Size
from tatl.data.folds import split
from tatl.data.store import Store
from tatl.names import AVERAGE, ENSEMBLE, LESION, MICRO, MULTILABEL, SCORES, TRAINING, UNION
from tatl.run import Run
from tatl.studies.pace import RUN, ending
from tatl.studies.planner import Member
from tatl.studies.runtime.effort import seconds
from tatl.training.inference import truth
from tatl.training.metrics import CONFUSION, confusion, score_summary, score_table

MAPS = "probabilities.npz"
KEYS = ["variant", "shape", "seed", "fold"]


def scores_of(members: Sequence[Member], root: Path, store: Store) -> pd.DataFrame:
    """Per-image scores of every shape, and of their averaged probabilities (shape "mean").

    Columns variant, shape, seed, fold, image, attribute, tp, fp, fn, tn.  Where a run has lost its probabilities, what
    needs them is left out, with all attributes of that variant, shape, seed and fold; `lost` says so.
    """
    gone = lost(members, root)
    groups = [(shape, group) for shape, group in _groups(members) if _key(shape, group) not in gone]
    if not groups:
        raise FileNotFoundError(f"no score can be had: {'; '.join(lost_notes(members, root))}")
    parts = {}
    for at in sorted(range(len(groups)), key=lambda at: _tested(groups[at][1][0])):  # one truth after the other
        shape, group = groups[at]
        parts[at] = _labelled(_group_scores(group, root, store), group[0], shape)
    _truth.cache_clear()
    return pd.concat([parts[at] for at in range(len(groups))], ignore_index=True)


def lost(members: Sequence[Member], root: Path) -> dict[tuple[str, str, int, int], Path]:
    """Rows that cannot be had, as (variant, shape, seed, fold), each with the first run that lost its probabilities."""
    gone: dict[tuple[str, str, int, int], Path] = {}
    for shape, group in _groups(members):
        for member in group if _of_maps(group) else ():
            folder = member.run.folder(root)
            if _maps(folder) is None:
                gone.setdefault(_key(shape, group), folder)
    return gone


def lost_notes(members: Sequence[Member], root: Path) -> list[str]:
    """What `lost` leaves out of the tables, for people."""
    remedy = "delete the weights.safetensors beside it and give the same command again to have that run trained again"
    return [
        f"{variant}, shape {shape}, fold {fold}, seed {seed} is left out: {folder / MAPS} is lost; {remedy}"
        for (variant, shape, seed, fold), folder in lost(members, root).items()
    ]


def _groups(members: Sequence[Member]) -> list[tuple[str, list[Member]]]:
    """What is scored: each member by its shape, then the shapes of each variant, seed, fold and attribute together."""
    together: dict[tuple[str, int, int, str], list[Member]] = {}
    for member in members:
        together.setdefault((member.variant, member.seed, member.fold, member.attribute), []).append(member)
    return [(m.shape, [m]) for m in members] + [(ENSEMBLE, group) for group in together.values()]


def _key(shape: str, group: Sequence[Member]) -> tuple[str, str, int, int]:
    return group[0].variant, shape, group[0].seed, group[0].fold


def _of_maps(group: Sequence[Member]) -> bool:
    """Several networks together, or one on another mask than its own (the agnostic network on an attribute)."""
    return len(group) > 1 or group[0].run.task not in (group[0].attribute, MULTILABEL)


def _group_scores(group: Sequence[Member], root: Path, store: Store) -> pd.DataFrame:
    if _of_maps(group):
        return _ensemble(group, root, store)
    scores = _scores(group[0].run, root)
    return scores[scores["attribute"] == group[0].attribute]


def _scores(run: Run, root: Path) -> pd.DataFrame:
    """A run's own scores of the images where its mask is known."""
    unknown = {name: [""] for name in CONFUSION}  # an image may be called NA
    return _table(run, root, "scores.csv", dtype={"image": str}, keep_default_na=False, na_values=unknown).dropna()


def _table(run: Run, root: Path, name: str, **options: Any) -> pd.DataFrame:
    """A table of a finished run; FileNotFoundError where it was lost."""
    folder = run.folder(root)
    if not (folder / name).is_file():
        raise FileNotFoundError(f"{folder / name} is lost: delete the folder {folder} to have that run trained again")
    return pd.read_csv(folder / name, **options)


def _labelled(scores: pd.DataFrame, member: Member, shape: str) -> pd.DataFrame:
    return scores.assign(variant=member.variant, shape=shape, seed=member.seed, fold=member.fold)


def probabilities_of(runs: Sequence[Run], root: Path, mask: str = "") -> np.ndarray:
    """Test-set probabilities averaged over runs: float32 [n, h, w] in units of 1/256; of several masks, this one's."""
    stacks = [probabilities(run.folder(root), mask) for run in runs]
    return np.asarray(np.mean(np.stack(stacks), axis=0, dtype=np.float32))


def probabilities(folder: Path, mask: str = "") -> np.ndarray:
    """A run's test-set probabilities: uint8 [n, h, w], floor(256 p); FileNotFoundError where they were lost."""
    path = _maps(folder)
    if path is None:
        raise FileNotFoundError(f"{folder / MAPS} is lost: delete the weights.safetensors beside it to train it again")
    with np.load(path) if path.suffix == ".npz" else nullcontext({"probabilities": np.load(path)}) as file:
        return np.asarray(file[mask if mask in file else "probabilities"])


def _maps(folder: Path) -> Path | None:
    """The file of a run's probabilities; those of older runs are not compressed."""
    return next((path for path in (folder / MAPS, folder / "probabilities.npy") if path.is_file()), None)


def _ensemble(members: Sequence[Member], root: Path, store: Store) -> pd.DataFrame:
    attribute = members[0].attribute
    mean = probabilities_of([member.run for member in members], root, attribute)
    test, true = _truth(store, *_tested(members[0]))
    known = store.known(attribute)[test]
    # Values are floor(256 p), on average half a step below 256 p.
    fractions = confusion(mean[known] + 0.5 >= 128, true)
    return score_table(store.cases["id"].to_numpy()[test[known]], attribute, fractions)


def _tested(member: Member) -> tuple[str, int, int, int, float, str]:
    """What its test images and their true masks follow from."""
    run = member.run
    return member.attribute, run.fold, run.n_folds, run.split_seed, run.fraction, run.score_size


@lru_cache(maxsize=1)  # gigabytes at the paper's size if all were kept
def _truth(
    store: Store, attribute: str, fold: int, n_folds: int, seed: int, fraction: float, size: str
) -> tuple[np.ndarray, np.ndarray]:
    """The test images int [n], and of those where the attribute is known the true masks bool [known, h, w]."""
    test = split(store, fold, n_folds, seed, fraction).test
    asked = Size.parse(size) if size else store.size
    return test, truth(store, attribute, test[store.known(attribute)[test]], asked)


def per_fold(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per variant, shape, seed, fold and attribute (and "average" and "micro"): pooled over the fold."""
    rows = []
    for key, part in scores.groupby(KEYS, sort=False):
        rows.append(score_summary(part).assign(**dict(zip(KEYS, cast(tuple, key), strict=True))))
    return pd.concat(rows, ignore_index=True)[[*KEYS, "attribute", *SCORES, "images", "positives"]]


def training_of(members: Sequence[Member], root: Path, store: Store) -> pd.DataFrame:
    """What each row of `per_fold` was trained with, means over the networks that it is of.

    steps, images_seen (with repetition) and seconds (NaN: no log) of the target alone, `_in_all` with the Stages 1 and
    2 or pretexts that it rests on (not the source domain), each counted whole; epoch_on_training: the share of networks
    whose epoch training images chose, as no validation image has the mask; and how losses ended (`pace.ending`).
    """
    rows = []
    measures = {run: _training(run, root, store) for run in dict.fromkeys(member.run for member in members)}
    for member in members:
        for shape in (member.shape, ENSEMBLE):
            for attribute in (member.attribute, AVERAGE, MICRO):
                place = (member.variant, shape, member.seed, member.fold, attribute)
                rows.append({**dict(zip([*KEYS, "attribute"], place, strict=True)), **measures[member.run]})
    return pd.DataFrame(rows).groupby([*KEYS, "attribute"], sort=False).mean().reset_index()


def _training(run: Run, root: Path, store: Store) -> dict[str, float]:
    validation = split(store, run.fold, run.n_folds, run.split_seed, run.fraction).validation
    chosen = store.present(UNION if run.task == MULTILABEL else run.task)[validation].any()
    efforts = [*_effort([run], root), *_effort([*_earlier(run), run], root)]
    measures = dict(zip(TRAINING, [*efforts, float(not chosen)], strict=False))
    return measures | ending(_table(run, root, "history.csv"))


def _earlier(run: Run) -> list[Run]:
    """The runs of the same store that it rests on."""
    return [each for each in run.needs() if each.digest == run.digest]


def _effort(runs: Sequence[Run], root: Path) -> tuple[float, float, float]:
    """Steps of whole mini-batches, images with repetition and seconds (NaN: no log) of some trainings together."""
    steps = [float(_table(run, root, "history.csv")["step"].max()) for run in runs]
    images = sum(count * run.recipe.batch for count, run in zip(steps, runs, strict=True))
    return sum(steps), images, sum(seconds(run, root) or np.nan for run in runs)


def over_folds(folds: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (n - 1; empty for one) over folds and seeds of the pooled scores."""
    keys = ["variant", "shape", "attribute"]
    grouped = folds.groupby(keys, sort=False)
    mean, std = grouped[list(SCORES)].mean(), grouped[["jaccard", "dice"]].std(ddof=1)
    positives = folds.groupby([*keys, "fold"], sort=False)["positives"].first()  # every seed has the same test images
    counts = pd.DataFrame({"folds": grouped.size(), "positives": positives.groupby(keys, sort=False).sum()})
    there = [name for name in TRAINING if name in folds]
    table = mean.join(std.add_suffix("_std")).join(counts).join(grouped[there].mean()).reset_index()
    order = ["jaccard", "jaccard_std", "dice", "dice_std", "image_jaccard", "image_dice", "folds", "positives"]
    return table[["variant", "shape", "attribute", *order, *there]]


def lesion_scores(members: Sequence[Member], root: Path) -> pd.DataFrame:
    """Stage 1 on its test folds, whole images: network, start, fold, seed, the scores and what it was trained with."""
    effort = TRAINING[:3]
    stage1 = (m.run if m.run.task == LESION else m.run.cropper for m in members)
    croppers = dict.fromkeys(run for run in stage1 if run is not None)
    rows = []
    for run in croppers:
        if (scores := _scores(run, root)).empty:
            continue
        table = score_summary(scores)
        row = table[table["attribute"] == LESION].iloc[0]
        about = {"network": run.shape, "start": f"{run.start} ({run.source})", "fold": run.fold, "seed": run.seed}
        rows.append({**about, **row, **dict(zip(effort, _effort([run], root), strict=True))})
    columns = ["network", "start", "fold", "seed", *SCORES, "images", *effort]
    return pd.DataFrame(rows, columns=columns)


def histories(members: Sequence[Member], root: Path) -> pd.DataFrame:
    """Validation losses of every run: variant, shape, seed, fold, attribute, before, epoch, step, split, loss (once).

    `before` are the steps of the Stages 1 and 2 or pretexts that it rests on, `step` those of the run itself.
    """
    parts = []
    for (variant, run), member in {(m.variant, m.run): m for m in members}.items():
        history = _table(run, root, "history.csv").query("split == 'validation'")
        before = _effort(_earlier(run), root)[0]
        history = history.assign(before=before, attribute=run.task)
        parts.append(_labelled(history, member, member.shape).assign(variant=variant))
    return pd.concat(parts, ignore_index=True)[[*RUN, "before", "epoch", "step", "split", "loss"]]

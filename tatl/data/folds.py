"""Folds that keep groups whole and spread every attribute, and nested training fractions.

Each image is labelled by its *rarest* present attribute and scikit-learn's StratifiedGroupKFold balances these
labels over folds: what is rare is spread first, and what is common spreads by its number.  A tenth of a fold's
training groups is set aside for early stopping; the test fold is not looked at until a run is finished.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tatl.data.store import Store

VALIDATION_PARTS = 10


@dataclass(frozen=True)
class Split:
    """Sorted indices into the store; no group is in two of them."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def where(self, known: np.ndarray) -> Split:
        """Those with which a mask is trained, known bool [N]; all test images stay, and are scored where it is."""
        train, validation = (part[known[part]] for part in (self.train, self.validation))
        return Split(train, validation, self.test)


def rarest_attribute(store: Store) -> np.ndarray:
    """Per image the number of its rarest present attribute (1, 2, ...), 0 for none: int [N]."""
    label = np.zeros(len(store), int)
    present = {k: store.present(name) for k, name in enumerate(store.attributes, start=1)}
    for k in sorted(present, key=lambda k: -int(present[k].sum())):
        label[present[k]] = k
    return label


def _parts(labels: np.ndarray, groups: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """Number every image 0 .. parts-1, groups whole, labels spread."""
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second to import

    part = np.empty(len(labels), int)
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    if np.bincount(labels).max() < parts:  # scikit-learn refuses; with so few, spread the groups alone
        labels = np.zeros_like(labels)
    with warnings.catch_warnings():
        # A label with fewer members than parts: `scarce` reports it in the user's terms.
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, chosen) in enumerate(splitter.split(labels, labels, groups)):
            part[chosen] = number
    return part


@lru_cache(maxsize=256)
def split(store: Store, fold: int, n_folds: int = 5, seed: int = 0, fraction: float = 1.0) -> Split:
    """Training, validation and test indices of one fold, read-only: planning asks for the same ones often.

    `seed` is the partition's own (`Run.split_seed`): several trainings share a partition.  `fraction` keeps that
    share of the training *groups*, nested: 0.4 is inside 0.6, for the same seed.
    Raises ValueError for a fold that is not there, too few groups, or a fraction outside (0, 1].
    """
    groups = store.cases["group"].to_numpy().astype(str)
    if not 0 <= fold < n_folds or n_folds < 2:
        raise ValueError(f"fold {fold} of {n_folds} does not exist: folds count from 0, and there are at least 2")
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction} is not in (0, 1]")
    if (there := len(np.unique(groups))) < n_folds + 1:
        needed = f"{n_folds} folds need at least {n_folds + 1} groups"
        raise ValueError(f"{needed}, and store {store.name!r} has {there}: lower --n-folds")
    labels = rarest_attribute(store)
    test = _parts(labels, groups, n_folds, seed) == fold
    rest = np.flatnonzero(~test)
    parts = min(VALIDATION_PARTS, len(np.unique(groups[rest])))
    if parts < 2:
        what = f"fold {fold} of {n_folds} leaves one group of store {store.name!r} to train on and to stop early by"
        raise ValueError(f"{what}: these take two, so prepare more groups")
    held = _parts(labels[rest], groups[rest], parts, seed) == 0
    train = _nested(rest[~held], labels, groups, fraction, seed)
    made = Split(train, rest[held], np.flatnonzero(test))
    for part in (made.train, made.validation, made.test):
        part.flags.writeable = False
    return made


def _nested(train: np.ndarray, labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The first `fraction` of the groups, in an order that spreads each label evenly: every beginning is stratified.

    A group's label is the rarest of its images' labels.
    """
    if fraction == 1:
        return train
    rng = np.random.default_rng(seed)
    images = np.bincount(labels[train])
    names = np.unique(groups[train])
    rarest = np.array([min(labels[train[groups[train] == name]], key=lambda k: images[k]) for name in names])
    place = np.empty(len(names))
    for label in np.unique(rarest):
        members = rng.permutation(np.flatnonzero(rarest == label))
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    kept = names[np.argsort(place)[: max(1, round(fraction * len(names)))]]
    return train[np.isin(groups[train], kept)]


def scarce(store: Store, n_folds: int) -> dict[str, int]:
    """Attributes with fewer positive groups than folds, and how many they have: some test fold has none."""
    groups = store.cases["group"].to_numpy().astype(str)
    counts = {name: len(np.unique(groups[store.present(name)])) for name in store.attributes}
    return {name: count for name, count in counts.items() if count < n_folds}

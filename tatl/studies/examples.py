"""A handful of test images with everything a figure needs to show them: truth, box, union and attribute maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tatl.data.crop import grow, read_boxes, resample
from tatl.data.folds import split
from tatl.data.store import Store
from tatl.run import Run
from tatl.studies.planner import Member
from tatl.studies.results import probabilities_of


def pick(store: Store, test: np.ndarray, attributes: Sequence[str], count: int) -> np.ndarray:
    """Positions into `test` of images that show every attribute, rare ones first, then the most at once."""
    present = np.stack([store.present(name)[test] for name in attributes], axis=1)
    rarity = 1 / np.maximum(1, present.sum(0))
    chosen: list[int] = []
    for _ in range(min(count, len(test))):
        shown = present[chosen].sum(0) if chosen else np.zeros(len(attributes))
        worth = (present * rarity / (1 + shown) ** 2).sum(1)
        worth[chosen] = -1
        chosen.append(int(worth.argmax()))
    return np.array(chosen)


def gallery(members: Sequence[Member], root: Path, store: Store, count: int = 6) -> dict[str, np.ndarray]:
    """Arrays in the store's frame for `count` test images of the first member's variant and fold.

    image uint8 [n, H, W, 3]; truth uint16 [n, H, W] (the store's bits); union uint8 [n, H, W] (empty without
    Stage 2) and probability uint8 [n, A, H, W], floor(256 p); boxes int [n, 4] (empty without Stage 1); ids [n];
    attributes [A]; variant, fold and seed.
    """
    first = members[0]
    same = [m for m in members if (m.variant, m.fold, m.seed) == (first.variant, first.fold, first.seed)]
    attributes = list(dict.fromkeys(m.attribute for m in same))
    run = first.run
    test = split(store, run.fold, run.n_folds, run.split_seed, run.fraction).test
    at = pick(store, test, attributes, count)
    maps = [_framed([m.run for m in same if m.attribute == name], root, at, store) for name in attributes]
    agnostic = [m.run.parent for m in same if m.run.parent is not None and m.run.parent.task == "union"]
    unions = list(dict.fromkeys(agnostic))
    boxes = np.zeros((0, 4), int)
    if run.cropper is not None:
        boxes = grow(read_boxes(run.cropper.folder(root)), run.offset, store.size)[test[at]]
    return {
        "image": store.images[test[at]],
        "truth": store.masks[test[at]],
        "union": _framed(unions, root, at, store) if unions else np.zeros((0, *store.size), np.uint8),
        "probability": np.stack(maps, axis=1),
        "boxes": boxes,
        "ids": store.cases["id"].to_numpy().astype(str)[test[at]],
        "attributes": np.array(attributes),
        **{name: np.array(getattr(first, name)) for name in ("variant", "fold", "seed")},
    }


def _framed(runs: Sequence[Run], root: Path, at: np.ndarray, store: Store) -> np.ndarray:
    """The averaged probabilities of some test images, at the store's size: uint8 [n, H, W].

    Half a step is added as where scores are taken, so that the picture shows the mask that was scored.
    """
    mean = torch.from_numpy(probabilities_of(runs, root)[at])[:, None]
    return (resample(mean, store.size)[:, 0] + 0.5).clamp(0, 255).to(torch.uint8).numpy()

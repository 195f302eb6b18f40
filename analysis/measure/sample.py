"""What the bound is asked for, and the training images that it is measured on.

How many: Eq. 6 moves with the images, and with the seed that a start was trained with.  On the quick phantom the
standard deviation of log(bound) of one start and attribute is .61 over choices of 4 images, .37 of 8 and .29 of 12;
between two trainings of one start it was about .3 (two starts, from one seed on two processors).  All starts and seeds
share the images, so that more seeds do not lessen what their choice does: three seeds of eight images keep both of
about one size, for twice the solves of one seed of twelve.  Four images would halve these and let the images decide;
one seed would say nothing of training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.curvature.stability import bound
from analysis.measure.starts import StartScene

POSITIVE, ALL = "positive", "all"


@dataclass(frozen=True)
class Question:
    """What the bound is asked for: images ("all", "positive", a number, or empty: a `few`), K, c."""

    images: str = ""
    sources: int = 4
    c: float = 0.01
    few: int = 8

    def __post_init__(self) -> None:
        if self.images not in ("", ALL, POSITIVE) and not (self.images.isdigit() and int(self.images) > 0):
            raise ValueError(f"images {self.images!r} is unknown: give all, positive, or a number of images such as 32")
        bound(0.5, 1, 1, self.sources, self.c)  # refuses impossible K and c before anything is computed


@dataclass(frozen=True)
class TrainingSample:
    """Of one attribute: the measured images (indices into the store), and m, the number they stand for."""

    indices: np.ndarray
    m: int


def samples(question: Question, scene: StartScene) -> dict[str, TrainingSample]:
    """The images of every attribute that is measured; ValueError where there are fewer than asked, or none.

    A number takes that many at random, the same for all attributes and seeds of training, nested: 32 are
    among the 64; of an attribute those where it is known.
    """
    train, store = scene.train(), scene.store
    order = np.random.default_rng(0).permutation(train)
    count = int(question.images) if question.images.isdigit() else len(train) if question.images else question.few
    if question.images.isdigit() and count > len(train):
        there = f"fold {scene.fold} of store {store.name!r} has {len(train)} training images"
        raise ValueError(f"{question.images} images are asked for and {there}: give --images all")
    chosen = {}
    for name in scene.planner.attributes:
        known, positive = order[store.known(name)[order]], order[store.present(name)[order]]
        if not len(known):
            what = f"{name} is unknown in all {len(train)} training images of store {store.name!r}"
            raise ValueError(f"{what}: choose other --attribute")
        if question.images == POSITIVE and not len(positive):
            what = f"no training image of fold {scene.fold} of store {store.name!r} has {name}, so m is 0"
            raise ValueError(f"{what}: choose other --attribute, or --images all")
        images = positive if question.images == POSITIVE else known
        chosen[name] = TrainingSample(images[:count], len(images))
    return chosen

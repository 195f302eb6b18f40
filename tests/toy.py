"""A tiny data set of drawn shapes: a brown ellipse with discs, bars and (rarely) dots on it, drawn from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tatl.data.case import Case, Size
from tatl.data.store import Store, prepare
from tatl.run import Recipe, Run

SIZE = Size(32, 64)
SMALL = "tu-test_efficientnet"  # of timm: 0.08 million parameters, features at 1/2 to 1/32, differentiable twice


class Toy:
    """A reader of `cases` pictures.

    The k-th attribute is in every `every[k]`-th case (0: in none), unknown in all cases where `unknown` names it and in
    every other one where `partly` does; `tiles` cases share a group; without `lesions` the lesion mask is unknown, as
    in IDRiD.
    """

    name = "toy"
    attributes = ("disc", "bar", "dot")
    problems: tuple[str, ...] = ()

    def __init__(
        self,
        cases: int = 24,
        seed: int = 0,
        *,
        every: tuple[int, int, int] = (2, 3, 8),
        tiles: int = 1,
        lesions: bool = True,
        unknown: tuple[str, ...] = (),
        partly: tuple[str, ...] = (),
    ) -> None:
        self.seed, self.every, self.lesions, self.unknown, self.partly = seed, every, lesions, unknown, partly
        self.ids = [f"TOY_{i:04d}" for i in range(cases)]
        self.groups = [f"photograph {i // tiles}" for i in range(cases)]
        self.provenance = {"data": "toy", "seed": seed, "every": list(every), "tiles": tiles, "lesions": lesions}

    def has(self, attribute: str, index: int) -> bool:
        every = self.every[self.attributes.index(attribute)]
        return every > 0 and index % every == every - 1

    def read(self, index: int, size: Size) -> Case:
        rng = np.random.default_rng([self.seed, index])
        y, x = (np.mgrid[: size.height, : size.width] + 0.5) / size.height
        cy, cx = rng.uniform(0.4, 0.6), rng.uniform(0.6, 1.4)
        lesion = ((y - cy) / rng.uniform(0.3, 0.38)) ** 2 + ((x - cx) / rng.uniform(0.35, 0.5)) ** 2 <= 1
        py, px = cy + rng.uniform(-0.1, 0.1), cx + rng.uniform(-0.15, 0.15)
        masks = {
            "disc": np.hypot(y - py, x - px) < 0.15,
            "bar": (np.abs(y - py) < 0.06) & (np.abs(x - px) < 0.3),
            "dot": np.maximum(np.abs(y - py), np.abs(x - px + 0.2)) < 0.07,
        }
        image = np.where(lesion[..., None], (150, 100, 80), (225, 190, 170)).astype(float)
        for name, colour in zip(self.attributes, ((70, 30, 20), (240, 240, 230), (60, 60, 140)), strict=True):
            masks[name] &= self.has(name, index)
            image[masks[name]] = colour
        image = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        hidden = {*self.unknown, *(self.partly if index % 2 else ())}
        given = {name: None if name in hidden else mask for name, mask in masks.items()}
        return Case(self.ids[index], self.groups[index], image, lesion if self.lesions else None, given, *size)


def make_store(path: Path, size: Size = SIZE, **options: Any) -> Store:
    """A store of the toy at `path`; `options` are the reader's."""
    return prepare(Toy(**options), path, size, workers=1, progress=False)


def toy_run(store: Store, task: str = "disc", **values: Any) -> Run:
    """A short run of a small network from random weights; fields of its recipe may be given beside its own."""
    recipe = {"epochs": 1, "batch": 4, "calibration": 8}
    recipe |= {key: values.pop(key) for key in list(values) if key in Recipe.__dataclass_fields__}
    given = {"shape": "link", "backbone": SMALL, "start": "random", "source": "random", "n_folds": 3, **values}
    return Run(store.name, store.digest, str(store.size), task, recipe=Recipe(**recipe), **given)

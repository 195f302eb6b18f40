"""What is measured of each start: on which images, at which c and m, with how many forks.

The order of the images, the steps at which a pass is forked and the fresh examples are drawn from the seed alone: they
are the same for all starts, which differ by nothing else.  A pass over fewer images is the beginning of one over more.

How long passes would take is told by their steps, and a few that are timed here on noise.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.curvature.replace_one import Descent, Positions
from analysis.measure.ledger import image_loss
from analysis.measure.starts import StartScene
from tatl.models import build
from tatl.studies.settings import comma_list, comma_numbers

LARGEST = "largest"
FORKS = 16  # of a pass, where as many held-out images are there
GRID = tuple(10 ** (k / 2) for k in range(4, -5, -1))  # of c, from 100 down to .01


@dataclass(frozen=True)
class Cell:
    """A pass from one start: over the losses of an attribute, with steps c/t, read after each of `ends` images.

    order, held  indices of training images as they come, and of held-out ones, into the store
    swaps        (step, fresh held-out image) of each fork
    """

    attribute: str
    c: float
    order: tuple[int, ...]
    held: tuple[int, ...]
    ends: tuple[int, ...]
    swaps: tuple[tuple[int, int], ...] = ()

    @property
    def steps(self) -> int:
        """Steps of the pass and of all its forks."""
        return len(self.order) + sum(len(self.order) - step + 1 for step, _ in self.swaps)


@dataclass(frozen=True)
class Protocol:
    """What is asked for.

    c       of the steps c/t: numbers with commas, `largest` among them
    shares  percent of the training images, with commas
    forks   of the pass over most images; 0: `FORKS`, or as many as held-out images allow
    images  training images at most, the first of the order; 0: all
    """

    c: str
    shares: str
    forks: int
    images: int

    def __post_init__(self) -> None:
        if not (self.steps or self.largest):
            raise ValueError(f"c {self.c!r} is empty: give numbers above 0, or {LARGEST}, with commas")
        if not self.percent or not all(1 <= share <= 100 for share in self.percent):
            raise ValueError(f"shares {self.shares!r} are percentages of the training images: give some of 1 to 100")
        if self.forks < 0 or self.forks == 1 or self.images < 0:
            least = "forks must be at least 2, for a standard error, and images not negative"
            raise ValueError(f"forks {self.forks}, images {self.images}: {least}")

    @property
    def percent(self) -> list[int]:
        return comma_numbers("shares", self.shares)

    @property
    def largest(self) -> bool:
        """Whether the largest c at which all passes are stable is asked for."""
        return LARGEST in comma_list(self.c)

    @property
    def steps(self) -> list[float]:
        """The numbers of `c`."""
        return [_positive(word) for word in comma_list(self.c) if word != LARGEST]

    def cells(self, scene: StartScene, seeds: Sequence[int]) -> list[tuple[int, Cell]]:
        """A pass of every attribute and start, these counted as their `seeds` are; at c = 1, until one is chosen.

        Raises ValueError for more images, or forks, than there are, and where no held-out image is left.
        """
        names = scene.planner.attributes
        return [(k, self._cell(scene, name, seed)) for name in names for k, seed in enumerate(seeds)]

    def _cell(self, scene: StartScene, attribute: str, seed: int) -> Cell:
        store, split = scene.store, scene.planner.split(scene.fold)
        known = store.known(attribute)
        train, held = (part[known[part]] for part in (split.train, np.concatenate([split.validation, split.test])))
        where = f"{attribute} of store {store.name!r}, fold {scene.fold}"
        if len(train) < max(self.images, 2):
            raise ValueError(f"{self.images or 2} training images are asked for, and {where}, has {len(train)} known")
        rng, m = np.random.default_rng([seed, 1]), self.images or len(train)
        ends = tuple(max(1, round(m * share / 100)) for share in self.percent)
        forks = self.forks or max(2, min(FORKS, len(held), max(ends)))
        if len(held) < forks:
            what = f"{where}, has {len(held)} images in held-out groups"
            raise ValueError(f"{what}, and each of {forks} forks takes another one of them: give fewer --forks")
        order = rng.permutation(train)[: max(ends)]
        steps = Positions(len(order)).draw(forks, rng)
        fresh = drawn_by_share(held, store.present(attribute), forks, rng)
        swaps = tuple(zip(steps.tolist(), fresh.tolist(), strict=True))
        return Cell(attribute, 1.0, tuple(order.tolist()), tuple(held.tolist()), ends, swaps)


def drawn_by_share(images: np.ndarray, present: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the images, each as likely, in a drawn order; those that show it (present, bool [N]) by their share.

    On the quick phantom one image with streaks changes what a fork ends at as much as a thousand without: as many of
    them in every draw as there should be, to the next whole number, make the estimate surer.
    """
    drawn = rng.permutation(images)
    ordered = drawn[np.argsort(present[drawn], kind="stable")]
    places = (np.arange(count) + rng.random()) * len(images) / count
    return rng.permutation(ordered[places.astype(int)])


def _positive(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = np.nan
    if not 0 < number < np.inf:
        raise ValueError(f"c {word!r} scales the steps c/t: give numbers above 0, or {LARGEST}, with commas")
    return number


_TIMED = 3  # steps, after one that is not


def effort(
    protocol: Protocol, scene: StartScene, drawn: Sequence[tuple[int, Cell]], device: str, at_once: int,
    predictors: bool = False,
) -> str:  # fmt: skip
    """What the passes take, so many at once, in words; nothing is read or written."""
    cells = [cell for _, cell in drawn]
    steps = len(protocol.steps) * sum(cell.steps for cell in cells)
    minutes = steps * _seconds(scene, device, at_once) / at_once / 60
    first, passes = cells[0], len(protocol.steps) * len(cells)
    said = f"{passes} passes of m up to {len(first.order)}, {len(first.swaps)} forks each: {steps:,} steps"
    said += f", about {minutes:.0f} min with {at_once} at once, by a step timed here"
    if protocol.largest:
        said += f"; as many passes at the largest c, sought in up to {len(GRID)} passes of each without forks"
    return said + "; predictors take what analysis.bound takes, beside" * predictors


def _seconds(scene: StartScene, device: str, at_once: int) -> float:
    """Of one step of this network on images of this size."""
    size, before = scene.store.size, torch.get_num_threads()
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)

    def noise(_: np.ndarray) -> tuple[Tensor, Tensor]:
        return images, (images[:, :1] > 0.5).float()

    torch.set_num_threads(1 if device == "cpu" and at_once > 1 else before)
    try:
        model = build(scene.shape, scene.planner.settings.backbone).to(device)
        descent = Descent(model, noise, image_loss, 1e-6)
        descent.follow(range(1))
        started = time.perf_counter()
        descent.follow(range(1 + _TIMED))
        descent.losses([0])  # which waits for a GPU
        return (time.perf_counter() - started) / _TIMED
    finally:
        torch.set_num_threads(before)

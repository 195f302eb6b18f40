"""Stability of one-pass SGD, measured by coupled pairs of trainings that differ in one example.

    w_t = w_{t-1} - c / t * grad l(w_{t-1}, z_t),   t = 1 .. m,   one example a step, in a drawn order

A fork at step i takes a fresh example z in place of z_i and goes on with the same examples, to weights A_S(i); without
it the pass ends at A_S.  On-average stability is the mean of l(A_S, z) - l(A_S(i), z) over i and z (Kuzborskij &
Lampert 2018, Definition 1), and so, z and z_i changing places, of l(A_S(i), z_i) - l(A_S, z_i).  Both are read off one
fork.  The two trainings share all but one step: of two that share none the difference is that of two trainings.

In evaluation mode, so that BatchNorm keeps the statistics it has; over the weights that require a gradient.  A fork is
followed to its end when the pass comes to it, so that two copies of the weights are all that is held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from analysis.curvature.evaluation import ImageFeed, Loss, evaluation, exactly, per_image, per_image_losses


class Diverged(FloatingPointError):
    """A pass whose loss stopped being finite; `step` counts from 1."""

    def __init__(self, step: int, c: float) -> None:
        super().__init__(f"the loss is not finite at step {step} with steps {c:g}/t: give a smaller c")
        self.step = step


@dataclass(frozen=True)
class Fork:
    """At `step` (from 1) `fresh` was taken in place of `replaced`; their losses at the end of the fork."""

    step: int
    replaced: int
    fresh: int
    fresh_loss: float
    replaced_loss: float


@dataclass(frozen=True)
class Stability:
    """What the forks of passes tell, in units of the loss.

    fresh, replaced  l(A_S, z) - l(A_S(i), z) and l(A_S(i), z_i) - l(A_S, z_i), float64 [forks]: one expectation
    mean, error      on-average stability, and its standard error over forks
    largest          the largest |difference| seen: a lower end of uniform stability, the supremum
    """

    fresh: np.ndarray
    replaced: np.ndarray

    @property
    def pairs(self) -> np.ndarray:
        """The estimate of each fork: float64 [forks]."""
        return (self.fresh + self.replaced) / 2

    @property
    def mean(self) -> float:
        return float(self.pairs.mean())

    @property
    def error(self) -> float:
        return float(self.pairs.std(ddof=1) / math.sqrt(len(self.pairs))) if len(self.pairs) > 1 else math.nan

    @property
    def largest(self) -> float:
        return float(np.abs(np.concatenate([self.fresh, self.replaced])).max())


def one_pass(
    model: nn.Module,
    feed: ImageFeed,
    loss: Loss,
    order: Sequence[int],
    c: float,
    first: int = 1,
    after: Callable[[int], None] = lambda step: None,
) -> None:
    """Take the steps `first` .. m of the pass over `order` [m], in place; `after(step)` is called after each.

    Raises ValueError for an inadmissible c, Diverged where a loss is not finite.
    """
    if not c > 0:
        raise ValueError(f"c {c} scales the steps c/t: give a number above 0")
    weights = [w for w in model.parameters() if w.requires_grad]
    with evaluation(model), exactly():
        for step in range(first, len(order) + 1):
            images, masks = feed(np.array([order[step - 1]]))
            value = per_image(loss(model(images), masks), 1)[0]
            if not torch.isfinite(value):
                raise Diverged(step, c)
            slopes = torch.autograd.grad(value, weights, allow_unused=True)
            with torch.no_grad():
                for weight, slope in zip(weights, slopes, strict=True):
                    if slope is not None:
                        weight.sub_(slope, alpha=c / step)
            after(step)


def forks(
    model: nn.Module,
    feed: ImageFeed,
    loss: Loss,
    order: Sequence[int],
    swaps: Sequence[tuple[int, int]],
    c: float,
    after: Callable[[int], None] = lambda step: None,
) -> Iterator[Fork]:
    """One pass over `order`, and of every swap (step, fresh example) its fork; when it ends the model holds A_S.

    Raises:
        ValueError: a step outside 1 .. m, or a fresh example that is among `order`
        Diverged: a loss of the pass or of a fork is not finite
    """
    known = set(order)
    for step, fresh in swaps:
        if not 1 <= step <= len(order):
            raise ValueError(f"step {step} cannot be swapped: a pass over {len(order)} examples has 1 to {len(order)}")
        if fresh in known:
            raise ValueError(f"example {fresh} is in the pass already: take the place of one with a fresh example")
    weights, reached = [w for w in model.parameters() if w.requires_grad], 0
    for step, fresh in sorted(swaps):
        one_pass(model, feed, loss, order[: step - 1], c, reached + 1, after)
        reached = step - 1
        kept = [weight.detach().clone() for weight in weights]
        replaced = order[step - 1]
        one_pass(model, feed, loss, [*order[: step - 1], fresh, *order[step:]], c, step, after)
        losses = per_image_losses(model, feed, np.array([fresh, replaced]), loss, batch=1)
        _restore(weights, kept)
        yield Fork(step, replaced, fresh, float(losses[0]), float(losses[1]))
    one_pass(model, feed, loss, order, c, reached + 1, after)


def stability(model: nn.Module, feed: ImageFeed, loss: Loss, found: Sequence[Fork]) -> Stability:
    """What the forks of one pass tell beside its end A_S, which the model holds; ValueError without forks."""
    if not found:
        raise ValueError("no fork is given: stability is read off one or more")
    ends = {}
    for example in {example for fork in found for example in (fork.fresh, fork.replaced)}:
        ends[example] = float(per_image_losses(model, feed, np.array([example]), loss)[0])
    return Stability(
        np.array([ends[fork.fresh] - fork.fresh_loss for fork in found]),
        np.array([fork.replaced_loss - ends[fork.replaced] for fork in found]),
    )


@dataclass(frozen=True)
class GradientNoise:
    """Of per-image gradients at one set of weights: |mean|^2, and the trace of their covariance (n - 1)."""

    squared_mean: float
    trace: float

    def first_order(self, c: float, m: int) -> float:
        """On-average stability to first order in the steps: c H_m / m times the trace."""
        return c * sum(1 / t for t in range(1, m + 1)) / m * self.trace


def gradient_noise(model: nn.Module, feed: ImageFeed, loss: Loss, indices: Sequence[int]) -> GradientNoise:
    """Of two or more examples, one gradient at a time, in float64 sums; ValueError for fewer."""
    if len(indices) < 2:
        raise ValueError(f"{len(indices)} examples have no covariance: give two or more")
    weights = [w for w in model.parameters() if w.requires_grad]
    total: list[Tensor] = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights]
    squares = 0.0
    with evaluation(model), exactly():
        for index in indices:
            images, masks = feed(np.array([index]))
            slopes = torch.autograd.grad(per_image(loss(model(images), masks), 1)[0], weights, allow_unused=True)
            for held, slope in zip(total, slopes, strict=True):
                if slope is not None:
                    held.add_(slope)
                    squares += float(slope.double().square().sum())
    n = len(indices)
    mean = sum(float((held / n).square().sum()) for held in total)
    return GradientNoise(mean, (squares - n * mean) / (n - 1))


def _restore(weights: Sequence[Tensor], kept: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, kept, strict=True):
            weight.copy_(value)

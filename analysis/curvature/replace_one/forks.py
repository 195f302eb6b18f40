"""A pass, and forks of it that take another example at one step, side by side at several m."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from analysis.curvature.evaluation import ImageFeed, Loss
from analysis.curvature.replace_one.descent import Descent, Diverged


@dataclass(frozen=True)
class Fork:
    """At `step` (from 1) of a pass over `m` examples `fresh` was taken in place of `replaced`.

    fresh_difference, replaced_difference   l(A_S, z) - l(A_S(i), z) and l(A_S(i), z_i) - l(A_S, z_i): one expectation
                                            where the start does not know z_i
    diverged_at                             the step at which the fork's loss was not finite; both are NaN then
    """

    step: int
    m: int
    replaced: int
    fresh: int
    fresh_difference: float
    replaced_difference: float
    diverged_at: float = math.nan


def forks(
    model: nn.Module,
    feed: ImageFeed,
    loss: Loss,
    order: Sequence[int],
    swaps: Sequence[tuple[int, int]],
    c: float,
    ends: Sequence[int] = (),
    reached: Callable[[int], None] = lambda m: None,
) -> Iterator[Fork]:
    """One pass over `order`, and of every swap (step, fresh example) its fork, read at every m of `ends` (the whole).

    At each m `reached(m)` is called while the model holds A_S, then come the forks at 1 .. m.

    Raises:
        ValueError: a step or an end outside 1 .. m, a fresh example that is among `order`, an inadmissible c
        Diverged: a loss of the pass is not finite
    """
    ends = sorted(set(ends)) or [len(order)]
    _check(order, swaps, ends)
    descent = Descent(model, feed, loss, c)
    ended: dict[int, list[_End]] = defaultdict(list)
    for step in range(1, len(order) + 1):
        for fresh in [z for at, z in swaps if at == step]:
            for end in _followed(descent, order, step, fresh, ends):
                ended[end.m].append(end)
        descent.follow(order[:step])
        if step in ends:
            reached(step)
            yield from _compared(descent, ended.pop(step, []))


@dataclass(frozen=True)
class _End:
    """Where a fork was after m examples: its losses of the fresh and of the replaced one."""

    step: int
    m: int
    replaced: int
    fresh: int
    losses: dict[int, float]
    diverged_at: float = math.nan


def _check(order: Sequence[int], swaps: Sequence[tuple[int, int]], ends: Sequence[int]) -> None:
    known, m = set(order), len(order)
    if outside := [end for end in ends if not 1 <= end <= m]:
        raise ValueError(f"a pass over {m} examples cannot be read after {outside[0]}: give 1 to {m}")
    for step, fresh in swaps:
        if not 1 <= step <= m:
            raise ValueError(f"step {step} cannot be swapped: a pass over {m} examples has 1 to {m}")
        if fresh in known:
            raise ValueError(f"example {fresh} is in the pass already: take the place of one with a fresh example")


def _followed(descent: Descent, order: Sequence[int], step: int, fresh: int, ends: Sequence[int]) -> Iterator[_End]:
    """The fork at `step`, at each of its ends; the descent, `step` - 1 steps down, is there again afterwards."""
    kept, replaced = descent.weights(), order[step - 1]
    changed = [*order[: step - 1], fresh, *order[step:]]
    diverged_at = math.nan
    for m in [end for end in ends if end >= step]:
        losses = {fresh: math.nan, replaced: math.nan}
        try:
            if math.isnan(diverged_at):
                descent.follow(changed[:m])
                losses = descent.losses([fresh, replaced])
        except Diverged as error:
            diverged_at = error.step
        yield _End(step, m, replaced, fresh, losses, diverged_at)
    descent.go_back(kept, step - 1)


def _compared(descent: Descent, ended: Sequence[_End]) -> Iterator[Fork]:
    """The forks that ended at this m, beside the pass that is there too."""
    here = descent.losses(sorted({example for end in ended for example in end.losses})) if ended else {}
    for end in ended:
        fresh = here[end.fresh] - end.losses[end.fresh]
        replaced = end.losses[end.replaced] - here[end.replaced]
        yield Fork(end.step, end.m, end.replaced, end.fresh, fresh, replaced, end.diverged_at)

"""Runs in an order in which they can be trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tatl.run import Run


def in_order(runs: Iterable[Run]) -> Iterator[Run]:
    """Every run and what it needs, each once, needed ones first."""
    seen: set[Run] = set()
    for run in runs:
        for each in (*run.needs(), run):
            if each not in seen:
                seen.add(each)
                yield each

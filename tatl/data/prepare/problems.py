"""Bad cases, told so that a person can repair them: all of them at once, and what many share in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_SHOWN = 20  # lines in the message; every case has one in problems.txt
_FIRST = 5  # cases named in a line
_FILE = re.compile(r"^.+\.\w+ (?=has the levels |has coloured |is compressed )")  # what all masks of a data set share


class BadCases(ValueError):
    """Some cases cannot be read; `problems` has one sentence for each."""

    def __init__(self, message: str, problems: list[str]) -> None:
        super().__init__(message)
        self.problems = problems

    def __reduce__(self) -> tuple[Any, ...]:
        return BadCases, (str(self), self.problems)


def bad_cases(problems: list[str], good: int, path: Path) -> BadCases:
    """Write all problems to `path` and make the error that shows the first."""
    path.write_text("".join(f"{problem}\n" for problem in problems), encoding="utf-8", errors="surrogateescape")
    lines = by_kind(problems)
    shown = lines[:_SHOWN] + ([f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])
    remedy = "repair them, or leave them out with --skip-bad" if good else "none is left, so repair them"
    what = f"{len(problems)} bad cases beside {good} good ones: {remedy}; all are listed in {path}"
    return BadCases("\n  ".join([what, *shown]), problems)


def by_kind(problems: list[str]) -> list[str]:
    """One line a kind of problem: what, how many, the first five; problems read `<which>: <what>`."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for problem in problems:
        which, _, what = problem.partition(": ")
        kinds.setdefault(_FILE.sub("", what), []).append((which, what))
    return [_line([which for which, _ in found], found[0][1]) for found in kinds.values()]


def _line(named: list[str], what: str) -> str:
    if len(named) == 1:
        return f"{named[0]}: {what}"
    return f"{what}: {len(named)} cases ({', '.join(named[:_FIRST])}{', ...' if len(named) > _FIRST else ''})"

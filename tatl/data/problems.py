"""Bad cases, told so that a person can repair them: all of them at once, and what many share in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHOWN = 20  # lines in the message; every case has one in problems.txt
FIRST = 5  # cases named in a line


class BadCases(ValueError):
    """Some cases cannot be read; `problems` has one sentence for each."""

    def __init__(self, message: str, problems: list[str]) -> None:
        super().__init__(message)
        self.problems = problems

    def __reduce__(self) -> tuple[Any, ...]:
        return BadCases, (str(self), self.problems)


def listed(problems: list[str], good: int, path: Path) -> BadCases:
    """Write all problems to `path` and make the error that shows the first."""
    path.write_text("".join(f"{problem}\n" for problem in problems), encoding="utf-8")
    lines = summary(problems)
    shown = lines[:SHOWN] + ([f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])
    remedy = "repair them, or leave them out with --skip-bad" if good else "none is left, so repair them"
    return BadCases(
        f"{len(problems)} bad cases beside {good} good ones: {remedy}; all are listed in {path}\n  "
        + "\n  ".join(shown),
        problems,
    )


def summary(problems: list[str]) -> list[str]:
    """One line a kind of problem: what, how many, the first five; problems read `<which>: <what>`."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        which, _, what = problem.partition(": ")
        kinds.setdefault(what, []).append(which)
    return [
        f"{named[0]}: {what}"
        if len(named) == 1
        else f"{what}: {len(named)} cases ({', '.join(named[:FIRST])}{', ...' if len(named) > FIRST else ''})"
        for what, named in kinds.items()
    ]

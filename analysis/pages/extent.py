"""How much of a study was measured?  A study asked for a few of its rows is a part, and its page says which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from analysis.pages import html
from analysis.pages.html import Html
from analysis.pages.words import listed


def unmeasured(parts: dict[str, tuple[Sequence[Any], Iterable[Any]]]) -> Html:
    """One sentence that names what is not there; nothing where the study is whole.

    Args:
        parts: by what they are called, the names of the study in full and those that were measured
    """
    told = []
    for what, (full, there) in parts.items():
        seen = set(there)
        if lost := [name for name in full if name not in seen]:
            told.append(f"{len(full) - len(lost)} of {len(full)} {what} (not {listed(lost)})")
    if not told:
        return Html("")
    return html.sentence(f"Only a part of the study was measured: {'; '.join(told)}.")

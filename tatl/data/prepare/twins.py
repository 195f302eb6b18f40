"""The same picture under several cases, told by its pixels once all are decoded: files that differ in bytes alone.

Folds keep groups whole, so a picture of two groups could be trained on and tested on.  Where a group is no more than
an id (ISIC) such groups become one; where a person has stated groups they stand, and the twins are told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

JOINED = "shows the same pixels as another case, whose group it joins"
APART = "shows the same pixels as a case of another group, which folds may part: give both one group"


def join_twins(
    records: Sequence[Mapping[str, Any]], groups: Mapping[str, str], images: np.ndarray, join: bool
) -> tuple[dict[str, str], list[str]]:
    """Id -> group, and a note for every later twin; the first case of a picture gives the group where they `join`."""
    named, notes = dict(groups), []
    first: dict[tuple[int, ...], int] = {}
    for row, record in enumerate(records):
        twin = first.setdefault((record["crc"][0], record["height"], record["width"]), row)
        old, new = named[record["id"]], named[records[twin]["id"]]
        if old == new or not np.array_equal(images[twin], images[row]):
            continue
        notes.append(f"{record['id']}: {JOINED if join else APART}")
        if join:
            named |= {name: new for name, group in named.items() if group == old}
    return named, notes

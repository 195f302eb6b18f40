"""What every reader yields: one image with its masks, decoded and reduced to the store's size.

A mask is *present* (some pixel set), *absent* (known to be empty) or *unknown* (nobody drew it): a lesion mask
is unknown in IDRiD, while a missing streaks mask in a cases.csv means that there are no streaks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from tatl import cli

if cli.MYPY:
    import numpy as np

MAX_ATTRIBUTES = 15


class Size(NamedTuple):
    """Height and width in pixels; written `384x512`."""

    height: int
    width: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read `384x512`; ValueError for anything else."""
        parts = text.lower().split("x")
        if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
            raise ValueError(f"size {text!r} is not HEIGHTxWIDTH in pixels, such as 384x512")
        return cls(int(parts[0]), int(parts[1]))

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


class BadCase(ValueError):
    """One case cannot be read; `prepare` collects these and lists them all."""


@dataclass(frozen=True)
class Case:
    """One decoded case.

    image       uint8 [H, W, 3], RGB
    lesion      bool [H, W], or None if unknown
    attributes  name -> bool [H, W], or None if unknown
    height, width  of the original image, in pixels
    notes       what a person should know of how it was read, each the rest of a sentence about the case
    """

    id: str
    group: str
    image: np.ndarray
    lesion: np.ndarray | None
    attributes: Mapping[str, np.ndarray | None]
    height: int
    width: int
    notes: tuple[str, ...] = ()


class Reader(Protocol):
    """A data set that lists its cases cheaply and decodes one at a time; picklable, so that processes share it.

    `problems` holds what listing alone already shows (an image without masks, a duplicate id), one sentence a
    case; `read` raises BadCase for what only decoding shows.
    """

    @property
    def name(self) -> str: ...
    @property
    def attributes(self) -> Sequence[str]: ...
    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def groups(self) -> Sequence[str]: ...
    @property
    def problems(self) -> Sequence[str]: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...

    def read(self, index: int, size: Size) -> Case: ...

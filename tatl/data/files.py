"""Readers of files: which files make a case, and how they become one.

A reader lists its files once, cheaply, and finds there what is already wrong (`problems`, each written
`<which>: <what>`); a case with such a problem is not among its `ids`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tatl.data.case import Case, Size
from tatl.data.pictures import read_image, read_reduced


@dataclass(frozen=True)
class Source:
    """The files of a case.

    lesion      None if unknown
    attributes  name -> file, or None if absent; a name that is not here is unknown
    labels      further files that tell attributes (superpixels and features of ISIC 2017)
    """

    id: str
    group: str
    image: Path
    lesion: Path | None = None
    attributes: Mapping[str, Path | None] = field(default_factory=dict)
    labels: tuple[Path, ...] = ()

    def files(self) -> list[Path]:
        optional = (self.lesion, *self.attributes.values(), *self.labels)
        return [self.image, *(path for path in optional if path is not None)]


class FileReader:
    """A Reader over listed sources; readers of a format fill it when they are built."""

    name: str
    attributes: Sequence[str]
    ids: Sequence[str]
    groups: Sequence[str]
    problems: Sequence[str]
    provenance: Mapping[str, Any]

    def __init__(
        self, root: Path, attributes: Sequence[str], sources: Sequence[Source], problems: Sequence[str], **options: Any
    ) -> None:
        self.root = root
        self.attributes = tuple(attributes)
        self.sources = list(sources)
        self.ids = [source.id for source in sources]
        self.groups = [source.group for source in sources]
        self.problems = list(problems)
        self.provenance = {"data": self.name, "root": str(root.resolve()), **options}
        if not sources and not problems:
            raise ValueError(f"{root} holds no images for --data {self.name}: give the folder they were unpacked into")

    def __len__(self) -> int:
        return len(self.sources)

    def read(self, index: int, size: Size) -> Case:
        """Decode one case, reduced to `size`; raises BadCase."""
        source = self.sources[index]
        image, original = read_image(source.image, size)
        lesion = None if source.lesion is None else read_reduced(source.lesion, original, size)
        attributes = self._attributes(source, original, size)
        return Case(source.id, source.group, image, lesion, attributes, *original)

    def _attributes(self, source: Source, original: tuple[int, int], size: Size) -> dict[str, np.ndarray | None]:
        masks: dict[str, np.ndarray | None] = dict.fromkeys(self.attributes)
        for name, path in source.attributes.items():
            masks[name] = np.zeros(size, bool) if path is None else read_reduced(path, original, size)
        return masks

    def stamp(self, index: int) -> str:
        """Changes when a file of the case does: a digest of names, lengths and times of change."""
        digest = hashlib.sha256()
        for path in self.sources[index].files():
            try:
                status = path.stat()
                digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
            except OSError:
                digest.update(f"{path.name} missing\n".encode())
        return digest.hexdigest()[:16]


def existing_folder(root: str | Path) -> Path:
    """The folder, if it is one and holds anything; FileNotFoundError or ValueError otherwise."""
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"--root {root} does not exist: give the folder that holds the data")
    if not root.is_dir():
        raise ValueError(f"--root {root} is a file: give the folder that holds the data")
    if not any(root.iterdir()):
        raise ValueError(f"--root {root} is an empty folder: give the folder that holds the data")
    return root


def unique(sources: list[Source]) -> tuple[list[Source], list[str]]:
    """Leave out all cases that share an id, for nobody can tell which is meant: (the rest, problems)."""
    by_id: dict[str, list[Source]] = {}
    for source in sources:
        by_id.setdefault(source.id, []).append(source)
    problems = [
        f"{name}: duplicate id ({', '.join(f'{s.image.parent.name}/{s.image.name}' for s in twins)})"
        for name, twins in by_id.items()
        if len(twins) > 1
    ]
    return [source for source in sources if len(by_id[source.id]) == 1], problems

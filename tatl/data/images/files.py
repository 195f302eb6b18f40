"""Readers of files: which files make a case, and how they become one.

A reader lists its files once, cheaply, and finds there what is already wrong (`problems`, each written
`<which>: <what>`); a case with such a problem is not among its `ids`.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tatl.data.case import Case, Size
from tatl.data.images.masks import Part, check_size, read_part
from tatl.data.images.pictures import SIDEWAYS, decoded
from tatl.data.images.reading import AS_THEY_ARE, Reading
from tatl.data.images.reduction import reduce_part
from tatl.names import LESION

TURNED = (
    "has an EXIF orientation of {}, which was applied to the image, while its masks have that size either way: look "
    "at an overlay, and if they were drawn on the stored pixels, prepare with --exif ignore"
)


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
    groups_are_ids = False  # or stated by a person

    def __init__(
        self,
        root: Path,
        attributes: Sequence[str],
        sources: Sequence[Source],
        problems: Sequence[str],
        reading: Reading = AS_THEY_ARE,
        **options: Any,
    ) -> None:
        reading.check((LESION, *attributes))
        self.root = root
        self.reading = reading
        self.attributes = tuple(attributes)
        self.sources, repeated = _unique(sources)
        self.ids = [source.id for source in self.sources]
        self.groups = [source.group for source in self.sources]
        self.problems = [*problems, *repeated]
        self.provenance = {"data": self.name, "root": str(root.resolve()), **options, **reading.said()}
        if not sources and not problems:
            raise ValueError(f"{root} holds no images for --data {self.name}: give the folder they were unpacked into")

    def read(self, index: int, size: Size) -> Case:
        """Decode one case, reduced to `size`; raises BadCase."""
        source = self.sources[index]
        image, original, told = decoded(source.image, size, self.reading)
        masks: dict[str, np.ndarray | None] = dict.fromkeys((LESION, *self.attributes))
        notes: dict[str, None] = {}  # in order, each once
        turned: tuple[str, ...] = ()
        for name, part in self._masks(source, original, told):
            if part is None:
                masks[name] = np.zeros(size, bool)
            else:
                masks[name] = reduce_part(part.values, part.corner, part.shape, size)
                notes |= dict.fromkeys(part.notes)
                turned = self._turned(told, original)
        lesion = masks.pop(LESION)
        return Case(source.id, source.group, image, lesion, masks, *original, (*notes, *turned))

    def _masks(self, source: Source, original: tuple[int, int], told: int) -> Iterator[tuple[str, Part | None]]:
        """The masks that are known, one after the other so that one is held at a time; None for an absent one.

        `original` is the image's height and width, `told` its EXIF orientation.
        """
        for name, path in {LESION: source.lesion, **source.attributes}.items():
            if path is not None:
                part = read_part(path, self.reading, name)
                check_size(path.name, part.shape, original, source.image)
                yield name, part
            elif name != LESION:
                yield name, None

    def _turned(self, told: int, original: tuple[int, int]) -> tuple[str, ...]:
        """A note where an EXIF orientation was applied that the sizes of masks cannot confirm."""
        either = told != 1 and (told not in SIDEWAYS or original[0] == original[1])
        return (TURNED.format(told),) if either and self.reading.exif == "apply" else ()

    def stamp(self, index: int) -> str:
        """Changes when a file of the case does: a digest of names, lengths and times of change."""
        digest = hashlib.sha256()
        for path in self.sources[index].files():
            try:
                status = path.stat()
                told = f"{path.name} {status.st_size} {status.st_mtime_ns}\n"
            except OSError:
                told = f"{path.name} missing\n"
            digest.update(told.encode(errors="surrogateescape"))
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


def _unique(sources: Sequence[Source]) -> tuple[list[Source], list[str]]:
    """Leave out all cases that share an id, for nobody can tell which is meant: (the rest, problems)."""
    by_id: dict[str, list[Path]] = {}
    for source in sources:
        by_id.setdefault(source.id, []).append(source.image)
    twice = {name: same for name, same in by_id.items() if len(same) > 1}
    named = {name: ", ".join(f"{path.parent.name}/{path.name}" for path in same) for name, same in twice.items()}
    problems = [f"{name}: duplicate id ({files})" for name, files in named.items()]
    return [source for source in sources if source.id not in twice], problems


def composed(name: str) -> str:
    """A file's name with its accents composed (NFC), as Latin-1 where its bytes are no UTF-8."""
    raw = name.encode(errors="surrogateescape")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return unicodedata.normalize("NFC", text)

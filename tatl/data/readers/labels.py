"""One label image a case: its colours or indices are classes, and a small YAML says which class is what.

    images: images/*/*.jpg                  the pictures, relative to --root; a case is called by its file's stem
    labels: annotations/*/{case}_mask.png   its label image, lossless and of the picture's size
    classes: {background: [0, 0, 0], leaf: [0, 176, 0], symptom: [255, 0, 0]}    colours, or indices: {leaf: 1}
    lesion: [leaf, symptom]                 the classes that make the lesion mask; left out: unknown
    attributes: {rust: symptom, miner: symptom}        attribute -> its class
    ignore: [void]                          classes that are nothing, such as a border: they count as background
    table: {file: dataset.csv, case: id}    optional: a cell that is not 0 says that the case has the attribute
    several: skip                           cases whose table gives one class to several attributes are left out

Classes cannot overlap, so neither can the attributes of different classes, and the store says so.  Attributes may
share a class only where a table tells which of them a case has.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tatl.data.case import BadCase
from tatl.data.images.files import FileReader, Source, existing_folder
from tatl.data.images.masks import Part, check_size, keeps_levels
from tatl.data.images.pictures import opened
from tatl.data.images.reading import AS_THEY_ARE, Reading
from tatl.data.readers.manifest import attribute_names
from tatl.names import LESION

LEGEND = "labels.yaml"
CASE = "{case}"
STRANGE = 255  # no class
_Colour = int | tuple[int, int, int]


@dataclass(frozen=True)
class Legend:
    """What the YAML says; ValueError for what cannot be meant."""

    images: str
    labels: str
    classes: dict[str, _Colour]
    attributes: dict[str, str]
    lesion: list[str] = field(default_factory=list)
    ignore: list[str] = field(default_factory=list)
    table: dict[str, str] = field(default_factory=dict)
    several: str = ""

    @classmethod
    def read(cls, path: Path) -> Legend:
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}, which says what colours are: write it, or give --labels FILE")
        try:
            given = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a YAML file ({str(error).splitlines()[0]})") from error
        known, required = set(cls.__dataclass_fields__), {"images", "labels", "classes", "attributes"}
        if missing := required.difference(given if isinstance(given, dict) else ()):
            raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
        if unknown := ", ".join(sorted(map(str, set(given) - known))):
            raise ValueError(f"{path} has unknown keys {unknown}: it may have {', '.join(sorted(known))}")
        legend = cls(**given | {"classes": {name: _colour(path, name, c) for name, c in given["classes"].items()}})
        legend._check(path)
        return legend

    def _check(self, path: Path) -> None:
        for colour, both in _shared(self.classes):
            raise ValueError(f"{path} gives {colour} to {' and '.join(both)}: a colour is one class")
        if len({isinstance(colour, int) for colour in self.classes.values()}) > 1:
            raise ValueError(f"{path} mixes indices and colours: give all classes as one or the other")
        for what in (*self.lesion, *self.ignore, *self.attributes.values()):
            if what not in self.classes:
                raise ValueError(f"{path} names a class {what!r} that its classes lack: {', '.join(self.classes)}")
        for of, both in () if self.table else _shared(self.attributes):
            remedy = "give a table that says which a case has"
            raise ValueError(f"{path} gives the class {of!r} to {' and '.join(both)}: {remedy}")
        if self.table and set(self.table) != {"file", "case"}:
            raise ValueError(f"{path}: table needs file (a CSV) and case (its column of cases), and has {self.table}")
        if CASE not in self.labels:
            raise ValueError(f"{path}: labels {self.labels!r} does not say where the case's name stands: write {CASE}")


def _shared(named: Mapping[str, Any]) -> list[tuple[Any, list[str]]]:
    """What several names have in common, with these names."""
    both = {of: [name for name, other in named.items() if other == of] for of in named.values()}
    return [(of, names) for of, names in both.items() if len(names) > 1]


def _colour(path: Path, name: str, given: Any) -> _Colour:
    if isinstance(given, int) and 0 <= given <= 255:
        return given
    if isinstance(given, list) and len(given) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in given):
        return (given[0], given[1], given[2])
    raise ValueError(f"{path}: class {name!r} is {given!r}, and must be an index or [red, green, blue] of 0 .. 255")


class LabelImages(FileReader):
    """Pictures and their label images under `root`, read by a legend."""

    name = "labels"

    def __init__(self, root: str | Path, legend: str | Path | None = None, reading: Reading = AS_THEY_ARE) -> None:
        folder = existing_folder(root)
        path = Path(legend) if legend else folder / LEGEND
        self.legend = Legend.read(path)
        self.here = _table(folder, path, self.legend)  # attributes that a case has; without a table, None
        sources, problems, left_out = self._listed(folder)
        said: dict[str, Any] = {"classes": self.legend.classes, "overlap": "impossible: one class a pixel"}
        said |= {"ignored": self.legend.ignore, "several": left_out}
        attributes = attribute_names(list(self.legend.attributes), path.name, "attribute")
        super().__init__(folder, attributes, sources, problems, reading, **said)

    def _listed(self, folder: Path) -> tuple[list[Source], list[str], int]:
        sources, problems, left_out = list[Source](), list[str](), 0
        for image in sorted(folder.glob(self.legend.images)):
            case = image.stem
            labels = sorted(folder.glob(self.legend.labels.replace(CASE, case)))
            if len(labels) != 1:
                problems.append(f"{case}: {len(labels) or 'no'} label images as {self.legend.labels}")
            elif self.here is not None and case not in self.here:
                problems.append(f"{case}: {self.legend.table['file']} has no line for it")
            elif self._several(case) and self.legend.several == "skip":
                left_out += 1
            elif several := self._several(case):
                problems.append(f"{case}: {' and '.join(several)} share a class: say `several: skip` to leave such out")
            else:
                sources.append(Source(case, case, image, labels=(labels[0],)))
        return sources, problems, left_out

    def _several(self, case: str) -> list[str]:
        """The attributes of one class that the table gives to a case, if more than one."""
        shared = _shared({name: self.legend.attributes[name] for name in (self.here or {}).get(case, [])})
        return [name for _, names in shared for name in names]

    def _masks(self, source: Source, original: tuple[int, int], told: int) -> Iterator[tuple[str, Part | None]]:
        legend = self.legend
        labels = _classes(source.labels[0], legend, self.reading)
        check_size(source.labels[0].name, labels.shape, original, source.image)
        numbers = {name: number for number, name in enumerate(legend.classes)}
        if legend.lesion:
            yield LESION, Part.of(np.isin(labels, [numbers[name] for name in legend.lesion]))
        here = legend.attributes if self.here is None else self.here[source.id]
        for name, of in legend.attributes.items():
            mask = (labels == numbers[of]) & (name in here)
            if self.here is not None and name in here and not mask.any():
                raise BadCase(f"{legend.table['file']} says {name} and no pixel has its colour")
            yield name, Part.of(mask)


def _table(folder: Path, path: Path, legend: Legend) -> dict[str, list[str]] | None:
    """Which attributes each case has; None without a table."""
    if not legend.table:
        return None
    file, column = folder / legend.table["file"], legend.table["case"]
    if not file.is_file():
        raise FileNotFoundError(f"{path} names a table {file}, which does not exist")
    with file.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    columns = list(rows[0]) if rows else []
    if missing := [name for name in (column, *legend.attributes) if name not in columns]:
        raise ValueError(f"{file} lacks the columns {', '.join(missing)}: it has {', '.join(columns)}")
    cases = Counter(row[column] for row in rows)
    if twice := [case for case, count in cases.items() if case and count > 1]:
        raise ValueError(f"{file} has {cases[twice[0]]} lines of the case {twice[0]!r}: leave one line for each case")
    return {row[column]: [a for a in legend.attributes if row[a] not in ("", "0")] for row in rows}


def _classes(path: Path, legend: Legend, reading: Reading) -> np.ndarray:
    """The class of every pixel: uint8 [h, w], a class's number in the legend; BadCase for a colour that is none."""
    with opened(path, reading.max_pixels) as picture:
        if not keeps_levels(picture, path.read_bytes()):
            raise BadCase(f"{path.name} is a {picture.format} file, whose colours are not exact: save it as PNG")
        indexed = isinstance(next(iter(legend.classes.values())), int)
        values = np.asarray(picture if indexed and picture.mode in ("P", "L") else picture.convert("RGB"), np.uint32)
    if indexed and values.ndim == 3:
        raise BadCase(f"{path.name} is a colour picture and its legend gives indices: give the classes as colours")
    codes = values if indexed else values[..., 0] << 16 | values[..., 1] << 8 | values[..., 2]
    classes = np.full(codes.shape, STRANGE, np.uint8)
    for number, colour in enumerate(legend.classes.values()):
        classes[codes == (colour if isinstance(colour, int) else colour[0] << 16 | colour[1] << 8 | colour[2])] = number
    strange, counts = np.unique(codes[classes == STRANGE], return_counts=True)
    if len(strange):
        code, count = int(strange[counts.argmax()]), counts.max()
        shown = code if indexed else (code >> 16, code >> 8 & 255, code & 255)
        raise BadCase(f"{shown} in {count / codes.size:.2%} of {path.name} is no class of the legend")
    return classes

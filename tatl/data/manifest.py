"""Anybody's own data: a folder with a `cases.csv`.

    case,image,group,lesion,<attribute>,...      `lesion` is optional, and every further column is an attribute
    a,images/a.jpg,patient1,masks/a.png,,        paths are relative to the CSV and stay in its folder

An empty attribute cell says that the attribute is absent; an empty lesion cell, or no lesion column, that the
lesion is unknown.  Folds keep a group whole, so an image that is listed under two groups, by the same file or by
one of the same content, is a problem.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tatl.data.case import MAX_ATTRIBUTES, PRETEXTS
from tatl.data.files import FileReader, Source, existing_folder, unique
from tatl.data.pictures import FORMATS

REQUIRED = ("case", "image", "group")
COLUMNS = ("lesion", "union", "case", "image", "group", "average", "micro", "id", "height", "width")
RESERVED = (*COLUMNS, *PRETEXTS)  # a run of a task is found by its name
FORBIDDEN = set('/\\,:;"*?<>|')  # an attribute's name becomes part of file names and of command lines
HEAD = 1 << 16

Row = dict[str, str]


class Manifest(FileReader):
    """`root/cases.csv` and the pictures that it names."""

    name = "manifest"

    def __init__(self, root: str | Path) -> None:
        folder = existing_folder(root)
        rows = _table(folder / "cases.csv")
        attributes = _attributes(list(rows[0]))
        for name in attributes:
            _check_column(folder, name, [row[name] for row in rows])
        sources: list[Source] = []
        problems: list[str] = []
        for number, row in enumerate(rows, start=2):
            if problem := _problem(folder, row, number):
                problems.append(problem)
            else:
                sources.append(_source(folder, row, attributes))
        sources, twins = unique(sources)
        sources, leaks = _apart(sources)
        super().__init__(folder, attributes, sources, [*problems, *twins, *leaks])

    def stamp(self, index: int) -> str:
        """Changes also when the CSV maps the same files otherwise."""
        source = self.sources[index]
        mapped = f"{source.attributes} {source.lesion} {super().stamp(index)}".replace(str(self.root), "")
        return hashlib.sha256(mapped.encode()).hexdigest()[:16]


def _table(path: Path) -> list[Row]:
    """Rows as column -> cell, cells stripped; ValueError for what is not a table of the required columns."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no cases.csv: write one with the columns {','.join(REQUIRED)},...")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file, strict=True) if any(line)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV in UTF-8 ({error}): save it as one") from error
    if len(lines) < 2:
        raise ValueError(f"{path} has no cases: write one line for each under the column names")
    header = lines[0]
    if missing := [name for name in REQUIRED if name not in header]:
        raise ValueError(
            f"{path} lacks the columns {', '.join(missing)}: it has {header}, and cells are separated by commas"
        )
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise ValueError(f"{path} has the column {twice[0]!r} more than once: rename or remove one")
    for line in lines[1:]:
        if len(line) != len(header):
            raise ValueError(f"{path} has {len(header)} columns and {len(line)} cells in the line of {line[0]!r}")
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def _attributes(header: list[str]) -> list[str]:
    names = [name for name in header if name not in (*REQUIRED, "lesion")]
    for name in names:
        if name.lower() in RESERVED:
            raise ValueError(f"cases.csv has a column {name!r}, a reserved name: rename it ({', '.join(RESERVED)})")
        if not name or name.startswith(".") or not name.isprintable() or FORBIDDEN & set(name):
            raise ValueError(f"cases.csv has a column {name!r}, which cannot be part of a file's name: rename it")
    if twins := [name for name in names if [other.casefold() for other in names].count(name.casefold()) > 1]:
        raise ValueError(
            f"cases.csv has the columns {' and '.join(map(repr, twins[:2]))}, which differ in case alone: rename one"
        )
    if len(names) > MAX_ATTRIBUTES:
        raise ValueError(f"cases.csv has {len(names)} attribute columns, and at most {MAX_ATTRIBUTES} are possible")
    return names


def _check_column(root: Path, name: str, cells: Iterable[str]) -> None:
    """There is no closed list of attributes, so a column is known by naming a mask that exists, or by being empty."""
    filled = [cell for cell in cells if cell]
    if filled and not any(_is_picture(cell) and (root / cell).is_file() for cell in filled):
        raise ValueError(
            f"cases.csv has an unknown column {name!r}: it names no mask that exists (its first value is "
            f"{filled[0]!r}), and every column beside case, image, group and lesion must name masks: remove it"
        )


def _is_picture(cell: str) -> bool:
    return Path(cell).suffix.lower() in FORMATS


def _problem(root: Path, row: Row, number: int) -> str:
    """What listing shows to be wrong with a row, if anything."""
    which = row["case"] or f"line {number}"
    for name in REQUIRED:
        if not row[name]:
            return f"{which}: its {name} cell is empty"
    for name, cell in row.items():
        if cell and name not in ("case", "group") and (what := _bad_path(root, cell)):
            return f"{which}: its {name} {cell!r} {what}"
    return ""


def _bad_path(root: Path, cell: str) -> str:
    path = root / cell
    if not path.resolve().is_relative_to(root.resolve()):
        return "leaves the folder of cases.csv; paths are relative to it and stay inside"
    if not _is_picture(cell):
        return f"is not a picture's file name ({', '.join(FORMATS)})"
    return "" if path.is_file() else "does not exist"


def _source(root: Path, row: Row, attributes: list[str]) -> Source:
    masks = {name: root / row[name] if row[name] else None for name in attributes}
    lesion = root / row["lesion"] if row.get("lesion") else None
    return Source(row["case"], row["group"], root / row["image"], lesion, masks)


def _apart(sources: list[Source]) -> tuple[list[Source], list[str]]:
    """Leave out the cases whose image is also another group's: (the rest, problems)."""
    leaking: dict[str, Source] = {}
    clusters = [sources]
    for key in (_length, _head, _content):  # cheap first: few pictures are read whole
        clusters = [part for cluster in clusters for part in _split(cluster, key)]
    for cluster in clusters:
        for source in cluster:
            leaking[source.id] = next(other for other in cluster if other.group != source.group)
    problems = [
        f"{source.id}: its image {source.image.name} is also that of {other.id}, and their groups "
        f"{source.group} and {other.group} differ: a group must not be on both sides of a fold"
        for source in sources
        if (other := leaking.get(source.id)) is not None
    ]
    return [source for source in sources if source.id not in leaking], problems


def _split(cluster: list[Source], key: Callable[[Path], Any]) -> list[list[Source]]:
    """The parts with the same key that have several groups."""
    parts: dict[Any, list[Source]] = {}
    for source in cluster:
        parts.setdefault(key(source.image), []).append(source)
    return [part for part in parts.values() if len({source.group for source in part}) > 1]


def _length(path: Path) -> int:
    return path.stat().st_size


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(HEAD)).digest()


def _content(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()

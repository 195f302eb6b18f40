"""Anybody's own data: a folder with a `cases.csv`.

    case,image,group,lesion,<attribute>,...      `lesion` is optional, and every further column is an attribute
    a,images/a.jpg,patient1,masks/a.png,,        paths are relative to the CSV and stay in its folder

An empty attribute cell says that the attribute is absent, and `?` that nobody looked for it: it is unknown.  An empty
lesion cell, or no lesion column, says that the lesion is unknown.  With a case whose mask is unknown no network of that
mask is trained or scored, nor one of the union.  Folds keep a group whole, so an image that is listed under two groups,
by the same file or by one of the same content, is a problem.  Names are found however their accents and separators are
written, and columns of a table program that hold nothing are no columns.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

from tatl.data.images.files import FileReader, Source, composed, existing_folder
from tatl.data.images.pictures import FORMATS
from tatl.data.images.reading import AS_THEY_ARE, Reading
from tatl.machine.disk import file_sha256
from tatl.names import AVERAGE, LESION, MICRO, PRETEXTS, UNION

_REQUIRED = ("case", "image", "group")
# A run of a task is found by its name, and a row of a table by its attribute.
_RESERVED = (LESION, UNION, *_REQUIRED, AVERAGE, MICRO, "id", "height", "width", *PRETEXTS)
_NO_FILE = set('/\\:"*?<>|')  # what the name of a file may not hold on some system
_UNKNOWN = "?"  # the cell of a mask that nobody drew


class Manifest(FileReader):
    """`root/cases.csv` and the pictures that it names."""

    name = "manifest"

    def __init__(self, root: str | Path, reading: Reading = AS_THEY_ARE) -> None:
        folder = existing_folder(root)
        _listed.cache_clear()
        rows = _table(folder / "cases.csv")
        names = [name for name in rows[0] if name not in (*_REQUIRED, LESION)]
        attributes = attribute_names(names, "cases.csv", "column")
        for name in attributes:
            _check_column(folder, name, [row[name] for row in rows])
        sources: list[Source] = []
        problems: list[str] = []
        for number, row in enumerate(rows, start=2):
            if problem := _problem(folder, row, number, reading.follow_links):
                problems.append(problem)
            else:
                sources.append(_source(folder, row, attributes))
        sources, leaks = _grouped(sources)
        super().__init__(folder, attributes, sources, problems + leaks, reading)

    def stamp(self, index: int) -> str:
        """Changes also when the CSV maps the same files otherwise."""
        source = self.sources[index]
        mapped = f"{source.attributes} {source.lesion} {super().stamp(index)}".replace(str(self.root), "")
        return hashlib.sha256(mapped.encode(errors="surrogateescape")).hexdigest()[:16]


def _table(path: Path) -> list[dict[str, str]]:
    """Rows as column -> cell, cells stripped; ValueError for what is not a table of the required columns."""
    if not path.is_file():
        below = ", ".join(f"{each.parent}" for each in sorted(path.parent.glob("*/cases.csv"))[:1])
        hint = f"give a folder in it, such as {below}" if below else f"write one with {','.join(_REQUIRED)},..."
        raise FileNotFoundError(f"{path.parent} has no cases.csv: {hint}")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            stripped = [[cell.strip() for cell in line] for line in csv.reader(file, strict=True)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV in UTF-8 ({error}): save it as one") from error
    lines = _without_empty([line for line in stripped if any(line)])
    if len(lines) < 2:
        raise ValueError(f"{path} has no cases: write one line for each under the column names")
    header = lines[0]
    if missing := [name for name in _REQUIRED if name not in header]:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}, separated by commas: it has {header}")
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise ValueError(f"{path} has the column {twice[0]!r} more than once: rename or remove one")
    for line in lines[1:]:
        if len(line) != len(header):
            raise ValueError(f"{path} has {len(header)} columns and {len(line)} cells in the line of {line[0]!r}")
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def _without_empty(lines: list[list[str]]) -> list[list[str]]:
    """Leave out the columns without a name and without any value, as table programs append them."""
    columns = list(zip_longest(*lines, fillvalue=""))
    empty = {k for k, column in enumerate(columns) if not any(column)}
    return [[cell for k, cell in enumerate(line) if k not in empty] for line in lines]


def attribute_names(names: list[str], where: str, what: str) -> list[str]:
    """The names; ValueError for one that is reserved, or that cannot be part of a file's name."""
    for name in names:
        if name.lower() in _RESERVED:
            raise ValueError(f"{where} has a {what} {name!r}, a reserved name: rename it ({', '.join(_RESERVED)})")
        if not name or name.startswith(".") or not name.isprintable() or {*_NO_FILE, *",;"} & set(name):
            raise ValueError(f"{where} has a {what} {name!r}, which cannot be part of a file's name: rename it")
    folded = [name.casefold() for name in names]
    if twins := [repr(name) for name in names if folded.count(name.casefold()) > 1]:
        raise ValueError(f"{where} has a {what} {' and '.join(twins[:2])}, which differ in case alone: rename one")
    return names


def _check_column(root: Path, name: str, cells: Iterable[str]) -> None:
    """There is no closed list of attributes, so a column is known by naming a mask that exists, or by being empty."""
    filled = [cell for cell in cells if cell not in ("", _UNKNOWN)]
    if filled and not any(_is_picture(cell) and _located(root, cell).is_file() for cell in filled):
        must = f"a column must name masks (it has {filled[0]!r}), or hold {_UNKNOWN} where they are unknown"
        raise ValueError(f"cases.csv has an unknown column {name!r}: {must}; remove it")


def _is_picture(cell: str) -> bool:
    return Path(cell).suffix.lower() in FORMATS


def _located(root: Path, cell: str) -> Path:
    """The file that a cell names, also with Windows' separators or accents spelt otherwise; what it names if none."""
    if os.path.exists(root / cell):
        return root / cell
    path = root
    for part in PurePosixPath(cell.replace("\\", "/")).parts:
        path /= part if os.path.exists(path / part) else _listed(path).get(composed(part), part)
    return path


@lru_cache
def _listed(folder: Path) -> dict[str, str]:
    """The names in a folder by their composed spelling; two that share one are left out, for either may be meant."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    spellings = Counter(map(composed, names))
    return {composed(name): name for name in names if spellings[composed(name)] == 1}


def _problem(root: Path, row: dict[str, str], number: int, follow_links: bool) -> str:
    """What listing shows to be wrong with a row, if anything."""
    which = row["case"] or f"line {number}"
    for name in _REQUIRED:
        if not row[name]:
            return f"{which}: its {name} cell is empty"
    if odd := [letter for letter in row["case"] if letter in _NO_FILE or not letter.isprintable()]:
        return f"{which}: its case name holds {odd[0]!r} and must be able to name a file: rename it"
    for name, cell in row.items():
        drawn = cell and not (cell == _UNKNOWN and name not in _REQUIRED)
        if drawn and name not in ("case", "group") and (what := _bad_path(root, cell, follow_links)):
            return f"{which}: its {name} {what}"
    return ""


def _bad_path(root: Path, cell: str, follow_links: bool) -> str:
    path = _located(root, cell)
    if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root)):
        return f"{cell!r} leaves the folder of cases.csv; paths are relative to it and stay inside"
    if not follow_links and not path.resolve().is_relative_to(root.resolve()):
        return _linked(root, path, cell)
    if not _is_picture(cell):
        return f"{cell!r} is not a picture's file name ({', '.join(FORMATS)})"
    return "" if path.is_file() else f"{cell!r} does not exist"


def _linked(root: Path, path: Path, cell: str) -> str:
    """Names the first link on the way to a file that leaves the folder through it, alike for all files behind it."""
    steps = PurePosixPath(os.path.relpath(path, root))
    beyond = [step for step in (steps, *steps.parents) if not (root / step).resolve().is_relative_to(root.resolve())]
    link = f"{beyond[-1]} -> {(root / beyond[-1]).resolve()}"
    which = f"{cell!r} " if beyond[-1] == steps else ""
    return f"{which}leaves the folder of cases.csv through the link {link}: allow it with --follow-links"


def _source(root: Path, row: dict[str, str], attributes: list[str]) -> Source:
    known = [name for name in attributes if row[name] != _UNKNOWN]
    masks = {name: _located(root, row[name]) if row[name] else None for name in known}
    lesion = _located(root, row[LESION]) if row.get(LESION, _UNKNOWN) not in ("", _UNKNOWN) else None
    return Source(row["case"], row["group"], _located(root, row["image"]), lesion, masks)


def _grouped(sources: list[Source]) -> tuple[list[Source], list[str]]:
    """Leave out the cases whose image is also another group's: (the rest, problems)."""
    rest, problems, twins = [], [], {source.id: cluster for cluster in _twins(sources) for source in cluster}
    for source in sources:
        other = next((other for other in twins.get(source.id, ()) if other.group != source.group), None)
        if other is None:
            rest.append(source)
        else:
            what = f"its image {source.image.name} is also that of {other.id}, and their groups"
            problems.append(f"{source.id}: {what} {source.group} and {other.group} differ: give both one group")
    return rest, problems


def _twins(sources: list[Source]) -> list[list[Source]]:
    """Those cases of several groups whose images are the same file, by content."""
    clusters = [sources]
    for key in (_length, file_sha256):  # cheap first: few pictures are read whole
        parts: dict[Any, list[Source]] = {}
        for number, cluster in enumerate(clusters):
            for source in cluster:
                parts.setdefault((number, key(source.image)), []).append(source)
        clusters = [part for part in parts.values() if len({source.group for source in part}) > 1]
    return clusters


def _length(path: Path) -> int | Path:
    return path.stat().st_size if path.exists() else path

"""CSV and JSON files that commands wrote, checked before they are believed: an error says which command writes them."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from gzip import BadGzipFile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BROKEN = (BadGzipFile, zlib.error)
COUNT_COLUMNS = ("mask", "present", "known", "images")  # of counts.csv
_TEXTS = (
    "mask", "other", "variant", "shape", "attribute", "start", "lesion_network", "network", "backbone", "split", "size",
    "device", "frozen", "image", "case", "given", "group", "varied", "setting", "reference", "assumption", "found",
)  # fmt: skip


def command_of(study: str) -> str:
    """What writes the tables of a study."""
    return f"python -m tatl study {study}"


def read_csv(
    path: Path, wanted: Sequence[str], command: str, before: dict[str, str] | None = None, **how: Any
) -> pd.DataFrame:
    """One CSV with at least the `wanted` columns, read as `how` says to pandas; `before`: what old columns are now.

    Raises FileNotFoundError or ValueError with the command that writes it.
    """
    try:
        frame = pd.read_csv(path, keep_default_na=False, **how).rename(columns=before or {})
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there: `{command}` writes it") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, EOFError, *BROKEN) as error:
        raise ValueError(f"{path} is not a CSV table ({error}): write it again with `{command}`") from None
    if missing := [name for name in wanted if name not in frame]:
        lacks = f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}"
        raise ValueError(f"{lacks} (it has {', '.join(map(str, frame))}): write it again with `{command}`")
    return frame


def read_table(
    path: Path, wanted: Sequence[str], command: str, keys: Sequence[str] = (), before: dict[str, str] | None = None
) -> pd.DataFrame:
    """One CSV that `command` writes, the `wanted` columns checked and typed, no two rows with the same `keys`.

    Raises FileNotFoundError or ValueError with the command that writes it.
    """
    frame = read_csv(path, wanted, command, before, dtype={name: str for name in _TEXTS}, na_values=["", "nan"])
    numbers = [name for name in wanted if name not in _TEXTS]
    try:
        frame = frame.assign(**{name: pd.to_numeric(frame[name]) for name in numbers})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} has a cell that is no number ({error}): write it again with `{command}`") from None
    if keys and (twice := frame[frame.duplicated(list(keys))]).size:
        row = ", ".join(str(value) for value in twice.iloc[0][list(keys)])
        raise ValueError(f"{path} has the row {row} twice: write it again with `{command}`")
    return frame


def read_optional(path: Path, wanted: Sequence[str], command: str) -> pd.DataFrame:
    """The same, or no rows where there is no such file."""
    return read_table(path, wanted, command) if path.exists() else pd.DataFrame(columns=list(wanted))


def of_shape(table: pd.DataFrame, wanted: Sequence[str], shape: str, keys: Sequence[str]) -> pd.DataFrame:
    """The rows of a shape; ValueError without a `wanted` column, without a row, or with the same keys twice."""
    again = "give one that `python -m tatl study` wrote"
    if missing := [name for name in wanted if name not in table]:
        raise ValueError(f"the table lacks the columns {', '.join(missing)}: {again}")
    part = table[table["shape"] == shape]
    if part.empty:
        known = ", ".join(map(str, table["shape"].unique()))
        lacks = f"no shape {shape!r}: it has {known}" if known else f"no rows: {again} to its end"
        raise ValueError(f"the table has {lacks}")
    if (twice := part[part.duplicated(list(keys))]).size:
        first = ", ".join(f"{name} {twice.iloc[0][name]}" for name in keys)
        what = f"the table has {len(twice)} rows twice (first: {first})"
        raise ValueError(f"{what}: write it again with `python -m tatl study`")
    return part


def read_arrays(path: Path, command: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz; errors say which command writes it."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there: `{command}` writes it") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, *BROKEN) as error:
        raise ValueError(f"{path} cannot be read ({error}): write it again with `{command}`") from None


def read_about(path: Path, command: str) -> dict[str, Any]:
    """What the tables beside it were made from; errors say which command writes it."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path.parent} holds no {path.name}: `{command}` writes it") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): write it again, `{command}`") from None
    if not isinstance(about, dict):
        raise ValueError(f"{path} holds a {type(about).__name__} and not an object: write it again, `{command}`")
    return about


def ordered(seen: Iterable[str], first: Sequence[str]) -> list[str]:
    """Names that were seen: known ones in their order, then the others as they came."""
    names = list(dict.fromkeys(seen))
    return [name for name in first if name in names] + [name for name in names if name not in first]


def attributes_asked(attributes: str, measured: Sequence[str], where: Path) -> list[str]:
    """The attributes named with commas, in the order of those measured; all where none is named.

    Raises ValueError for one that is not in `where`.
    """
    asked = [name.strip() for name in attributes.split(",") if name.strip()]
    if unknown := [name for name in asked if name not in measured]:
        what, known = f"attribute {', '.join(unknown)} is not in {where}", ", ".join(measured) or "none"
        raise ValueError(f"{what}: choose of {known}, or leave it empty for all")
    return [name for name in measured if name in asked] if asked else list(measured)

"""What the index of a report shows of one question, and when that may be kept.

A card, and the page it stands for, are kept in `.cache/` beside the pages under a checksum of everything that they are
made from: the notebook, its parameters, the tables it reads, and the code.  Nothing heavy is imported here, so that a
report in which nothing changed is made in a moment.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]  # the package
SITE = HERE / "site" / "templates"
DONE, PARTIAL, MISSING, FAILED = "done", "partial", "missing", "failed"
CODE = ("**/*.py", "paper/*.csv", "site/templates/**/*")

Value = int | float | str  # in this order a command line tries them


@dataclass(frozen=True)
class Card:
    """What the index shows of one question; headline and thumbnail are HTML, `source` says where numbers come from.

    `command` makes the tables that a missing page needs.
    """

    study: str
    title: str
    state: str
    message: str = ""
    headline: str = ""
    thumbnail: str = ""
    source: str = ""
    command: str = ""

    @property
    def page(self) -> str:
        return f"{self.study}.html"


def inputs(notebook: Path, tables: Path) -> Iterator[Path]:
    """The tables a notebook may read: those it names, by patterns if it likes, and those of its own name."""
    try:
        described = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("tatl", {})
    except (ValueError, KeyError, OSError):
        described = {}
    named = [name for kind in ("needs", "wants", "reads") for name in described.get(kind, [])]
    own = [f"{notebook.stem}*", f"{notebook.stem.replace('_', '-')}*"]
    if not any(name.endswith(".json") for name in named):
        own.append("*.json")  # it says where its numbers come from by any of them
    found = {path for pattern in [*named, *own] for path in tables.glob(pattern)} if tables.is_dir() else set()
    yield from sorted(path for path in found if path.is_file())


def code() -> Iterator[Path]:
    """Every file of the toolkit that a page depends on."""
    for pattern in CODE:
        yield from sorted(path for path in HERE.glob(pattern) if path.is_file())
    yield from sorted((HERE.parent / "tatl").rglob("*.py"))


def checksum(notebook: Path, tables: Path, parameters: dict[str, Value]) -> str:
    """Of all that the page of a notebook is made from."""
    found = hashlib.sha256(json.dumps([str(tables.resolve()), parameters], sort_keys=True).encode())
    for path in (notebook, *inputs(notebook, tables), *code()):
        found.update(str(path).encode() + _content(path))
    return found.hexdigest()


def _content(path: Path) -> bytes:
    """What is in a file; for one that cannot be read, why: its page will say so."""
    try:
        return path.read_bytes()
    except OSError as error:
        return str(error).encode()


def kept(out: Path, study: str, key: str) -> Card | None:
    """The card of an earlier report whose inputs had this checksum, where its page is still there."""
    try:
        values: dict[str, Any] = json.loads((_place(out, study)).read_text(encoding="utf-8"))
        card = Card(**values["card"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return card if values.get("key") == key and (out / card.page).is_file() else None


def earlier(out: Path, studies: set[str]) -> list[Card]:
    """The cards of pages of an earlier report in this folder that are none of these studies."""
    found = []
    for path in sorted((out / ".cache").glob("*.json")):
        if path.stem not in studies and (out / f"{path.stem}.html").is_file():
            with suppress(OSError, ValueError, KeyError, TypeError):
                found.append(Card(**json.loads(path.read_text(encoding="utf-8"))["card"]))
    return found


def keep(out: Path, card: Card, key: str) -> None:
    """Remember a card; one that failed is tried again the next time."""
    place = _place(out, card.study)
    if card.state == FAILED:
        place.unlink(missing_ok=True)
        return
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps({"key": key, "card": dataclasses.asdict(card)}), encoding="utf-8")


def _place(out: Path, study: str) -> Path:
    return out / ".cache" / f"{study}.json"

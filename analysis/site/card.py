"""What the index of a report shows of one question, and when that may be kept.

A card, and the page it stands for, are kept in `.cache/` beside the pages under a checksum of everything that they are
made from: the notebook, its parameters, the tables it reads, and the code.  Nothing heavy is imported here, so that a
report in which nothing changed is made in a moment.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANALYSIS = Path(__file__).resolve().parents[1]
TEMPLATES = ANALYSIS / "site" / "templates"
DONE, PARTIAL, MISSING, FAILED = "done", "partial", "missing", "failed"

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

    def __str__(self) -> str:
        said = " ".join(filter(None, [self.message, self.command]))
        return ": ".join(filter(None, [self.study, self.state, said]))


def recorded(tables: Path, first: Iterable[str] = ()) -> dict[str, Any]:
    """What these tables were made from: by the JSON files named first, or any other; empty where there is none."""
    for path in [*(tables / name for name in first), tables / "study.json", *sorted(tables.glob("*.json"))]:
        with suppress(OSError, ValueError):
            about = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(about, dict):
                return about
    return {}


def inputs(notebook: Path, tables: Path) -> Iterator[Path]:
    """The tables a notebook may read: those it names, by patterns if it likes, and those of its own name.

    Where none of its JSON files is there, any other may say where the numbers come from.
    """
    try:
        described = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("tatl", {})
    except (ValueError, KeyError, OSError):
        described = {}
    named = [name for kind in ("needs", "wants", "reads") for name in described.get(kind, [])]
    own = [f"{notebook.stem}*", f"{notebook.stem.replace('_', '-')}*"]
    if not any(name.endswith(".json") and (tables / name).exists() for name in named):
        own.append("*.json")
    found = {path for pattern in [*named, *own] for path in tables.glob(pattern)} if tables.is_dir() else set()
    yield from sorted(path for path in found if path.is_file())


def _code() -> Iterator[Path]:
    """Every file of the toolkit that a page depends on."""
    for pattern in ("analysis/**/*.py", "analysis/paper/*.csv", "analysis/site/templates/**/*", "tatl/**/*.py"):
        yield from sorted(path for path in ANALYSIS.parent.glob(pattern) if path.is_file())


def checksum(notebook: Path, tables: Path, parameters: dict[str, Value]) -> str:
    """Of all that the page of a notebook is made from."""
    found = hashlib.sha256(json.dumps([str(tables.resolve()), parameters], sort_keys=True).encode())
    for path in (notebook, *inputs(notebook, tables), *_code()):
        found.update(str(path).encode() + _content(path))
    return found.hexdigest()


def _content(path: Path) -> bytes:
    """What is in a file; for one that cannot be read, why: its page will say so."""
    try:
        return path.read_bytes()
    except OSError as error:
        return str(error).encode()


def keep(out: Path, card: Card, key: str) -> None:
    """Remember a card; one that failed is tried again the next time."""
    place = out / ".cache" / f"{card.study}.json"
    place.parent.mkdir(exist_ok=True)
    values = {"key": "" if card.state == FAILED else key, "card": dataclasses.asdict(card)}
    place.write_text(json.dumps(values), encoding="utf-8")


def kept(out: Path) -> dict[str, tuple[str, Card]]:
    """The cards of this and earlier reports whose pages are still there, each with its checksum, by study."""
    found = {}
    for path in sorted((out / ".cache").glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            values = json.loads(path.read_text(encoding="utf-8"))
            card = Card(**values["card"])
            if (out / card.page).is_file():
                found[card.study] = (values["key"], card)
    return found


def fill(page: Path, **values: Any) -> None:
    """Write a page from the house's template: the index, or one that has only a message."""
    from jinja2 import Environment, FileSystemLoader

    template = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("page.html.j2")
    css = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    page.write_text(template.render(css=css, **values), encoding="utf-8")

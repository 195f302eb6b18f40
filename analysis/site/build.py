"""python -m analysis.report: execute notebooks on the tables of a study and render static pages.

A question is a notebook: one cell tagged `parameters`, drawing calls, and in its metadata what it reads,

    "tatl": {"needs": ["study.json", "variants.csv"], "wants": [...], "command": "python -m tatl study variants"}

Without a table that it needs there is a page that says which command makes it; without one that it wants the page is
partial; `reads` names by patterns what else it shows where it is there.  Pages are made side by side, and those whose
notebook, tables, parameters and code are unchanged are kept.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from analysis.site.card import FAILED, HERE, MISSING, SITE, Card, Value, checksum, earlier, keep, kept
from tatl import cli
from tatl.machine.processes import cores, spread
from tatl.machine.version import commit

NOTEBOOKS = HERE.parent / "notebooks"
ORDER = ("variants", "bound", "paradigms", "data_size", "convergence", "crop", "backbones", "data", "gallery")


def chosen(study: str, notebooks: Path) -> list[Path]:
    """The notebooks asked for: names with commas, or all; ValueError for one that does not exist."""
    known = {path.stem: path for path in sorted(notebooks.glob("*.ipynb"), key=lambda path: place(path.stem))}
    names = list(known) if study == "all" else [name.strip() for name in study.split(",") if name.strip()]
    names = [name.replace("-", "_") for name in names]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no notebook for {', '.join(unknown)} in {notebooks}: choose of {', '.join(known)}, or all")
    if not names:
        raise ValueError(f"study {study!r} names no notebook: choose of {', '.join(known) or 'none'}, or all")
    return [known[name] for name in dict.fromkeys(names)]


def place(name: str) -> tuple[int, str]:
    """Where a question stands on the index: the paper's questions first."""
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def build(
    paths: list[Path], tables: Path, out: Path, parameters: dict[str, Value], progress: bool, workers: int
) -> tuple[list[Card], int]:
    """The cards of all pages, in order, and how many pages were made rather than kept."""
    keys = {path: checksum(path, tables, parameters) for path in paths}
    cards = {path: kept(out, path.stem, keys[path]) for path in paths}
    todo = [path for path, card in cards.items() if card is None]
    for card in _made(todo, tables, out, parameters, progress, workers) if todo else ():
        path = next(path for path in todo if path.stem == card.study)
        cards[path] = card
        keep(out, card, keys[path])
    return [card for card in cards.values() if card], len(todo)


def _made(
    paths: list[Path], tables: Path, out: Path, parameters: dict[str, Value], progress: bool, workers: int
) -> Iterator[Card]:
    """The cards of the pages as they come, with a bar of pages and below it one of cells per notebook at work."""
    from tqdm import tqdm

    from analysis.site.page import Builder  # what executes and renders takes seconds to import

    lines = range(1, 1 + max(1, min(workers or cores(), len(paths))))
    cards = spread([Builder(tables, out, parameters, progress, line) for line in lines], paths)
    yield from tqdm(cards, desc="report", unit="page", total=len(paths), disable=not progress)


def write_index(cards: list[Card], out: Path, command: str) -> Path:
    """reports/<name>/index.html: one card per question, those of earlier reports in this folder too."""
    from jinja2 import Environment, FileSystemLoader

    index = out / "index.html"
    cards = sorted(
        [*cards, *earlier(out, {card.study for card in cards})],
        key=lambda card: (card.state == MISSING, place(card.study)),
    )
    values = {
        "title": "TATL report",
        "lead": "Task agnostic transfer learning for skin-lesion attributes. Not a medical device.",
        "cards": cards,
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": commit() or "not recorded",
        "command": command,
        "css": (SITE / "page.css").read_text(encoding="utf-8"),
    }
    template = Environment(loader=FileSystemLoader(SITE), autoescape=True).get_template("page.html.j2")
    index.write_text(template.render(**values), encoding="utf-8")
    return index


def pages(
    study: str,
    tables: Path,
    out: Path,
    parameters: dict[str, Value],
    notebooks: Path,
    progress: bool,
    workers: int = 0,
) -> tuple[list[Card], Path, int]:
    """Every page asked for, the index, and how many pages were made; ValueError for an unknown study or parameter."""
    paths = chosen(study, notebooks)
    if parameters:
        from analysis.site.notebook import check

        for path in paths:
            check(path, parameters)
    try:
        out.mkdir(parents=True, exist_ok=True)
        cards, made = build(paths, tables, out, parameters, progress, workers)
        given = [f"--parameters.{name}={value}" for name, value in parameters.items()]
        options = ["--study", study, "--tables", str(tables), "--out", str(out), *given]
        command = f"python -m analysis.report {shlex.join(options)}"
        return cards, write_index(cards, out, command), made
    except OSError as error:
        raise OSError(f"{out} cannot be written ({error}): give another folder with --out") from error


def report(
    study: str = "all",
    tables: Path = Path("reports/quick/tables"),
    out: Path | None = None,
    parameters: dict[str, Value] | None = None,
    notebooks: Path = NOTEBOOKS,
    progress: bool = True,
    workers: int = 0,
) -> None:
    """Execute notebooks on the tables of a study and render them as static pages with an index.

    Example: python -m analysis.report --study variants --tables reports/quick/tables --out reports/quick

    Args:
        study: names of notebooks, with commas, or all
        tables: folder that `python -m tatl study` wrote
        out: folder for index.html and the pages; empty: the parent of the tables
        parameters: further notebook parameters, such as --parameters.cases=3; an unknown one is an error
        notebooks: folder of the notebooks
        progress: show a bar of pages, and one of cells per notebook at work
        workers: notebooks executed side by side; 0: one a core
    """
    cards, index, made = pages(study, tables, out or tables.parent, parameters or {}, notebooks, progress, workers)
    for card in cards:
        print(": ".join(filter(None, [card.study, card.state, said(card)])))
    print(f"{made} of {len(cards)} pages made, the others unchanged")
    print(f"next: open {index}")
    if failed := [card.study for card in cards if card.state == FAILED]:
        raise RuntimeError(f"{', '.join(failed)} failed: the page says where")
    if all(card.state == MISSING for card in cards):
        raise FileNotFoundError(f"no page could be made: {said(cards[0])}")


def said(card: Card) -> str:
    """What a card says of its state, in one line."""
    return " ".join(filter(None, [card.message, card.command]))


def main(arguments: list[str] | None = None) -> int:
    parser = cli.parser(prog="python -m analysis.report", description=cli.describe(report, "tables -> pages"))
    parser.add_function_arguments(report, as_group=False)
    words = cli.spelled_out(sys.argv[1:] if arguments is None else arguments, cli.flags(report))
    return cli.run(lambda: report(**vars(cli.dashed(parser).parse_args(words))))

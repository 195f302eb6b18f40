"""python -m analysis.report: execute notebooks on the tables of a study and render static pages.

A question is a notebook: one cell tagged `parameters`, drawing calls, and in its metadata what it needs,

    "tatl": {"needs": ["study.json", "variants.csv"], "command": "python -m tatl study variants"}

The outputs of the cells tagged `headline` and `thumbnail` go on the card of the index.  A page loads nothing from
anywhere.  A notebook that fails gives a page with its error, and the others still come out.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, FileSystemLoader
from nbconvert import HTMLExporter

from analysis import show
from analysis.execute import check, execute, failure, tagged
from tatl import cli

HERE = Path(__file__).resolve().parent
NOTEBOOKS = HERE.parent / "notebooks"
SITE = HERE / "site"
DONE, MISSING, FAILED = "done", "missing", "failed"

Value = int | float | str  # in this order a command line tries them


@dataclass(frozen=True)
class Card:
    """What the index shows of one question; headline and thumbnail are HTML."""

    study: str
    title: str
    state: str
    message: str = ""
    headline: str = ""
    thumbnail: str = ""

    @property
    def page(self) -> str:
        return f"{self.study}.html"


def chosen(study: str, notebooks: Path) -> list[Path]:
    """The notebooks asked for: names with commas, or all; ValueError for one that does not exist."""
    known = {path.stem: path for path in sorted(notebooks.glob("*.ipynb"))}
    names = list(known) if study == "all" else [name.strip() for name in study.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no notebook for {', '.join(unknown)} in {notebooks}: choose of {', '.join(known)}, or all")
    if not names:
        raise ValueError(f"study {study!r} names no notebook: choose of {', '.join(known) or 'none'}, or all")
    return [known[name] for name in dict.fromkeys(names)]


def title(notebook: nbformat.NotebookNode, name: str) -> str:
    """The first heading of the notebook."""
    headings = (re.match(r"#\s+(.+)", cell.source) for cell in notebook.cells if cell.cell_type == "markdown")
    return next((heading[1].strip() for heading in headings if heading), name)


def html_of(notebook: nbformat.NotebookNode, tag: str) -> str:
    """The HTML that the cells with a tag showed."""
    outputs = [output for cell in tagged(notebook, tag) for output in cell.get("outputs", [])]
    return "\n".join(output.data.get("text/html", "") for output in outputs if "data" in output)


def picture_of(notebook: nbformat.NotebookNode) -> str:
    """The first picture of the cell tagged `thumbnail`, hidden from screen readers: the page describes it."""
    found = re.search(r"<svg.*?</svg>|<img[^>]*>", html_of(notebook, "thumbnail"), flags=re.DOTALL)
    return found[0] if found else ""


def render(notebook: nbformat.NotebookNode, heading: str, tables: Path, page: Path) -> str:
    """An executed notebook as one HTML page without code, scripts or anything from elsewhere."""
    exporter = HTMLExporter(template_name="tatl", extra_template_basedirs=[str(SITE)], exclude_anchor_links=True)
    resources = {"title": heading, "css": (SITE / "page.css").read_text()}
    body, _ = exporter.from_notebook_node(notebook, resources=resources)
    return show.linked(body, tables, page)


def simple_page(**values: Any) -> str:
    """A page of the house's template: the index, or one that has only a message."""
    environment = Environment(loader=FileSystemLoader(SITE), autoescape=True)
    return environment.get_template("page.html.j2").render(css=(SITE / "page.css").read_text(), **values)


def build(path: Path, tables: Path, out: Path, parameters: dict[str, Value], progress: bool = True) -> Card:
    """Execute one notebook and write its page; whatever goes wrong is said on the page and on the card."""
    name, heading, page = path.stem, path.stem, out / f"{path.stem}.html"
    try:
        source = nbformat.read(path, as_version=4)
        heading = title(source, name)
        described = source.metadata.get("tatl", {})
        if lacking := [each for each in described.get("needs", []) if not (tables / each).exists()]:
            return _missing(name, heading, page, lacking, tables, described.get("command", "python -m tatl study"))
        given = {"tables": str(tables.resolve()), **parameters}
        with tempfile.TemporaryDirectory() as scratch:
            executed = execute(path, given, Path(scratch), progress)
        page.write_text(render(executed, heading, tables, page), encoding="utf-8")
    except Exception as error:  # a dead kernel, a broken notebook: one page says so, the others still come out
        return _failed(name, heading, page, f"{type(error).__name__}: {error}")
    if error_line := failure(executed):
        return Card(name, heading, FAILED, error_line)
    return Card(name, heading, DONE, "", html_of(executed, "headline"), picture_of(executed))


def _missing(name: str, heading: str, page: Path, lacking: list[str], tables: Path, command: str) -> Card:
    message = f"No {', '.join(lacking)} in {tables}. This command makes them: {command}"
    told = {"message": message.partition(": ")[0] + ":", "command": command, "state": MISSING}
    page.write_text(simple_page(title=heading, **told), encoding="utf-8")
    return Card(name, heading, MISSING, message)


def _failed(name: str, heading: str, page: Path, message: str) -> Card:
    page.write_text(simple_page(title=heading, message=message, state=FAILED), encoding="utf-8")
    return Card(name, heading, FAILED, message)


def write_index(cards: list[Card], out: Path, command: str) -> Path:
    """reports/<name>/index.html: one card per question."""
    index = out / "index.html"
    values = {
        "title": "TATL report",
        "lead": "Task agnostic transfer learning for skin-lesion attributes. Not a medical device.",
        "cards": cards,
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": commit() or "not recorded",
        "command": command,
    }
    index.write_text(simple_page(**values), encoding="utf-8")
    return index


def commit() -> str:
    """The commit of the code, marked if there are changes beside it; empty outside a git checkout."""
    asked = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def pages(
    study: str, tables: Path, out: Path, parameters: dict[str, Value], notebooks: Path, progress: bool
) -> tuple[list[Card], Path]:
    """Every page asked for, and the index; ValueError for an unknown study or parameter before anything runs."""
    paths = chosen(study, notebooks)
    for path in paths if parameters else ():
        check(path, parameters)
    try:
        out.mkdir(parents=True, exist_ok=True)
        cards = [build(path, tables, out, parameters, progress) for path in paths]
        given = [f"--parameters.{name}={value}" for name, value in parameters.items()]
        options = ["--study", study, "--tables", str(tables), "--out", str(out), *given]
        command = f"python -m analysis.report {shlex.join(options)}"
        return cards, write_index(cards, out, command)
    except OSError as error:
        raise OSError(f"{out} cannot be written ({error}): give another folder with --out") from error


def report(
    study: str = "all",
    tables: Path = Path("reports/quick/tables"),
    out: Path | None = None,
    parameters: dict[str, Value] | None = None,
    notebooks: Path = NOTEBOOKS,
    progress: bool = True,
) -> None:
    """Execute notebooks on the tables of a study and render them as static pages with an index.

    Example: python -m analysis.report --study variants --tables reports/quick/tables --out reports/quick

    Args:
        study: names of notebooks, with commas, or all
        tables: folder that `python -m tatl study` wrote
        out: folder for index.html and the pages; empty: the parent of the tables
        parameters: further notebook parameters, such as --parameters.cases=3; an unknown one is an error
        notebooks: folder of the notebooks
        progress: show a bar per notebook
    """
    cards, index = pages(study, tables, out or tables.parent, parameters or {}, notebooks, progress)
    for card in cards:
        print(f"{card.study}: {card.state}" + (f": {card.message}" if card.message else ""))
    print(index)
    if failed := [card.study for card in cards if card.state == FAILED]:
        raise RuntimeError(f"{', '.join(failed)} failed: the page says where")
    if all(card.state == MISSING for card in cards):
        raise FileNotFoundError(f"no page could be made: {cards[0].message}")


def main(arguments: list[str] | None = None) -> int:
    parser = cli.parser(prog="python -m analysis.report", description=cli.describe(report, "tables -> pages"))
    parser.add_function_arguments(report, as_group=False)
    words = cli.spelled_out(sys.argv[1:] if arguments is None else arguments, cli.flags(report))
    return cli.run(lambda: report(**vars(cli.dashed(parser).parse_args(words))))


if __name__ == "__main__":
    sys.exit(main())

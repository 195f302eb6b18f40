"""One question to one static page: execute its notebook, render it, lay its files beside it.

The outputs of the cells tagged `headline` and `thumbnail` go on the card of the index; where a cell tagged `partial`
says anything, the card has that state and repeats it.  A page loads nothing from anywhere; what it offers for download
(figures as SVG and PNG, tables as CSV and LaTeX) lies in `files/` beside it.  Whatever goes wrong is said on the page
and on the card, so that the other pages still come out.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, FileSystemLoader
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter

from analysis.site.card import DONE, FAILED, MISSING, PARTIAL, SITE, Card, Value
from analysis.site.links import linked
from analysis.site.notebook import execute, failure, tagged
from tatl.cli import sentence

FILES = "files"
DEAD = (
    "DeadKernelError: the kernel that executed this notebook died, most likely because memory ran out: "
    "run the same command again, with --workers 1"
)
OFFERED = re.compile(r'download="(?P<name>[^"]+)" href="data:[^;"]+;base64,(?P<data>[^"]*)"')


def title(notebook: nbformat.NotebookNode, name: str) -> str:
    """The first heading of the notebook."""
    headings = (re.match(r"#\s+(.+)", cell.source) for cell in notebook.cells if cell.cell_type == "markdown")
    return next((heading[1].strip() for heading in headings if heading), name)


def html_of(notebook: nbformat.NotebookNode, tag: str) -> str:
    """The HTML that the cells with a tag showed."""
    outputs = [output for cell in tagged(notebook, tag) for output in cell.get("outputs", [])]
    return "\n".join(output.data.get("text/html", "") for output in outputs if "data" in output)


def text_of(notebook: nbformat.NotebookNode, tag: str) -> str:
    """What the cells with a tag say, without markup."""
    return unescape(re.sub(r"<[^>]+>", "", html_of(notebook, tag))).strip()


def picture_of(notebook: nbformat.NotebookNode) -> str:
    """The first picture of the cell tagged `thumbnail`, hidden from screen readers: the page describes it."""
    found = re.search(r"<svg.*?</svg>|<img[^>]*>", html_of(notebook, "thumbnail"), flags=re.DOTALL)
    return found[0] if found else ""


def render(notebook: nbformat.NotebookNode, heading: str, tables: Path, page: Path) -> str:
    """An executed notebook as one HTML page without code or anything from elsewhere; its files are written."""
    exporter = HTMLExporter(template_name="tatl", extra_template_basedirs=[str(SITE)], exclude_anchor_links=True)
    resources = {"title": heading, "css": (SITE / "page.css").read_text(encoding="utf-8"), "js": script()}
    body, _ = exporter.from_notebook_node(notebook, resources=resources)
    return laid_out(linked(body, tables, page), page)


def script() -> str:
    """What makes tables sort and copy."""
    return "\n".join((SITE / name).read_text(encoding="utf-8") for name in ("tablesort.min.js", "page.js"))


def laid_out(html: str, page: Path) -> str:
    """Write what the page offers as data into files beside it, numbered by kind, and link these instead."""
    folder, numbers = page.parent / FILES, dict[str, int]()
    for old in folder.glob(f"{page.stem}-*") if folder.is_dir() else ():
        old.unlink()

    def write(found: re.Match[str]) -> str:
        stem, _, kind = found["name"].rpartition(".")
        number = numbers[found["name"]] = numbers.get(found["name"], 0) + 1
        if kind == "png" and stem == "figure":  # a figure's number counts all figures, vector or not
            number = numbers["figures"] = numbers.get("figures", 0) + 1
        elif kind == "svg" and stem == "figure":
            number = numbers.get("figures", 0) + 1
        name = f"{page.stem}-{stem}-{number}.{kind}"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(base64.b64decode(found["data"]))
        return f'download="{name}" href="{FILES}/{name}"'

    return OFFERED.sub(write, html)


def simple_page(**values: Any) -> str:
    """A page of the house's template: the index, or one that has only a message."""
    environment = Environment(loader=FileSystemLoader(SITE), autoescape=True)
    css = (SITE / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(css=css, **values)


@dataclass(frozen=True)
class Builder:
    """Makes the page of one notebook after another; whatever goes wrong is said on the page and on the card.

    `line` is where on the terminal its bar stands, for builders that work side by side.
    """

    tables: Path
    out: Path
    parameters: dict[str, Value]
    progress: bool = True
    line: int = 0

    def __call__(self, path: Path) -> Card:
        """Execute the notebook and write its page."""
        heading, page = path.stem, self.out / f"{path.stem}.html"
        try:
            source = nbformat.read(path, as_version=4)
            heading = title(source, path.stem)
            described = source.metadata.get("tatl", {})
            if lacking := self._lacking(described, "needs"):
                return self._missing(path.stem, heading, lacking, described.get("command", "python -m tatl study"))
            given = {"tables": str(self.tables.resolve()), **self.parameters}
            with tempfile.TemporaryDirectory() as scratch:
                executed = execute(path, given, Path(scratch), self.progress, self.line)
            page.write_text(render(executed, heading, self.tables, page), encoding="utf-8")
        except Exception as error:  # a dead kernel, a broken notebook: one page says so, the others still come out
            dead = isinstance(error, DeadKernelError) or str(error).startswith("Kernel died")
            message = DEAD if dead else f"{type(error).__name__}: {sentence(error)}"
            page.write_text(simple_page(title=heading, message=message, state=FAILED), encoding="utf-8")
            return Card(path.stem, heading, FAILED, message)
        if error_line := failure(executed):
            return Card(path.stem, heading, FAILED, error_line)
        wanting = self._lacking(described, "wants")
        said = [f"not there: {', '.join(wanting)}"] * bool(wanting) + [text_of(executed, "partial")]
        short = " ".join(filter(None, said))
        return Card(
            path.stem,
            heading,
            PARTIAL if short else DONE,
            short,
            html_of(executed, "headline"),
            picture_of(executed),
            self._source(described),
        )

    def _lacking(self, described: dict[str, Any], kind: str) -> list[str]:
        return [each for each in described.get(kind, []) if not (self.tables / each).exists()]

    def _missing(self, name: str, heading: str, lacking: list[str], command: str) -> Card:
        message = f"No {', '.join(lacking)} in {self.tables}; this command makes what is missing:"
        told = {"message": message, "command": command, "state": MISSING}
        (self.out / f"{name}.html").write_text(simple_page(title=heading, **told), encoding="utf-8")
        return Card(name, heading, MISSING, message, command=command)

    def _source(self, described: dict[str, Any]) -> str:
        """Data, source domain, preset, seeds and folds in one line; empty where the tables do not say."""
        named = [self.tables / name for name in described.get("needs", []) if name.endswith(".json")]
        tellers = [*named, self.tables / "study.json", *sorted(self.tables.glob("*.json"))]
        about = next((json.loads(path.read_text(encoding="utf-8")) for path in tellers if path.exists()), None)
        if about is None:
            return ""
        facts = {
            "": f"{about.get('data', '?')}, {about.get('cases', '?')} cases at {about.get('size', '?')}",
            "source": about.get("source", "?"),
            "preset": about.get("preset", "?"),
            "seeds": ", ".join(map(str, about.get("seeds", ["?"]))),
            "folds": f"{', '.join(map(str, about.get('folds', ['?'])))} of {about.get('n_folds', '?')}",
            "commit": about.get("commit") or "?",
        }
        return "; ".join(f"{name} {value}".strip() for name, value in facts.items())

"""One question to one static page: execute its notebook and render it.

The outputs of the cells tagged `headline` and `thumbnail` go on the card of the index; where a cell tagged `partial`
says anything, the card has that state and repeats it.  A page loads nothing from anywhere; what it offers for download
(figures as SVG and PNG, tables as CSV and LaTeX) its notebook lays in `files/` beside it.  Whatever goes wrong is said
on the page and on the card, so that the other pages still come out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape, unescape
from os.path import relpath
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter

from analysis.site.card import DONE, FAILED, MISSING, PARTIAL, TEMPLATES, Card, Value, fill, recorded
from analysis.site.notebook import failure, run_notebook, tagged
from tatl.cli import sentence
from tatl.studies.places import command_like

DEAD = (
    "DeadKernelError: the kernel that executed this notebook died, most likely because memory ran out: "
    "run the same command again, with --workers 1"
)


def _heading(notebook: nbformat.NotebookNode) -> str:
    """The first heading of the notebook; empty where it has none."""
    headings = (re.match(r"#\s+(.+)", cell.source) for cell in notebook.cells if cell.cell_type == "markdown")
    return next((heading[1].strip() for heading in headings if heading), "")


def _shown(notebook: nbformat.NotebookNode, tag: str) -> str:
    """The HTML that the cells with a tag showed."""
    outputs = [output for cell in tagged(notebook, tag) for output in cell.get("outputs", [])]
    return "\n".join(output.data.get("text/html", "") for output in outputs if "data" in output)


def _picture(html: str) -> str:
    """The first picture, for the index."""
    found = re.search(r"<svg.*?</svg>|<img[^>]*>", html, flags=re.DOTALL)
    return found[0] if found else ""


def _rendered(notebook: nbformat.NotebookNode, heading: str, tables: Path, page: Path) -> str:
    """An executed notebook as one HTML page without code or anything from elsewhere."""
    exporter = HTMLExporter(template_name="tatl", extra_template_basedirs=[str(TEMPLATES)], exclude_anchor_links=True)
    resources = {"title": heading, "css": (TEMPLATES / "page.css").read_text(encoding="utf-8"), "js": scripts()}
    return linked(exporter.from_notebook_node(notebook, resources=resources)[0], tables, page)


def scripts() -> str:
    """What makes tables sort and copy."""
    return "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("tablesort.min.js", "page.js"))


def linked(html: str, folder: Path, page: Path) -> str:
    """Make the names of the tables links, relative from the page, where the folder lies beside or under it."""
    base = Path(relpath(folder.resolve(), page.resolve().parent)).as_posix()
    if base.startswith("../..") or Path(base).is_absolute():
        return html
    return re.sub(r'<li data-file="([^"]+)">[^<]*</li>', rf'<li><a href="{escape(base)}/\1">\1</a></li>', html)


@dataclass(frozen=True)
class Builder:
    """Makes the page of one notebook after another; whatever goes wrong is said on the page and on the card."""

    tables: Path
    out: Path
    parameters: dict[str, Value]
    progress: bool = True

    def __call__(self, path: Path) -> Card:
        """Execute the notebook and write its page."""
        heading, page = path.stem, self.out / f"{path.stem}.html"
        try:
            source = nbformat.read(path, as_version=4)
            heading = _heading(source) or path.stem
            described = source.metadata.get("tatl", {})
            if lacking := self._lacking(described, "needs"):
                return self._missing(path.stem, heading, lacking, described)
            for old in self.out.glob(f"files/{path.stem}-*"):
                old.unlink()
            given = {"tables": str(self.tables.resolve()), **self.parameters}
            executed = run_notebook(path, given, page, self.progress)
            page.write_text(_rendered(executed, heading, self.tables, page), encoding="utf-8")
        except Exception as error:  # a dead kernel, a broken notebook: one page says so, the others still come out
            dead = isinstance(error, DeadKernelError) or str(error).startswith("Kernel died")
            said = DEAD if dead else f"{type(error).__name__}: {sentence(error)}"
            return self._only_said(Card(path.stem, heading, FAILED, said))
        if error_line := failure(executed):
            return Card(path.stem, heading, FAILED, error_line)
        wanting = self._lacking(described, "wants")
        told = f"not there: {', '.join(wanting)} " if wanting else ""
        told = f"{told}{unescape(re.sub(r'<[^>]+>', '', _shown(executed, 'partial')))}".strip()
        headline, picture = _shown(executed, "headline"), _picture(_shown(executed, "thumbnail"))
        state = PARTIAL if told else DONE
        return Card(path.stem, heading, state, told, headline, picture, self._source(described))

    def _lacking(self, described: dict[str, Any], kind: str) -> list[str]:
        return [each for each in described.get(kind, []) if not any(self.tables.glob(each))]

    def _recorded(self, described: dict[str, Any]) -> dict[str, Any]:
        return recorded(self.tables, [name for name in described.get("needs", []) if name.endswith(".json")])

    def _missing(self, name: str, heading: str, lacking: list[str], described: dict[str, Any]) -> Card:
        """A page that names the command, with the options of what else lies in the folder, or those it has of them."""
        message = f"No {', '.join(lacking)} in {self.tables}; this command makes what is missing:"
        plain = described.get("command", "python -m tatl study")
        about = self._recorded(described)
        about = {option: about[option] for option in described.get("options", about) if option in about}
        command = command_like(plain, about, self.tables)
        return self._only_said(Card(name, heading, MISSING, message, command=command))

    def _only_said(self, card: Card) -> Card:
        """A page that has the words of its card alone."""
        fill(self.out / card.page, title=card.title, message=card.message, state=card.state, command=card.command)
        return card

    def _source(self, described: dict[str, Any]) -> str:
        """Data, and for pages that need a study's record, source, preset, seeds and folds; empty where nothing says."""
        about = self._recorded(described)
        if not about:
            return ""
        facts = {"": f"{about.get('data', '?')}, {about.get('cases', '?')} cases at {about.get('size', '?')}"}
        if any(name.endswith(".json") for name in described.get("needs", [])):
            names = {"source": "source", "preset": "preset", "seeds": "seeds", "folds": "test folds", "n_folds": "of"}
            names |= {"commit": "commit"}
            facts |= {said: str(about.get(name, "?")).strip("[]") for name, said in names.items()}
        return "; ".join(f"{name} {value}".strip() for name, value in facts.items())

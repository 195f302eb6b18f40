"""Frames and figures as HTML that a screen reader, a phone and a dark page can read; Jupyter shows them too."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.pages import files
from analysis.pages.grid import csv, grid, latex
from analysis.pages.theme import INK, theme
from analysis.tables.paper import Origin

RASTER_DPI = 110
_FACTS = {  # what a page calls what is recorded of its tables
    "data": "data", "cases": "cases", "size": "size", "store": "store", "digest of the store": "store_digest",
    "source domain": "source", "preset": "preset", "seeds": "seeds", "folds": "folds", "of folds": "n_folds",
    "shapes": "shapes", "backbone": "backbone", "epochs": "epochs", "offset in px": "offset", "settings": "settings",
    "commit": "commit", "libraries": "versions", "hardware": "hardware", "date": "date",
    "seconds, the last command": "seconds", "seconds, training of all runs": "training_seconds",
}  # fmt: skip


@dataclass(frozen=True)
class Html:
    """A piece of a page; the last expression of a notebook cell shows it."""

    text: str

    def _repr_html_(self) -> str:
        return self.text


def paragraph(text: str) -> Html:
    return Html(_paragraph("reading", text))


def folded(title: str, *parts: Html) -> Html:
    """What a reader opens by its title; print shows it open."""
    inside = "".join(part.text for part in parts)
    return Html(f"<details><summary>{escape(title)}</summary>{inside}</details>")


def caption(text: str) -> Html:
    """Where numbers come from, or how they are to be read."""
    return Html(_paragraph("caption", text))


def figure(drawn: Figure, alt: str, reading: str = "", caption: str = "") -> Html:
    """A figure with its alternative text, the sentence that reads it, how it differs from its page, and as files."""
    raster = any(axes.images for axes in drawn.axes)
    name, png = files.numbered("figure"), _saved(drawn, "png", dpi=RASTER_DPI, facecolor="white")
    links = [files.link("PNG", f"{name}.png", png)]
    if raster:
        width, height = (round(side * RASTER_DPI) for side in drawn.get_size_inches())
        address = files.address(f"{name}.png", png)
        picture = f'<img alt="{escape(alt)}" width="{width}" height="{height}" src="{address}">'
    else:
        svg = _svg(drawn)
        links.insert(0, files.link("SVG", f"{name}.svg", svg.encode()))
        picture = _inline_svg(svg, drawn, alt)
    words = _paragraph("reading", reading) + _paragraph("caption", caption)
    box = f'<div class="scroll{" wide" if raster else ""}" tabindex="0">{picture}</div>'
    return Html(f"<figure>{box}<figcaption>{words}{_tools(*links)}</figcaption></figure>")


def _paragraph(kind: str, text: str) -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if text else ""


def _tools(*parts: str) -> str:
    return f'<p class="tools">{" ".join(parts)}</p>'


def _svg(drawn: Figure) -> str:
    text = _saved(drawn, "svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))).decode()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def _inline_svg(text: str, drawn: Figure, alt: str) -> str:
    """SVG whose ink is the page's text colour."""
    text = text.replace(INK, "currentColor")
    width, _ = drawn.get_size_inches()
    style = f"width:{width * 96:.0f}px;min-width:{width * 60:.0f}px"
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text.removeprefix("<svg "), count=2)
    return f'<svg role="img" aria-label="{escape(alt)}" style="{style}" {text}'


def _saved(drawn: Figure, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    with theme():
        drawn.savefig(file, format=kind, **how)
    return file.getvalue()


def table(frame: pd.DataFrame, caption: str = "", reading: str = "") -> Html:
    """A frame of words, which scrolls inside its box, with what it says and how it differs from its page."""
    under = _paragraph("reading", reading) + _paragraph("caption", caption)
    if frame.empty:
        return Html(f'<div class="table">{"" if reading else "<p>No rows.</p>"}{under}</div>')
    name, copy = files.numbered("table"), '<button type="button" class="copy" hidden>Copy</button>'
    links = files.link("CSV", f"{name}.csv", csv(frame)), files.link("LaTeX", f"{name}.tex", latex(frame, caption))
    box = f'<div class="scroll" tabindex="0">{grid(frame, name)}</div>'
    return Html(f'<div class="table">{box}{_tools(copy, *links)}{under}</div>')


def made_from(study: Origin, own: str = "") -> Html:
    """What the tables were made from, and the command that makes them again; what is not known says so.

    `own` begins the names of the tables to link; empty: those of the study.
    """
    about = study.about
    rows = "".join(f"<dt>{of}</dt><dd>{escape(_words(about.get(name)))}</dd>" for of, name in _FACTS.items())
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in about.get("notes") or [])
    notes = f"<p>Notes</p><ul>{notes}</ul>" if notes else ""
    command = f'<pre class="command">{escape(_words(about.get("command")))}</pre>'
    return Html(f'<dl class="provenance">{rows}</dl><p>Made by</p>{command}{notes}{_files(study, own)}')


def _words(value: Any) -> str:
    """A recorded value; several with commas, named ones with their names."""
    if isinstance(value, dict):
        value = [f"{name} {each}" for name, each in value.items() if each != ""]
    words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return "not recorded" if words in (None, "") else f"{words:.0f}" if isinstance(words, float) else str(words)


def _files(study: Origin, own: str) -> str:
    """The names of the tables; the report turns them into links where it can reach them."""
    own = own or str(study.about.get("study", "variants"))
    kinds = [".csv", ".json"]
    own_files = sorted(p.name for p in study.folder.glob(f"{own}[._]*") if p.suffix in kinds)
    others = {"variants": ["counts.csv", "lesion.csv", "study.json"], "data": ["counts.csv", "study.json"]}
    every = dict.fromkeys([*others.get(own, ["counts.csv"]), *own_files])
    names = [name for name in every if (study.folder / name).exists()]
    items = "".join(f'<li data-file="{escape(name)}">{escape(name)}</li>' for name in names)
    return f'<p>Tables</p><ul class="files">{items}</ul>'

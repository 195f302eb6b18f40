"""Frames and figures as HTML that a screen reader, a phone and a dark page can read; Jupyter shows them too."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.pages import figures, files, words
from analysis.pages.grid import csv, grid, latex
from analysis.pages.theme import INK, theme
from analysis.pages.words import plain, score
from analysis.tables import read as tables
from analysis.tables.paper import PUBLISHED
from analysis.tables.read import Study

RASTER_DPI = 110
WINNERS = {"isic2018-winner": "ISIC 2018 winner", "isic2017-winner": "ISIC 2017 winner"}


class Folder(words.Told, Protocol):
    """Tables in a folder, which know where they come from."""

    @property
    def folder(self) -> Path: ...


@dataclass(frozen=True)
class Html:
    """A piece of a page; the last expression of a notebook cell shows it."""

    text: str

    def _repr_html_(self) -> str:
        return self.text


def sentence(text: str) -> Html:
    return Html(_paragraph("reading", text))


def folded(title: str, *parts: Html) -> Html:
    """What a reader opens by its title; print shows it open."""
    inside = "".join(part.text for part in parts)
    return Html(f"<details><summary>{escape(title)}</summary>{inside}</details>")


def figure(drawn: Figure, alt: str, reading: str = "", caption: str = "") -> Html:
    """A figure with its alternative text, the sentence that reads it, how it differs from its page, and as files."""
    raster = any(axes.images for axes in drawn.axes)
    name, png, svg = files.numbered("figure"), _png(drawn), "" if raster else _svg(drawn)
    links = [] if raster else [files.link("SVG", f"{name}.svg", svg.encode())]
    links.append(files.link("PNG", f"{name}.png", png))
    picture = _img(files.address(f"{name}.png", png), drawn, alt) if raster else _inline_svg(svg, drawn, alt)
    words = _paragraph("reading", reading) + _paragraph("caption", caption)
    box = f'<div class="scroll{" wide" if raster else ""}" tabindex="0">{picture}</div>'
    return Html(f"<figure>{box}<figcaption>{words}{_tools(*links)}</figcaption></figure>")


def _paragraph(kind: str, text: str) -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if text else ""


def _tools(*parts: str) -> str:
    return f'<p class="tools">{" ".join(parts)}</p>'


def gallery(study: Study, cases: int, reading: str, caption: str) -> Html:
    """Figures 8 and 9, or a sentence if the study left no gallery."""
    arrays = study.gallery()
    if arrays is None or not len(arrays["image"]) or cases < 1:
        return sentence(reading)
    box = " with the Stage-1 box" if len(arrays["boxes"]) else ""
    union = "true and predicted union" if len(arrays["union"]) else "true union"
    alt = f"Test images{box}, {union}, and each attribute: truth green, prediction red."
    return figure(figures.gallery(study, cases), alt, reading, caption)


def _svg(drawn: Figure) -> str:
    file = io.StringIO()
    with theme():
        drawn.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def _inline_svg(text: str, drawn: Figure, alt: str) -> str:
    """SVG whose ink is the page's text colour."""
    text = text.replace(INK, "currentColor")
    width, _ = drawn.get_size_inches()
    opening = (
        f'<svg role="img" aria-label="{escape(alt)}" style="width:{width * 96:.0f}px;min-width:{width * 60:.0f}px" '
    )
    return opening + re.sub(r' (?:width|height)="[\d.]+pt"', "", text.removeprefix("<svg "), count=2)


def _png(drawn: Figure) -> bytes:
    file = io.BytesIO()
    with theme():
        drawn.savefig(file, format="png", dpi=RASTER_DPI, facecolor="white")
    return file.getvalue()


def _img(address: str, drawn: Figure, alt: str) -> str:
    width, height = (round(side * RASTER_DPI) for side in drawn.get_size_inches())
    return f'<img alt="{escape(alt)}" width="{width}" height="{height}" src="{address}">'


def table(frame: pd.DataFrame, caption: str = "", reading: str = "") -> Html:
    """A frame of words, which scrolls inside its box, with what it says and how it differs from its page."""
    under = _paragraph("reading", reading) + _paragraph("caption", caption)
    if frame.empty:
        return Html(f'<div class="table">{"" if reading else "<p>No rows.</p>"}{under}</div>')
    name, copy = files.numbered("table"), '<button type="button" class="copy" hidden>Copy</button>'
    links = files.link("CSV", f"{name}.csv", csv(frame)), files.link("LaTeX", f"{name}.tex", latex(frame, caption))
    box = f'<div class="scroll" tabindex="0">{grid(frame, name)}</div>'
    return Html(f'<div class="table">{box}{_tools(copy, *links)}{under}</div>')


def _cells(frame: pd.DataFrame, name: str) -> list[str]:
    std = frame.get(f"{name}_std", pd.Series(np.nan, index=frame.index))
    return [score(value, spread) for value, spread in zip(frame[name], std, strict=True)]


def _whole(values: pd.Series) -> list[str]:
    return ["" if pd.isna(value) else f"{value:.0f}" for value in values]


def _scores(study: Study, frame: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """Measured beside published; their difference where the data set is the paper's, else a mark that it is not."""
    cells = {}
    for column, name in (("jaccard", "Jaccard"), ("dice", "Dice")):
        cells[name, "measured"] = _cells(frame, column)
        if study.reference:
            cells[name, study.theirs_cell] = _cells(frame, f"published_{column}")
        if study.comparable:
            difference = frame[f"{column}_difference"]
            cells[name, "difference"] = ["" if pd.isna(value) else f"{value:+.3f}" for value in difference]
    return cells


def averages(study: Study, caption: str) -> Html:
    """Tables 3 and 4."""
    frame = tables.averages(study)
    cells = _scores(study, frame)
    for family, prefix in (("micro average", "micro_"), ("per-image mean", "image_")):
        for column in ("jaccard", "dice"):
            cells[family, column.capitalize()] = _cells(frame, prefix + column)
    return table(pd.DataFrame(cells, index=frame["variant"].replace(WINNERS).to_numpy()), caption)


def attributes(study: Study, caption: str) -> Html:
    """Tables A.10-A.13, with per-image means and the number of images that show the attribute.

    Attributes that the study has notes on (too few positive groups, say) carry a star, the notes stand below; those of
    them that no fold measured have a row that says so.
    """
    notes = words.attribute_notes(study)
    frame = _with_unmeasured(tables.beside(study), list(notes))
    cells = _scores(study, frame)
    for column in ("jaccard", "dice"):
        cells["per-image mean", column.capitalize()] = _cells(frame, f"image_{column}")
    cells["test images", "with it"] = _whole(frame["positives"].where(frame["attribute"] != tables.AVERAGE))
    names = [plain(name) + " *" * (name in notes) for name in frame["attribute"]]
    rows = pd.MultiIndex.from_arrays([names, frame["variant"].replace(WINNERS)], names=[None, None])
    said = [f"* {note}." for each in notes.values() for note in each]
    return table(pd.DataFrame(cells, index=rows), " ".join([caption, *said]))


def _with_unmeasured(frame: pd.DataFrame, attributes: list[str]) -> pd.DataFrame:
    """One more row for each of the attributes that the frame lacks; a frame without rows stays without."""
    lacking = [name for name in attributes if name not in set(frame["attribute"])]
    if frame.empty or not lacking:
        return frame
    more = pd.DataFrame({"attribute": lacking, "variant": "not measured"})
    return pd.concat([frame, more], ignore_index=True)


def shapes(study: Study, reading: str, caption: str) -> Html:
    """Average Dice of each shape alone and averaged."""
    frame = tables.shapes(study).map(score).rename_axis(index=None, columns=None).rename(index=WINNERS)
    return table(frame.rename(columns={tables.ENSEMBLE: "averaged"}), caption, reading)


def lesion(study: Study, reading: str, caption: str) -> Html:
    """Stage 1 on whole images of its test folds."""
    frame = study.lesion
    cells = {name: _whole(frame[name]) for name in ("seed", "fold")}
    cells |= {name.capitalize(): _cells(frame, name) for name in ("jaccard", "dice")}
    cells |= {f"per-image {name.capitalize()}": _cells(frame, f"image_{name}") for name in ("jaccard", "dice")}
    cells["images"] = _whole(frame["images"])
    return table(pd.DataFrame(cells, index=frame["start"].to_numpy()), caption, reading)


def counts(study: Study, caption: str) -> Html:
    """Table 2."""
    frame = tables.counts(study)
    cells = {("this store", name): _whole(frame[name]) for name in ("present", "known")}
    cells["this store", "%"] = [score(value, digits=2) for value in frame["rate"]]
    for dataset in PUBLISHED:
        if frame[f"{dataset}_present"].isna().all():
            continue
        cells[f"published, {dataset}", "present"] = _whole(frame[f"{dataset}_present"])
        cells[f"published, {dataset}", "%"] = [score(value, digits=2) for value in frame[f"{dataset}_rate"]]
    return table(pd.DataFrame(cells, index=frame["mask"].str.replace("_", " ").to_numpy()), caption)


def provenance(study: Folder, own: str = "") -> Html:
    """What the tables were made from, and the command that makes them again; what is not known says so.

    `own` begins the names of the tables to link; empty: those of the study.
    """
    about = study.about
    facts = {
        "data": f"{study.data}, {about.get('cases', '?')} cases at {about.get('size', '?')}",
        "rare attributes": "enriched above their real frequencies" if about.get("enrich") else "as they come",
        "store": f"{about.get('store', '?')} (digest {about.get('store_digest', '?')})",
        "source domain": about.get("source"),
        "preset": about.get("preset"),
        "seeds": _join(about.get("seeds")),
        "folds": f"{_join(about.get('folds'))} of {about.get('n_folds', '?')}",
        "shapes": _join(about.get("shapes")),
        "backbone": about.get("backbone"),
        "epochs": about.get("epochs"),
        "offset": f"{about.get('offset', '?')} px",
        "settings": _pairs(about.get("settings")),
        "commit": about.get("commit"),
        "libraries": _pairs(about.get("versions")),
        "hardware": about.get("hardware"),
        "date": about.get("date"),
        "time": _time(about),
    }
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v or 'not recorded'))}</dd>" for k, v in facts.items())
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in words.notes(study))
    command = f'<pre class="command">{escape(str(about.get("command", "not recorded")))}</pre>'
    notes = f"<p>Notes</p><ul>{notes}</ul>" if notes else ""
    return Html(f'<dl class="provenance">{rows}</dl><p>Made by</p>{command}{notes}{_files(study, own)}')


def _time(about: dict[str, Any]) -> str | None:
    """How long the last command took, and all training behind its tables; None where it is not recorded."""
    told = {"the last command": about.get("seconds"), "training, all runs together": about.get("training_seconds")}
    known = [f"{value:.0f} s ({what})" for what, value in told.items() if isinstance(value, int | float)]
    return ", ".join(known) or None


def _join(values: Any) -> str:
    every = values if isinstance(values, list | tuple) else [] if values is None else [values]
    return ", ".join(map(str, every)) or "not recorded"


def _pairs(values: Any) -> str:
    """name value, name value: those that have a value."""
    named = values if isinstance(values, dict) else {}
    return ", ".join(f"{name} {value}" for name, value in named.items() if value != "")


def _files(study: Folder, own: str) -> str:
    """The names of the tables; the report turns them into links where it can reach them."""
    own = own or str(study.about.get("study", "variants"))
    kinds = [".csv", ".json"]
    own_files = sorted(p.name for p in study.folder.glob(f"{own}[._]*") if p.suffix in kinds)
    others = {"variants": [*tables.COLUMNS, "study.json"], "data": ["counts.csv", "study.json"]}
    every = dict.fromkeys([*others.get(own, ["counts.csv"]), *own_files])
    names = [name for name in every if (study.folder / name).exists()]
    items = "".join(f'<li data-file="{escape(name)}">{escape(name)}</li>' for name in names)
    return f'<p>Tables</p><ul class="files">{items}</ul>'

"""A frame of words as an HTML table that can be read, sorted and copied, and as CSV and LaTeX.

pandas writes the table; here heads that repeat become one, rows that belong together are marked, and columns of words
are told from columns of numbers.  Every row keeps all its labels, because rows that share a cell cannot be sorted:
those that repeat carry a class, so that the page may show them once.
"""

from __future__ import annotations

import re
import textwrap
from itertools import groupby
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pandas as pd

LONG = 40  # characters above which the cells of a column are broken into lines
NUMBER = re.compile(r"\s*[<>~]?\s*[-+\u2212]?\.?\d")


def grid(frame: pd.DataFrame) -> str:
    """A table of class `numbers`; groups of rows begin with class `group`, words have `word`, sentences `long` too."""
    written = frame.to_html(border=0, escape=True, na_rep="", classes="numbers", sparsify=False)
    table = ElementTree.fromstring(written.replace(' style="text-align: right;"', "").replace(' border="0"', ""))
    for row in table.findall("thead/tr")[:-1]:
        _merge(row)
    _group(frame.index, table.findall("tbody/tr"))
    _tell_words(frame, table)
    return ElementTree.tostring(table, encoding="unicode", method="html")


def _merge(row: Element) -> None:
    """Neighbouring heads of the same words become one; blank ones stay."""
    for words, same in groupby(list(row), key=lambda cell: cell.text):
        first, *others = same
        if words and others:
            first.set("colspan", str(1 + len(others)))
            for other in others:
                row.remove(other)


def _group(index: pd.Index, rows: list[Element]) -> None:
    """Rows that share their first label: the first opens a group, the others only repeat it."""
    labels = list(index.get_level_values(0)) if index.nlevels > 1 else []
    for before, label, row in zip([None, *labels], labels, rows, strict=False):
        if label == before:
            row[0].set("class", "again")
        else:
            row.set("class", "group")


def _tell_words(frame: pd.DataFrame, table: Element) -> None:
    """Mark the cells, and the head, of columns of words."""
    kinds = [_kind(frame.iloc[:, place].astype(str)) for place in range(frame.shape[1])]
    for row in [*table.findall("thead/tr")[-1:], *table.findall("tbody/tr")]:
        for cell, kind in zip(list(row)[frame.index.nlevels :], kinds, strict=True):
            if kind:
                cell.set("class", kind)


def _kind(cells: pd.Series) -> str:
    """`word` where fewer than half of the cells that are not blank begin with a number, `word long` for sentences."""
    filled = [cell for cell in cells if cell.strip()]
    if 2 * sum(bool(NUMBER.match(cell)) for cell in filled) >= len(filled):
        return ""
    return "word long" if max(map(len, filled)) > LONG else "word"


def csv(frame: pd.DataFrame) -> bytes:
    """UTF-8, the heads of several rows in one: "Dice, measured"."""
    heads = [", ".join(filter(None, map(str, each))) if isinstance(each, tuple) else each for each in frame.columns]
    return frame.set_axis(heads, axis=1).to_csv().encode()


def latex(frame: pd.DataFrame, caption: str) -> bytes:
    """A tabular of booktabs; its caption and the packages it needs stand above as comments."""
    above = [*textwrap.wrap(caption, 110), r"needs \usepackage{booktabs,multirow}"]
    comments = "".join(f"% {line}\n" for line in above)
    return (comments + frame.to_latex(escape=True, na_rep="")).encode()

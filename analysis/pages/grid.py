"""A frame of words as an HTML table that can be read, sorted and copied, and as CSV and LaTeX.

pandas writes the tables: heads that repeat become one, and every row keeps all its labels, because rows that share a
cell cannot be sorted (the page's script shows those that repeat once).  Columns of words stand on the left.
"""

from __future__ import annotations

import re
import textwrap

import pandas as pd
from pandas.io.formats.style import Styler

LONGEST_CELL = 40  # characters above which the cells of a column are broken into lines
NUMBER = re.compile(r"\s*[<>~]?\s*[-+\u2212]?\.?\d")
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")  # [words](address) in a cell; a file has the words alone
LEFT, BROKEN = "text-align: left", "; min-width: var(--long); white-space: normal"


def grid(frame: pd.DataFrame, name: str = "table") -> str:
    """A table of class `numbers`; `name` is one that no other table of the page has."""
    columns = [frame.iloc[:, place].astype(str) for place in range(frame.shape[1])]
    styles = [
        {"selector": f".col{place}:not([colspan])", "props": LEFT + BROKEN * bool(cells.str.len().max() > LONGEST_CELL)}
        for place, cells in enumerate(columns)
        if _of_words(cells)
    ]
    table = Styler(frame, uuid=name, table_attributes='class="numbers"', cell_ids=False)
    table.set_table_styles(styles).format(escape="html", na_rep="")  # type: ignore[arg-type]
    table.format_index(escape="html").format_index(escape="html", axis=1)
    return LINK.sub(r'<a href="\2">\1</a>', table.to_html(sparse_index=False, sparse_columns=True))


def _of_words(cells: pd.Series) -> bool:
    """Do fewer than half of the cells that are not blank begin with a number?"""
    filled = cells[cells.str.strip() != ""]
    return 2 * filled.str.match(NUMBER).sum() < len(filled)


def csv(frame: pd.DataFrame) -> bytes:
    """UTF-8, the heads of several rows in one: "Dice, measured"."""
    heads = [", ".join(filter(None, map(str, each))) if isinstance(each, tuple) else each for each in frame.columns]
    return LINK.sub(r"\1", frame.set_axis(heads, axis=1).to_csv()).encode()


def latex(frame: pd.DataFrame, caption: str) -> bytes:
    """A tabular of booktabs; its caption and the packages it needs stand above as comments."""
    above = [*textwrap.wrap(caption, 110), r"needs \usepackage{booktabs,multirow}"]
    comments = "".join(f"% {line}\n" for line in above)
    return (comments + LINK.sub(r"\1", frame.to_latex(escape=True, na_rep=""))).encode()

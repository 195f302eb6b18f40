"""Frames as tables: heads that repeat are merged, every row keeps its labels, words are told from numbers."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import pandas as pd

from analysis.pages.grid import csv, grid, latex

FRAME = pd.DataFrame(
    {
        ("Dice", "measured"): ["0.41 ± 0.02", "", "> 0.4"],
        ("Dice", "published"): ["0.5", "a & <b>", "\u22120.1"],
        ("Jaccard", "measured"): ["0.1", "0.2", "0.3"],
        ("", "why"): ["", "it_holds", "50 % do not"],
        (" ", "said"): ["", "yes", "no"],
    },
    index=pd.MultiIndex.from_tuples([("globules", "stage3"), ("globules", "stage23"), ("streaks", "stage3")]),
)


def table(frame: pd.DataFrame) -> ElementTree.Element:
    return ElementTree.fromstring(grid(frame).partition("</style>")[2].replace("&nbsp;", ""))


def on_the_left(frame: pd.DataFrame) -> dict[str, bool]:
    """The columns of words by their heads, and whether their cells are broken into lines."""
    styles = re.findall(r"\.col(\d+)[^{]*{([^}]*)}", grid(frame))
    heads = [each[-1] if isinstance(each, tuple) else each for each in frame.columns]
    return {heads[int(place)]: "normal" in style for place, style in styles}


def test_neighbouring_heads_become_one_and_cover_the_same_columns() -> None:
    top, last = table(FRAME).findall("thead/tr")
    spans = {cell.text: int(cell.get("colspan", 1)) for cell in top if (cell.text or "").strip()}
    assert spans == {"Dice": 2, "Jaccard": 1}
    assert sum(int(cell.get("colspan", 1)) for cell in top) == len(last) == 2 + FRAME.shape[1]


def test_every_row_keeps_its_labels() -> None:
    rows = table(FRAME).findall("tbody/tr")
    assert [[cell.text for cell in row.findall("th")] for row in rows] == [list(each) for each in FRAME.index]
    twice = table(FRAME.droplevel(1)).findall("tbody/tr/th")
    assert [cell.text for cell in twice] == ["globules", "globules", "streaks"]


def test_columns_mostly_without_numbers_are_words_and_sentences_are_broken() -> None:
    assert on_the_left(FRAME) == {"said": False}  # half of the cells of `why` begin with a number
    why = pd.DataFrame({"why": ["15 layers", "the steps are constant and not c/t, as the theorem asks", "", "SGD"]})
    assert on_the_left(why) == {"why": True} and on_the_left(why.assign(why="")) == {}


def test_cells_come_through_as_they_are() -> None:
    cells = [[cell.text or "" for cell in row.findall("td")] for row in table(FRAME).findall("tbody/tr")]
    assert cells == FRAME.to_numpy().tolist()
    read = pd.read_csv(io.BytesIO(csv(FRAME)), index_col=[0, 1], keep_default_na=False, dtype=str)
    assert read.to_numpy().tolist() == cells and list(read.columns)[:2] == ["Dice, measured", "Dice, published"]


def test_latex_says_what_it_shows_and_needs() -> None:
    text = latex(FRAME, "Pooled scores, 100 % of the phantom. " * 9).decode()
    comments = [line for line in text.splitlines() if line.startswith("%")]
    assert sum(line.count("Pooled") for line in comments) == 9 and r"\usepackage{booktabs,multirow}" in comments[-1]
    assert text.splitlines()[len(comments)].startswith(r"\begin{tabular}")
    assert r"it\_holds" in text and r"50 \% do not" in text and r"\multicolumn{2}{r}{Dice}" in text

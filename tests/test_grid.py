"""Frames as tables: heads that repeat are merged, every row keeps its labels, words are told from numbers."""

from __future__ import annotations

import io
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
    return ElementTree.fromstring(grid(frame))


def test_neighbouring_heads_become_one_and_cover_the_same_columns() -> None:
    top, last = table(FRAME).findall("thead/tr")
    spans = {cell.text: int(cell.get("colspan", 1)) for cell in top if (cell.text or "").strip()}
    assert spans == {"Dice": 2, "Jaccard": 1}
    assert sum(int(cell.get("colspan", 1)) for cell in top) == len(last) == 2 + FRAME.shape[1]


def test_every_row_keeps_its_labels_and_groups_are_marked() -> None:
    rows = table(FRAME).findall("tbody/tr")
    assert [[cell.text for cell in row.findall("th")] for row in rows] == [list(each) for each in FRAME.index]
    assert [row.get("class") for row in rows] == ["group", None, "group"]
    assert [row[0].get("class") for row in rows] == [None, "again", None]
    assert not table(FRAME.droplevel(0)).findall(".//*[@class='again']")


def test_columns_mostly_without_numbers_are_words_and_sentences_are_broken() -> None:
    marks = [None, None, None, None, "word"]  # half of the cells of the fourth begin with a number
    rows = table(FRAME).findall("tbody/tr")
    assert all([cell.get("class") for cell in row.findall("td")] == marks for row in rows)
    assert [cell.get("class") for cell in table(FRAME).findall("thead/tr")[-1]][2:] == marks
    why = pd.DataFrame({"why": ["15 layers", "the steps are constant and not c/t, as the theorem asks", "", "SGD"]})
    assert {cell.get("class") for cell in table(why).iter("td")} == {"word long"}
    assert {cell.get("class") for cell in table(why.assign(why="")).iter("td")} == {None}


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

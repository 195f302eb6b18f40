"""What data measured tables are of, and when the paper's numbers may be taken from theirs.

A difference is taken only where the store holds the paper's data set and as many cases of it: 2594 of ISIC 2018; of
ISIC 2017 the 2000 of its training part (1416 with an attribute: Table 2), 2150 with the validation part, 2750 in all.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

PUBLISHED = ("isic2018", "isic2017")
PAPER_CASES = {"isic2018": (2594,), "isic2017": (1416, 2000, 2150, 2750)}
_TITLES = {"isic2018": "ISIC 2018", "isic2017": "ISIC 2017"}
WINNER_NAMES = {"isic2018-1st": "isic2018-winner", "isic2017-1st": "isic2017-winner"}  # the paper's name: ours


def read_paper(name: str) -> pd.DataFrame:
    """A table printed in the paper, one tidy row per number: `table2`, `tables3_4_a10_a13`, ..."""
    with (files("analysis") / "paper" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def published(dataset: str) -> pd.DataFrame:
    """Tables 3, 4 and A.10-A.13 of one data set: variant (as ours are called), attribute, scores as `published_*`."""
    frame = read_paper("tables3_4_a10_a13").replace({"variant": WINNER_NAMES})
    kept = frame[frame["dataset"] == dataset].drop(columns="dataset")
    scores = ("jaccard", "jaccard_std", "dice", "dice_std")
    return kept.rename(columns={name: f"published_{name}" for name in scores}).reset_index(drop=True)


def beside_table2(counts: pd.DataFrame) -> pd.DataFrame:
    """counts.csv with `rate`, images that show each mask in % of those where it is known, and Table 2's of both data.

    The paper's columns are `isic2018_present`, `isic2018_rate`, and so on.
    """
    table = counts.assign(rate=100 * counts["present"] / counts["known"].where(counts["known"] > 0))
    for dataset in PUBLISHED:
        paper = read_paper("table2")
        paper = paper[paper["dataset"] == dataset].set_index("attribute")
        table[f"{dataset}_present"] = table["mask"].map(paper["images"])
        table[f"{dataset}_rate"] = table["mask"].map(paper["rate_percent"])
    return table


def part_of(data: str, cases: Any) -> str:
    """part of ISIC 2017 (600 images): where the data set is one of the paper's and the number of cases is not."""
    if data not in PAPER_CASES or cases in PAPER_CASES[data]:
        return ""
    return f"part of {_TITLES[data]} ({cases if cases is not None else 'an unknown number of'} images)"


class Origin:
    """Tables of a folder that know what data they are of, from their provenance `about`."""

    folder: Path
    about: dict[str, Any]

    @property
    def data(self) -> str:
        return str(self.about.get("data", "unknown data"))

    @property
    def part(self) -> str:
        """What part of one of the paper's data sets the store holds; empty for all of it, and for other data."""
        return part_of(self.data, self.about.get("cases"))

    @property
    def comparable(self) -> bool:
        """Does the store hold one of the paper's data sets, all its cases?"""
        return self.data in PUBLISHED and not self.part

    @property
    def theirs_cell(self) -> str:
        """The head of a column of published numbers."""
        return "published" if self.comparable else f"published, {'other cases' if self.part else 'other data'}"

    @property
    def apart(self) -> str:
        """Why no difference to published numbers is taken, to end a caption's clause; empty where it may be."""
        if self.comparable:
            return ""
        return f"; measured is {self.part}" if self.part else ", which are other data"

"""The tables of any study that `python -m tatl study NAME` wrote: rows called `variant` compared on the same folds.

Scores are pooled as `analysis.tables.read` says; a mean and its standard deviation are over folds and seeds.  Where
only some attributes are asked for, `average` is taken anew over these, from the scores of each fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.pages import words
from analysis.tables.narrow import KEYS, asked, narrowed
from analysis.tables.paper import SCORES, BesidePaper, published
from analysis.tables.read import check_once, ordered, read_about, read_table
from tatl.names import AVERAGE, ENSEMBLE, IMAGE_SCORES, MICRO

COLUMNS = ["variant", "shape", "attribute", *SCORES, *IMAGE_SCORES, "folds", "positives"]
FOLD_COLUMNS = [*KEYS, "attribute", "jaccard", "dice", *IMAGE_SCORES, "positives"]


@dataclass(frozen=True)
class Comparison(BesidePaper):
    """One study's tables: `scores` over folds and `folds` of every shape; `shape` is the one that pages read."""

    study: str
    folder: Path
    about: dict[str, Any] = field(repr=False)
    scores: pd.DataFrame = field(repr=False)
    all_folds: pd.DataFrame = field(repr=False)
    shape: str = ENSEMBLE

    @classmethod
    def read(
        cls,
        study: str,
        folder: str | Path,
        own: Sequence[str] = (),
        shape: str = ENSEMBLE,
        attributes: str = "",
        dataset: str = "",
    ) -> Comparison:
        """Read `<study>.csv`, `<study>_folds.csv` and `<study>.json`, relative to the working directory.

        Args:
            study: paradigms, crop, backbones, data-size or convergence
            folder: what `python -m tatl study` wrote
            own: the columns that only this study has
            shape: u, link, or mean (their averaged probabilities)
            attributes: which to show, with commas; empty: all
            dataset: what captions call the data; empty: as the study recorded it

        Raises FileNotFoundError or ValueError, with the command that writes what is missing.
        """
        folder, command = Path(folder).expanduser().resolve(), f"python -m tatl study {study}"
        about = read_about(folder / f"{study}.json", command)
        scores = read_table(folder / f"{study}.csv", [*COLUMNS, *own], command)
        folds = read_table(folder / f"{study}_folds.csv", [*FOLD_COLUMNS, *own], command)
        for frame, keys, name in (
            (scores, COLUMNS[:3], f"{study}.csv"),
            (folds, FOLD_COLUMNS[:5], f"{study}_folds.csv"),
        ):
            check_once(frame, keys, folder / name, command)
        shapes = list(scores["shape"].unique())
        if shapes and shape not in shapes:
            raise ValueError(f"shape {shape!r} is not in {folder / f'{study}.csv'}: choose of {', '.join(shapes)}")
        whole = cls(study, folder, about | ({"label": dataset} if dataset else {}), scores, folds, shape)
        return whole.only(asked(attributes))

    def only(self, attributes: Sequence[str]) -> Comparison:
        """The same of some attributes, their average taken anew; of all where none is named."""
        if not attributes or not len(self.scores):
            return self
        if unknown := [name for name in attributes if name not in self.attributes]:
            known = ", ".join(self.attributes)
            raise ValueError(
                f"{self.study}.csv has no attribute {', '.join(unknown)}: choose of {known}, or leave empty"
            )
        own = [str(name) for name in self.scores if name not in COLUMNS]
        scores, folds = narrowed(self.scores, self.all_folds, attributes, own)
        return replace(self, scores=scores, all_folds=folds)

    @property
    def differing(self) -> bool:
        """May a published average be taken from a measured one?"""
        return self.comparable and self.same_average

    @property
    def command(self) -> str:
        return f"python -m tatl study {self.study}"

    @cached_property
    def attributes(self) -> list[str]:
        """The measured attributes, in the study's order."""
        seen = [name for name in self.scores["attribute"].dropna() if name not in (AVERAGE, MICRO)]
        return ordered(seen, [str(name) for name in self.about.get("attributes") or []])

    @cached_property
    def panels(self) -> list[str]:
        """The attributes, or the average first where there are several."""
        return ([AVERAGE] if len(self.attributes) > 1 else []) + self.attributes

    @cached_property
    def variants(self) -> list[str]:
        """The compared rows, in the study's order."""
        return list(dict.fromkeys(self.measured["variant"]))

    @cached_property
    def shapes(self) -> list[str]:
        """The shapes that were trained, without their average."""
        return [str(name) for name in dict.fromkeys(self.scores["shape"].dropna()) if name != ENSEMBLE]

    @cached_property
    def measured(self) -> pd.DataFrame:
        """The scores of this shape over folds and seeds."""
        return self.scores[self.scores["shape"] == self.shape].reset_index(drop=True)

    @cached_property
    def folds(self) -> pd.DataFrame:
        """The scores of this shape, seed by seed and fold by fold."""
        return self.all_folds[self.all_folds["shape"] == self.shape].reset_index(drop=True)

    def caption(self, published: str = "") -> str:
        """Where the numbers of a table or figure come from; `published` says what the paper's are."""
        return " ".join([words.origin(self, self.shape), *([published] if published else []), *words.warnings(self)])

    def theirs(self, table: str, average: bool = True) -> str:
        """What the published numbers of a table are, for a caption; a plain mark where the data are others."""
        if not self.reference:
            return "The paper has none of these attributes."
        said = f"Published ({table}): {self.reference}, ImageNet, 256x256"
        said += f"{self.apart}: no difference is taken." if self.apart else "."
        if average and not self.same_average:
            number = len(published(self.reference)["attribute"].unique()) - 1
            said += f" Its average is over {number} attributes, the measured one over {len(self.attributes)}."
        return said

    @cached_property
    def paper_shapes(self) -> list[str]:
        """The shapes whose published numbers stand beside: the one that is read, or those that were averaged."""
        shapes = self.shapes if self.shape == ENSEMBLE else [self.shape]
        return [name for name in ("u", "link") if name in shapes]


@dataclass(frozen=True)
class Scored:
    """The scores of a study, beside which a page may have tables of its own."""

    scores: Comparison

    @property
    def about(self) -> dict[str, Any]:
        return self.scores.about

    @property
    def folder(self) -> Path:
        return self.scores.folder

    @property
    def data(self) -> str:
        return self.scores.data

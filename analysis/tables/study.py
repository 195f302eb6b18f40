"""The tables that `python -m tatl study NAME` wrote: rows called `variant`, compared on the same folds.

Scores are *pooled* unless a column says otherwise: confusion fractions are summed over the images of a test fold, then
J = TP / (TP + FP + FN) and D = 2 TP / (2 TP + FP + FN), then mean and standard deviation (n - 1) over folds and seeds.
`average` is the unweighted mean over attributes (the paper's), `micro` sums over attributes too (the leaderboard's),
`image_*` is the mean of the scores of single images.  Where only some attributes are asked for, `average` is taken
anew over these,

    average(fold) = mean over the chosen attributes of score(fold)

and then its mean and standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.evidence import read_images
from analysis.tables.paper import PUBLISHED, Origin, published
from analysis.tables.read import (
    COUNT_COLUMNS,
    attributes_asked,
    command_of,
    ordered,
    read_about,
    read_optional,
    read_table,
)
from tatl.names import AVERAGE, ENSEMBLE, IMAGE_SCORES, LESION, MICRO, SCORES, TRAINING, UNION
from tatl.studies.places import command_like

RUN_KEYS = ("variant", "shape", "seed", "fold")
ROW_KEYS = ("variant", "shape", "attribute")
SCORE_COLUMNS = (*ROW_KEYS, "jaccard", "jaccard_std", "dice", "dice_std", *IMAGE_SCORES, "folds", "positives")
FOLD_COLUMNS = (*RUN_KEYS, "attribute", *SCORES)
_CURVE_COLUMNS = (*RUN_KEYS, "attribute", "epoch", "step", "split", "loss")
_MEANS = [*SCORES, *TRAINING]  # what an average over attributes, folds and seeds is taken of


@dataclass(frozen=True)
class StudyTables(Origin):
    """One study's tables: `scores` over folds and `all_folds` of every shape; `shape` is the one that pages read.

    `counts` has no rows where the folder lacks counts.csv.
    """

    study: str
    folder: Path
    about: dict[str, Any] = field(repr=False)
    scores: pd.DataFrame = field(repr=False)
    all_folds: pd.DataFrame = field(repr=False)
    counts: pd.DataFrame = field(repr=False)
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
    ) -> StudyTables:
        """Read `<study>.csv`, `<study>_folds.csv` and `<study>.json` (of variants: study.json).

        Args:
            study: variants, paradigms, crop, backbones, data-size or convergence
            folder: what `python -m tatl study` wrote, absolute or relative to the working directory
            own: the columns that only this study has
            shape: u, link, or mean (their averaged probabilities)
            attributes: which to show, with commas; empty: all
            dataset: what pages call the data; empty: as the study recorded it

        Raises FileNotFoundError or ValueError, with the command that writes what is missing.
        """
        folder, command = Path(folder).expanduser().resolve(), command_of(study)
        about = read_about(folder / ("study.json" if study == "variants" else f"{study}.json"), command)
        scores = read_table(folder / f"{study}.csv", [*SCORE_COLUMNS, *own], command, ROW_KEYS)
        folds = read_table(folder / f"{study}_folds.csv", [*FOLD_COLUMNS, *own], command, [*RUN_KEYS, "attribute"])
        counts = read_optional(folder / "counts.csv", COUNT_COLUMNS, command)
        shapes = list(scores["shape"].unique())
        if shapes and shape not in shapes:
            raise ValueError(f"shape {shape!r} is not in {folder / f'{study}.csv'}: choose of {', '.join(shapes)}")
        whole = cls(study, folder, about | ({"label": dataset} if dataset else {}), scores, folds, counts, shape)
        if not attributes.strip() or scores.empty:
            return whole
        return whole.only(attributes_asked(attributes, whole.attributes, folder / f"{study}.csv"))

    def only(self, attributes: Sequence[str]) -> StudyTables:
        """The same of some attributes, their average taken anew."""
        own = [str(name) for name in self.scores if name not in (*SCORE_COLUMNS, *TRAINING)]
        scores, folds = (table[table["attribute"].isin(attributes)] for table in (self.scores, self.all_folds))
        average = _averaged(folds, own)
        means = _over_folds(average, own)
        scores, folds = (pd.concat(both, ignore_index=True) for both in ((scores, means), (folds, average)))
        return replace(self, scores=scores, all_folds=folds)

    @property
    def command(self) -> str:
        """What writes more of these tables: the same store, preset and settings; plain where the preset is gone."""
        try:
            return command_like(command_of(self.study), self.about, self.folder)
        except (OSError, ValueError):
            return command_of(self.study)

    @cached_property
    def masks(self) -> list[str]:
        """The store's attributes in the order of its bits, whichever of them are shown."""
        return [str(name) for name in self.counts["mask"] if name not in (LESION, UNION)]

    def bit(self, attribute: str) -> int:
        """The attribute's bit in the store's masks (bit 0 is the lesion)."""
        if attribute not in self.masks:
            known = ", ".join(self.masks)
            raise ValueError(f"{attribute} is not in counts.csv ({known}): write it again, `{self.command}`")
        return 1 << (1 + self.masks.index(attribute))

    @cached_property
    def attributes(self) -> list[str]:
        """The measured attributes, in the study's order."""
        seen = [name for name in self.scores["attribute"].dropna() if name not in (AVERAGE, MICRO)]
        return ordered(seen, [str(name) for name in self.about.get("attributes") or self.masks])

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

    @property
    def paper_shapes(self) -> list[str]:
        """The shapes whose published numbers stand beside: the one that is read, or those that were averaged."""
        shapes = self.shapes if self.shape == ENSEMBLE else [self.shape]
        return [name for name in ("u", "link") if name in shapes]

    @property
    def reference(self) -> str:
        """The paper's data set whose numbers stand beside the measured ones; empty if no attribute is the paper's."""
        dataset = self.data if self.data in PUBLISHED else PUBLISHED[0]
        return dataset if set(self.attributes) & set(published(dataset)["attribute"]) else ""

    @property
    def same_average(self) -> bool:
        """Is the measured average over the same attributes as the published one?"""
        return set(self.attributes) == set(published(self.reference)["attribute"]) - {AVERAGE}

    @cached_property
    def measured(self) -> pd.DataFrame:
        """The scores of this shape over folds and seeds."""
        return self.scores[self.scores["shape"] == self.shape].reset_index(drop=True)

    @cached_property
    def folds(self) -> pd.DataFrame:
        """The scores of this shape, seed by seed and fold by fold."""
        return self.all_folds[self.all_folds["shape"] == self.shape].reset_index(drop=True)

    @cached_property
    def images(self) -> pd.DataFrame:
        """The areas of every test image, of this shape and these attributes; no rows where they were not kept."""
        table = read_images(self.folder, self.study)
        return table[(table["shape"] == self.shape) & table["attribute"].isin(self.attributes)]

    @cached_property
    def average(self) -> pd.DataFrame:
        """The measured average over attributes by variant; of one attribute, its own scores."""
        return self.measured[self.measured["attribute"].isin(self.panels[:1])].set_index("variant", drop=False)

    def wide(self, name: str = "dice") -> pd.DataFrame:
        """Scores by attribute (rows) and variant (columns), unmeasured attributes left out."""
        part = self.measured[self.measured["attribute"].isin(self.attributes)]
        table = part.pivot_table(index="attribute", columns="variant", values=name, sort=False).dropna(how="all")
        return table.loc[[name for name in self.attributes if name in table.index]]

    def curves(self, read: Callable[..., pd.DataFrame] = read_optional) -> pd.DataFrame:
        """Validation losses over steps, of this shape where they are of several; no rows where the study left none.

        `before`: steps of the Stages or pretexts that came first; NaN in tables that do not say.
        """
        table = read(self.folder / f"{self.study}_curves.csv", _CURVE_COLUMNS, self.command)
        table = table if "before" in table else table.assign(before=np.nan)
        return table[(table["shape"] == self.shape) | (self.shape not in set(table["shape"]))]


def _averaged(folds: pd.DataFrame, own: Sequence[str]) -> pd.DataFrame:
    """The unweighted mean over attributes of each variant, shape, seed and fold."""
    grouped = folds.groupby([*RUN_KEYS, *own], sort=False, dropna=False)
    mean = grouped[[name for name in _MEANS if name in folds]].mean()
    if "positives" in folds:
        mean = mean.join(grouped["positives"].sum())
    return mean.reset_index().assign(attribute=AVERAGE)


def _over_folds(average: pd.DataFrame, own: Sequence[str]) -> pd.DataFrame:
    """Mean, standard deviation (n - 1) and number of folds and seeds."""
    grouped = average.groupby([*ROW_KEYS, *own], sort=False, dropna=False)
    means = grouped[[name for name in _MEANS if name in average]].mean()
    table = means.join(grouped[["jaccard", "dice"]].std(ddof=1).add_suffix("_std"))
    return table.assign(folds=grouped.size()).reset_index()

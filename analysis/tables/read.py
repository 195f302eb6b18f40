"""The tables a study leaves behind, as tidy frames with the published numbers beside the measured ones.

Scores are *pooled* unless a column says otherwise: confusion fractions are summed over the images of a test fold,
then J = TP / (TP + FP + FN) and D = 2 TP / (2 TP + FP + FN), then mean and standard deviation (n - 1) over folds.
`average` is the unweighted mean over attributes (the paper's), `micro` sums over attributes too (the
leaderboard's), `image_*` is the mean of the scores of single images.  Published numbers are shown as published;
a difference is taken only where the store holds the paper's data (`analysis.tables.paper`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.pages.protocols import Counted
from analysis.tables.narrow import asked, narrowed
from analysis.tables.paper import PUBLISHED, SCORES, BesidePaper, published, read_paper
from tatl.names import AVERAGE, ENSEMBLE, IMAGE_SCORES, LESION, MICRO, UNION, VARIANTS

COMMAND = "python -m tatl study variants"

COLUMNS = {
    "counts.csv": ["mask", "present", "known", "images"],
    "variants.csv": ["variant", "shape", "attribute", *SCORES, *IMAGE_SCORES, "folds", "positives"],
    "variants_folds.csv": ["variant", "shape", "seed", "fold", "attribute", "jaccard", "dice", *IMAGE_SCORES],
    "lesion.csv": ["start", "fold", "seed", "jaccard", "dice", *IMAGE_SCORES, "images"],
}
KEYS = {"variants.csv": COLUMNS["variants.csv"][:3], "variants_folds.csv": COLUMNS["variants_folds.csv"][:5]}
WORDS = (
    "mask", "other", "variant", "shape", "attribute", "start", "lesion_network", "network", "backbone", "split", "size",
    "device", "frozen",
)  # fmt: skip


def read_csv(
    path: Path, wanted: Sequence[str], command: str, before: dict[str, str] | None = None, **how: Any
) -> pd.DataFrame:
    """One CSV with at least the `wanted` columns, read as `how` says to pandas; `before`: what old columns are now.

    Raises FileNotFoundError or ValueError with the command that writes it.
    """
    try:
        frame = pd.read_csv(path, keep_default_na=False, **how).rename(columns=before or {})
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there: `{command}` writes it") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV table ({error}): write it again with `{command}`") from None
    if missing := [name for name in wanted if name not in frame]:
        raise ValueError(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} (it has "
            f"{', '.join(map(str, frame.columns))}): write it again with `{command}`"
        )
    return frame


def read_table(path: Path, wanted: Sequence[str] = (), command: str = COMMAND) -> pd.DataFrame:
    """One CSV that `command` writes, the `wanted` columns (of the variants' tables: all) checked and typed.

    Raises FileNotFoundError or ValueError with the command that writes it.
    """
    wanted = wanted or COLUMNS[path.name]
    frame = read_csv(path, wanted, command, dtype={name: str for name in WORDS}, na_values=[""])
    numbers = [name for name in wanted if name not in WORDS]
    try:
        return frame.assign(**{name: pd.to_numeric(frame[name]) for name in numbers})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} has a cell that is no number ({error}): write it again with `{command}`") from None


def check_once(frame: pd.DataFrame, keys: Sequence[str], path: Path, command: str = COMMAND) -> None:
    """ValueError where two rows have the same `keys`: it names the row, and the command that writes the table."""
    if (twice := frame[frame.duplicated(list(keys))]).size:
        row = ", ".join(str(value) for value in twice.iloc[0][list(keys)])
        raise ValueError(f"{path} has the row {row} twice: write it again with `{command}`")


def read_about(path: Path, command: str = COMMAND) -> dict[str, Any]:
    """What the tables beside it were made from; errors say which command writes it."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path.parent} holds no {path.name}: `{command}` writes it") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): write it again, `{command}`") from None
    if not isinstance(about, dict):
        raise ValueError(f"{path} holds a {type(about).__name__} and not an object: write it again, `{command}`")
    return about


def ordered(seen: Iterable[str], first: Sequence[str]) -> list[str]:
    """Names that were seen: known ones in their order, then the others as they came."""
    names = list(dict.fromkeys(seen))
    return [name for name in first if name in names] + [name for name in names if name not in first]


@dataclass(frozen=True)
class Study(BesidePaper):
    """The tables folder of one study; `shape` says which rows are read (mean: the shapes' averaged probabilities).

    `masks` are the store's attributes in the order of its bits, whichever of them are shown.
    """

    folder: Path
    about: dict[str, Any]
    counts: pd.DataFrame
    all_shapes: pd.DataFrame
    all_folds: pd.DataFrame
    lesion: pd.DataFrame
    masks: list[str]
    shape: str = ENSEMBLE

    @classmethod
    def read(cls, folder: str | Path, shape: str = ENSEMBLE, attributes: str = "", dataset: str = "") -> Study:
        """Read a folder, given absolute or relative to the working directory.

        Args:
            folder: what `python -m tatl study variants` wrote
            shape: u, link, or mean (their averaged probabilities)
            attributes: which to show, with commas; empty: all
            dataset: what captions call the data; empty: as the study recorded it

        Raises FileNotFoundError or ValueError, with the command that writes what is missing.
        """
        folder = Path(folder).expanduser().resolve()
        about = read_about(folder / "study.json") | ({"label": dataset} if dataset else {})
        counts, scores, folds, lesion = (read_table(folder / name) for name in COLUMNS)
        for frame, name in ((scores, "variants.csv"), (folds, "variants_folds.csv")):
            check_once(frame, KEYS[name], folder / name)
        shapes = list(scores["shape"].unique())
        if shapes and shape not in shapes:
            raise ValueError(f"shape {shape!r} is not in {folder / 'variants.csv'}: choose of {', '.join(shapes)}")
        masks = [str(name) for name in counts["mask"] if name not in (LESION, UNION)]
        return cls(folder, about, counts, scores, folds, lesion, masks, shape).only(asked(attributes))

    def only(self, names: Sequence[str]) -> Study:
        """The same of some attributes, their average taken anew; of all where none is named."""
        if not names or not len(self.all_shapes):
            return self
        if unknown := [name for name in names if name not in self.attributes]:
            known = ", ".join(self.attributes)
            raise ValueError(f"variants.csv has no attribute {', '.join(unknown)}: choose of {known}, or leave empty")
        scores, folds = narrowed(self.all_shapes, self.all_folds, names)
        counts = self.counts[self.counts["mask"].isin([*names, LESION, UNION])].reset_index(drop=True)
        return replace(self, counts=counts, all_shapes=scores, all_folds=folds)

    @cached_property
    def attributes(self) -> list[str]:
        """The measured attributes, in the store's order."""
        seen = [name for name in self.all_shapes["attribute"] if name not in (AVERAGE, MICRO)]
        return ordered(seen, list(self.counts["mask"]))

    @cached_property
    def variants(self) -> list[str]:
        return ordered(self.all_shapes["variant"], VARIANTS)

    @cached_property
    def measured(self) -> pd.DataFrame:
        """variants.csv of this shape, in the order of variants and attributes, `average` and `micro` last."""
        frame = self.all_shapes[self.all_shapes["shape"] == self.shape].drop(columns="shape")
        return _in_order(frame, self.variants, [*self.attributes, AVERAGE, MICRO])

    @cached_property
    def folds(self) -> pd.DataFrame:
        frame = self.all_folds[self.all_folds["shape"] == self.shape].drop(columns="shape")
        return _in_order(frame, self.variants, [*self.attributes, AVERAGE, MICRO])

    def bit(self, attribute: str) -> int:
        """The attribute's bit in the store's masks (bit 0 is the lesion)."""
        if attribute not in self.masks:
            raise ValueError(f"{attribute} is not in counts.csv ({', '.join(self.masks)}): write it again, `{COMMAND}`")
        return 1 << (1 + self.masks.index(attribute))

    def gallery(self) -> dict[str, np.ndarray] | None:
        """The arrays of gallery.npz, of the shown attributes where they were chosen; None if the study left none."""
        path = self.folder / "gallery.npz"
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        hidden = set(self.masks) - set(self.counts["mask"])
        if hidden and {"attributes", "probability"} <= set(arrays):
            shown = [i for i, name in enumerate(arrays["attributes"]) if str(name) not in hidden]
            arrays |= {"attributes": arrays["attributes"][shown], "probability": arrays["probability"][:, shown]}
        return arrays


def _in_order(frame: pd.DataFrame, variants: list[str], attributes: list[str]) -> pd.DataFrame:
    known = frame[frame["attribute"].isin(attributes)]
    place = {name: i for i, name in enumerate([*attributes, *variants])}
    return known.sort_values(["attribute", "variant"], key=lambda s: s.map(place), kind="stable").reset_index(drop=True)


def beside(study: Study) -> pd.DataFrame:
    """Every (attribute, variant): measured, `published_*`, and `*_difference` where the data set is the paper's.

    The paper's own rows that were not measured (the challenge winners, a variant left out) follow with blank
    measured cells; attributes that were not measured do not appear.  Averages over other attributes than the
    paper's have no difference.
    """
    rows = [*study.attributes, AVERAGE] if len(study.measured) else []
    paper = published(study.reference)
    paper = paper[paper["attribute"].isin(rows)]
    measured = study.measured[study.measured["attribute"] != MICRO]
    table = measured.merge(paper, on=["variant", "attribute"], how="outer", sort=False)
    for score in ("jaccard", "dice"):
        difference = table[score] - table[f"published_{score}"]
        alike = study.same_average | (table["attribute"] != AVERAGE)
        table[f"{score}_difference"] = difference.where(study.comparable & alike)
    return _in_order(table, ordered(table["variant"], study.variants), rows)


def averages(study: Study) -> pd.DataFrame:
    """Tables 3 and 4: one row per variant, the average beside the published one, then micro and per-image means."""
    table = beside(study)
    average = table[table["attribute"] == AVERAGE].drop(columns="attribute")
    micro = study.measured[study.measured["attribute"] == MICRO].set_index("variant")[["jaccard", "dice"]]
    return average.merge(micro.add_prefix("micro_"), left_on="variant", right_index=True, how="left")


def counts(study: Counted) -> pd.DataFrame:
    """Table 2: images that show each mask in this store (rate in % of those where it is known), and in the paper's."""
    known = study.counts["known"].where(study.counts["known"] > 0)
    table = study.counts.assign(rate=100 * study.counts["present"] / known)
    for dataset in PUBLISHED:
        paper = read_paper("table2")
        paper = paper[paper["dataset"] == dataset].set_index("attribute")
        table[f"{dataset}_present"] = table["mask"].map(paper["images"])
        table[f"{dataset}_rate"] = table["mask"].map(paper["rate_percent"])
    return table


def shapes(study: Study) -> pd.DataFrame:
    """Average Dice of each shape alone and of their ensemble: one row per variant, one column per shape.

    The challenge winners have shapes of their own, and other variants' cells there are blank.
    """
    average = study.all_shapes[study.all_shapes["attribute"] == AVERAGE]
    table = average.pivot_table(index="variant", columns="shape", values="dice", sort=False)
    alone = [name for name in table.columns if name != ENSEMBLE]
    return table.reindex(study.variants)[alone + [name for name in table.columns if name == ENSEMBLE]]


def gains(study: Study, variant: str, baseline: str, score: str = "dice") -> pd.DataFrame:
    """Paired differences variant - baseline per attribute: mean and standard deviation over common (seed, fold)."""
    keys = ["attribute", "seed", "fold"]
    frames = [study.folds[study.folds["variant"] == name].set_index(keys)[score] for name in (variant, baseline)]
    paired = (frames[0] - frames[1]).dropna().groupby("attribute", sort=False)
    table = pd.DataFrame({"gain": paired.mean(), "std": paired.std(ddof=1), "pairs": paired.size()})
    return table.reindex(ordered(table.index, [*study.attributes, AVERAGE, MICRO]))

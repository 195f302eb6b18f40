"""Are wrong masks found?  A share of a store's masks is made wrong, networks are trained on it, and masks ranked.

    python benchmarks/suspects.py      a drawn phantom, two cores, half an hour
        of a store of one's own, such as the leaves: --store stores/leaf --attributes phoma,miner

Wrong masks are drawn among those that are not empty, in turn
    shifted   by a quarter of the image's height and width, what leaves it entering on the other side
    swapped   for another image's, among the swapped ones of the attribute
    emptied
and networks of two folds (each image judged by the one that was not trained on it) are trained on the copy, wrong masks
and all.  Printed and written: the area under the ROC curve of each score, for all wrong masks and for each kind of them
against the right ones, with a 95 % interval over resampled groups of images; .5 is chance.  Without the curvature all
masks are ranked, with it the wrong ones and a random part of the right ones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.curvature.norms import Options
from analysis.measure.solve import Curvatures
from analysis.measure.suspects.scores import SUSPICION, Jury, juries, more_suspect, suspects
from analysis.tables.effect import percentiles, resampled
from tatl import cli
from tatl.data.case import Case, Size
from tatl.data.phantom.drawing import Phantom
from tatl.data.store import Store, prepare
from tatl.names import LESION
from tatl.studies.execution.crew import Crew
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.schedule import execute
from tatl.studies.planner import Planner
from tatl.studies.settings import Settings, comma_list, load_preset

KINDS = ("shifted", "swapped", "emptied")


def draw_wrong(store: Store, attributes: Sequence[str], share: float, seed: int) -> pd.DataFrame:
    """Which masks are made wrong and how: attribute, index, kind, lender (whose mask a swapped one gets)."""
    tables = []
    for name in attributes:
        present = np.random.default_rng([seed, store.bits(name)]).permutation(np.flatnonzero(store.present(name)))
        chosen = present[: max(2 * len(KINDS), round(share * store.known(name).sum()))]
        table = pd.DataFrame({"attribute": name, "index": chosen, "lender": chosen})
        table["kind"] = np.resize(KINDS, len(chosen))
        swapped = table["kind"] == "swapped"
        table.loc[swapped, "lender"] = np.roll(table.loc[swapped, "index"], 1)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


class WithWrongMasks:
    """A reader of a store's cases, some of their masks made wrong as `draw_wrong` says."""

    problems: tuple[str, ...] = ()

    def __init__(self, store: Store, wrong: pd.DataFrame) -> None:
        self.store, self.wrong = store, wrong
        self.name, self.attributes = str(store.source["data"]), store.attributes
        self.ids, self.groups = (store.cases[column].astype(str).tolist() for column in ("id", "group"))
        self.provenance = {**store.source, "wrong": wrong.to_csv(index=False)}

    def read(self, index: int, size: Size) -> Case:
        """A case; `size` is the store's."""
        store, row = self.store, self.store.cases.iloc[index]
        masks = {name: self._mask(name, index) for name in (LESION, *self.attributes)}
        lesion = masks.pop(LESION)
        original = int(row["height"]), int(row["width"])
        return Case(self.ids[index], self.groups[index], store.images[index], lesion, masks, *original)

    def _mask(self, name: str, index: int) -> np.ndarray | None:
        store, changed = self.store, self.wrong.query("attribute == @name and index == @index")
        if not store.known(name)[index]:
            return None
        if changed.empty:
            return store.mask(name, index)
        mask = store.mask(name, int(changed["lender"].iloc[0]))
        kind = changed["kind"].iloc[0]
        if kind == "shifted":
            return np.roll(mask, (store.size.height // 4, store.size.width // 4), (0, 1))
        return np.zeros_like(mask) if kind == "emptied" else mask


def auroc(value: np.ndarray, group: pd.Series, wrong: np.ndarray) -> tuple[float, float, float]:
    """P(a wrong mask scores above a right one), ties a half, and its 95 % interval over resampled groups of images."""
    groups, _ = pd.factorize(group)
    above = np.subtract.outer(value[wrong], value[~wrong])
    above = (above > 0) + 0.5 * (above == 0)
    drawn = resampled(groups.max() + 1)
    times = np.stack([np.bincount(each, minlength=groups.max() + 1) for each in drawn])[:, groups]  # each mask is drawn
    bad, good = times[:, wrong], times[:, ~wrong]
    there = (bad.sum(1) > 0) & (good.sum(1) > 0)
    found = ((bad @ above) * good).sum(1)[there] / (bad.sum(1) * good.sum(1))[there]
    return (float(above.mean()), *percentiles(found))


def judged(table: pd.DataFrame, store: Store, wrong: pd.DataFrame) -> pd.DataFrame:
    """AUROC of every score: kind (all, or one kind of wrong masks against the right ones), wrong, right, score, ..."""
    at = wrong.assign(case=store.cases["id"].to_numpy(dtype=str)[wrong["index"]])
    kind = table.merge(at, on=["case", "attribute"], how="left")["kind"]
    rows = []
    for name in ("all", *KINDS):
        some = (kind.isna() | (name == "all") | (kind == name)).to_numpy()
        part, bad = table[some], kind[some].notna().to_numpy()
        for score, values in more_suspect(part).assign(suspicion=part[SUSPICION]).items():
            value, low, high = auroc(values.to_numpy(), part["group"], bad)
            counts = {"wrong": int(bad.sum()), "right": int((~bad).sum())}
            rows.append({"score": score, "kind": name, **counts, "auroc": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def sample(juries: Sequence[Jury], wrong: pd.DataFrame, right: int) -> list[Jury]:
    """The same networks on their wrong masks and, by chance, `right` others of each attribute and fold."""
    taken = []
    for jury in juries:
        bad = np.isin(jury.cases, wrong.loc[wrong["attribute"] == jury.attribute, "index"])
        others = np.random.default_rng(0).permutation(np.flatnonzero(~bad))[:right]
        rows = np.sort(np.concatenate([np.flatnonzero(bad), others]))
        taken.append(replace(jury, place=jury.place[rows], cases=jury.cases[rows]))
    return taken


def main(
    store: Path | None = None,
    attributes: str = "pigment_network,globules",
    share: float = 0.05,
    seed: int = 0,
    cases: int = 240,
    size: str = "96x128",
    epochs: int = 8,
    preset: str = "quick",
    right: int = 30,
    folder: Path = Path("stores/suspects"),
    workers: int = 0,
) -> None:
    """Make masks wrong, train on them, rank them, and say how well each score finds them.

    Args:
        store: folder written by prepare; without it a phantom is drawn
        attributes: whose masks are made wrong and ranked
        share: of the masks of an attribute that are made wrong
        seed: of the draw of wrong masks
        cases: of the phantom
        size: of the phantom, HEIGHTxWIDTH
        epochs: of each network
        preset: of the other settings
        right: how many right masks of each attribute and fold have their curvature taken too; 0: no curvature
        folder: for the store with wrong masks, its runs, and <store>_auroc.csv
        workers: processes that share the curvature; 0: one a core
    """
    names = comma_list(attributes)
    clean = Store.open(store) if store else prepare(Phantom(cases, enrich=True), folder / "phantom", Size.parse(size))
    wrong = draw_wrong(clean, names, share, seed)
    spoilt = prepare(WithWrongMasks(clean, wrong), folder / f"{clean.name}-wrong", clean.size, workers=1)
    settings = replace(
        Settings(**load_preset(preset).settings),
        attributes=attributes,
        n_folds=2,
        folds="",
        epochs=epochs,
        patience=epochs,
    )
    runs = [member.run for member in Planner(settings, spoilt).members(["stage3"])]
    execute(runs, folder / "runs", spoilt, Machine("auto", None, workers=1))
    made = juries(runs, folder / "runs", spoilt)
    tables = [judged(suspects(made), spoilt, wrong).assign(masks="all")]
    if right:
        curvatures = Curvatures(Options(0.1, 16), folder / "runs" / spoilt.name / "curvature", Crew(workers=workers))
        some = suspects(sample(made, wrong, right), curvatures)
        tables.append(judged(some, spoilt, wrong).assign(masks="sample"))
    table = pd.concat(tables, ignore_index=True)
    table.to_csv(folder / f"{clean.name}_auroc.csv", index=False)
    print(f"{spoilt}: {len(wrong)} wrong masks of {', '.join(names)}")
    for masks, part in table.groupby("masks", sort=False):
        words = part.apply(lambda row: f"{row['auroc']:.2f} ({row['low']:.2f} to {row['high']:.2f})", axis=1)
        shown = part.assign(words=words, kind=part["kind"] + " " + part["wrong"].astype(str))
        print(f"{masks}, {part['right'].max()} right:")
        print(shown.pivot_table(index="score", columns="kind", values="words", aggfunc="first", sort=False).to_string())


if __name__ == "__main__":
    sys.exit(cli.script(main))

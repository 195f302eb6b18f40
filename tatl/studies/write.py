"""What a study leaves behind: tidy tables, a gallery, and study.json, which says what they were made from."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tatl.data.census import census
from tatl.data.folds import scarce
from tatl.data.store import Store, counts, write_csv
from tatl.machine.version import commit, versions
from tatl.names import AVERAGE, ENSEMBLE, LESION, MICRO, UNION
from tatl.run import write_atomically
from tatl.studies.examples import gallery
from tatl.studies.pace import mean_curves, pace, thinned
from tatl.studies.planner import Member, Planner
from tatl.studies.results import (
    KEYS,
    histories,
    lesion_scores,
    lost_notes,
    over_folds,
    per_fold,
    scores_of,
    training_of,
)
from tatl.studies.runtime.cost import Place, costs, networks
from tatl.studies.settings import Settings, comma_list

DERIVED = ("effects", "ranks")  # tables that `analysis.statistics` makes of those of a study
SHOWN = ("variant", "attribute", "jaccard", "jaccard_std", "dice", "dice_std", "folds", "positives")


def write_tables(
    name: str,
    members: list[Member],
    runs: Path,
    store: Store,
    folder: Path,
    described: dict[str, Any],
    device: str = "auto",
) -> None:
    """Write the tables of a study, its gallery and what it was made from, and print the averages.

    `<study>.csv` over folds and seeds, `<study>_folds.csv`, and `<study>_images.csv.gz` of every test image, by which
    differences are resampled; of `variants`, `paradigms` and `convergence` `<study>_curves.csv` of validation losses
    over steps; of `variants` a gallery, the census of the store's masks, and study.json for <study>.json; of
    `backbones` what each network costs, measured on the device.  What could not be had, because runs have lost files,
    is added to the notes of `described`.  Differences and ranks (`DERIVED`) of other runs are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / ("study.json" if name == "variants" else f"{name}.json")
    about.unlink(missing_ok=True)  # written last: tables without it are not whole
    kind = pd.DataFrame([{"variant": member.variant, **member.kind} for member in members]).drop_duplicates()
    trained = training_of(members, runs, store)
    scores = scores_of(members, runs, store)
    folds = per_fold(scores).merge(trained, on=[*KEYS, "attribute"], how="left")
    images = folder / f"{name}_images.csv.gz"
    before = images.read_bytes() if images.is_file() else b""
    _write_images(scores, store, images)
    if images.read_bytes() != before:
        _remove_derived(name, folder)
    described["notes"] += lost_notes(members, runs)
    table = over_folds(folds)
    write_csv(counts(store), folder / "counts.csv")
    for frame, path in ((folds, folder / f"{name}_folds.csv"), (table, folder / f"{name}.csv")):
        write_csv(frame.merge(kind, on="variant", how="left"), path)
    own = _own_tables(name, members, runs, device) | (census(store) if name == "variants" else {})
    for title, frame in own.items():
        write_csv(frame, folder / f"{title}.csv")
    if name == "variants":
        shown = [m for m in members if m.variant == "stage123"] or members
        described["notes"] += _write_gallery(folder / "gallery.npz", shown, runs, store)
    write_atomically(about, json.dumps(described, indent=1) + "\n")
    print(averages(table))


def averages(table: pd.DataFrame, every: bool = False) -> str:
    """The scores of the averaged shapes in a terminal, and what they are means of; with `every` of each attribute too.

    A score that does not exist, such as a spread of one fold, is a dash.
    """
    shown = table[table["shape"] == ENSEMBLE]
    attributes = shown.loc[~shown["attribute"].isin((AVERAGE, MICRO)), "attribute"].nunique()
    shown = shown if every else shown[shown["attribute"] == AVERAGE].drop(columns="attribute")
    rounded = shown[["jaccard", "jaccard_std", "dice", "dice_std"]].map(lambda v: "-" if pd.isna(v) else f"{v:.3f}")
    shown = shown.assign(**rounded)[[c for c in SHOWN if c in shown]].rename(columns={"folds": "folds x seeds"})
    return (
        f"Pooled over the test images of a fold, the mean over {attributes} attributes, then over folds and seeds; "
        f"positives: test images with the attribute, of all folds and attributes.\n{shown.to_string(index=False)}"
    )


def _write_images(scores: pd.DataFrame, store: Store, path: Path) -> None:
    """Areas (tp, fp, fn) of every attribute and test image, of the shapes' average, with the image's group."""
    group = dict(zip(store.cases["id"].astype(str), store.cases["group"].astype(str), strict=True))
    mean = scores[scores["shape"] == ENSEMBLE]
    table = mean.assign(group=mean["image"].map(group))[[*KEYS, "image", "group", "attribute", "tp", "fp", "fn"]]
    table.to_csv(path, index=False, float_format="%.6g", compression={"method": "gzip", "mtime": 0})


def _remove_derived(name: str, folder: Path) -> None:
    """Remove what `analysis.statistics` made of other runs than those of which there are tables now."""
    for path in (folder / f"{name}_{made}.csv" for made in DERIVED):
        if path.is_file():
            path.unlink()
            print(f"note: {path} was of other runs and is removed: python -m analysis.statistics makes it anew")


def _write_gallery(path: Path, members: list[Member], runs: Path, store: Store) -> list[str]:
    """Write the arrays of a gallery; a note where a run has lost what they show."""
    path.unlink(missing_ok=True)
    try:
        np.savez_compressed(path, **gallery(members, runs, store))  # type: ignore[arg-type]
    except FileNotFoundError as error:
        return [f"no gallery: {error}"]
    return []


def _own_tables(name: str, members: list[Member], runs: Path, device: str) -> dict[str, pd.DataFrame]:
    """The tables that only this study has, by their names."""
    if name == "crop":
        return {"crop_lesion": lesion_scores(members, runs)}
    if name == "convergence":
        curves = histories(members, runs)
        return {"convergence_curves": curves, "convergence_pace": pace(curves)}
    if name == "backbones":
        return {"backbones_cost": costs(networks(member.run for member in members), runs, Place.here(device))}
    if name == "paradigms":
        return {"paradigms_curves": _mean_curves(members, runs)}
    if name == "variants":
        lesions = lesion_scores(members, runs).drop(columns="network")
        return {"lesion": lesions, "variants_curves": _mean_curves(members, runs)}
    return {}


def _mean_curves(members: list[Member], runs: Path) -> pd.DataFrame:
    """Losses by row, seed and fold, as `histories` gives them: means over attributes and shapes."""
    by = ["variant", "seed", "fold"]
    curves = histories(members, runs)
    means = mean_curves(curves, by).assign(shape=ENSEMBLE, attribute=AVERAGE)[list(curves)]
    return thinned(means, by).round({"before": 1, "step": 1, "loss": 5})


def of_store(store: Store) -> dict[str, Any]:
    """Which images tables are of."""
    return {
        "store": str(store.path),
        "store_name": store.name,
        "store_digest": store.digest,
        "data": store.source["data"],
        "enrich": bool(store.source.get("enrich", False)),
        "cases": len(store),
        "size": str(store.size),
    }


def provenance(
    name: str, preset: str, settings: Settings, store: Store, planner: Planner, variants: list[str], runs: Path
) -> dict[str, Any]:
    """study.json: what the tables were made from."""
    return {
        "study": name,
        "preset": preset,
        **of_store(store),
        "runs": str(runs),
        "source": settings.source,
        "shapes": comma_list(settings.shapes),
        "backbone": settings.backbone,
        "seeds": settings.seed_numbers,
        "folds": settings.fold_numbers,
        "n_folds": settings.n_folds,
        "attributes": planner.attributes,
        "variants": variants,
        "offset": settings.offset,
        "epochs": settings.epochs,
        "settings": vars(settings),
        "notes": planner_notes(planner),
        **made_by(),
    }


def made_by() -> dict[str, Any]:
    """What writes tables, here and now."""
    return {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "commit": commit(),
        "versions": versions(),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "hardware": _hardware(),
    }


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def planner_notes(planner: Planner) -> list[str]:
    """What a reader of the tables must know: attributes too rare for the folds, left out ones, and the remarks."""
    few = scarce(planner.store, planner.settings.n_folds)
    said = planner.remarks + [
        f"{name}: {count} groups have it, fewer than the {planner.settings.n_folds} folds, so some test fold has "
        "none (there 0/0 counts as 1)"
        for name, count in few.items()
        if name in planner.attributes
    ]
    for name in (LESION, *planner.attributes, UNION):
        unknown = int((~planner.store.known(name)).sum())
        if 0 < unknown < len(planner.store):
            what = f"{name}: unknown in {unknown} of {len(planner.store)} images"
            said.append(f"{what}, with which no network of it is trained or scored")
    for fold in planner.settings.fold_numbers:
        said += _fold_notes(planner, fold)
    return said


def _fold_notes(planner: Planner, fold: int) -> Iterator[str]:
    trainable, parts = planner.trainable(fold), planner.split(fold)
    for name in planner.attributes:
        present, where = planner.store.present(name), f"of fold {fold} has it"
        if name not in trainable:
            unknown = present[parts.train].any()
            why = f"it is unknown in all test images of fold {fold}" if unknown else f"no training image {where}"
            yield f"{name}: {why}; not measured"
            continue
        if not present[parts.validation].any():
            yield f"{name}: no early-stopping image {where}; training images choose its epoch"
        if not present[parts.test].any():
            yield f"{name}: no test image {where}; what is predicted there is false, and 0/0 counts as 1"

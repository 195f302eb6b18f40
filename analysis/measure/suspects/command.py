"""What `python -m analysis.suspects` does, as a plain function; its command line is made from it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tatl import cli
from tatl.run import Run, write_atomically

if cli.MYPY:
    from pandas import DataFrame

    from analysis.measure.suspects.scores import Jury
    from tatl.data.store import Store

# torch takes seconds to import: what needs it is imported where it is used, so that --help does not.
_PRINTED = 10


def rank_suspects(
    store: Path,
    runs: Path = Path("runs"),
    variant: str = "",
    attributes: str = "",
    folds: str = "",
    where: str = "",
    curvature: bool = True,
    tolerance: float = 0.1,
    max_products: int = 16,
    shown: int = 20,
    tables: Path | None = None,
    device: str = "auto",
    workers: int = 0,
) -> None:
    """Rank the masks of a store by how little the networks that never saw them, and the curvature, believe them.

    Example: python -m analysis.suspects --store stores/leaf --runs runs --attributes phoma

    Args:
        store: folder written by prepare
        runs: folder of networks that were trained on it
        variant: whose networks judge: stage3, stage23, stage13, stage123, stage123-scratch, or stage1 (lesion masks);
            empty: the variant that has most of them
        attributes: whose masks are ranked, with commas; empty: all that have networks
        folds: only the test images of these folds, with commas; empty: of all that are there
        where: FIELD=VALUE,... of the networks' run.json, such as epochs=40,start=tatl; needed if `runs` holds several
        curvature: take the Hessian norm of every case's loss too, which takes seconds each; what is solved is kept
        tolerance: relative residual at which a norm is found; ranks need no more than the default
        max_products: Hessian-vector products at most per case and network
        shown: how many of the most suspect are kept as pictures for the page
        tables: folder for suspects.csv; default reports/<store>/tables
        device: auto, cpu or cuda
        workers: processes that share the curvature; 0: one a core, or a GPU
    """
    from analysis.measure.suspects.scores import find_judges, juries, suspects
    from tatl.data.store import Store
    from tatl.studies.conduct import report_of

    started, opened = time.monotonic(), Store.open(store)
    chosen = find_judges(runs, opened, variant, attributes, folds, where)
    made = juries(chosen, runs, opened)
    notes = _notes(made, opened)
    print(*(f"note: {note}" for note in notes), sep="\n", end="\n" * bool(notes))
    table = suspects(made, _curvatures(chosen, runs, tolerance, max_products, device, workers) if curvature else None)
    folder = tables or Path("reports") / opened.name / "tables"
    _write(folder, table, max(0, shown), made)
    about = _about(chosen, opened) | {"notes": notes, "seconds": round(time.monotonic() - started, 1)}
    write_atomically(folder / "suspects.json", json.dumps(about, indent=1) + "\n")  # last: what both were made from
    print(_text(table), f"tables are in {folder}: suspects.csv", f"next: {report_of('suspects', folder)}", sep="\n")


def _curvatures(
    chosen: Sequence[Run], runs: Path, tolerance: float, max_products: int, device: str, workers: int
) -> Any:
    from analysis.curvature.norms import Options
    from analysis.measure.solve import Curvatures
    from tatl.studies.execution.crew import Crew

    options, folder = Options(tolerance, max_products), runs / chosen[0].store / "curvature"
    return Curvatures(options, folder, Crew.of(device, workers))


def _notes(juries: Sequence[Jury], store: Store) -> list[str]:
    """Which cases are judged, where that is not all of them, and by whom."""
    notes, first = [], juries[0].runs[0]
    for name in dict.fromkeys(jury.attribute for jury in juries):
        mine = [jury for jury in juries if jury.attribute == name]
        judged, known = sum(len(jury.cases) for jury in mine), int(store.known(name).sum())
        folds = ", ".join(str(jury.fold) for jury in mine)
        if judged < known:
            what = f"{name}: {judged} of {known} masks are ranked, the test images of fold {folds} of {first.n_folds}"
            notes.append(f"{what}; the networks have seen the others, and trained further folds judge them")
    return notes


def _write(folder: Path, table: DataFrame, shown: int, juries: Sequence[Jury]) -> None:
    """suspects.csv, and in suspects.npz of the first so many rows what is shown, in the store's frame: image uint8
    [n, H, W, 3], the given mask and what was found bool [n, H, W]."""
    import numpy as np
    import torch

    from tatl.data.crop import resample
    from tatl.data.store import write_csv

    folder.mkdir(parents=True, exist_ok=True)
    write_csv(table, folder / "suspects.csv")
    table = table.head(shown)
    store = juries[0].store
    shape = (len(table), *store.size)
    image, given, found = np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool), np.zeros(shape, bool)
    ids = store.cases["id"].astype(str).to_numpy()
    for jury in juries:
        rows = np.flatnonzero((table["attribute"] == jury.attribute) & (table["fold"] == jury.fold))
        some = [int(np.flatnonzero(ids[jury.cases] == table["case"].iloc[row])[0]) for row in rows]
        if some:
            image[rows] = store.images[jury.cases[some]]
            given[rows] = store.mask(jury.attribute, jury.cases[some])
            maps = torch.from_numpy(jury.probabilities(np.array(some)))[:, None]
            found[rows] = resample(maps, store.size)[:, 0].numpy() >= 0.5
    np.savez_compressed(folder / "suspects.npz", image=image, given=given, found=found)


def _about(runs: Sequence[Run], store: Store) -> dict[str, Any]:
    """What the table was made from."""
    from tatl.prediction.select import variant_of
    from tatl.studies.write import made_by, of_store

    first, every = runs[0], {name: sorted({getattr(run, name) for run in runs}) for name in ("fold", "seed", "shape")}
    return {
        "study": "suspects",
        "variant": variant_of(first),
        **of_store(store),
        "source": first.source,
        "shapes": every["shape"],
        "backbone": first.backbone,
        "seeds": every["seed"],
        "folds": every["fold"],
        "n_folds": first.n_folds,
        "attributes": list(dict.fromkeys(run.task for run in runs)),
        "offset": first.offset,
        "epochs": first.recipe.epochs,
        **made_by(),
    }


def _text(table: DataFrame) -> str:
    """The first rows in a terminal."""
    first = table.head(_PRINTED).drop(columns=["group", "networks"]).set_index("rank").reset_index()
    return f"The most suspect of {len(table)} masks:\n{first.to_string(index=False, float_format='{:.3f}'.format)}"

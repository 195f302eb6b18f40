"""How long the tables of a study take, whose runs are made up here: nothing is trained.

    python benchmarks/tables.py                          250 targets of two shapes, minutes
    python benchmarks/tables.py --folds 1 --size 96x128  fifty, in seconds

Every run has maps of probabilities (noise), scores and a history of its own, on a phantom (not skin); scores are taken
at another size than the store's, as in the paper preset.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from tatl import cli
from tatl.data.case import Size
from tatl.data.folds import split
from tatl.data.phantom.drawing import Phantom
from tatl.data.store import Store, prepare
from tatl.run import Run, in_order
from tatl.studies.planner import Member, Planner
from tatl.studies.settings import Settings
from tatl.studies.write import write_tables
from tatl.training.metrics import confusion, score_table

VARIANTS = ["stage3", "stage23", "stage13", "stage123", "stage123-scratch"]


def pretend(run: Run, folder: Path, store: Store) -> None:
    """What a finished run leaves of which tables are made."""
    folder.mkdir(parents=True)
    test = split(store, run.fold, run.n_folds, run.split_seed).test
    rng = np.random.default_rng(run.fold)
    maps = np.kron(rng.integers(0, 256, (len(test), 16, 16), np.uint8), np.ones((1, 16, 16), np.uint8))
    np.savez_compressed(folder / "probabilities.npz", probabilities=maps)
    areas = confusion(maps >= 128, np.zeros(maps.shape, bool))
    score_table(store.cases["id"].to_numpy()[test], run.task, areas).to_csv(folder / "scores.csv", index=False)
    steps = pd.DataFrame([{"epoch": e, "step": 10 * e, "split": "validation", "loss": 1 / (e + 1)} for e in range(40)])
    steps.assign(lr=0.1).to_csv(folder / "history.csv", index=False)


def main(folds: int = 5, cases: int = 300, size: str = "384x512") -> None:
    """Seconds of writing the tables of a study.

    Args:
        folds: of five
        cases: images of the phantom
        size: of the store; scores are taken at 256x256
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = prepare(Phantom(cases), root / "store", Size.parse(size), progress=False)
        numbers = ",".join(map(str, range(folds)))
        settings = Settings(shapes="u,link", folds=numbers, source="random", score_size="256x256")
        members: list[Member] = Planner(settings, store).members(VARIANTS)
        runs = in_order(member.run for member in members)
        for run in runs:
            pretend(run, run.folder(root / "runs"), store)
        started = time.perf_counter()
        write_tables("paradigms", members, root / "runs", store, root / "tables", {"notes": []})
        print(f"{len(members)} targets ({len(runs)} runs), {len(store)} images of {size}: "
              f"{time.perf_counter() - started:.1f} s")  # fmt: skip


if __name__ == "__main__":
    sys.exit(cli.script(main))

"""What a cluster costs beside training, and what it takes to train Table 8.

python benchmarks/cluster.py                 nodes of one core on this machine, two of them; some ten minutes
python benchmarks/cluster.py --ray false     the last two parts alone, which need no Ray

efficiency   the same small runs on one node and on two, each of one core, in processes that were started before:
             half the time would be 1
overhead     a thousand runs that only sleep and write, with what they need, eight at once: what the schedule takes
             for each beside the sleep, and how much larger the process becomes; and to find as many folders
Table 8      `study backbones --preset paper` on the 2594 images of ISIC 2018 at 384x512: networks, operations of
             the forward passes of training (counted, nothing is timed) and bytes
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tatl import cli
from tatl.data.case import Size
from tatl.data.phantom.drawing import Phantom
from tatl.data.prepare.partial import STORE_FILES, STORE_VERSION
from tatl.data.store import Store, prepare
from tatl.names import SKIN_ATTRIBUTES
from tatl.run import Recipe, Run, find_runs, in_order, write_atomically
from tatl.studies.catalogue import STUDIES
from tatl.studies.execution import on_ray
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.piece import Outcome, Pending, Piece, pieces_of
from tatl.studies.execution.schedule import execute, outcomes
from tatl.studies.planner import Planner
from tatl.studies.runtime.effort import plan, work
from tatl.studies.settings import Asked, Cluster, Settings, load_preset
from tatl.training.trainer import save_weights

HEAD = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}  # what no task needs
PLACES = 8
SLEEP = 0.02


class Asleep:
    """An executor whose runs sleep, and write what makes a run a finished one."""

    patient = False

    def __init__(self, root: Path) -> None:
        self.root, self.threads, self.flying = root, ThreadPoolExecutor(PLACES), 0

    def look(self) -> None:
        pass

    def free(self, alone: bool = False) -> int:
        return PLACES - self.flying

    def submit(self, piece: Piece, alone: bool = False) -> Pending:
        self.flying += 1
        return self.threads.submit(self._train, piece)

    def collect(self, piece: Piece, done: Future[list[Outcome]]) -> list[Outcome]:
        self.flying -= 1
        return done.result()

    def end(self) -> None:
        self.threads.shutdown()

    def _train(self, piece: Piece) -> list[Outcome]:
        for run in piece:
            time.sleep(SLEEP)
            folder = run.folder(self.root)
            folder.mkdir(parents=True)
            write_atomically(folder / "run.json", run.dumps())
            save_weights({"weight": torch.zeros(1)}, folder / "weights.safetensors")
        return [SLEEP] * len(piece)


def family(store: str, digest: str, size: str, seeds: int, targets: Sequence[str], **values: object) -> list[Run]:
    """Of every seed a Stage 2 and what starts from it."""
    first = Run(store, digest, size, "union", start="random", source="random", n_folds=3)
    unions = [replace(first, seed=seed, **values) for seed in range(seeds)]
    return in_order(replace(union, task=name, start="tatl", parent=union) for union in unions for name in targets)


def overhead(count: int, root: Path) -> None:
    """Print what a schedule of so many runs takes beside them."""
    targets = [f"a{number}" for number in range(7)]
    runs, level = family("drawn", "0", "32x64", max(1, count // 8), targets), _peak()
    started = time.perf_counter()
    found = dict(outcomes(pieces_of(runs), Asleep(root)))
    beside = time.perf_counter() - started - len(runs) * SLEEP / PLACES
    print(f"{len(found)} runs: {1000 * beside / len(runs):.1f} ms a run beside the sleep, ", end="")
    print(f"{_peak() - level:.0f} MB more at the end")
    started = time.perf_counter()
    print(f"{len(list(find_runs(root)))} folders are found in {time.perf_counter() - started:.2f} s")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


@contextmanager
def connected(nodes: int) -> Iterator[None]:
    """Inside, this process is the driver of a cluster of so many nodes of one core."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    made = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, **HEAD})
    try:
        for _ in range(nodes):
            made.add_node(num_cpus=1)
        ray.init(address=made.address, log_to_driver=False)
        yield
    finally:
        ray.shutdown()
        made.shutdown()


def efficiency(runs: int, epochs: int, root: Path) -> None:
    """Print the seconds of so many runs on one node and on two, each after a few that are not counted.

    No process is recycled meanwhile: start-ups are on neither side.
    """
    on_ray.RECYCLED = 0
    store = prepare(Phantom(30, 0, enrich=True), root / "drawn", Size(32, 64), workers=1, progress=False)
    machine, seconds = Machine("cpu", progress=False, cluster=Cluster("ray")), list[float]()
    small = {"shape": "link", "backbone": "tu-test_efficientnet", "recipe": Recipe(epochs=epochs, batch=4)}
    first = replace(Run(store.name, store.digest, str(store.size), "union", start="random", source="random"), **small)
    for nodes in (1, 2):
        with connected(nodes):
            place = root / f"on{nodes}"
            execute([replace(first, seed=1000 + seed) for seed in range(2 * nodes)], place, store, machine)
            started = time.perf_counter()
            assert not execute([replace(first, seed=seed) for seed in range(runs)], place, store, machine)
            seconds.append(time.perf_counter() - started)
    one, two = seconds
    print(f"{runs} runs: {one:.1f} s on one node, {two:.1f} s on two: {one / two / 2:.2f} of ideal")


def hollow(path: Path, cases: int, size: Size) -> Store:
    """A store of ISIC 2018's form with nothing in it; its files take no room on disks that know holes."""
    path.mkdir()
    np.lib.format.open_memmap(path / "images.npy", "w+", np.uint8, (cases, *size, 3))
    np.lib.format.open_memmap(path / "masks.npy", "w+", np.uint16, (cases, *size))
    names = [f"ISIC_{number:07d}" for number in range(cases)]
    masks = dict.fromkeys(("lesion", *SKIN_ATTRIBUTES), "present")
    table = pd.DataFrame({"id": names, "group": names, "height": size.height, "width": size.width, **masks})
    table.to_csv(path / "cases.csv", index=False)
    described = {
        "version": STORE_VERSION,
        "size": str(size),
        "attributes": SKIN_ATTRIBUTES,
        "source": {"data": "hollow"},
    }
    described |= {"skipped": [], "cases": cases, "sha256": dict.fromkeys(STORE_FILES, "0")}
    write_atomically(path / "store.json", json.dumps(described))
    return Store.open(path)


def table8(root: Path) -> None:
    """Print what the backbones take."""
    store, preset = hollow(root / "isic2018", 2594, Size(384, 512)), load_preset("paper", "backbones")
    planner = Planner(Settings(**preset.settings), store, None, "cpu")
    runs = in_order(member.run for member in STUDIES["backbones"].members(planner, Asked(**preset.options)))
    for backbone in dict.fromkeys(run.backbone for run in runs):
        own = [run for run in runs if run.backbone == backbone]
        operations, room = sum(work(run, store) for run in own), plan(own, root, store, "cpu").bytes
        print(f"{backbone:18} {len(own)} networks, {operations / 1e18:.2f}e18 operations, {room / 1e9:.0f} GB")


def main(runs: int = 30, epochs: int = 12, simulated: int = 1000, ray: bool = True) -> None:
    """What a cluster costs beside training, and what it takes to train Table 8.

    Args:
        runs: of which the efficiency is taken
        epochs: of each of these
        simulated: runs that only sleep and write
        ray: measure the efficiency too
    """
    with tempfile.TemporaryDirectory() as scratch:
        if ray:
            efficiency(runs, epochs, Path(scratch))
        overhead(simulated, Path(scratch) / "asleep")
        table8(Path(scratch))


if __name__ == "__main__":
    sys.exit(cli.script(main))

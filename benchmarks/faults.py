"""Does a study outlive its machines?  Random faults on a simulated Ray cluster, and what was lost by them.

    python benchmarks/faults.py                     50 faults on three nodes of one core, some twenty minutes
    python benchmarks/faults.py --fetch --seed 1    the same where nodes and driver share no disk

Two drivers share the training of small runs, the targets of a seed from the same seed's Stage 2.  Every few seconds,
while something trains, one of these happens:
    node     a node is removed at once, and another comes
    worker   a process that trains is killed with -9
    driver   a driver is killed with -9, and started again with the same command
    store    a node joins that reads the store with another digest, and goes with the next fault (not with --fetch)
Printed at the end: faults of each kind, drivers started, how many of them ended at once as they found a node with
another store, failures that drivers reported, processes seen to train on such a node, runs that never came about,
finished runs whose weights were written again, and runs whose weights differ in any bit from those of this machine
alone: from the failures on all are to be 0.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tatl import cli
from tatl.data.case import Size
from tatl.data.phantom.drawing import Phantom
from tatl.data.store import Store, prepare
from tatl.run import Recipe, Run, finished, in_order
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.schedule import execute
from tatl.studies.settings import Cluster

HEAD = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}  # what no task needs
GAP = (2.0, 8.0)  # seconds between two faults
LOOK = 0.2  # seconds between two looks at what is written
PATIENCE = 1800.0  # seconds after the last fault in which what is left is to come about
TARGETS = 3  # of every seed
KILLED, REFUSED = -9, 2  # statuses of drivers
OTHER_STORE = """
import sys
from importlib.machinery import PathFinder


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "tatl.data.store":
            return None
        spec = PathFinder.find_spec(name, path)
        fill = spec.loader.exec_module

        def fill_and_change(module):
            fill(module)
            made = module.Store.__init__

            def init(self, *given, **named):
                made(self, *given, **named)
                self.digest = "another"

            module.Store.__init__ = init

        spec.loader.exec_module = fill_and_change
        return spec


sys.meta_path.insert(0, Finder)
"""


def runs_of(store: Store, seeds: Sequence[int], epochs: int) -> list[Run]:
    """Of every seed a Stage 2 and the targets that start from it."""
    shared: dict[str, Any] = {"shape": "link", "backbone": "tu-test_efficientnet", "source": "random", "n_folds": 3}
    shared["recipe"] = Recipe(epochs=epochs, batch=4, calibration=8)
    place = store.name, store.digest, str(store.size)
    unions = [Run(*place, "union", start="random", seed=seed, **shared) for seed in seeds]
    return in_order(
        Run(*place, target, start="tatl", parent=union, seed=union.seed, **shared)
        for union in unions
        for target in store.attributes[:TARGETS]
    )


class Campaign:
    """A cluster, drivers on it, and what was done to them; the module in `other`, if any, changes a node's store."""

    def __init__(
        self, nodes: int, drivers: int, seed: int, command: Sequence[str], runs: Sequence[Run], root: Path,
        other: Path | None,
    ) -> None:  # fmt: skip
        from ray.cluster_utils import Cluster as Nodes

        self.draw, self.command, self.runs, self.root = random.Random(seed), list(command), runs, root
        self.cluster = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, **HEAD})
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(nodes)]
        self.other, self.odd = other, list[Any]()
        self.done, self.started, self.written = Counter[str](), 0, defaultdict[Run, set[int]](set)
        self.over, self.watcher = threading.Event(), threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()
        self.refused, self.failures, self.astray = 0, list[int](), set[int]()
        self.drivers = [self._drive() for _ in range(drivers)]

    def carry_out(self, faults: int) -> None:
        """So many faults, the last of them while something is left to do; then wait until the driver has done it."""
        while self._unfinished() and self.done.total() < faults:
            time.sleep(self.draw.uniform(*GAP))
            self._awake()
            if not (training := self._training()):
                continue
            kind = self.draw.choice(("node", "worker", "driver", *(["store"] if self.other else [])))
            self._hit(kind, training)
            self.done[kind] += 1
            print(f"{self.done.total()}: {kind}, {len(self._unfinished())} of {len(self.runs)} left", flush=True)
        self._leave()
        until = time.monotonic() + PATIENCE
        while self._unfinished() and self.started <= 5 * faults + 5 and time.monotonic() < until:
            self._awake()
            self._training()
            time.sleep(1)
        for driver in self.drivers:
            with suppress(subprocess.TimeoutExpired):
                self._ended(driver.wait(120))
            driver.kill()
        self.cluster.shutdown()
        self.over.set()
        self.watcher.join()
        self._look()

    def _drive(self) -> subprocess.Popen[bytes]:
        self.started += 1
        return subprocess.Popen([*self.command, "--drive", self.cluster.address])

    def _awake(self) -> None:
        """Start those drivers again that have ended."""
        for number, driver in enumerate(self.drivers):
            if driver.poll() is not None:
                self._ended(driver.returncode)
                self.drivers[number] = self._drive()

    def _ended(self, status: int) -> None:
        """Count a driver that reported a failure, or broke."""
        if status == REFUSED and self.odd:
            self.refused += 1
        elif status not in (0, KILLED):
            self.failures.append(status)

    def _leave(self) -> None:
        """The nodes with another store go."""
        while self.odd:
            self.cluster.remove_node(self.odd.pop(), allow_graceful=False)

    def _unfinished(self) -> list[Run]:
        """The runs that are not there."""
        return [run for run in self.runs if not finished(run, self.root)]

    def _watch(self) -> None:
        while not self.over.wait(LOOK):
            self._look()

    def _look(self) -> None:
        """Note when the weights of finished runs were written."""
        for run in self.runs:
            if finished(run, self.root):
                self.written[run].add(stamp(run, self.root))

    def _training(self) -> list[psutil.Process]:
        """The processes that train now."""
        found = [each for each in psutil.Process().children(recursive=True) if "ray::train" in " ".join(_words(each))]
        odd = {process.process.pid for node in self.odd for process in node.all_processes["raylet"]}
        self.astray |= {each.pid for each in found if odd & {parent.pid for parent in _parents(each)}}
        return found

    def _hit(self, kind: str, training: Sequence[psutil.Process]) -> None:
        self._leave()
        if kind == "worker":
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                self.draw.choice(training).kill()
        elif kind == "node":
            self.cluster.remove_node(self.nodes.pop(self.draw.randrange(len(self.nodes))), allow_graceful=False)
            self.nodes.append(self.cluster.add_node(num_cpus=1))
        elif kind == "store":
            place = os.pathsep.join([str(self.other), os.environ.get("PYTHONPATH", "")])
            self.odd.append(self.cluster.add_node(num_cpus=4, env_vars={"PYTHONPATH": place}))
        else:
            driver = self.draw.choice(self.drivers)
            driver.kill()
            driver.wait()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _parents(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.parents()
    except psutil.Error:
        return []


def stamp(run: Run, root: Path) -> int:
    """When the weights of a finished run were written."""
    return (run.folder(root) / "weights.safetensors").stat().st_mtime_ns


def different(runs: Sequence[Run], root: Path, store: Store, alone: Path) -> list[Run]:
    """The finished runs whose weights are not, to the bit, those of this machine, of one thread as on the nodes."""
    execute(runs, alone, store, Machine("cpu", progress=False, workers=2))
    files = [[run.folder(each) / "weights.safetensors" for each in (root, alone)] for run in runs]
    return [run for run, (one, other) in zip(runs, files, strict=True) if one.read_bytes() != other.read_bytes()]


def main(
    faults: int = 50,
    nodes: int = 3,
    drivers: int = 2,
    seeds: int = 40,
    epochs: int = 12,
    fetch: bool = False,
    seed: int = 0,
    folder: Path | None = None,
    drive: str = "",
) -> None:
    """Random faults on a simulated cluster.

    Args:
        faults: how many, at most: none comes once all runs are there
        nodes: of one core each
        drivers: at once, of the same runs
        seeds: of which runs are trained, four of each
        epochs: of a run
        fetch: nodes and driver share no disk
        seed: draws the faults
        folder: for store and runs; else a temporary one
        drive: for the driver itself: the address of the cluster
    """
    with tempfile.TemporaryDirectory() as scratch:
        place = folder or Path(scratch)
        store = prepare(Phantom(30, 0, enrich=True), place / "drawn", Size(32, 64), workers=1, progress=False)
        runs, root = runs_of(store, range(seeds), epochs), place / "runs"
        if drive:
            machine = Machine("cpu", progress=False, cluster=Cluster(drive, fetch=fetch))
            failed = execute(runs, root, store, machine, keep_going=True)
            for failure in failed:
                print(f"FAILED: {failure.run.title()}: {failure.reason}", flush=True)
            raise SystemExit(bool(failed))
        told = {"--seeds": seeds, "--epochs": epochs, "--folder": place, "--fetch": str(fetch).lower()}
        words = [str(word) for option in told.items() for word in option]
        (place / "other").mkdir(exist_ok=True)
        (place / "other/sitecustomize.py").write_text(OTHER_STORE, encoding="utf-8")
        other = None if fetch else place / "other"
        campaign = Campaign(nodes, drivers, seed, [sys.executable, __file__, *words], runs, root, other)
        campaign.carry_out(faults)
        lost = [run for run in runs if not finished(run, root)]
        there = [run for run in runs if run not in lost]
        again = [run for run, stamps in campaign.written.items() if len(stamps) > 1]
        print(f"{campaign.done.total()} faults ({dict(campaign.done)}), {campaign.started} drivers, {len(runs)} runs")
        print(f"refused {campaign.refused}, failures reported {len(campaign.failures)}, ", end="")
        print(f"trained with another store {len(campaign.astray)}, ", end="")
        print(f"lost {len(lost)}, written again {len(again)}, ", end="")
        print(f"different {len(different(there, root, store, place / 'alone'))}")


if __name__ == "__main__":
    sys.exit(cli.script(main))

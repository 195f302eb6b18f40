"""Pieces trained on a Ray cluster: this machine's own, one at an address, or that of the job in which this runs.

Runs and store lie where every node sees them.  Any machine may vanish: its runs begin again elsewhere, from their last
checkpoints.  A run whose process is lost is tried once more with twice the share of a machine, then recorded; and where
the driver is lost, what its tasks were at ends with it and the same command goes on.
"""

from __future__ import annotations

import os
import platform
import socket
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from tatl.data.store import Store
from tatl.machine.version import versions
from tatl.studies.execution.executors import Pending
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.piece import Lost, Outcome, Piece, Trainer, Vanished

AHEAD = 2  # pieces in flight for each place, so that none waits for the driver
RECYCLED = 20  # runs after which a process ends and a fresh one comes
HERE = "ray"  # --on: this machine, or the cluster of the job in which this runs (RAY_ADDRESS)


def train(trainer: Trainer, piece: Piece) -> list[Outcome]:
    """What a task does."""
    return trainer(piece)


def probe(seen: Path, store: Path) -> dict[str, str]:
    """What a node is and sees: versions, whether a file of the folder of runs is there, and the store's digest."""
    found = {"Python": platform.python_version()} | versions() | {"runs": "seen" if seen.is_file() else "not seen"}
    try:
        found["store"] = Store.open(store).digest
    except (OSError, ValueError) as error:
        found["store"] = str(error)
    return {"name": socket.gethostname()} | found


class OnRay:
    """Tasks of a cluster; ValueError where it cannot train these runs."""

    def __init__(self, root: Path, store: Store, machine: Machine, told: Path | None = None) -> None:
        self.ray = connect(machine.on)
        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        self.share = {"CPU": 1.0, "GPU": machine.gpus_per_run if any(_has(node, "GPU") for node in nodes) else 0.0}
        self.most = {kind: max(_has(node, kind) for node in nodes) for kind in self.share}
        for kind, asked in self.share.items():
            if asked > self.most[kind]:
                what = f"a run is to have {asked:g} {kind}s and no node of the cluster has more than"
                raise ValueError(f"{what} {self.most[kind]:g}: give fewer --gpus-per-run")
        store = Store.open(store.path.absolute())
        root.mkdir(parents=True, exist_ok=True)
        self._check(nodes, root.absolute(), store)
        self.trainer = self.ray.put(
            Trainer(root.absolute(), store, replace(machine, on=""), threads=1, told=told, elsewhere=True)
        )
        self.task = self.ray.remote(max_retries=0, max_calls=RECYCLED)(train)
        self._taken = dict[Pending, Any]()

    def free(self) -> int:
        there = self.ray.cluster_resources()
        places = min(there.get(kind, 0) // asked for kind, asked in self.share.items() if asked)
        return max(0, AHEAD * int(places) - len(self._taken))

    def submit(self, piece: Piece, alone: bool = False) -> Pending:
        times = 2 if alone else 1
        room = {kind: min(times * asked, self.most[kind]) for kind, asked in self.share.items()}
        task = self.task.options(num_cpus=room["CPU"], num_gpus=room["GPU"]).remote(self.trainer, piece)
        pending: Pending = task.future()
        self._taken[pending] = task
        return pending

    def collect(self, piece: Piece, done: Pending) -> list[Outcome]:
        del self._taken[done]
        error = done.exception()
        return [self._lost(error)] * len(piece) if error else done.result()

    def _lost(self, error: BaseException) -> BaseException:
        """What an error of Ray's own is for its runs; of the program it is what it is."""
        known = self.ray.exceptions
        if isinstance(error, known.RayTaskError) or not isinstance(error, known.RayError):
            return error
        if isinstance(error, known.NodeDiedError | known.ObjectLostError):
            return Vanished(f"its machine went away ({_sentence(error)})")
        remedy = "give the same command again where more is free, or with a smaller --batch"
        return Lost(f"its process on the cluster was lost ({_sentence(error)}): {remedy}")

    def end(self) -> None:
        for task in self._taken.values():
            self.ray.cancel(task, force=True)

    def _check(self, nodes: list[dict[str, Any]], root: Path, store: Store) -> None:
        """ValueError names the nodes that have other versions, or see neither these runs nor this store."""
        token = root / f".seen-{uuid.uuid4().hex}"
        token.touch()
        try:
            here = probe(token, store.path)
            asked = [self._on(node).remote(token, store.path) for node in nodes]
            odd = [words for task in asked if (words := self._odd(task, here))]
        finally:
            token.unlink()
        if odd:
            raise ValueError(f"{'; '.join(odd)}: give all nodes one environment, and runs and store on a shared disk")

    def _odd(self, task: Any, here: dict[str, str]) -> str:
        """What differs there; empty where the node went away while it was asked."""
        try:
            return _differing(self.ray.get(task), here)
        except self.ray.exceptions.RayTaskError:
            raise
        except self.ray.exceptions.RayError:
            return ""

    def _on(self, node: dict[str, Any]) -> Any:
        """`probe` as a task of that node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        return self.ray.remote(probe).options(num_cpus=0, max_retries=0, scheduling_strategy=there)


def connect(on: str) -> Any:
    """The module ray, connected; ValueError where it is not installed or does not answer."""
    try:
        import ray
    except ImportError as error:
        raise ValueError("--on needs Ray, which is not installed: pip install 'tatl[cluster]'") from error
    if ray.is_initialized():
        return ray
    try:  # without an address: that of RAY_ADDRESS, or of what runs on this machine, or a cluster of its own
        ray.init(None if on == HERE else on, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        what = f"no Ray cluster answers at {os.environ.get('RAY_ADDRESS', 'this machine') if on == HERE else on}"
        raise ValueError(f"{what} ({_sentence(error)}): look at `ray status` there, or give --on ray") from error
    return ray


def _has(node: dict[str, Any], kind: str) -> float:
    return float(node["Resources"].get(kind, 0.0))


def _differing(found: dict[str, str], here: dict[str, str]) -> str:
    """node b has torch 2.11 (here 2.15); empty where all is as here."""
    odd = [f"{key} {found[key]} (here {here[key]})" for key in here if key != "name" and found[key] != here[key]]
    return f"node {found['name']} has {', '.join(odd)}" if odd else ""


def _sentence(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

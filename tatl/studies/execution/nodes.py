"""The nodes of a Ray cluster: reaching them, what each of them is and sees, and which are refused.

Nodes need one environment; and where they share a disk, the folder of runs and the store at the same paths.
"""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import uuid
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tatl.cli import sentence
from tatl.data.store import Store
from tatl.machine.version import HERE, versions

THIS = "ray"  # --on: the cluster of the job in which this runs (RAY_ADDRESS), one on this machine, or a new one here
PATIENCE = 5.0  # seconds in which an address answers


class Disk(NamedTuple):
    """What every node is to see, at these paths: a file among the runs, if any, and a store."""

    runs: Path | None
    store: Path


def connect(on: str) -> Any:
    """The module ray, connected; ValueError where it is not installed, or the address does not answer."""
    try:
        import ray
    except ImportError as error:
        raise ValueError("--on needs Ray, which is not installed: pip install 'tatl[cluster]'") from error
    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS", "") if on == THIS else on
    try:
        _knock(address)
        quiet: dict[str, Any] = {} if address.startswith("ray://") else {"include_dashboard": False}
        ray.init(address or None, log_to_driver=False, logging_level="ERROR", **quiet)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        what = f"the Ray cluster at {address or 'this machine'} cannot be used ({' '.join(str(error).split())})"
        raise ValueError(f"{what}: look at `ray status` there, or give --on ray for this machine alone") from error
    return ray


def _knock(address: str) -> None:
    """OSError unless something answers at HOST:PORT within seconds; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()


def alive(ray: Any) -> list[dict[str, Any]]:
    """The nodes that are there, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def has(node: dict[str, Any], kind: str) -> float:
    """How much of a resource (CPU, GPU, memory in bytes) a node has."""
    return float(node["Resources"].get(kind, 0.0))


def check_nodes(ray: Any, shared: Disk | None) -> None:
    """ValueError names the nodes with other versions than here, and those that do not see what is to be `shared`.

    A node that goes away while it is asked is left out.
    """
    token = shared.runs / f".seen-{uuid.uuid4().hex}" if shared and shared.runs else None
    asked_of = shared and shared._replace(runs=token)
    try:
        if token:
            token.touch()
        here, nodes = probe(asked_of), alive(ray)
        asked = [(node["NodeManagerHostname"], _asked(ray, node, asked_of)) for node in nodes]
        odd = [words for name, task in asked if (words := _odd(ray, name, task, here))]
    finally:
        if token:
            token.unlink(missing_ok=True)
    if odd:
        disk = "" if shared is None else ", and runs and store on a shared disk (or --fetch)"
        raise ValueError(f"{'; '.join(odd)}: give all nodes one environment{disk}")


def probe(shared: Disk | None) -> dict[str, str]:
    """What this node is (versions, and a digest of this package) and sees of what is to be shared."""
    found = {"Python": platform.python_version()} | versions() | {"code of tatl": code()}
    if shared is None:
        return found
    try:
        digest = Store.open(shared.store).digest
    except (OSError, ValueError) as error:
        digest = f"unreadable ({sentence(error)})"
    runs = {"runs": "seen" if shared.runs.is_file() else "unseen"} if shared.runs else {}
    return found | runs | {"store": digest}


@cache
def code() -> str:
    """A digest of the source of this package and of `analysis` beside it, whether or not it lies in a checkout."""
    seen, place = hashlib.sha256(), HERE.parent
    for path in sorted([*HERE.rglob("*.py"), *(place / "analysis").rglob("*.py")]):
        seen.update(path.relative_to(place).as_posix().encode() + path.read_bytes())
    return seen.hexdigest()[:12]


def _asked(ray: Any, node: dict[str, Any], shared: Disk | None) -> Any:
    """`probe` as a task of that node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(probe).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(shared)


def _odd(ray: Any, name: str, task: Any, here: dict[str, str]) -> str:
    """What differs there; empty where nothing does, and where the node went away."""
    try:
        return differing(name, ray.get(task), here)
    except ray.exceptions.RayTaskError as error:
        return f"node {name} cannot run this package ({first_line(error.cause)})"
    except ray.exceptions.RayError:
        return ""


def differing(name: str, found: dict[str, str], here: dict[str, str]) -> str:
    """node b has torch 2.11 (here 2.15); empty where all is as here."""
    odd = [f"{key} {found.get(key, 'none')} (here {here[key]})" for key in here if found.get(key) != here[key]]
    return f"node {name} has {', '.join(odd)}" if odd else ""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

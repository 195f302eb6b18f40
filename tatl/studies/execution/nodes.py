"""The nodes of a Ray cluster: reaching them, what each of them is and sees, and which are refused.

Nodes need one environment; and where they share a disk, the folder of runs and the store at the same paths.
"""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from tatl.cli import sentence
from tatl.data.store import Store
from tatl.machine.version import HERE, versions
from tatl.studies.execution.piece import Lost, Vanished

THIS = "ray"  # --on: the cluster of the job in which this runs (RAY_ADDRESS), one on this machine, or a new one here
NEW = "local"  # what Ray calls that last one
PATIENCE = 5.0  # seconds in which an address answers
STRIKES = 3  # pieces lost in a row that say that the node is at fault, where other nodes make theirs


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
    address = on if on != THIS else os.environ.get("RAY_ADDRESS") or _running()
    try:
        _knock(address)
        quiet: dict[str, Any] = {} if address.startswith("ray://") else {"include_dashboard": False}
        ray.init(address, log_to_driver=False, logging_level="ERROR", **quiet)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        place = "this machine" if address == NEW else address
        what = f"the Ray cluster at {place} cannot be used ({' '.join(str(error).split())})"
        remedy = "look at `ray status` there, or give --on ray for this machine alone"
        remedy = "pip install 'ray[client]'" if "ray[client]" in str(error) else remedy
        raise ValueError(f"{what}: {remedy}") from error
    return ray


def _running() -> str:
    """The address of the cluster that Ray noted last on this machine, where it answers; else `NEW`."""
    place = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        address = Path(place, "ray/ray_current_cluster").read_text(encoding="utf-8").strip()
        _knock(address)
    except OSError:
        return NEW
    tqdm.write(f"--on {THIS}: the Ray cluster at {address}, which runs on this machine", file=sys.stderr)
    return address


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


@dataclass(eq=False)
class Node:
    """A node that may be used: what it has and what of it is left (CPU, GPU, memory in bytes)."""

    number: str
    name: str
    has: dict[str, float]
    left: dict[str, float]
    strikes: int | None = None  # pieces that were lost there in a row; None before one has ended

    def fits(self, share: dict[str, float]) -> int:
        """How many such shares there is room for."""
        return max(0, int(_times(share, self.left) + 1e-6))

    def has_of(self, share: dict[str, float]) -> float:
        """What part of such a share it has where nothing else is there, up to all."""
        return min(1.0, _times(share, self.has))

    def take(self, share: dict[str, float]) -> dict[str, float]:
        """A share of it, as far as it has one; where not enough is left, who takes it waits there until there is."""
        taken = {kind: min(asked, self.has.get(kind, 0.0)) for kind, asked in share.items()}
        self.give({kind: -asked for kind, asked in taken.items()})
        return taken

    def give(self, share: dict[str, float]) -> None:
        """Give back what was taken."""
        for kind, asked in share.items():
            self.left[kind] = self.left.get(kind, 0.0) + asked


def _times(share: dict[str, float], room: dict[str, float]) -> float:
    return min(room.get(kind, 0.0) / asked for kind, asked in share.items() if asked)


class Roster:
    """The nodes that are what this one is, and see what is to be `shared`; each is asked once, those that join too.

    ValueError names those that are not, at the start; one that joins later is left out, and so is one on which STRIKES
    pieces in a row were lost while others make theirs.
    """

    def __init__(self, ray: Any, shared: Disk | None) -> None:
        self.ray, self.shared, self.here = ray, shared, probe(shared)
        self.nodes, self.out, self._asked = dict[str, Node](), dict[str, str](), dict[str, Any]()
        self.look(None)
        if self.out:
            disk = "" if shared is None else ", and runs and store on a shared disk (or --fetch)"
            raise ValueError(f"{'; '.join(self.out.values())}: give all nodes one environment{disk}")

    def look(self, timeout: float | None = 0.0) -> None:
        """Forget nodes that are gone, ask those that are new, and take in those that have answered as this one does."""
        there = {node["NodeID"]: node for node in alive(self.ray)}
        self.nodes = {number: node for number, node in self.nodes.items() if number in there}
        for number in [number for number in there if number not in {**self.nodes, **self.out, **self._asked}]:
            self._asked[number] = _asked(self.ray, number, self.shared)
        tasks = list(self._asked.values())
        ready = self.ray.wait(tasks, num_returns=len(tasks), timeout=timeout)[0] if tasks else []
        for number in [number for number, task in self._asked.items() if task in ready]:
            task = self._asked.pop(number)
            if number in there:
                self._admit(there[number], task, said=timeout is not None)

    def room(self, share: dict[str, float]) -> int:
        """For how many more such shares there is room."""
        return sum(node.fits(share) for node in self.nodes.values())

    def choose(self, share: dict[str, float], again: bool = False) -> Node:
        """Where such a share goes: where there is most room; what was lost goes where nothing was before."""

        def worth(node: Node) -> tuple[Any, ...]:
            lost = node.strikes or 0
            return node.has_of(share), -lost if again else 0, bool(node.fits(share)), -lost, node.left["CPU"]

        return max(self.nodes.values(), key=worth)

    def note(self, node: Node, outcome: object) -> None:
        """How a piece ended there."""
        if isinstance(outcome, Vanished):
            return
        node.strikes = (node.strikes or 0) + 1 if isinstance(outcome, Lost) else 0
        if node.strikes >= STRIKES and self.works():
            self._leave_out(node.number, f"node {node.name}: {STRIKES} pieces in a row were lost there ({outcome})")

    def works(self) -> bool:
        """Whether there is a node on which the last piece came about."""
        return any(node.strikes == 0 for node in self.nodes.values())

    def _admit(self, described: dict[str, Any], task: Any, said: bool) -> None:
        """Take a node in, or out; neither where it went away while it was asked."""
        number, name = described["NodeID"], described["NodeManagerHostname"]
        try:
            odd = differing(name, self.ray.get(task), self.here)
        except self.ray.exceptions.RayTaskError as error:
            odd = f"node {name} cannot run this package ({first_line(error.cause)})"
        except self.ray.exceptions.RayError:
            return
        if odd:
            self._leave_out(number, odd, said)
        else:
            whole = {kind: has(described, kind) for kind in ("CPU", "GPU", "memory")}
            self.nodes[number] = Node(number, name, whole, dict(whole))

    def _leave_out(self, number: str, words: str, said: bool = True) -> None:
        self.out[number] = words
        self.nodes.pop(number, None)
        if said:
            tqdm.write(f"{words}: it is left out", file=sys.stderr)


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


def at(number: str) -> dict[str, Any]:
    """The option of a task or an actor that lays it on one node, and has it fail where that is gone."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(number, soft=False)}


def _asked(ray: Any, number: str, shared: Disk | None) -> Any:
    """`probe` as a task of that node."""
    return ray.remote(probe).options(num_cpus=0, max_retries=0, **at(number)).remote(shared)


def differing(name: str, found: dict[str, str], here: dict[str, str]) -> str:
    """node b has torch 2.11 (here 2.15); empty where all is as here."""
    odd = [f"{key} {found.get(key, 'none')} (here {here[key]})" for key in here if found.get(key) != here[key]]
    return f"node {name} has {', '.join(odd)}" if odd else ""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

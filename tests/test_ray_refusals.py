"""What a Ray cluster cannot be, and nodes that are left out."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray_nodes import ON_RAY, Played, family, slow

from analysis.measure.commands import measure_bound, run_command
from analysis.measure.stability.command import measure_stability
from tatl.__main__ import main
from tatl.data.store import Store
from tatl.studies.execution import nodes, on_ray, travel
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.piece import Lost, Vanished
from tatl.studies.execution.schedule import execute
from tatl.studies.settings import Cluster

pytestmark = pytest.mark.filterwarnings("default")


@slow
def test_what_no_node_has_is_refused(cluster: Any, toy_store: Store, tmp_path: Path) -> None:
    import ray

    (tmp_path / "seen").touch()
    shared = nodes.Disk(tmp_path / "seen", toy_store.path)
    assert len(nodes.Roster(ray, shared).nodes) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "code", lambda: "of another version")
        with pytest.raises(ValueError, match=r"node \S+ has code of tatl [0-9a-f]+ \(here of another version\)"):
            nodes.Roster(ray, shared)
    with pytest.raises(ValueError, match=r"2 GPUs and no node .* more than 1: give fewer --gpus-per-run"):
        gpu = cluster.add_node(num_cpus=1, num_gpus=1)
        try:
            execute(family(toy_store), tmp_path, toy_store, Machine("auto", progress=False, cluster=Cluster("ray", 2)))
        finally:
            cluster.remove_node(gpu)


def test_a_full_object_store_without_a_disk_is_named(toy_store: Store) -> None:
    def full(_: bytes) -> None:
        raise MemoryError("full")

    errors = SimpleNamespace(ObjectStoreFullError=MemoryError, OutOfDiskError=MemoryError)
    with pytest.raises(OSError, match=r"object store of Ray is full.* give the nodes more --object-store-memory"):
        travel.parcel(SimpleNamespace(put=full, exceptions=errors), toy_store.path)


CORE = {"CPU": 1.0, "GPU": 0.0, "memory": 0.0}


def test_a_node_that_joins_is_asked_too(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    roster = nodes.Roster(played, None)
    played.join("good", CPU=4.0)
    played.join("odd", "other", CPU=64.0)
    for _ in range(2):
        roster.look()
        assert set(roster.nodes) == {"n0", "n1", "good"} and roster.room(CORE) == 8
    assert capsys.readouterr().err == "node odd has torch other (here same): it is left out\n"
    with pytest.raises(ValueError, match=r"node odd has torch other .*give all nodes one environment"):
        nodes.Roster(played, None)


def test_a_node_on_which_pieces_are_lost_is_left_out_where_others_make_theirs(
    played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    roster = nodes.Roster(played, None)
    good, bad = roster.nodes.values()
    for _ in range(nodes.STRIKES + 1):
        roster.note(bad, Lost("the disk is full"))
    assert set(roster.nodes) == {"n0", "n1"}  # as long as none is known to work
    roster.note(good, 3.0)
    good.take(CORE)
    assert roster.choose(CORE) is good and roster.choose(CORE | {"CPU": 2.0}, again=True) is good
    roster.note(bad, Vanished("elsewhere"))
    roster.note(bad, Lost("the disk is full"))
    assert set(roster.nodes) == {"n0"} and "node n1: 3 pieces" in capsys.readouterr().err
    roster.look()
    assert set(roster.nodes) == {"n0"}


def test_without_ray_the_extra_is_named(toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'tatl\[cluster\]'"):
        execute(family(toy_store), tmp_path, toy_store, ON_RAY)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:9", "127.0.0.1:9"])
def test_an_address_that_does_not_answer_is_said_in_seconds(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    started = time.monotonic()
    with pytest.raises(ValueError, match=rf"cluster at {address} cannot be used .*refused"):
        nodes.connect(address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ValueError, match=rf"cluster at {address} cannot be used"):
        nodes.connect("ray")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("answers", [True, False])
def test_the_cluster_that_ray_noted_on_this_machine_is_taken_where_it_answers(
    answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = list[str | None]()
    ray = SimpleNamespace(is_initialized=lambda: False, init=lambda address, **_: asked.append(address))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1] if answers else 9}"
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray/ray_current_cluster").write_text(address, encoding="utf-8")
        nodes.connect("ray")
        assert asked == [address if answers else nodes.NEW] and (address in capsys.readouterr().err) is answers
    (tmp_path / "ray/ray_current_cluster").unlink()
    nodes.connect("ray")
    assert asked[1:] == [nodes.NEW]


def test_nodes_that_differ_are_named() -> None:
    here = {"Python": "3.11", "torch": "2.15", "runs": "seen", "store": "12ab"}
    assert nodes.differing("b", dict(here), here) == ""
    odd = nodes.differing("b", here | {"torch": "2.11", "runs": "unseen"}, here)
    assert odd == "node b has torch 2.11 (here 2.15), runs unseen (here seen)"


@pytest.mark.parametrize(
    "given", [{"on": "ray", "gpus_per_run": 0.0}, {"on": "ray", "gpus_per_run": 1.5}, {"gpus_per_run": 0.5}]
)
def test_a_share_that_cannot_be_given_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give"):
        Cluster(**given)


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*_: Any, **__: Any) -> None:
        raise ValueError("Ray Client requires pip package `ray[client]`. If you installed the minimal Ray, ...")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.setattr(nodes, "_knock", lambda address: None)
    with pytest.raises(ValueError, match=r": pip install 'ray\[client\]'$"):
        nodes.connect("ray://there:10001")


def test_a_cluster_that_cannot_be_reached_is_named_before_a_phantom_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    monkeypatch.chdir(tmp_path)
    words = ["--preset", "smoke", "--on", "127.0.0.1:9"]
    assert main(["study", "variants", *words]) == 2 == run_command(measure_bound, "analysis.bound", words)
    for measure in (measure_bound, measure_stability):
        assert run_command(measure, "analysis.bound", [*words, "--plan"]) == 2
    assert capsys.readouterr().err.count("cluster at 127.0.0.1:9 cannot be used") == 4 and not list(tmp_path.iterdir())


def test_a_plan_says_the_hours_of_the_cluster(
    played: Played, toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    ray = SimpleNamespace(nodes=played.nodes, cluster_resources=lambda: {"CPU": 7.0})
    monkeypatch.setattr(on_ray, "connect", lambda on: ray)
    monkeypatch.chdir(tmp_path)
    words = ["--preset", "smoke", "--shapes", "link", "--store", str(toy_store.path), "--attribute", "disc", "--plan"]
    for measure in (measure_bound, measure_stability):
        assert run_command(measure, "analysis.bound", [*words, "--device", "cpu", "--on", "ray"]) == 0
        said = capsys.readouterr().out
        assert "on 7 cores" in said and ("with 7 at once" in said) is (measure is measure_stability)

"""Shared fixtures."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ray_nodes import Played

    from tatl.data.store import Store

# Small networks on small images: two threads only wait for each other.  Processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# `nohup make test &` in a script starts the tests with interrupts ignored, and so they would all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
# Files of a minute and more, which are begun first, so that all workers end together.
LONG = (
    "test_readme", "test_benchmarks", "test_site", "test_fit", "test_analysis_commands", "test_schedule", "test_report",
    "test_gallery_page", "test_predict", "test_contributing", "test_reference", "test_compare", "test_store",
    "test_questions_notebooks", "test_features", "test_rivals",
)  # fmt: skip


def pytest_configure() -> None:
    """One core a worker: what takes a process a core by default then works in the one that is there."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[int(worker.removeprefix("gw")) % len(allowed)]})
    if worker and "forkserver" in multiprocessing.get_all_start_methods():  # one import for the processes of all tests
        multiprocessing.set_forkserver_preload(
            ["analysis.measure.solve", "tatl.studies.runtime.cost", "tatl.studies.execution.piece"]
        )
        forkserver.ensure_running()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the project; the test skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data are not here: {folder.parent.name}/{folder.name} beside the project is absent")
    return folder


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """24 drawn shapes at 32x64 with a lesion mask each; `dot` is in 3 of them."""
    from toy import make_store

    return make_store(tmp_path_factory.mktemp("stores") / "toy")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection is an error."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a connection was asked for: {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two nodes of one core."""
    from ray_nodes import connected

    with connected() as made:
        yield made


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    """One of two nodes of two cores, without Ray."""
    from ray_nodes import play

    return play(monkeypatch)

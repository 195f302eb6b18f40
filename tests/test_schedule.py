"""Where runs are trained: in order, several at once, past failures, and what it would take."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tatl.data.store import Store
from tatl.effort import Clock, plan, work
from tatl.parallel import Machine, Trainer, gpus, together
from tatl.run import Run, finished
from tatl.schedule import FAILED, execute
from toy import toy_run

QUIET = Machine("cpu", progress=False)


def family(store: Store) -> list[Run]:
    """Two targets of one agnostic network, and one that stands alone."""
    union = toy_run(store, "union")
    children = [toy_run(store, name, start="tatl", parent=union) for name in ("disc", "bar")]
    return [*children, toy_run(store, "dot")]


@pytest.fixture(scope="module")
def trained(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything, one after another."""
    root = tmp_path_factory.mktemp("one")
    assert execute(family(toy_store), root, toy_store, QUIET) == []
    return root


def test_several_at_once_give_the_same_weights(trained: Path, toy_store: Store, tmp_path: Path) -> None:
    assert execute(family(toy_store), tmp_path, toy_store, replace(QUIET, workers=2)) == []
    for run in family(toy_store):
        one, other = (load_file(run.folder(root) / "weights.safetensors") for root in (trained, tmp_path))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_failure_takes_only_those_with_it_that_need_it(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tatl import schedule

    fit = schedule.fit

    def failing(run: Run, *given: Any, **options: Any) -> Path:
        if run.task == "union":
            raise FloatingPointError("the loss is nan")
        return fit(run, *given, **options)

    monkeypatch.setattr(schedule, "fit", failing)
    runs = family(toy_store)
    failures = execute(runs, tmp_path, toy_store, QUIET, keep_going=True)
    assert [failure.run.task for failure in failures] == ["union", "disc", "bar"]
    assert [failure.reason for failure in failures] == ["the loss is nan"] + ["it needs a run that failed"] * 2
    assert (failures[0].run.folder(tmp_path) / FAILED).read_text() == "the loss is nan\n"
    assert finished(runs[2], tmp_path) and not finished(runs[0], tmp_path)
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        execute(runs, tmp_path, toy_store, QUIET)
    monkeypatch.setattr(schedule, "fit", fit)
    assert execute(runs, tmp_path, toy_store, QUIET, keep_going=True) == []
    assert all(finished(run, tmp_path) for run in runs)
    assert not (failures[0].run.folder(tmp_path) / FAILED).exists()


@dataclass(frozen=True)
class Mortal(Trainer):
    """Ends its process, as the kernel does where memory runs out, for runs of one task."""

    victim: str = "bar"

    def __call__(self, piece: tuple[Run, ...]) -> list[float | BaseException]:
        if any(run.task == self.victim for run in piece):
            os._exit(9)
        return super().__call__(piece)


def test_a_process_that_is_ended_from_outside_takes_no_other_run_with_it(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tatl.parallel.Trainer", Mortal)
    failures = execute(family(toy_store), tmp_path, toy_store, replace(QUIET, workers=2), keep_going=True)
    assert [failure.run.task for failure in failures] == ["bar"]
    assert "ended from outside, most likely because memory ran out" in failures[0].reason
    assert all(finished(run, tmp_path) for run in family(toy_store) if run.task != "bar")


def test_targets_of_one_frozen_encoder_are_trained_in_one_process(toy_store: Store) -> None:
    union = toy_run(toy_store, "union")
    frozen = [toy_run(toy_store, name, start="tatl-freeze", parent=union) for name in ("disc", "bar", "dot")]
    free = [toy_run(toy_store, name, start="tatl", parent=union) for name in ("disc", "bar")]
    turned = replace(frozen[2], recipe=replace(frozen[2].recipe, augment=True))
    other = replace(frozen[0], fold=1, parent=replace(union, fold=1))
    pieces = together([union, free[0], frozen[0], other, free[1], *frozen[1:], turned])
    assert pieces == [(union,), (free[0],), tuple(frozen), (other,), (free[1],), (turned,)]


def test_gpus_are_those_that_the_process_may_see() -> None:
    assert gpus(2, None) == gpus(2, "") == ["0", "1"]
    assert gpus(2, "2, GPU-8932f937") == ["2", "GPU-8932f937"] and gpus(1, "5") == ["5"]


def test_a_failure_in_a_process_of_its_own_is_named_too(toy_store: Store, tmp_path: Path) -> None:
    runs = family(toy_store)
    broken = replace(runs[2], digest="of another store")
    failures = execute([broken, runs[0]], tmp_path, toy_store, replace(QUIET, workers=2), keep_going=True)
    assert [failure.run for failure in failures] == [broken] and "is of store" in failures[0].reason
    assert finished(runs[0], tmp_path)


def test_what_is_there_is_not_trained_again(trained: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tatl.schedule.fit", None)
    assert execute(family(toy_store), trained, toy_store, QUIET) == []


def test_a_plan_trains_nothing_and_counts(trained: Path, toy_store: Store, tmp_path: Path) -> None:
    runs = family(toy_store)
    fresh = plan(runs, tmp_path, toy_store)
    assert (fresh.runs, fresh.there, fresh.measured) == (4, 0, False) and not any(tmp_path.iterdir())
    assert fresh.bytes > 4 * 4 * 6e6 and fresh.seconds > 0  # four Link networks of 6 million numbers
    assert "4 runs: 0 are there, 4 to do" in fresh.words() and "two CPU cores" in fresh.words()
    whole = plan(runs, trained, toy_store)
    assert (whole.there, whole.seconds, whole.bytes, whole.measured) == (4, 0, 0, True)
    half = plan([*runs, replace(runs[2], seed=1)], trained, toy_store)
    taken = sum(_seconds(run, trained) for run in (*runs, runs[0].parent) if run)
    done = sum(work(run, toy_store) for run in (*runs, runs[0].parent) if run)
    assert half.seconds == pytest.approx(work(runs[2], toy_store) * taken / done, rel=0.01)


def _seconds(run: Run, root: Path) -> float:
    return float((run.folder(root) / "log").read_text().splitlines()[1].split(" s in")[0])


def test_the_clock_says_how_much_is_left(toy_store: Store) -> None:
    runs = family(toy_store)
    clock = Clock(runs, toy_store)
    assert clock.left() == "" and clock.count(1) == "[1/3]"
    clock.ticked(runs[0])
    clock.started -= 600
    assert clock.left() == ", about 20 min left" and clock.count() == "[1/3]"


def test_how_many_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tatl.parallel.cores", lambda: 2)
    assert Machine("cpu", workers=0).at_once() == 2 and Machine("cpu", workers=0).at_once(large=True) == 1
    monkeypatch.setattr("tatl.parallel.cores", lambda: 1)
    assert Machine("cpu", workers=0).at_once() == 1
    monkeypatch.setattr("tatl.parallel.cores", lambda: 32)
    assert Machine("cpu", workers=0).at_once() == 8 and Machine("cpu", workers=3).at_once(large=True) == 3
    assert Machine("cpu", devices=2, workers=4).at_once() == 1


def test_a_run_alone_has_the_threads_that_it_has_in_company(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr("tatl.parallel.cores", lambda: 8)
    monkeypatch.setattr("tatl.schedule.fit", lambda *given, **options: threads.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    for workers in (0, 4, 1):
        execute([toy_run(toy_store)], tmp_path, toy_store, replace(QUIET, workers=workers))
    assert threads == [4, 2, before] and torch.get_num_threads() == before
    with pytest.raises(FloatingPointError), Machine("cpu").share(8):
        raise FloatingPointError("a run that failed")
    assert torch.get_num_threads() == before

"""Where runs are trained: in order, several at once, past failures, and what it would take."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from tatl.data.store import Store
from tatl.run import Run, finished
from tatl.studies.execution.board import Board, Teller, tell_in
from tatl.studies.execution.executors import gpus
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.piece import Lost, Trainer, pieces_of
from tatl.studies.execution.schedule import FAILED, execute
from tatl.studies.runtime.effort import operations, plan, work
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
    from tatl.studies.execution import piece

    fit = piece.fit

    def failing(run: Run, *given: Any, **options: Any) -> Path:
        if run.task == "union":
            raise FloatingPointError("the loss is nan")
        return fit(run, *given, **options)

    monkeypatch.setattr(piece, "fit", failing)
    runs = family(toy_store)
    failures = execute(runs, tmp_path, toy_store, QUIET, keep_going=True)
    assert [failure.run.task for failure in failures] == ["union", "disc", "bar"]
    assert [failure.reason for failure in failures] == ["the loss is nan"] + ["it needs a run that failed"] * 2
    assert (failures[0].run.folder(tmp_path) / FAILED).read_text() == "the loss is nan\n"
    assert finished(runs[2], tmp_path) and not finished(runs[0], tmp_path)
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        execute(runs, tmp_path, toy_store, QUIET)
    monkeypatch.setattr(piece, "fit", fit)
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
    monkeypatch.setattr("tatl.studies.execution.executors.Trainer", Mortal)
    failures = execute(family(toy_store), tmp_path, toy_store, replace(QUIET, workers=2), keep_going=True)
    assert [failure.run.task for failure in failures] == ["bar"]
    assert "ended from outside, most likely because memory ran out" in failures[0].reason
    assert all(finished(run, tmp_path) for run in family(toy_store) if run.task != "bar")


def trainings(run: Run, root: Path) -> int:
    return (run.folder(root) / "log").read_text().count(" in this process")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_is_made_elsewhere_is_waited_for(
    workers: int, toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others come first; here the other process then gives up, and the run is made after all."""
    runs = family(toy_store)
    union = runs[0].parent
    assert union is not None
    folder = union.folder(tmp_path)
    folder.mkdir(parents=True)
    elsewhere, seen = FileLock(folder / "lock"), list[list[bool]]()

    def sleep(seconds: float) -> None:
        seen.append([finished(run, tmp_path) for run in (union, *runs)])
        if len(seen) == 3:
            elsewhere.release()

    monkeypatch.setattr("tatl.studies.execution.schedule.time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    elsewhere.acquire()
    assert execute(runs, tmp_path, toy_store, replace(QUIET, workers=workers), keep_going=True) == []
    assert seen == [[False, False, False, True]] * 3  # all but what it waits for was made before
    assert all(finished(run, tmp_path) for run in (union, *runs)) and not list(tmp_path.rglob(FAILED))


def train_all(runs: list[Run], root: Path, store: Store, said: Path, both: Barrier) -> None:
    """What one of two processes does, when both are there; SystemExit where any run failed."""
    from tatl.studies.execution import schedule

    schedule.POLL = 0.05
    both.wait()
    with said.open("w") as file, redirect_stdout(file):
        failures = schedule.execute(runs, root, store, Machine("cpu"), keep_going=True)
    sys.exit([failure.reason for failure in failures] or int(not all(finished(run, root) for run in runs)))


def test_two_processes_on_the_same_runs_train_nothing_twice(toy_store: Store, tmp_path: Path) -> None:
    runs, root = family(toy_store), tmp_path / "runs"
    said = [tmp_path / name for name in ("one", "other")]
    context = multiprocessing.get_context("forkserver")
    both = context.Barrier(2)
    started = [context.Process(target=train_all, args=(runs, root, toy_store, file, both)) for file in said]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]
    assert [trainings(run, root) for run in (runs[0].parent, *runs) if run] == [1] * 4
    assert "made by another process" in said[0].read_text() + said[1].read_text()


@dataclass(frozen=True)
class Shaky(Trainer):
    """Meets CUDA errors at runs of "bar"; after one, its process fails at every run, as such a process does.

    `times` is how often; the processes that met one are in `met`.
    """

    times: int = 1

    def __call__(self, piece: tuple[Run, ...]) -> list[float | BaseException]:
        from tatl.training import tasks

        original = tasks.Segmentation.loss

        def loss(task: Any, *given: Any) -> torch.Tensor:
            met = self.root / "met"
            before = met.read_text().split() if met.exists() else []
            if str(os.getpid()) in before or (task.run.task == "bar" and len(before) < self.times):
                met.write_text(" ".join([*before, str(os.getpid())]))
                raise torch.AcceleratorError("CUDA error: device-side assert triggered")
            return original(task, *given)

        tasks.Segmentation.loss = loss  # type: ignore[method-assign]
        return super().__call__(piece)


@dataclass(frozen=True)
class Shakier(Shaky):
    times: int = 9


@pytest.mark.parametrize(("workers", "trainer"), [(1, Shaky), (2, Shakier)])
def test_after_a_cuda_error_the_process_is_replaced_and_its_run_tried_once_more(
    workers: int, trainer: type[Trainer], toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one worker, too: as on a GPU (`pick_device`), it is a process of its own."""
    monkeypatch.setattr("tatl.studies.execution.executors.Trainer", trainer)
    monkeypatch.setattr("tatl.studies.execution.executors.pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr("tatl.studies.execution.executors.gpus", lambda *given: [""])
    runs = [toy_run(toy_store, name) for name in ("bar", "disc", "dot")]
    failures = execute(runs, tmp_path, toy_store, replace(QUIET, workers=workers), keep_going=True)
    met = (tmp_path / "met").read_text().split()
    if trainer is Shaky:
        assert failures == [] and len(met) == 1 and all(finished(run, tmp_path) for run in runs)
        return
    assert [failure.run.task for failure in failures] == ["bar"] and len(met) == len(set(met)) == 2
    assert "its GPU failed in two processes (CUDA error: device-side assert triggered" in failures[0].reason
    assert all(finished(run, tmp_path) for run in runs if run.task != "bar")


def test_what_a_process_had_still_to_do_when_its_gpu_failed_is_not_tried_there(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def fit(run: Run, *given: Any, **options: Any) -> None:
        tried.append(run.task)
        raise RuntimeError(f"CUDA {'error: misaligned address' if run.task == 'bar' else 'out of memory'}")

    monkeypatch.setattr("tatl.studies.execution.piece.fit", fit)
    piece = tuple(toy_run(toy_store, name) for name in ("disc", "bar", "dot"))
    outcomes = Trainer(tmp_path, toy_store, QUIET)(piece)
    assert tried == ["disc", "bar"] and [isinstance(outcome, Lost) for outcome in outcomes] == [False, True, True]


def test_targets_of_one_frozen_encoder_are_trained_in_one_process(toy_store: Store) -> None:
    union = toy_run(toy_store, "union")
    frozen = [toy_run(toy_store, name, start="tatl-freeze", parent=union) for name in ("disc", "bar", "dot")]
    free = [toy_run(toy_store, name, start="tatl", parent=union) for name in ("disc", "bar")]
    turned = replace(frozen[2], recipe=replace(frozen[2].recipe, augment=True))
    other = replace(frozen[0], fold=1, parent=replace(union, fold=1))
    pieces = pieces_of([union, free[0], frozen[0], other, free[1], *frozen[1:], turned])
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
    monkeypatch.setattr("tatl.studies.execution.piece.fit", None)
    assert execute(family(toy_store), trained, toy_store, QUIET) == []


def test_a_plan_trains_nothing_and_counts(trained: Path, toy_store: Store, tmp_path: Path) -> None:
    runs = family(toy_store)
    fresh = plan(runs, tmp_path, toy_store, "cpu")
    assert (len(fresh.runs), len(fresh.there)) == (4, 0) and not any(tmp_path.iterdir())
    assert fresh.bytes > 4 * 4 * 9e4 and fresh.seconds > 0  # four Link networks of 0.09 million numbers
    assert "on 1 GPU 1 min, on 8 GPUs 1 min (a guess: no run on a GPU is there)" in fresh.words()
    head, *lines = fresh.words().splitlines()
    assert "4 runs: 0 are there, 4 to do" in head and "not measured here" in head
    assert [line.split()[:3] for line in lines] == [["to", "do", run.task] for run in fresh.runs]
    whole = plan(runs, trained, toy_store, "cpu")
    assert (len(whole.there), whole.seconds, whole.bytes) == (4, 0, 0) and whole.words().count("done") == 4
    half = plan([*runs, replace(runs[2], seed=1)], trained, toy_store, "cpu")
    taken = sum(_seconds(run, trained) for run in (*runs, runs[0].parent) if run)
    done = sum(work(run, toy_store) for run in (*runs, runs[0].parent) if run)
    assert half.seconds == pytest.approx(work(runs[2], toy_store) * taken / done, rel=0.01)


def test_a_plan_scales_with_the_backbone(trained: Path, toy_store: Store, tmp_path: Path) -> None:
    small, large = (replace(toy_run(toy_store, seed=1), backbone=name) for name in ("efficientnet-b0", "resnet152"))
    ratio = operations(large) / operations(small)
    assert ratio > 5
    for root in (tmp_path, trained):
        first, second = (plan([*family(toy_store), run], root, toy_store, "cpu").seconds for run in (small, large))
        alone = plan(family(toy_store), root, toy_store, "cpu").seconds
        assert second - alone == pytest.approx(ratio * (first - alone))


def test_what_is_left_counts_a_network_s_operations(toy_store: Store) -> None:
    """A large backbone was counted as a small one, and the time left was that of as many small ones."""
    small, large = (replace(toy_run(toy_store), backbone=name) for name in ("efficientnet-b0", "resnet152"))
    ratio = operations(large) / operations(small)
    assert work(large, toy_store) == pytest.approx(ratio * work(small, toy_store)) and ratio > 5
    with Board([small, large], toy_store, shown=False) as board:
        board.started -= 600
        board.end(small, "done")
        assert board.left() == f"{10 * ratio:.0f} min left"


def _seconds(run: Run, root: Path) -> float:
    return float((run.folder(root) / "log").read_text().splitlines()[1].split(" s in")[0])


def test_the_bar_counts_what_is_begun_and_shows_its_loss_in_80_columns(
    toy_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = family(toy_store)
    trainer: Any = SimpleNamespace(current_epoch=0, num_training_batches=2)
    with Board(runs, toy_store, shown=True) as board:
        assert board.left() == ""
        board.started -= 600
        board.end(runs[0], "30 s")
        said = capsys.readouterr().out
        assert board.left() == "20 min left" and "[1/3]" in said and "30 s, about 20 min left" in said
        for run in runs[1:]:
            teller = Teller(run, partial(tell_in, board.folder))
            teller.on_train_batch_end(trainer, Any, {"loss": torch.tensor(0.4123)}, None, 0)  # type: ignore[arg-type]
        board.draw()
        share = 0.5 / runs[1].recipe.epochs
        assert board.bar.n == pytest.approx((1 + 2 * share) / 3)
        assert "bar 1/" in board.bar.desc and board.bar.desc.count("loss 0.41") == 2 and len(board.bar.desc) < 72


def test_a_disk_that_takes_no_words_stops_neither_training_nor_the_bar(toy_store: Store, tmp_path: Path) -> None:
    run = toy_run(toy_store)
    tell_in(tmp_path / "gone", "a", "[0.5, 'half']")
    with Board([run], toy_store, shown=True) as board:
        (board.folder / run.hash).mkdir()
        board.draw()
        assert board.bar.n == 0
        board.folder = tmp_path / "gone"
        board.draw()


def test_folders_of_killed_drivers_go(toy_store: Store, tmp_path: Path) -> None:
    (tmp_path / ".tatl-killed").mkdir()
    (tmp_path / ".tatl-killed/seen").touch()
    os.utime(tmp_path / ".tatl-killed", (0, 0))
    boards = [Board([toy_run(toy_store)], toy_store, False, tmp_path) for _ in range(2)]
    with boards[0], boards[1]:
        assert set(tmp_path.glob(".tatl-*")) == {board.folder for board in boards}
    assert not list(tmp_path.glob(".tatl-*"))


def test_how_many_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tatl.studies.execution.machine.cores", lambda: 2)
    assert Machine("cpu", workers=0).at_once() == 2 and Machine("cpu", workers=0).at_once(large=True) == 1
    monkeypatch.setattr("tatl.studies.execution.machine.cores", lambda: 1)
    assert Machine("cpu", workers=0).at_once() == 1
    monkeypatch.setattr("tatl.studies.execution.machine.cores", lambda: 32)
    assert Machine("cpu", workers=0).at_once() == 8 and Machine("cpu", workers=3).at_once(large=True) == 3


def test_a_run_alone_has_the_threads_that_it_has_in_company(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    for module in ("machine", "executors"):
        monkeypatch.setattr(f"tatl.studies.execution.{module}.cores", lambda: 8)
    monkeypatch.setattr(
        "tatl.studies.execution.piece.fit", lambda *given, **options: threads.append(torch.get_num_threads())
    )
    before = torch.get_num_threads()
    for workers in (0, 4, 1):
        execute([toy_run(toy_store)], tmp_path, toy_store, replace(QUIET, workers=workers))
    assert threads == [4, 2, before] and torch.get_num_threads() == before

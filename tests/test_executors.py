"""Which run is next, and what is tried again, with an executor that takes no time."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future
from typing import Any

import pytest

from tatl.run import Run
from tatl.studies.execution.piece import Lost, Outcome, Pending, Piece, Vanished, pieces_of
from tatl.studies.execution.schedule import outcomes


class Instant:
    """An executor whose runs take no time; its process is lost at those of `losing`, at first or always."""

    patient = True

    def __init__(self, places: int, losing: dict[Run, list[BaseException]] | None = None) -> None:
        self.places, self.losing, self.flying, self.most = places, losing or {}, 0, 0
        self.order: list[Run] = []
        self.alone: list[Run] = []

    def look(self) -> None:
        pass

    def free(self, alone: bool = False) -> int:
        return self.places - self.flying

    def submit(self, piece: Piece, alone: bool = False) -> Pending:
        self.flying += 1
        self.most = max(self.most, self.flying)
        self.order += piece
        self.alone += piece if alone else ()
        done: Pending = Future()
        done.set_result([self.losing[run].pop(0) if self.losing.get(run) else 1.0 for run in piece])
        return done

    def collect(self, piece: Piece, done: Pending) -> list[Outcome]:
        self.flying -= 1
        return done.result()

    def end(self) -> None:
        self.places = 0


def many(count: int) -> list[Run]:
    """Of every seed a Stage 1, a Stage 2 and six targets."""
    runs = list[Run]()
    for seed in range(count // 8):
        lesion = Run("s", "d", "32x64", "lesion", seed=seed)
        cut: dict[str, Any] = {"cropper": lesion, "offset": 3, "seed": seed}
        union = Run("s", "d", "32x64", "union", **cut)
        runs += [lesion, union, *(Run("s", "d", "32x64", f"a{i}", start="tatl", parent=union, **cut) for i in range(6))]
    return runs


def test_a_thousand_runs_come_in_their_order_and_each_once() -> None:
    runs, instant = many(1000), Instant(8)
    made = [run for run, outcome in outcomes(pieces_of(runs[::-1]), instant) if outcome == 1.0]
    assert set(made) == set(runs) and len(made) == len(runs) and instant.most == 8 and instant.places == 0
    place = {run: number for number, run in enumerate(instant.order)}
    assert all(place[need] < place[run] for run in runs for need in run.needs())


def test_what_is_lost_is_tried_once_more_alone_and_what_vanished_at_once() -> None:
    lesion, union, *targets = many(8)
    losing = {union: [Vanished("node"), Vanished("node")], targets[0]: [Lost("a")], targets[1]: [Lost("a"), Lost("b")]}
    instant = Instant(4, losing)
    found = dict(outcomes(pieces_of([lesion, union, *targets]), instant))
    assert {run for run, outcome in found.items() if outcome != 1.0} == {targets[1]} and str(found[targets[1]]) == "b"
    assert instant.alone == targets[:2] and instant.order.count(union) == 3


class Noting(Instant):
    """Notes whether anything was under way when a lost run was begun again."""

    beside = False

    def submit(self, piece: Piece, alone: bool = False) -> Pending:
        self.beside |= alone and self.flying > 0
        return super().submit(piece, alone)


def test_what_was_lost_is_tried_beside_others() -> None:
    lesions = [Run("s", "d", "32x64", "lesion", seed=seed) for seed in range(9)]
    noting = Noting(2, {lesions[0]: [Lost("a")], lesions[1]: [Lost("a")]})
    assert dict(outcomes(pieces_of(lesions), noting)) == dict.fromkeys(lesions, 1.0)
    assert noting.beside and noting.order[2:4] == noting.alone == lesions[:2]


def test_the_first_ctrl_c_leaves_what_is_under_way_to_finish(capsys: pytest.CaptureFixture[str]) -> None:
    lesions = [Run("s", "d", "32x64", "lesion", seed=seed) for seed in range(9)]
    made, instant, before = list[Run](), Instant(3), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        for run, _ in outcomes(pieces_of(lesions), instant):
            made += [run]
            if len(made) == 1:
                os.kill(os.getpid(), signal.SIGINT)
    assert made == lesions[:3] and instant.places == 0 and "Ctrl-C again" in capsys.readouterr().err
    made.clear()
    with pytest.raises(KeyboardInterrupt):
        for run, _ in outcomes(pieces_of(lesions), Instant(3)):
            made += [run]
            os.kill(os.getpid(), signal.SIGINT)
    assert made == lesions[:2] and signal.getsignal(signal.SIGINT) is before


class Full(Instant):
    """Has no room at first, as a cluster whose nodes are all gone."""

    asked = 0

    def free(self, alone: bool = False) -> int:
        self.asked += 1
        return super().free(alone) if self.asked > 3 else 0


def test_room_that_nobody_has_is_waited_for_until_ctrl_c() -> None:
    lesions = [Run("s", "d", "32x64", "lesion", seed=seed) for seed in range(2)]
    full = Full(1)
    assert [run for run, _ in outcomes(pieces_of(lesions), full)] == lesions and full.asked > 3

    class Never(Full):
        def free(self, alone: bool = False) -> int:
            self.asked += 1
            if self.asked == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return 0

    never = Never(1)
    with pytest.raises(KeyboardInterrupt):
        list(outcomes(pieces_of(lesions), never))
    assert never.order == [] and never.places == 0 and never.asked <= 4

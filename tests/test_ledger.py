"""Curvatures are kept as they come: stopped and continued, spread over processes, never mixed with other weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tqdm import tqdm

from analysis.curvature.norms import Options, spectral_norms
from analysis.measure import solve
from analysis.measure.ledger import (
    DOUBLE,
    LEDGER_COLUMNS,
    Ledger,
    Subject,
    circumstances,
    image_loss,
    subject_name,
)
from analysis.measure.solve import Curvatures
from tatl.data.batches import Feed
from tatl.data.store import Store
from tatl.models import build
from tatl.studies.execution import crew
from tatl.studies.execution.crew import Crew, Hand
from toy import SMALL

HEADER = ",".join(LEDGER_COLUMNS) + "\n"
OPTIONS = Options(tolerance=0.05, max_products=8)
WANTED = {"disc": np.array([1, 3, 0]), "dot": np.array([1, 3, 7])}


def curvatures(
    subjects: list[Subject], wanted: Any, options: Options, folder: Path, workers: int = 1, **more: Any
) -> list[pd.DataFrame]:
    return Curvatures(options, folder, Crew(workers=workers), progress=False, **more)(subjects, wanted)


@pytest.fixture(scope="module")
def subject(toy_store: Store) -> Subject:
    torch.manual_seed(0)
    model = build("link", SMALL).eval()
    return Subject(subject_name(model, toy_store, None), model, toy_store)


@pytest.fixture(scope="module")
def whole(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Path]:
    """Uninterrupted."""
    folder = tmp_path_factory.mktemp("whole")
    (table,) = curvatures([subject], WANTED, OPTIONS, folder)
    return table, folder


def lines(folder: Path, subject: Subject) -> list[str]:
    return (folder / f"{subject.name}.csv").read_text().splitlines()


def test_rows_are_those_asked_for_and_pairs_are_solved_once(
    whole: tuple[pd.DataFrame, Path], subject: Subject, toy_store: Store
) -> None:
    table, folder = whole
    assert table["attribute"].tolist() == ["disc"] * 3 + ["dot"] * 3
    assert table["index"].tolist() == [1, 3, 0, 1, 3, 7]
    assert table["image"].tolist() == [toy_store.cases["id"][i] for i in (1, 3, 0, 1, 3, 7)]
    # disc is in images 1, 3 and 7, dot in 7 alone; image 0 has neither: six pairs, all distinct, one image in two.
    assert len(lines(folder, subject)) == 1 + 6 and table["value"].notna().all()
    empty = {name: np.array([0, 2]) for name in ("disc", "dot")}  # nothing is there: two images, one mask
    first, second = curvatures([subject], empty, OPTIONS, folder)[0].groupby("attribute")
    assert len(lines(folder, subject)) == 1 + 7  # image 0 without disc was there; image 2 is new
    assert first[1]["value"].tolist() == second[1]["value"].tolist()


def test_values_are_those_of_spectral_norms(whole: tuple[pd.DataFrame, Path], subject: Subject) -> None:
    table, _ = whole
    for name, part in table.groupby("attribute"):
        images, masks = Feed(subject.store, str(name))(part["index"].to_numpy())
        found = spectral_norms(
            subject.model, images, masks, image_loss, tolerance=OPTIONS.tolerance, max_products=OPTIONS.max_products
        )
        np.testing.assert_allclose(part["value"].abs(), found.values, rtol=1e-4)
        assert (part["products"] == found.products).all() and (part["converged"] == found.converged).all()


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_stopped_one_goes_on_to_the_same_numbers(
    kept: int, whole: tuple[pd.DataFrame, Path], subject: Subject, tmp_path: Path
) -> None:
    """Cut after some rows, in the middle of the next."""
    table, folder = whole
    rows = lines(folder, subject)
    path = tmp_path / f"{subject.name}.csv"
    path.write_text("\n".join(rows[: 1 + kept]) + "\n" + rows[1 + kept][:20])
    (again,) = curvatures([subject], WANTED, OPTIONS, tmp_path)
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert len(lines(tmp_path, subject)) == 1 + 6


def test_what_is_there_is_not_solved_again(
    whole: tuple[pd.DataFrame, Path], subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def solved(*_: Any) -> None:
        raise AssertionError("solved again")

    monkeypatch.setattr("analysis.measure.solve.Worker.__call__", solved)
    table, folder = whole
    (again,) = curvatures([subject], WANTED, OPTIONS, folder)
    pd.testing.assert_frame_equal(again, table)
    with pytest.raises(AssertionError, match="solved again"):
        curvatures([subject], WANTED, Options(0.01, 8), folder)


def test_two_processes_give_the_same_numbers(
    whole: tuple[pd.DataFrame, Path], subject: Subject, tmp_path: Path
) -> None:
    (table,) = curvatures([subject], WANTED, OPTIONS, tmp_path, workers=2)
    pd.testing.assert_frame_equal(table, whole[0], check_exact=True)


def test_threads_do_not_depend_on_how_much_is_left(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image alone is solved here, with one thread as in a process of several."""
    seen: list[int] = []
    monkeypatch.setattr(solve.Worker, "do", lambda self, task: seen.append(self.threads) or (task[0], []))
    monkeypatch.setattr(crew, "cores", lambda: 4)
    Curvatures(OPTIONS, tmp_path)._solve([subject], [(0, 1, {})], [Ledger(tmp_path / "a.csv", "a")], tqdm(disable=True))
    assert seen == [1]


def test_threads_are_as_before_where_a_solve_fails(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()

    def fails(*_: object) -> None:
        torch.set_num_threads(before + 1)
        raise ValueError("refused")

    monkeypatch.setattr(solve.Worker, "do", fails)
    ledgers = [Ledger(tmp_path / "a.csv", "a")]
    try:
        with pytest.raises(ValueError, match="refused"):
            Curvatures(OPTIONS, tmp_path, Crew(workers=1))._solve([subject], [(0, 1, {})], ledgers, tqdm(disable=True))
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)


def test_a_ledger_stopped_in_its_first_line_is_begun_again(tmp_path: Path) -> None:
    for cut in ("", "subject,ima"):
        path = tmp_path / "a.csv"
        path.write_text(cut)
        assert Ledger(path, "a").read(circumstances(OPTIONS)).empty and path.read_text() == HEADER


def test_a_failure_keeps_what_came_before(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis.curvature.norms import Solver

    solve: Callable = Solver._solve
    count = [0]

    def full(self: Solver, *given: Any) -> Any:
        count[0] += 1
        if count[0] > 3:
            raise torch.OutOfMemoryError("no room")
        return solve(self, *given)

    monkeypatch.setattr("analysis.curvature.norms.Solver._solve", full)
    with pytest.raises(MemoryError, match=r"memory ran out at image TOY_\d+ of 32x64 on cpu"):
        curvatures([subject], WANTED, OPTIONS, tmp_path)
    assert len(lines(tmp_path, subject)) > 1


def test_other_weights_are_another_file_and_never_mixed(
    whole: tuple[pd.DataFrame, Path], subject: Subject, toy_store: Store, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    other = build("link", SMALL)
    boxes = np.tile([0, 0, 32, 32], (len(toy_store), 1))
    names = [subject_name(other, toy_store, None), subject_name(subject.model, toy_store, boxes)]
    assert len({subject.name, *names, subject_name(subject.model, toy_store, None, [1])}) == 4
    (tmp_path / f"{names[0]}.csv").write_text((whole[1] / f"{subject.name}.csv").read_text())
    with pytest.raises(ValueError, match=f"holds rows of other weights .{subject.name}.: move"):
        Ledger(tmp_path / f"{names[0]}.csv", names[0]).read(circumstances(OPTIONS))


@pytest.mark.parametrize("other", [{"device": "cuda"}, {"precision": "float64"}, {"loss": "dice"}, {"engine": -1}])
def test_rows_made_otherwise_are_not_taken(
    other: dict[str, Any], whole: tuple[pd.DataFrame, Path], subject: Subject, tmp_path: Path
) -> None:
    """The device, the precision, the loss and the engine are part of what a number is of."""
    path = tmp_path / f"{subject.name}.csv"
    pd.read_csv(whole[1] / path.name, dtype=str).assign(**other).to_csv(path, index=False)
    ledger = Ledger(path, subject.name)
    assert ledger.read(circumstances(OPTIONS)).empty
    assert len(ledger.read(circumstances(OPTIONS) | other)) == len(lines(whole[1], subject)) - 1


OLD = ["device", "precision", "loss", "engine"]


@pytest.mark.parametrize("without", [["error", "absolute"], ["error", "absolute", *OLD]])
def test_a_ledger_of_before_is_set_aside(
    without: list[str], whole: tuple[pd.DataFrame, Path], subject: Subject, tmp_path: Path
) -> None:
    path = tmp_path / f"{subject.name}.csv"
    pd.read_csv(whole[1] / path.name, dtype=str).drop(columns=without).to_csv(path, index=False)
    old = path.read_bytes()
    assert Ledger(path, subject.name).read(circumstances(OPTIONS)).empty
    assert path.read_text() == HEADER and path.with_name(path.name + ".old").read_bytes() == old


ROWS = {"disc": np.array([1, 3, 0, 7, 2, 4])}


def test_a_share_of_the_mean_is_fixed_in_a_pilot_whatever_was_solved_before(subject: Subject, tmp_path: Path) -> None:
    """Fewer products for the same mean, and the same rows whatever the ledger held before."""
    tight = Options(tolerance=1e-4, max_products=24)
    (full,) = curvatures([subject], ROWS, tight, tmp_path / "full", share=0.0)
    (found,) = curvatures([subject], ROWS, tight, tmp_path / "shared", share=0.02)
    pilot = found["absolute"] == 0
    assert not pilot.all() and found["products"].sum() < full["products"].sum() and found["converged"].all()
    pd.testing.assert_frame_equal(found[pilot], full[pilot])
    mean = full["value"].abs().mean()
    assert found["value"].abs().mean() == pytest.approx(mean, rel=0.02)
    assert (found["absolute"] <= 0.02 * 3 * mean).all()
    curvatures([subject], {"disc": ROWS["disc"][:0:-1]}, tight, tmp_path / "full", share=0.02)  # another pilot
    (after,) = curvatures([subject], ROWS, tight, tmp_path / "full", share=0.02)
    pd.testing.assert_frame_equal(after, found, check_exact=True)


def test_each_subject_can_be_asked_for_its_own_images_and_in_float64(
    whole: tuple[pd.DataFrame, Path], subject: Subject, tmp_path: Path
) -> None:
    """In float64 the norm is the same to float32's rounding, kept beside it, and not solved again."""
    wanted = [{"disc": np.array([1])}, {"dot": np.array([7])}]
    tables = curvatures([subject, subject], wanted, OPTIONS, tmp_path, precision="float64")
    assert [table["index"].tolist() for table in tables] == [[1], [7]] and len(lines(tmp_path, subject)) == 1 + 2
    for table, asked in zip(tables, wanted, strict=True):
        ((name, (index,)),) = asked.items()
        same = (whole[0]["attribute"] == name) & (whole[0]["index"] == index)
        single = whole[0]["value"][same].item()
        assert table["value"].item() == pytest.approx(single, rel=1e-3) and table["value"].item() != single
        images, masks = Feed(subject.store, name)(np.array([index]))
        model = copy.deepcopy(subject.model).double()
        double = spectral_norms(model, images.double(), masks, image_loss, tolerance=0.05, max_products=8)
        assert abs(table["value"].item()) == pytest.approx(double.values[0], rel=1e-9)
    (single_table,) = curvatures([subject], wanted[0], OPTIONS, tmp_path)
    assert len(lines(tmp_path, subject)) == 1 + 3 and set(single_table["image"]) == set(tables[0]["image"])


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("one,two\n1,2\n")
    with pytest.raises(ValueError, match="has other columns than subject"):
        Ledger(path, "a").read(circumstances(OPTIONS))
    path.write_text(HEADER + "1,2\n" + "3," * 20 + "\n")
    with pytest.raises(ValueError, match="is not a table of curvatures"):
        Ledger(path, "a").read(circumstances(OPTIONS))


def test_there_are_no_more_hands_than_tasks_or_devices() -> None:
    counts = [len(Crew(workers=workers).hands(Hand(), tasks)) for workers, tasks in ((3, 10), (3, 2), (0, 1))]
    assert counts == [3, 2, 1]
    if torch.cuda.device_count() < 9:
        with pytest.raises(ValueError, match="9 devices were asked for"):
            Crew("cuda", 9).hands(Hand(), 20)


def test_networks_of_one_architecture_are_checked_once(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison with differences of gradients is of code, not of weights."""
    other = copy.deepcopy(subject.model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.1)
    second = Subject(subject_name(other, subject.store, None), other, subject.store)
    asked = list[int]()
    monkeypatch.setattr("analysis.curvature.norms.check", lambda *given: asked.append(1) or "")
    options = Options(tolerance=0.5, max_products=1)
    solved = Curvatures(options, tmp_path, Crew(workers=1), progress=False)
    for image in (1, 2):  # the second time in processes that are new
        solved([subject, second], {"disc": np.array([image])})
    replace(solved, precision=DOUBLE)([subject], {"disc": np.array([1])})
    assert asked == [1]

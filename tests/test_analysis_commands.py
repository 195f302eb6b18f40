"""`python -m analysis.bound` and `analysis.spectrum` on a toy: from nothing to tables, again, and on wrong input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from analysis.curvature.stability import bound as formula
from analysis.measure import landscape
from analysis.measure.commands import measure_bound, measure_spectrum, run_command
from analysis.measure.landscape import Effort
from analysis.measure.solve import Worker
from tatl.data.store import Store
from tatl.models import build
from toy import make_store

TABLES = {
    "bound", "bound_seeds", "bound_images", "bound_anatomy", "bound_sensitivity", "bound_audit",
}  # fmt: skip
FAST = ["--tolerance", "0.05", "--max-products", "6", "--workers", "1", "--device", "cpu"]


def run(store: Store, *words: str, tables: str = "tables") -> int:
    given = ["--store", str(store.path), "--preset", "smoke", "--shapes", "link", "--tables", tables, *FAST, *words]
    return run_command(measure_bound, "analysis.bound", given)


def read(folder: str | Path) -> dict[str, pd.DataFrame]:
    return {path.stem: pd.read_csv(path) for path in Path(folder).glob("*.csv")}


@pytest.fixture(scope="module")
def compared(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which three starts were compared on six images of two attributes, and fine-tuned."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["--init", "random", "rotation,tatl", "--attribute", "disc,dot", "--images", "6", "--finetune"]
        assert run(toy_store, *words) == 0
    return folder


def test_tables_are_tidy_and_complete(compared: Path, toy_store: Store) -> None:
    made = read(compared / "tables")
    assert set(made) == TABLES | {"bound_distance"}
    table = made["bound"]
    assert table[["start", "attribute"]].apply(tuple, axis=1).tolist() == [
        *((start, name) for name in ("disc", "dot") for start in ("random", "rotation", "tatl")),
        *((start, "average") for start in ("random", "rotation", "tatl")),
    ]
    single = table[table["attribute"] != "average"]
    assert (single["images"] == 6).all() and (single["m"] == single["m"].iloc[0]).all() and single["m"].iloc[0] > 6
    assert (single["bound_images_low"] <= single["bound"]).all() and (single["seeds"] == 1).all()
    assert (single["bound"] <= single["bound_images_high"]).all() and (
        single["bound_seeds_low"] == single["bound"]
    ).all()
    for attribute, part in table.groupby("attribute"):
        assert part["lowest"].sum() == pytest.approx(1), attribute
    assert (table["data"] == "toy").all() and (table["source"] == "random").all() and (table["fold"] == 0).all()


def test_the_bound_is_the_formula_of_the_images(compared: Path) -> None:
    made = read(compared / "tables")
    images = made["bound_images"]
    for _, row in made["bound"].query("attribute != 'average'").iterrows():
        part = images[(images["start"] == row["start"]) & (images["attribute"] == row["attribute"])]
        assert row["risk"] == pytest.approx(part["loss"].mean()) and row["curvature"] == pytest.approx(
            part["norm"].mean()
        )
        risk, norm, m = part["loss"].mean(), part["norm"].mean(), int(row["m"])
        assert row["bound"] == pytest.approx(formula(risk, norm, m, n=6).value)
        assert row["bound_slack_m"] == pytest.approx(formula(risk, norm, m).value)
        rest = part.drop(part["norm"].idxmax())
        without = formula(rest["loss"].mean(), rest["norm"].mean(), m, n=5).value
        assert row["bound_without_largest"] == pytest.approx(without)
        assert row["curvature_largest"] == part["norm"].max()
        assert row["unconverged"] == pytest.approx(1 - part["converged"].mean())


def test_the_largest_norm_of_a_row_is_solved_again_in_float64(compared: Path) -> None:
    """Of that image, mask and network; tests/test_ledger.py compares the two precisions where both have arrived.

    With six products they cannot be: an eigenvector that the start has little of grows by its own factor a product, so
    that what float32 rounds at ReLUs (1 % of a product here) moves a value in transit by a tenth.
    """
    made, about = read(compared / "tables"), json.loads((compared / "tables/bound.json").read_text())
    rows = made["bound"].query("attribute != 'average'")
    for _, row in rows.iterrows():
        part = made["bound_images"].query(f"start == {row['start']!r} and attribute == {row['attribute']!r}")
        largest = part.loc[part["norm"].idxmax()]
        (subject,) = about["subjects"][row["start"]]
        ledger = pd.read_csv(*(compared / "runs").glob(f"*/curvature/{subject}.csv"))
        same = (ledger["image"] == largest["image"]) & (ledger["mask"] == largest["mask"])
        value = ledger[same].set_index("precision")["value"].abs()
        assert value["float32"] == pytest.approx(row["curvature_largest"], rel=1e-12)
        assert value["float64"] == pytest.approx(row["curvature_largest_float64"], rel=1e-12)
        assert value["float64"] != value["float32"]
    assert len(rows) == 6


def test_the_anatomy_adds_up(compared: Path) -> None:
    made = read(compared / "tables")
    anatomy = made["bound_anatomy"]
    product = anatomy[["stability", "fit", "candidates", "sample"]].prod(axis=1)
    finite = np.isfinite(anatomy["bound"])
    np.testing.assert_allclose(product[finite], anatomy["bound"][finite])
    np.testing.assert_allclose(anatomy["log_ratio"], anatomy["by_risk"] + anatomy["by_curvature"])
    ratio = made["bound"].query("attribute != 'average'").set_index(["start", "attribute"])["ratio"]
    keys = pd.MultiIndex.from_frame(anatomy[["start", "attribute"]])
    np.testing.assert_allclose(np.exp(anatomy["log_ratio"])[finite], ratio.loc[keys][finite.to_numpy()])
    assert (anatomy["reference"] == "random").all()  # the first, where source is not among them


def test_sensitivity_ranks_the_starts_at_every_setting(compared: Path) -> None:
    table = read(compared / "tables")["bound_sensitivity"]
    assert set(table["varied"]) == {"c", "m", "images"}
    assert {"as measured", "positive"} == set(table.query("varied == 'images'")["setting"])
    steps = table.query("varied == 'c'")["setting"].astype(float)
    assert steps.min() == pytest.approx(1e-6) and steps.max() == pytest.approx(1)
    for _, part in table.groupby(["varied", "setting", "attribute"]):
        assert len(part) == 3 and (part["bound"].isna().all() or part["rank"].min() == 1)


def test_the_hessian_distance_is_of_every_start_and_attribute(compared: Path) -> None:
    table = read(compared / "tables")["bound_distance"]
    assert len(table) == 6 and (table["length"] > 0).all() and (table["images"] == 6).all()
    np.testing.assert_allclose(table["measure"], np.sqrt(table["largest"].clip(lower=0) / table["m"]))


def test_the_same_command_trains_and_solves_nothing_and_gives_the_same(
    compared: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def solved(*_: Any) -> None:
        raise AssertionError("solved again")

    monkeypatch.chdir(compared)
    monkeypatch.setattr("analysis.measure.solve.Worker.__call__", solved)
    assert (
        run(toy_store, "--init", "random,rotation,tatl", "--attributes", "disc,dot", "--images", "6", tables="b") == 0
    )
    said = capsys.readouterr().out
    for name in TABLES:
        assert Path(f"b/{name}.csv").read_bytes() == Path(f"tables/{name}.csv").read_bytes()
    for words in ("0 to do", "seed 0, fold 0 of 3", "6 of ", "source domain random", "not converged", "95 %"):
        assert words in said
    assert said.splitlines()[-1] == "next: python -m analysis.report --study bound --tables b"
    assert "c <= min(1/beta, 1/(4 (2 beta ln T)^2)): " in said and "largest |eigenvalue| seen" in said
    about = json.loads(Path("b/bound.json").read_text())
    assert about["question"]["images"] == "6" and set(about["subjects"]) == {"random", "rotation", "tatl"}


def test_another_c_needs_no_solve_and_images_are_nested(
    compared: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(compared)
    solve = Worker.__call__

    def largest_alone(self: Worker, task: Any) -> Any:
        assert self.how.precision == "float64"  # of fewer images another may be the largest
        return solve(self, task)

    monkeypatch.setattr(Worker, "__call__", largest_alone)
    words = ["--start", "tatl", "--attribute", "dot", "--images", "4", "--c", "0.5", "--sources", "2"]
    assert run(toy_store, *words, tables="other") == 0
    few, many = read("other")["bound_images"], read("tables")["bound_images"]
    assert set(few["image"]) < set(many["image"]) and len(few) == 4
    b = read("other")["bound"].iloc[0]
    assert b["bound"] == pytest.approx(formula(b["risk"], b["curvature"], int(b["m"]), 2, 0.5, n=4).value)


def test_a_start_is_made_from_every_seed_and_measured_on_the_same_images(
    compared: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three draws of the random start beside a file of weights, which is one start whatever the seeds."""
    monkeypatch.chdir(compared)
    (trained,) = Path("runs").glob("*/union/link-*/*/weights.safetensors")
    words = ["--init", "random", str(trained), "--seeds", "3", "--attribute", "disc,dot", "--images", "2"]
    assert run(toy_store, *words, tables="seeds") == 0
    made = read("seeds")
    images, seeds, table = made["bound_images"], made["bound_seeds"], made["bound"]
    assert images.groupby(["start", "seed"])["image"].agg(tuple).nunique() == 1
    drawn = seeds[(seeds["start"] == "random") & (seeds["attribute"] == "disc")]
    assert drawn["seed"].tolist() == [0, 1, 2] and drawn["bound"].nunique() == 3
    row = table[(table["start"] == "random") & (table["attribute"] == "disc")].iloc[0]
    assert row["seeds"] == 3 and row["bound"] == drawn["bound"].median()
    assert (row["bound_seeds_low"], row["bound_seeds_high"]) == (drawn["bound"].min(), drawn["bound"].max())
    single = table[table["start"] == str(trained)]
    assert (single["seeds"] == 1).all() and (single["ratio_seeds_low"] < single["ratio_seeds_high"]).all()
    about = json.loads(Path("seeds/bound.json").read_text())
    assert [len(names) for names in about["subjects"].values()] == [3, 1] and about["seeds"] == [0, 1, 2]
    assert "times random" in capsys.readouterr().out


def test_positive_images_alone(compared: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(compared)
    assert run(toy_store, "--init", "random", "--attribute", "dot", "--images", "positive", tables="positive") == 0
    row = read("positive")["bound"].iloc[0]
    assert row["m"] == row["images"] == row["positives"] and row["m"] < 4


def test_statistics_as_they_are_give_another_curvature(
    compared: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(compared)
    words = ["--init", "random", "--attribute", "disc", "--images", "2", "--calibrate=false"]
    assert run(toy_store, *words, tables="raw") == 0
    raw, ready = read("raw")["bound"].iloc[0], read("tables")["bound"].iloc[0]
    assert not raw["calibrated"] and ready["calibrated"] and raw["curvature"] < ready["curvature"]


def test_a_file_of_weights_is_a_start(
    compared: Path,
    toy_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(compared)
    (trained,) = Path("runs").glob("*/union/link-*/*/weights.safetensors")
    assert run(toy_store, "--init", str(trained), "tatl", "--attribute", "disc", "--images", "2", tables="file") == 0
    one, other = read("file")["bound"]["risk"].iloc[:2]
    assert one == other and f"{trained} was trained on" not in capsys.readouterr().out
    elsewhere = make_store(tmp_path / "elsewhere", seed=9)
    assert run(elsewhere, "--init", str(trained), "--attribute", "disc", "--images", "1", tables="file") == 0
    said = capsys.readouterr().out
    assert f"was trained on store 'toy' ({toy_store.digest})" in said and "'elsewhere'" in said


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--c", "0"], "c 0.0 is the factor of the step sizes c/t: give a positive number"),
        (["--sources", "0"], "sources 0"),
        (["--images", "some"], "images 'some' is unknown: give all, positive, or a number"),
        (["--images", "500"], "500 images are asked for and fold 0 of store 'toy' has"),
        (["--attribute", "freckle"], "store 'toy' has no attribute freckle: it has disc, bar, dot"),
        (
            ["--init", "best"],
            "start 'best' is neither one of random, source, rotation, context, tatl nor a file of weights",
        ),
        (["--init", "u.safetensors"], "the weights do not fit the link shape of tu-test_efficientnet"),
        (["--tolerance", "0"], "tolerance 0.0 is a relative residual"),
        (["--method", "guess"], "method 'guess' is unknown: choose one of lanczos, power"),
        (["--crop", "--offset", "-1"], "offset -1 is negative"),
    ],
)
def test_a_wrong_input_is_one_sentence(
    words: list[str],
    error: str,
    toy_store: Store,
    compared: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(compared)
    if "u.safetensors" in words:
        save_file({k: v.contiguous() for k, v in build("u").state_dict().items()}, "u.safetensors")
    assert run(toy_store, *words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ") and error in said[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_cuda_that_is_absent_is_said(toy_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run_command(
            measure_bound, "analysis.bound", ["--store", str(toy_store.path), "--preset", "smoke", "--device", "cuda"]
        )
        == 2
    )
    assert "device cuda was asked for and PyTorch sees none" in capsys.readouterr().err


def test_what_the_store_lacks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    never = make_store(tmp_path / "never", every=(2, 3, 0))
    assert run(never, "--init", "random", "--attribute", "dot", "--images", "positive") == 2
    assert "no training image of fold 0 of store 'never' has dot, so m is 0" in capsys.readouterr().err
    unknown = make_store(tmp_path / "unknown", unknown=("bar",))
    assert run(unknown, "--init", "random", "--attribute", "bar", "--images", "2") == 2
    assert "bar is unknown in" in capsys.readouterr().err


def test_the_spectrum_of_a_start(
    compared: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(compared)
    words = ["--store", str(toy_store.path), "--preset", "smoke", "--shapes", "link", "--tables", "spectra"]
    words += ["--init", "random", "--attribute", "disc", "--images", "3", "--chunk", "2"]
    words += ["--probes", "2", "--steps", "4", "--products", "6", "--top", "2", "--device", "cpu", "--tolerance", "0.2"]
    assert run_command(measure_spectrum, "analysis.spectrum", words) == 0
    made = read("spectra")
    table, curve = made["spectrum"], made["spectrum_density"]
    assert table["start"].tolist() == ["random"] and (table["images"] == 3).all()
    assert (table["top1"].abs() >= table["top2"].abs()).all() and (table["trace_error"] > 0).all()
    assert np.trapezoid(curve["density"], curve["eigenvalue"]) == pytest.approx(1, abs=0.1)
    said = capsys.readouterr().out
    assert "mean loss over 3 training images" in said and "trace" in said
    assert run_command(measure_spectrum, "analysis.spectrum", [*words, "--probes", "1"]) == 2
    assert "probes (1) must be at least 2" in capsys.readouterr().err


def test_the_chunk_is_halved_where_memory_runs_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten images, memory for three at a time: ten, five, two; what comes next begins with two."""
    tried: list[int] = []

    def measure(hessian: int, effort: Effort) -> Any:
        tried.append(effort.chunk)
        if effort.chunk > room:
            raise torch.OutOfMemoryError("CUDA out of memory") if effort.chunk > 9 else MemoryError()
        return {"trace": 1.0}, pd.DataFrame()

    monkeypatch.setattr(landscape, "MeanHessian", lambda *given: 0)
    monkeypatch.setattr(landscape, "_measure", measure)
    room, few, many = 3, np.arange(4), np.arange(10)
    row, _, effort = landscape._within_memory(torch.nn.Identity(), None, many, Effort(chunk=64))  # type: ignore[arg-type]
    assert tried == [64, 5, 2] and effort.chunk == 2 and row == {"trace": 1.0}
    assert "memory ran out with 5 images at once: going on with 2" in capsys.readouterr().err
    landscape._within_memory(torch.nn.Identity(), None, few, effort)  # type: ignore[arg-type]
    assert tried == [64, 5, 2, 2]
    room = 0
    with pytest.raises(MemoryError, match="memory ran out with one image at a time: choose a smaller store"):
        landscape._within_memory(torch.nn.Identity(), None, many, effort)  # type: ignore[arg-type]
    monkeypatch.setattr(landscape, "_measure", lambda *_: (_ for _ in ()).throw(RuntimeError("shapes")))
    with pytest.raises(RuntimeError, match="shapes"):
        landscape._within_memory(torch.nn.Identity(), None, many, Effort())  # type: ignore[arg-type]


@pytest.mark.parametrize(("command", "name"), [(measure_bound, "bound"), (measure_spectrum, "spectrum")])
def test_help_is_there_with_an_example(command: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_command(command, f"analysis.{name}", ["--help"])
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"usage: python -m analysis.{name}" in shown and f"Example: python -m analysis.{name}" in shown

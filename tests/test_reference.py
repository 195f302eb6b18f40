"""The committed reference report has the tables that the code writes today, and pages can be made from it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.questions.bound_tables import Measured
from analysis.tables import Study
from fake_bound import write as write_bound
from tatl.__main__ import main
from tatl.data.store import Store

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "reports" / "quick"
ROWS = {"variants": "stage3,stage123", "paradigms": "source", "convergence": "pretext,source"}


@pytest.fixture(scope="module")
def written(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of the smallest form of each study in the report."""
    here = tmp_path_factory.mktemp("written")
    shared = ["--store", str(toy_store.path), "--preset", "smoke", "--runs", str(here / "runs"), "--folds", "0"]
    for study, rows in ROWS.items():
        given = ["study", study, "--variants", rows, "--attributes", "disc", "--tables", str(here / "tables"), *shared]
        assert main(given) == 0
    write_bound(here / "tables")
    return here / "tables"


def test_the_committed_tables_have_the_columns_that_the_code_writes(written: Path) -> None:
    committed = sorted(path.name for path in (REFERENCE / "tables").glob("*.csv"))
    assert {f"{study}.csv" for study in (*ROWS, "bound")} < set(committed)
    for name in committed:
        here, there = (pd.read_csv(folder / name, nrows=0) for folder in (REFERENCE / "tables", written))
        # The command gives every row of bound.csv its scene, so that a row says where it comes from alone.
        scene = set(here.columns) - set(there.columns) if name == "bound.csv" else set()
        assert scene <= {"data", "store", "source", "preset", "shape", "fold", "seed", "crop", "calibrated"}, scene
        assert [column for column in here.columns if column not in scene] == list(there.columns), name


def test_the_committed_provenance_has_what_the_code_writes(written: Path) -> None:
    for path in (REFERENCE / "tables").glob("*.json"):
        about = json.loads(path.read_text())
        assert about.keys() == json.loads((written / path.name).read_text()).keys() or path.name == "bound.json", path
        assert about["data"] == "phantom" and about["preset"] == "quick" and about["source"] == "textures"
        assert about["commit"] and "/" not in about["runs"]


def test_pages_can_be_made_of_it() -> None:
    tables = REFERENCE / "tables"
    assert Study.read(tables).variants and Measured.read(tables).attributes


def test_it_is_small() -> None:
    files = [*REFERENCE.glob("tables/*"), *REFERENCE.glob("files/*.svg")]
    assert sum(path.stat().st_size for path in files) < 3e6 and len(files) > 20

"""The committed reference report has the tables that the code writes today, and pages can be made from it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest

from analysis.measure.commands import measure_bound, run_command
from analysis.measure.stability.command import measure_stability
from analysis.pages.gallery.page import Gallery
from analysis.tables.ranks import run_compare
from tatl.__main__ import main
from tatl.data.store import Store

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "reports" / "quick"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALLEST = {
    "variants": ["--variants", "stage3,stage123"],
    "paradigms": ["--variants", "source,random"],
    "convergence": ["--variants", "pretext,source"],
    "data-size": ["--variants", "tatl", "--fractions", "100"],
    "crop": ["--networks", "u", "--offsets", "0"],
    "backbones": ["--variants", "source", "--backbones", "efficientnet-b0"],
}
STUDIES = [name for name in SMALLEST if (REFERENCE / "tables" / f"{name}.csv").exists()]


def there(path: Path) -> bool:
    """Whether the report has the tables that a notebook needs."""
    return all((REFERENCE / "tables" / name).exists() for name in nbformat.read(path, 4).metadata["tatl"]["needs"])


ASKED = [path for path in NOTEBOOKS if there(path)]


@pytest.fixture(scope="module")
def written(toy_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of the smallest form of each study in the report."""
    here = tmp_path_factory.mktemp("written")
    shared = ["--store", str(toy_store.path), "--preset", "smoke", "--runs", str(here / "runs"), "--folds", "0"]
    for study in STUDIES:
        given = ["study", study, *SMALLEST[study], "--attributes", "disc", "--tables", str(here / "tables"), *shared]
        assert main(given) == 0
    measured = ["--init", "random", "--attribute", "disc", "--images", "2", "--max-products", "4", "--workers", "1"]
    assert run_command(measure_bound, "analysis.bound", [*measured, "--tables", str(here / "tables"), *shared]) == 0
    few = ["--init", "random", "--attribute", "disc", "--images", "4", "--forks", "2", "--predictors", "--workers", "1"]
    assert run_command(measure_stability, "analysis.stability", [*few, "--tables", str(here / "tables"), *shared]) == 0
    for study, reference in (("variants", "stage3"), ("paradigms", "source")):
        assert run_compare(["--study", study, "--reference", reference, "--tables", str(here / "tables")]) == 0
    assert run_compare(["--study", "verdicts", "--tables", str(here / "tables")]) == 0
    return here / "tables"


def test_the_committed_tables_have_the_columns_that_the_code_writes(written: Path) -> None:
    committed = sorted(path.name for path in (REFERENCE / "tables").glob("*.csv"))
    assert {f"{study}.csv" for study in ("variants", "paradigms", "convergence", "bound")} < set(committed)
    for name in committed:
        here, there = (list(pd.read_csv(folder / name, nrows=0)) for folder in (REFERENCE / "tables", written))
        assert here == there, name


def test_the_committed_gallery_has_the_arrays_that_the_code_writes(written: Path) -> None:
    with np.load(REFERENCE / "tables/gallery.npz") as here, np.load(written / "gallery.npz") as there:
        assert {name: here[name].ndim for name in here} == {name: there[name].ndim for name in there}
        assert all(here[name].dtype.kind == there[name].dtype.kind for name in here)


def test_the_committed_provenance_has_what_the_code_writes(written: Path) -> None:
    for path in (REFERENCE / "tables").glob("*.json"):
        about = json.loads(path.read_text())
        assert about.keys() == json.loads((written / path.name).read_text()).keys(), path
        assert about["data"] == "phantom" and about["preset"] == "quick"
        assert about["commit"] and "/" not in about["runs"]


def test_the_cases_of_the_gallery_can_be_read() -> None:
    cases = Gallery.read(REFERENCE / "tables")
    assert len(cases.ids) == 6 and cases.attributes and cases.dice.between(0, 1).all()
    assert cases.union_map is not None and cases.boxes is not None


def shown(path: Path, tables: Path) -> list[Any]:
    """What the code cells of a notebook show of other tables: the value of each one's last expression."""
    namespace: dict[str, Any] = {}
    values = []
    for cell in (cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"):
        *body, last = ast.parse(cell.source).body
        if not isinstance(last, ast.Expr):
            body, last = [*body, last], None
        exec(compile(ast.Module(body, []), path.name, "exec"), namespace)
        if "parameters" in cell.metadata.get("tags", []):
            namespace["tables"] = str(tables)
        if last is not None:
            values.append(eval(compile(ast.Expression(last.value), path.name, "eval"), namespace))
    return values


def test_it_has_the_questions_that_the_readme_speaks_of() -> None:
    assert {"variants", "paradigms", "convergence", "bound", "data", "gallery"} <= {path.stem for path in ASKED}


@pytest.mark.parametrize("path", ASKED, ids=lambda path: path.stem)
def test_a_page_can_be_made_of_it(path: Path) -> None:
    values = shown(path, REFERENCE / "tables")
    assert len(values) >= 4 and any("<table" in value.text for value in values)
    assert "phantom" in "".join(value.text for value in values)


def test_it_is_small() -> None:
    files = [*REFERENCE.glob("tables/*"), *REFERENCE.glob("files/*.svg")]
    assert sum(path.stat().st_size for path in files) < 3e6 and len(files) > 20

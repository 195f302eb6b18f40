"""Data flow one way: tatl makes runs, analysis reads them, notebooks draw."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted([*(ROOT / "tatl").rglob("*.py"), *(ROOT / "analysis").rglob("*.py")])
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def imported(source: str) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {"." if node.level else str(node.module).partition(".")[0]}
    return names


OPENERS = {"open", "read_text", "write_text", "run", "Popen", "check_output"}


def of_the_locale(source: str) -> list[str]:
    """Calls that read or write text in the encoding that the locale happens to have."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    opening = [call for call in calls if ast.unparse(call.func).rpartition(".")[2] in OPENERS]
    return [
        ast.unparse(call) for call in opening if _of_text(call) and "encoding" not in {k.arg for k in call.keywords}
    ]


def _of_text(call: ast.Call) -> bool:
    owner, _, called = ast.unparse(call.func).rpartition(".")
    words = [str(each.value) for each in call.args if isinstance(each, ast.Constant)]
    if called == "open":
        return owner not in ("os", "Image", "Store") and not any("b" in word for word in words if len(word) <= 3)
    return called.endswith("_text") or bool({"text", "universal_newlines"} & {k.arg for k in call.keywords})


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_nothing_reads_back_up_the_stream(path: Path) -> None:
    forbidden = {"notebooks", "tests", "benchmarks"}
    if path.is_relative_to(ROOT / "tatl"):
        forbidden |= {"analysis", "papermill", "nbconvert", "seaborn"}
    assert not imported(path.read_text()) & forbidden


@pytest.mark.parametrize("path", [*MODULES, *sorted((ROOT / "benchmarks").glob("*.py"))], ids=name)
def test_text_is_utf_8_whatever_the_locale(path: Path) -> None:
    assert not of_the_locale(path.read_text(encoding="utf-8"))


def test_what_the_locale_would_decide_is_seen() -> None:
    for line in ("open(p)", "p.open('a')", "p.read_text()", "p.write_text(s)", "subprocess.run(w, text=True)"):
        assert of_the_locale(line) == [line]
    for line in ("open(p, 'rb')", "p.open(encoding='utf-8')", "Image.open(p)", "subprocess.run(w)"):
        assert not of_the_locale(line)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_opens_with_a_sentence(path: Path) -> None:
    text = path.read_text()
    doc = ast.get_docstring(ast.parse(text)) or ""
    assert len(doc.split()) >= 4 or (path.name == "__init__.py" and not text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebooks_are_cleared_and_hold_no_logic(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    logic = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If)
    assert not any(isinstance(node, logic) for cell in code for node in ast.walk(ast.parse(cell.source)))
    assert imported("\n".join(cell.source for cell in code)) <= {"analysis"}


def test_there_are_modules_and_notebooks() -> None:
    assert len(MODULES) > 10 and NOTEBOOKS

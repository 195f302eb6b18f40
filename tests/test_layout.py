"""The map of the house: which room imports which, one name for one thing, nothing too long.

Data flow one way: tatl makes runs, analysis reads them, notebooks draw.  What is measured here `python tests/house.py`
prints.
"""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

import house
from house import MODULES, ROOT, name

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COMMANDS = [ROOT / "analysis" / f"{each}.py" for each in ("spectrum", "suspects", "statistics", "report")]


def packages(tree: ast.AST) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {"." if node.level else str(node.module).partition(".")[0]}
    return names


OPENERS = {"open", "read_text", "write_text", "run", "Popen", "check_output"}


def of_the_locale(tree: ast.AST) -> list[str]:
    """Calls that read or write text in the encoding that the locale happens to have."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
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


def forbidden(path: Path) -> set[str]:
    """The packages that a module may not import."""
    words = {"notebooks", "tests", "benchmarks", "."}
    if path.is_relative_to(ROOT / "tatl"):
        words |= {"analysis", "papermill", "nbconvert", "seaborn"}
    if path.is_relative_to(ROOT / "analysis/curvature"):
        words |= {"tatl", "pandas"}
    return words


def test_nothing_reads_back_up_the_stream() -> None:
    found = {name(path): packages(house.tree(path)) & forbidden(path) for path in MODULES}
    assert not {each for each, words in found.items() if words}


def test_every_room_is_on_the_map() -> None:
    rooms = {house.room(house.module(path)) for path in MODULES}
    assert {of for package, of in rooms if package == "tatl"} <= set().union(*house.FLOORS), "add it to house.FLOORS"
    assert {of for package, of in rooms if package == "analysis"} <= set(house.MAY_IMPORT), "add it to house.MAY_IMPORT"


def test_a_room_imports_its_own_floor_and_those_below() -> None:
    assert not house.upwards()


def test_no_modules_import_each_other() -> None:
    assert not house.circles()


def test_a_public_name_is_defined_once() -> None:
    """A second one is renamed to what it is, made private, or imported; the lower room keeps the word."""
    assert house.twice() == {}


def test_files_functions_and_folders_are_no_longer_than_a_reader_holds() -> None:
    assert not house.long_files(250)
    assert not {each for each, lines in house.functions().items() if lines > 50}
    assert not {each for each, count in house.entries().items() if count > 12}


@pytest.mark.parametrize("path", COMMANDS, ids=name)
def test_a_command_module_holds_the_entry_point_alone(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 30


def test_text_is_utf_8_whatever_the_locale() -> None:
    paths = [*MODULES, *sorted((ROOT / "benchmarks").glob("*.py"))]
    assert {name(path): calls for path in paths if (calls := of_the_locale(house.tree(path)))} == {}


def test_what_the_locale_would_decide_is_seen() -> None:
    for line in ("open(p)", "p.open('a')", "p.read_text()", "p.write_text(s)", "subprocess.run(w, text=True)"):
        assert of_the_locale(ast.parse(line)) == [line]
    for line in ("open(p, 'rb')", "p.open(encoding='utf-8')", "Image.open(p)", "subprocess.run(w)"):
        assert not of_the_locale(ast.parse(line))


def test_a_module_opens_with_a_sentence() -> None:
    empty = {path for path in MODULES if path.name == "__init__.py" and not path.read_text(encoding="utf-8")}
    docs = {name(path): ast.get_docstring(house.tree(path)) or "" for path in MODULES if path not in empty}
    assert [each for each, doc in docs.items() if len(doc.split()) < 4] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebooks_are_cleared_and_hold_no_logic(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    logic = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If)
    assert not any(isinstance(node, logic) for cell in code for node in ast.walk(ast.parse(cell.source)))
    assert packages(ast.parse("\n".join(cell.source for cell in code))) <= {"analysis"}


def test_there_are_modules_and_notebooks() -> None:
    assert len(MODULES) > 10 and NOTEBOOKS

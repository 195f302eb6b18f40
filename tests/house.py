"""What the house measures: rooms and who imports whom, names, lengths.  `python tests/house.py` prints the table."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tatl", "analysis")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# From the ground up: a room imports those of its own floor and below.  A new module at the top of tatl is added here.
FLOORS = (
    {"names", "machine", "__init__"},
    {"run", "losses", "cli"},
    {"data"},
    {"models"},
    {"training"},
    {"studies"},
    {"prediction"},
    {"commands"},
    {"__main__"},
)
# The rooms of analysis that each of them may import beside itself; the last six are commands, which nothing imports.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "curvature": set(),
    "tables": {"curvature"},
    "measure": {"curvature", "tables"},
    "pages": {"curvature", "tables"},
    "site": set(),
    "bound": {"curvature", "measure"},
    "spectrum": {"measure"},
    "stability": {"measure"},
    "suspects": {"measure"},
    "statistics": {"tables"},
    "report": {"site"},
}
NOT_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module(path: Path) -> str:
    """tatl/data/store.py is tatl.data.store, and a package is its folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


KNOWN = {module(path) for path in MODULES}


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules of the house that a file imports, wherever in it: `from tatl import cli` is one of tatl.cli."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & KNOWN or {str(node.module)}
    return frozenset(found & KNOWN - {module(path)})


def room(of: str) -> tuple[str, str]:
    """The package and the room of a module: tatl.data.store lies in the room data of tatl."""
    package, _, rest = of.partition(".")
    return package, rest.partition(".")[0] or "__init__"


def upwards() -> list[str]:
    """Imports that run against the order of rooms, as `importer imports module`."""
    return [
        f"{module(path)} imports {each}" for path in MODULES for each in sorted(imports(path))
        if not _runs_down(room(module(path)), room(each))
    ]  # fmt: skip


def _runs_down(importer: tuple[str, str], imported: tuple[str, str]) -> bool:
    if importer == imported:
        return True
    if importer[0] == "tatl":
        return imported[0] == "tatl" and _floor(imported[1]) <= _floor(importer[1])
    if imported[0] == "tatl":
        return importer[1] != "curvature"
    return imported[1] in MAY_IMPORT.get(importer[1], set()) | {"__init__"}


def _floor(of: str) -> int:
    return next((number for number, rooms in enumerate(FLOORS) if of in rooms), len(FLOORS))


def circles() -> list[str]:
    """Groups of modules that import each other, directly or through others."""
    edges = {module(path): imports(path) for path in MODULES}
    reached = {each: _reached(each, edges) for each in edges}
    groups = {frozenset(b for b in reached[a] if a in reached[b]) for a in edges if a in reached[a]}
    return sorted(" and ".join(sorted(group)) for group in groups)


def _reached(start: str, edges: dict[str, frozenset[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = edges[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def defined(path: Path) -> Iterator[str]:
    """The public names that a module defines at its top level; imported ones are not its own."""
    for node in tree(path).body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)):
            names = [node.name]
        else:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from (each for each in names if not each.startswith("_"))


def definitions() -> dict[str, list[str]]:
    """The modules that define each public name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for each in sorted(set(defined(path))):
            found[each].append(module(path))
    return found


def twice() -> dict[str, list[str]]:
    return {each: where for each, where in sorted(definitions().items()) if len(where) > 1}


def long_files(limit: int = 250) -> dict[str, int]:
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    return {each: count for each, count in lines.items() if count > limit}


def functions() -> dict[str, int]:
    """The lines of every function, its docstring among them."""
    return {
        f"{module(path)}.{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, FUNCTION)
    }


def entries() -> dict[str, int]:
    """The files and folders in each folder of the packages, the mark of a package not counted."""
    folders = {parent for path in MODULES for parent in path.parents if parent.is_relative_to(ROOT) and parent != ROOT}
    left_out = {"__init__.py", "__pycache__"}
    return {name(f): sum(each.name not in left_out for each in f.iterdir()) for f in sorted(folders)}


def lines_of_code(path: Path) -> int:
    """Lines that are no blank, comment or docstring."""
    text, documentation, code = path.read_text(encoding="utf-8"), set(), set()
    for node in ast.walk(tree(path)):
        if isinstance(node, (*FUNCTION, ast.Module, ast.ClassDef)) and ast.get_docstring(node) is not None:
            documentation |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOT_CODE:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - documentation)


def table() -> dict[str, int]:
    """The numbers by which the house is judged, in words."""
    lines = {path: lines_of_code(path) for path in MODULES}
    shown = [n for path, n in lines.items() if room(module(path)) in {("analysis", "pages"), ("analysis", "site")}]
    return {
        "modules": len(MODULES),
        "lines of code": sum(lines.values()),
        "of these for figures, sentences and pages": sum(shown),
        "public names": len(definitions()),
        "public names defined twice": len(twice()),
        "circles of imports": len(circles()),
        "imports against the order of rooms": len(upwards()),
        "entries of the largest folder": max(entries().values()),
        "lines of the longest function": max(functions().values()),
        "files over 250 lines": len(long_files()),
    }


if __name__ == "__main__":
    for what, number in table().items():
        print(f"{number:6,}  {what}")

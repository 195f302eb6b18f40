"""Notebooks run strictly: unknown parameters are errors, and the kernel is the interpreter that asked.

papermill only warns of a parameter that the notebook does not have, and starts whatever kernel is installed under
the notebook's kernel name; here both are fixed, so that a report is made by the code beside it.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import papermill
import zmq
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError

PARAMETERS = "parameters"
MARKER = "papermill-error-cell-tag"
ROOT = Path(__file__).resolve().parents[2]


class ThisInterpreter(AsyncKernelManager):
    """Starts kernels of the running interpreter, whatever kernels are installed."""

    def __init__(self, **options: Any) -> None:
        encryption = "auto" if zmq.has("curve") else "disabled"
        super().__init__(**{"transport_encryption": encryption, **options})

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"]
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "MPLBACKEND": "agg", "PYTHONWARNINGS": _warnings()}
        env = {"PYTHONPATH": os.pathsep.join(paths), **quiet}
        # ipykernel encrypts if asked to; else code and outputs travel in plain text between the processes.
        curve = {"supported_encryption": ["curve"]}
        return KernelSpec(argv=argv, display_name="Python 3", language="python", env=env, metadata=curve)


def _warnings() -> str:
    """The filters given, and that no page needs tqdm's widgets: its warning would stand on the page."""
    return ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:IProgress not found"]))


def tagged(notebook: nbformat.NotebookNode, tag: str) -> list[nbformat.NotebookNode]:
    """The cells that carry a tag."""
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def defaults(path: Path) -> dict[str, Any]:
    """The parameters a notebook declares in its one tagged cell: strings and numbers by name."""
    cells = tagged(nbformat.read(path, as_version=4), PARAMETERS)
    if len(cells) != 1:
        raise ValueError(f"{path.name} has {len(cells)} cells tagged {PARAMETERS!r}: it needs exactly one")
    found: dict[str, Any] = {}
    for node in ast.parse(cells[0].source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(node, ast.Assign) or not isinstance(target, ast.Name):
            raise ValueError(f"{path.name}: line {node.lineno} of the parameters cell is not `name = value`")
        try:
            found[target.id] = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(f"{path.name}: parameter {target.id} is not a plain string or number") from None
    return found


def check(path: Path, given: Mapping[str, Any]) -> None:
    """ValueError if a parameter is not the notebook's, or of another type than its default."""
    known = defaults(path)
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{path.name} has no parameter {', '.join(unknown)}: it has {', '.join(known) or 'none'}")
    for name, value in given.items():
        wanted = (int, float) if isinstance(known[name], float) else type(known[name])
        if not isinstance(value, wanted):
            raise ValueError(f"{path.name}: parameter {name}={value!r} is not like its default {known[name]!r}")


def execute(
    path: Path, parameters: Mapping[str, Any], scratch: Path, progress: bool = True, line: int = 0
) -> nbformat.NotebookNode:
    """Run a notebook with the parameters; a cell that fails leaves its error in the notebook that comes back.

    The bar of its cells stands `line` lines below the cursor of a terminal; elsewhere there is none.  Raises ValueError
    for parameters that do not fit, nbclient's DeadKernelError if the kernel dies.
    """
    check(path, parameters)
    out = scratch / path.name
    with suppress(PapermillExecutionError):  # the error stays in the notebook, for its page to show
        papermill.execute_notebook(
            path,
            out,
            dict(parameters),
            kernel_name="python3",
            language="python",
            progress_bar={"desc": path.stem, "position": line, "leave": False, "disable": None} if progress else False,
            kernel_manager_class=ThisInterpreter,
        )
    executed = nbformat.read(out, as_version=4)
    executed.cells = [cell for cell in executed.cells if MARKER not in cell.metadata.get("tags", [])]
    return executed


def failure(notebook: nbformat.NotebookNode) -> str:
    """The error a cell ended with, in one line; empty if none did."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"{output.ename}: {output.evalue}"
    stopped = notebook.metadata.get("papermill", {}).get("exception")
    return "a cell failed and could not show its error, most likely because memory ran out" if stopped else ""

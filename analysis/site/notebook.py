"""Notebooks run strictly: unknown parameters are errors, and the kernel is the interpreter that asked.

papermill only warns of a parameter that the notebook does not have, and starts whatever kernel is installed under
the notebook's kernel name; here both are fixed, so that a report is made by the code beside it.
"""

from __future__ import annotations

import ast
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from papermill.exceptions import PapermillExecutionError

PARAMETERS = "parameters"
MARKER = "papermill-error-cell-tag"
ROOT = Path(__file__).resolve().parents[2]
LONGEST_FOLDER = 80  # bytes of a path that leave a socket in it the 104 that every system allows


def kernel_of(page: Path, folder: str) -> type[AsyncKernelManager]:
    """Starts kernels of the running interpreter, whatever kernels are installed, spoken to by sockets in a folder.

    The code that draws in them finds in TATL_PAGE which page is being made, and lays its files beside it.
    """

    class Kernel(AsyncKernelManager):
        def __init__(self, **options: Any) -> None:
            local = {} if sys.platform == "win32" else {"transport": "ipc", "ip": f"{folder}/kernel"}
            super().__init__(**local, **options)

        @property
        def kernel_spec(self) -> KernelSpec:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"]
            env = {
                "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
                # No page needs tqdm's widgets: its warning would stand on the page.
                "PYTHONWARNINGS": ",".join([*filter(None, [os.environ.get("PYTHONWARNINGS")]), "ignore:IProgress"]),
                "PYDEVD_DISABLE_FILE_VALIDATION": "1",
                "MPLBACKEND": "agg",
                "TATL_PAGE": str(page.resolve()),
            }
            return KernelSpec(argv=argv, display_name="Python 3", language="python", env=env)

    return Kernel


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
        try:
            assert isinstance(node, ast.Assign)
            found[ast.unparse(node.targets[0])] = ast.literal_eval(node.value)
        except (AssertionError, ValueError):
            wrong = ast.unparse(node)
            raise ValueError(f"{path.name}: {wrong} among the parameters is not `name = string or number`") from None
    return found


def check_parameters(path: Path, given: Mapping[str, Any]) -> None:
    """ValueError if a parameter is not the notebook's, or of another type than its default."""
    known = defaults(path)
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{path.name} has no parameter {', '.join(unknown)}: it has {', '.join(known) or 'none'}")
    for name, value in given.items():
        wanted = (int, float) if isinstance(known[name], float) else type(known[name])
        if not isinstance(value, wanted):
            raise ValueError(f"{path.name}: parameter {name}={value!r} is not like its default {known[name]!r}")


def run_notebook(path: Path, parameters: Mapping[str, Any], page: Path, progress: bool = True) -> nbformat.NotebookNode:
    """Run a notebook with the parameters; a cell that fails leaves its error in the notebook that comes back.

    Files for the page are laid beside it.  A bar counts the cells on a terminal; elsewhere there is none.  Raises
    ValueError for parameters that do not fit, nbclient's DeadKernelError if the kernel dies.
    """
    check_parameters(path, parameters)
    long = len(os.fsencode(tempfile.gettempdir())) > LONGEST_FOLDER
    # nbclient leaves open the event loop that each thread has
    with tempfile.TemporaryDirectory(dir="/tmp" if long else None) as folder, closing(ensure_event_loop()):
        out = Path(folder) / path.name
        with suppress(PapermillExecutionError):  # the error stays in the notebook, for its page to show
            papermill.execute_notebook(
                path,
                out,
                dict(parameters),
                kernel_name="python3",
                language="python",
                progress_bar={"desc": path.stem, "leave": False, "disable": None} if progress else False,
                kernel_manager_class=kernel_of(page, folder),
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

"""The engine of curvature is a library of its own: no tatl, no pandas, any module, any loss per image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import analysis.curvature as engine

FOLDER = Path(engine.__file__).parent


def imported(modules: str, packages: set[str]) -> str:
    """Which packages a fresh interpreter has loaded after it imported the modules."""
    code = f"import sys, {modules}\nprint(*{{name.partition('.')[0] for name in sys.modules}} & {packages})"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    return made.stdout.strip()


def test_it_imports_neither_tatl_nor_pandas() -> None:
    modules = ", ".join(f"analysis.curvature.{path.stem}" for path in FOLDER.glob("*.py") if path.stem != "__init__")
    assert imported(modules, {"torch", "tatl", "pandas"}) == "torch"


def test_the_formulas_need_no_torch() -> None:
    assert imported("analysis.bound, analysis.curvature.stability", {"torch", "tatl", "pandas"}) == ""


def test_the_example_of_its_docstring_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """A classifier, from its images to the bound."""
    _, first, rest = str(engine.__doc__).partition("    import torch\n")
    exec(dedent(first + rest), {})
    assert capsys.readouterr().out.startswith("Bound(risk=")


def test_what_it_gives_is_there() -> None:
    assert all(callable(getattr(engine, name)) for name in engine.__all__)
    with pytest.raises(AttributeError, match="no attribute 'eigenvalues'"):
        engine.eigenvalues  # noqa: B018


def test_a_loss_that_is_one_number_for_all_images_is_told_what_to_do() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    with pytest.raises(ValueError, match=r'shape \(\), and one number per image .*F.cross_entropy.*reduction="none"'):
        engine.spectral_norms(model, torch.ones(2, 3, 2, 2), torch.tensor([1, 4]), F.cross_entropy)

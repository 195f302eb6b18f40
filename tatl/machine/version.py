"""Which code made something: the commit, marked where the code beside it has changed since, and the libraries."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "lightning", "timm", "segmentation-models-pytorch", "numpy", "scipy", "pandas")
HERE = Path(__file__).resolve().parents[1]
MADE = ":(exclude)reports"  # what commands write into the checkout is no change of the code


@cache
def commit() -> str:
    """The commit of the code, `-dirty` after it if tracked files differ; empty outside a git checkout.

    As this process found it first, which is when its code was read.
    """
    try:
        name = _git("describe", "--always")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", MADE)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{name}-dirty" if name and changed else name


@cache
def versions() -> dict[str, str]:
    """The versions of the libraries that decide what is learnt and measured."""
    return {library: version(library) for library in LIBRARIES}


def _git(*words: str) -> str:
    asked = ["git", "-C", str(HERE.parent), *words]
    return subprocess.run(asked, capture_output=True, encoding="utf-8", check=True).stdout.strip()

"""pyproject.toml names the packages and the oldest versions, constraints.txt pins them, environment.yml uses both."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    return dict(line.replace("_", "-").lower().split("==") for line in lines)


def test_every_dependency_is_pinned_once() -> None:
    named = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    missing = [r for r in map(Requirement, named) if r.name.replace("_", "-").lower() not in pins()]
    assert not missing


@pytest.mark.parametrize("line", PROJECT["dependencies"])
def test_a_dependency_has_a_lower_bound_which_its_pin_meets(line: str) -> None:
    asked = Requirement(line)
    assert [each.operator for each in asked.specifier] == [">="]
    assert asked.specifier.contains(pins()[asked.name.replace("_", "-").lower()])


def test_torch_and_torchvision_are_a_pair() -> None:
    from importlib.metadata import requires

    needed = next(r for r in map(Requirement, requires("torchvision") or []) if r.name == "torch")
    assert pins()["torch"] in needed.specifier


def test_environment_installs_the_same_project_with_the_same_pins() -> None:
    packages = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert packages[-1] == {"pip": ["--constraint constraints.txt", "--editable .[test]"]}
    python = next(p for p in packages if isinstance(p, str) and p.startswith("python"))
    assert python.removeprefix("python") == PROJECT["requires-python"]
    others = [p for p in packages if isinstance(p, str)]
    assert {re.split("[><=]", p)[0] for p in others} == {"python", "make", "pip"}


def test_installed_versions_are_the_pinned_ones() -> None:
    from importlib.metadata import version

    for line in PROJECT["dependencies"]:
        name = Requirement(line).name
        assert version(name) == pins()[name.replace("_", "-").lower()], name

"""What answers at once imports nothing that takes seconds, and the counts that it reads are those of the networks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tatl.names import SHAPES
from tatl.studies.runtime.effort import count, known, network_count

HEAVY = ("torch", "lightning", "timm", "segmentation_models_pytorch")
LINES = {
    "tatl": ["--help", "train --help", "study variants --plan", "study backbones --plan"],
    "analysis.bound": ["--help", "--plan"],
    "analysis.stability": ["--help"],
    "analysis.suspects": ["--help"],
}


@pytest.mark.skipif(any(Path(each).exists() for each in ("/dev/nvidiactl", "/dev/dxg")), reason="a GPU is asked for")
@pytest.mark.parametrize(("module", "line"), [(module, line) for module in LINES for line in LINES[module]])
def test_help_and_plans_need_no_torch(module: str, line: str, tmp_path: Path) -> None:
    heavy = (*HEAVY, "numpy") if (module, line) == ("tatl", "--help") else HEAVY
    script = f"""
import runpy, sys
sys.argv = [{module!r}, *{line.split()}]
try:
    runpy.run_module({module!r}, run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
assert not [name for name in {heavy} if name in sys.modules]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout and not any(tmp_path.iterdir())


@pytest.mark.parametrize(("shape", "backbone"), [each for each in known() if each[1] in ("efficientnet-b0", "vgg16")])
def test_counts_of_known_networks_are_theirs(shape: str, backbone: str) -> None:
    assert count(shape, backbone) == network_count(shape, backbone)


@pytest.mark.large
def test_counts_of_all_known_networks_are_theirs() -> None:
    wrong = {each: found for each, found in known().items() if count(*each) != found}
    assert not wrong


def test_what_is_not_known_is_counted() -> None:
    assert all((shape, "resnet34") not in known() for shape in SHAPES)
    assert network_count("link", "resnet34") == count("link", "resnet34")
    with pytest.raises(ValueError, match="resnet999"):
        network_count("link", "resnet999")

"""Every command line that the docstring of a benchmark shows runs, at a small size and on a CPU."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from analysis.curvature.norms import Options, spectral_norms
from tatl import cli
from tatl.data.case import Size
from tatl.data.phantom.drawing import Phantom
from tatl.data.store import prepare
from tatl.studies.execution.crew import Crew
from tatl.studies.settings import load_preset
from toy import SMALL as SMALLEST

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
LINES = [  # what a line prints or takes stands behind a gap
    re.split(r"\s{2,}|\"\"\"", line)[0]
    for name in SCRIPTS
    for line in re.findall(r"python benchmarks/[^\n]*", (ROOT / "benchmarks" / f"{name}.py").read_text())
]
SMALL = {
    "curvature": f"--device cpu --backbones {SMALLEST} --size 32x32 --cases 10 --images 1 --rounds 1 --pyhessian false",
    "frozen": "--device cpu --size 32x64 --cases 30 --epochs 1 --rounds 1 --full 32x64 --shapes link --batch 8 "
    f"--backbone {SMALLEST}",
    "training": "--device cpu --size 32x64 --cases 8 --batches 2 --rounds 1 --steps 2 --camera 64x96 --compiled false",
    "prepare": "--cases 2",
    "report": "--preset smoke --install false",
    "gpu": "--device cpu --only store",
    "phantom": "--cases 4 --repeats 1",
    "tables": "--folds 1 --cases 30 --size 32x64",
    "cluster": "--ray false --simulated 16",
    "faults": "--faults 1 --nodes 2 --seeds 1 --epochs 1",
    "suspects": "--cases 30 --size 32x64 --preset smoke --epochs 1 --right 1 --workers 1 --folder RUNS",
}
FIRST = [next(line for line in LINES if f"/{name}.py" in line) for name in SCRIPTS]  # others: with large networks
FIXED = {"--figure-7": "2", "--scales": "1", "--precisions": "32,bf16"}


def smaller(line: str) -> list[str]:
    """The options of a line, each value a small one, and those that make it small."""
    name = Path(line.split()[1]).stem
    words, small = shlex.split(line)[2:], shlex.split(SMALL[name])
    for at, word in enumerate(words):
        if word in FIXED and words[at + 1]:
            words[at + 1] = FIXED[word]
    if name == "curvature":
        small += ["--runs", "RUNS", "--store", "STORE", *([] if "--scales" in words else ["--scales", "1"])]
    return [*words, *small]


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where the types of its options are looked up
    spec.loader.exec_module(module)
    return module


def test_every_benchmark_shows_how_it_is_started() -> None:
    assert sorted({Path(line.split()[1]).stem for line in LINES}) == SCRIPTS == sorted(SMALL)


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, marks=[] if line in FIRST and "faults" not in line else pytest.mark.large) for line in LINES],
)
def test_a_command_line_of_a_docstring_runs(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = Path(line.split()[1]).stem
    places = {"RUNS": str(tmp_path / "runs"), "STORE": str(tmp_path / "store"), "OUT": str(tmp_path / "out")}
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *(places.get(word, word) for word in smaller(line))])
    if name == "faults":
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'tatl[cluster]'")
    module = loaded(name, monkeypatch)
    if name == "curvature":
        smoke = load_preset("smoke")
        monkeypatch.setattr(module, "load_preset", lambda _: smoke)
        monkeypatch.setattr(module, "BOUND_STARTS", ("tatl",))
        monkeypatch.setattr(module, "Crew", partial(Crew, workers=1))
        monkeypatch.setattr(module, "Options", partial(Options, max_products=3))
        monkeypatch.setattr(module, "spectral_norms", lambda *a, **k: spectral_norms(*a, **k | {"max_products": 3}))
    if name == "prepare":
        monkeypatch.setattr(module, "WIDTH", 400)
        monkeypatch.setattr(module, "HEIGHT", 300)
        monkeypatch.setattr(module, "SIZE", type(module.SIZE)(48, 64))
    if name == "gpu":
        monkeypatch.setattr(module, "LARGE", module.SMALL)
    if name == "report":  # making the smoke report is another test's
        prepare(Phantom(30, enrich=True), tmp_path / "store", Size(32, 64), progress=False)
        monkeypatch.setattr(
            module, "clone", lambda folder, _: shutil.copytree(tmp_path / "store", folder / "stores/phantom-smoke")
        )
        monkeypatch.setattr(module, "report", lambda *_: (61.0, 30.0, int(2e9)))
        monkeypatch.setattr(module, "timed", lambda *_: 0.3)
        monkeypatch.setattr(module, "OTHERS", {})
    if name in ("prepare", "gpu"):
        module.main()
    else:
        assert cli.script(module.main) == 0, capsys.readouterr().err
    assert capsys.readouterr().out


def test_what_a_gpu_is_asked_loses_nothing_at_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = loaded("gpu", monkeypatch)
    slow = "-c \"import time; print('begun', flush=True); time.sleep(60)\""
    parts = [gpu.Part("slow", 1, slow), gpu.Part("wrong", 9, "-c 1/0"), gpu.Part("right", 9, "-c \"print('{size}')\"")]
    monkeypatch.setattr(gpu, "PARTS", (*parts, gpu.Part("leaf", 9, "-c 1")))
    monkeypatch.setattr(gpu, "LEAVES", ())
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert gpu.main() == 1
    found = json.loads((tmp_path / "out/gpu.json").read_text())["parts"]
    assert [each["status"] for each in found] == ["out of time", 1, 0, "left out"]
    assert found[0]["last"][0] == "begun" and "ZeroDivisionError" in found[1]["last"][-1]
    assert found[2]["last"] == ["384x512"]
    log = (tmp_path / "out/gpu.log").read_text()
    assert all(word in log for word in ("== slow", "begun", "ZeroDivisionError", "384x512"))


def test_losses_of_two_precisions_are_compared_run_by_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = loaded("gpu", monkeypatch).compared
    assert compared(tmp_path) == ["no run was finished in both precisions"]
    for number, (precision, seed, loss) in enumerate((("32", 0, 0.5), ("bf16", 0, 0.75), ("32", 1, 0.1))):
        folder = tmp_path / str(number)
        folder.mkdir()
        recipe = {"precision": precision, "epochs": 1}
        (folder / "run.json").write_text(json.dumps({"seed": seed, "recipe": recipe, "parent": {"recipe": recipe}}))
        (folder / "history.csv").write_text(f"step,split,loss\n0,validation,0.0\n1,train,0.0\n1,validation,{loss}\n")
        (folder / "weights.safetensors").touch()
    (line,) = compared(tmp_path)
    assert line.startswith("1 runs in both precisions") and "0.5000 in 32" in line and "at most 0.2500 apart" in line


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_each_gradient_of_a_convolution_has_the_flop_of_the_convolution(
    kind: type[nn.Module], groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {torch.ops.aten.convolution_backward: loaded("curvature", monkeypatch).backward_flop}
    layer, image = kind(8, 8, 3, groups=groups, bias=False), torch.randn(1, 8, 9, 7, requires_grad=True)
    with FlopCounterMode(display=False) as once:
        made = layer(image)
    with FlopCounterMode(display=False, custom_mapping=counts) as twice:
        made.sum().backward()
    assert twice.get_total_flops() == 2 * once.get_total_flops() > 0

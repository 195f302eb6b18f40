"""The README's command lines do what they say: each is run in turn, on data of smoke size.

Those in blocks first, then those in the text, its report last: of what the others wrote.  A word in capitals that names
no file stands for something, and its line is skipped; a module that the text names without options is looked for.
"""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import shlex
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tatl.data.folds import split
from tatl.data.store import Store
from test_readers import isic2017, isic2018, mask, picture

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
INLINE = re.findall(r"`((?:python|make) [^`]+)`", README)
LINES = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
SPOKEN = [re.sub(r"\s+", " ", line) for line in INLINE if line.startswith("python -m ")]
NAMED = sorted({line.split()[2] for line in SPOKEN if len(line.split()) == 3})  # modules without options
WHOLE = sorted((line for line in SPOKEN if len(line.split()) > 3), key=lambda line: "analysis.report" in line)
MODULES = list(dict.fromkeys([*(line for line in LINES if line.startswith("python -m ")), *WHOLE]))
SMALLER = {"--size": "32x64", "--cases": "30", "--preset": "smoke"}
TRAINING = ("tatl train", "tatl study", "analysis.bound", "analysis.spectrum")  # take --preset, quick where none is
STOPPED = {
    "tatl study": ["--attributes", "streaks"],
    "analysis.bound": ["--images", "2", "--max-products", "6", "--attributes", "streaks"],
    "analysis.spectrum": ["--images", "4", "--probes", "2", "--steps", "4", "--products", "4", "--top", "1"],
}


def smaller(line: str) -> list[str]:
    """The words after `python -m`, with every size and preset the smallest."""
    words = shlex.split(re.sub(r"\s+", " ", line).removeprefix("python -m "))
    for option, value in SMALLER.items():
        if option in words:
            words[words.index(option) + 1] = value
    if words[0] == "analysis.bound" and "--images" in words:
        del words[words.index("--images") : words.index("--images") + 2]
    if "--preset" not in words and " ".join(words).startswith(TRAINING):
        words += ["--preset", "smoke"]
    words += STOPPED.get(words[0], STOPPED.get(" ".join(words[:2]), []))
    if words[1] == "predict":  # smoke starts at random weights, and the whole of TATL from these has its own name
        words = [{"stage123": "stage123-scratch"}.get(word, word) for word in words]
    return [re.sub(r"^(reports/.*?)(quick|paper)\b", r"\1smoke", word) for word in words]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader of the README stands: official folders, data of one's own, a picture, true masks."""
    here = tmp_path_factory.mktemp("reader")
    isic2018(here / "ISIC2018", 30, version="_v3")
    isic2017(here / "ISIC2017", 12)
    table = re.search(r"^case,image,.*?(?=^```)", README, flags=re.MULTILINE | re.DOTALL)
    assert table
    head, row = table[0].splitlines()
    people = [f"p{number}" for number in range(1, 13)]  # one would be too few for folds
    for number, name in enumerate(people):
        picture(here / f"MYDATA/images/{name}_left.jpg", number)
        mask(here / f"MYDATA/masks/{name}_left_lesion.png", (10, 5, 30, 25))
        mask(here / f"MYDATA/masks/{name}_left_streaks.png", (12, 8, 20, 12))
    (here / "MYDATA/cases.csv").write_text("\n".join([head, *(row.replace("p1", name) for name in people)]))
    truth = here / "ISIC2018/ISIC2018_Task2_Training_GroundTruth_v3"
    (here / truth.name).symlink_to(truth)
    shutil.copytree(ROOT / "reports/quick/tables", here / "reports/quick/tables")
    shutil.copytree(ROOT / "examples", here / "examples")
    leaf = np.zeros((32, 64, 3), np.uint8)
    leaf[4:28, 8:56], leaf[8:16, 20:30] = (0, 176, 0), (255, 0, 0)
    for name, colours in (("images/train/1.jpg", leaf + 9), ("annotations/train/1_mask.png", leaf)):
        (here / "LEAVES" / name).parent.mkdir(parents=True)
        Image.fromarray(colours).save(here / "LEAVES" / name)
    (here / "LEAVES/dataset.csv").write_text("id,phoma,miner,rust,cercospora\n1,0,0,1,0\n")
    picture(here / "COCO/a.jpg", 0)
    with Image.open(here / "COCO/a.jpg") as opened:
        width, height = opened.size
    spot = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2, 2, 9, 2, 9, 9]]}
    image = {"id": 1, "file_name": "a.jpg", "height": height, "width": width}
    tables = {"images": [image], "categories": [{"id": 1, "name": "spot"}], "annotations": [spot]}
    (here / "COCO/instances.json").write_text(json.dumps(tables))
    return here


def held_out(folder: Path) -> str:
    """A picture beside the reader that fold 0 of the smoke preset did not train on."""
    store = Store.open(folder / "stores/isic2018")
    name = store.cases["id"][split(store, 0, 3).test[0]] + ".jpg"
    shutil.copy(folder / "ISIC2018/ISIC2018_Task1-2_Training_Input" / name, folder)
    return name


def test_the_readme_shows_commands() -> None:
    shown = {" ".join(line.split()[2:4]) for line in MODULES}
    assert {"tatl prepare", "tatl study", "tatl predict", "tatl score"} <= shown
    assert any(line.startswith("python -m analysis.bound") for line in MODULES)


@pytest.mark.parametrize("line", MODULES)
def test_a_command_of_the_readme_runs(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [held_out(folder) if word == "IMAGE.jpg" else word for word in smaller(line)]
    monkeypatch.chdir(folder)
    assert [word for word in words if word.isupper() and not Path(word).exists()] == [], "a placeholder is not known"
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", *words])
    with pytest.raises(SystemExit) as ended, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* found in sys.modules after import of package")  # by a test before
        runpy.run_module(words[0], run_name="__main__", alter_sys=False)
    assert ended.value.code in (0, None)


def test_lines_of_the_text_are_among_those_that_run() -> None:
    assert set(SPOKEN) - set(MODULES) == {f"python -m {name}" for name in NAMED}


def test_its_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    exec(code.replace('"efficientnet-lite0"', '"tu-test_efficientnet"'), {})
    first, second, value = re.findall(r"\d\.\d+", capsys.readouterr().out)  # a norm an image, and the bound
    assert min(float(first), float(second), float(value)) > 0


@pytest.mark.parametrize("name", NAMED)
def test_a_module_that_the_readme_names_is_there(name: str) -> None:
    assert importlib.util.find_spec(name) is not None


@pytest.mark.parametrize("line", [line for line in [*LINES, *INLINE] if line.startswith("python benchmarks/")])
def test_a_benchmark_has_the_options_that_the_readme_gives_it(line: str) -> None:
    script, *options = shlex.split(re.sub(r"\s+", " ", line).removeprefix("python "))
    text = (ROOT / script).read_text()
    for option in [word.removeprefix("--") for word in options if word.startswith("--")]:
        assert re.search(rf"\b{option}\b", text), f"{script} has no --{option}"


@pytest.mark.parametrize("line", [line for line in [*LINES, *INLINE] if line.startswith("make ")])
def test_make_has_the_targets_that_the_readme_names(line: str) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert line.split()[1] in targets

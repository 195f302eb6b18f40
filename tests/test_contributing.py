"""CONTRIBUTING.md is true: a data set, a shape, a start and a study are added as it says, and trained on a backbone.

They are added to a copy of the project, since a name missing in one place shows there only: from the command line to
the tables.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from test_readers import mask, picture

ROOT = Path(__file__).resolve().parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
LINES = 10
BACKBONE = "mobilenet_v2"


class Insert(NamedTuple):
    """Text put before (a class, a function) or after (a name) what a pattern matches once; `name` is its registry."""

    path: str
    pattern: str
    text: str
    name: str = ""

    def into(self, text: str) -> str:
        changed, count = re.subn(self.pattern, lambda found: self.text.replace("@", found[0]), text, flags=re.DOTALL)
        assert count == 1, f"{self.pattern!r} is {count} times in {self.path}"
        return changed


READER = '''"""A folder of <id>.jpg, each with masks <id>_<attribute>.png of what it shows."""

from tatl.data.images.files import FileReader, Source, existing_folder


class Pairs(FileReader):
    name = "pairs"

    def __init__(self, root):
        folder = existing_folder(root)
        images = sorted(folder.glob("*.jpg"))
        masks = {p: {m.stem[len(p.stem) + 1 :]: m for m in folder.glob(f"{p.stem}_*.png")} for p in images}
        names = sorted({name for each in masks.values() for name in each})
        sources = [Source(p.stem, p.stem, p, None, dict.fromkeys(names) | masks[p]) for p in images]
        super().__init__(folder, names, sources, [])
'''
DECODER = '''class FlatDecoder(nn.Module):
    """The coarsest features alone, narrowed and up-sampled: no skips."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.narrow = conv_bn_relu(channels[-1], OUT_CHANNELS, 1)

    def forward(self, image: Tensor, features: list[Tensor]) -> Tensor:
        return up(self.narrow(features[-1]), image)


@'''
STUDY = '''def _decoder(planner: Planner, asked: Asked) -> list[Member]:
    """Does the decoder of the agnostic network matter, or its encoder alone?"""
    planner.require_union("decoder")
    return [m for row in _chosen(asked.variants, ("tatl", "tatl-encoder"), "variant") for m in planner.row(row, row)]


@'''
START = '"tatl-encoder": StartRule(ENCODER),'
THINGS = {
    "data set": Insert("tatl/data/pairs.py", "^$", READER, "Reader"),
    "shape": Insert("tatl/models/decoders.py", r"DECODERS: ", DECODER),
    "start": Insert("tatl/models/starts.py", r"START_RULES = \{\n", f"@    {START}\n", "START_RULES"),
    "study": Insert("tatl/studies/catalogue.py", r"@dataclass\(frozen=True\)\nclass Study:", STUDY),
}
PLACES = {
    "data set": [
        Insert(
            "tatl/data/readers/__init__.py", r"DATA = \(", "from tatl.data.pairs import Pairs\n\n@'pairs', ", "DATA"
        ),
        Insert(
            "tatl/data/readers/__init__.py", r"    if data == \"manifest\":", "    if data == 'pairs':\n@", "reader"
        ),
        Insert(
            "tatl/data/readers/__init__.py", r"    if data == 'pairs':\n", "@        return Pairs(root)\n", "reader"
        ),
        Insert("tatl/commands.py", r"data: Literal\[", '@"pairs", ', "Literal"),
    ],
    "shape": [
        Insert("tatl/models/decoders.py", r"PyramidDecoder\)", "PyramidDecoder, FlatDecoder)", "DECODERS"),
        Insert("tatl/names.py", r"SHAPES = \([^)]*", '@, "flat"', "SHAPES"),
    ],
    "start": [
        Insert("tatl/names.py", r"\nSTARTS = \(", '@"tatl-encoder", ', "STARTS"),
        Insert("analysis/pages/theme.py", r"STYLES = \{\n", '@    "tatl-encoder": ("#7b3294", "H"),\n', "STYLES"),
    ],
    "study": [
        Insert(
            "tatl/studies/catalogue.py",
            r"STUDIES = \{\n",
            '@    "decoder": Study("none", _decoder),\n',
            "STUDIES",
        ),
        Insert("tatl/studies/settings.py", r"StudyName = Literal\[", '@"decoder", ', "StudyName"),
    ],
}
TRAINED = """
import json, sys
from tatl.__main__ import main
from tatl import __file__ as where
from analysis.pages.theme import palette

small = ["--preset", "smoke", "--shape", "flat", "--backbone", sys.argv[1], "--batch", "4", "--attribute", "ring"]
small += ["--store", "mine", "--device", "cpu", "--workers", "1"]
done = [main(["prepare", "--data", "pairs", "--root", "data", "--store", "mine", "--size", "32x64"])]
done += [main(["study", "decoder", *small, "--tables", "tables"])]
done += [main(["study", "paradigms", "--variants", "tatl-encoder", *small, "--plan"])]
print(json.dumps({"where": where, "done": done, "colour": palette(["tatl-encoder"], [])["tatl-encoder"]}))
"""


def row(what: str) -> str:
    found = [line for line in CONTRIBUTING.splitlines() if line.startswith(f"| a {what} |")]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("what", THINGS)
def test_its_row_names_every_place(what: str) -> None:
    places = PLACES[what] if what == "data set" else [THINGS[what], *PLACES[what]]
    for place in places:
        assert f"`{place.path}`" in row(what) and f"`{place.name}" in row(what), place.name


@pytest.mark.parametrize("what", THINGS)
def test_it_takes_fewer_than_ten_lines_besides_the_thing(what: str) -> None:
    paths = {place.path for place in PLACES[what]}
    count = 0
    for path in paths:
        old = (ROOT / path).read_text()
        new = old
        for place in PLACES[what]:
            new = place.into(new) if place.path == path else new
        count += sum(line.startswith("+ ") for line in difflib.ndiff(old.splitlines(), new.splitlines()))
    assert 0 < count < LINES and "ten lines" in CONTRIBUTING


def test_a_backbone_takes_nothing() -> None:
    assert row("backbone").startswith("| a backbone | nothing: ")
    source = "".join(path.read_text() for folder in ("tatl", "analysis") for path in (ROOT / folder).rglob("*.py"))
    assert BACKBONE not in source


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with all of them added, and a folder of pairs."""
    here = tmp_path_factory.mktemp("house")
    for folder in ("tatl", "analysis"):
        shutil.copytree(ROOT / folder, here / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for what, thing in THINGS.items():
        for place in (thing, *PLACES[what]):
            path = here / place.path
            path.write_text(place.into(path.read_text() if path.exists() else ""))
    for number in range(15):
        picture(here / f"data/case{number}.jpg", number)
        if number % 3:
            mask(here / f"data/case{number}_ring.png", (10 + number, 5, 30, 25))
    return here


def test_what_was_added_is_trained(house: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(house), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", TRAINED, BACKBONE]
    ended = subprocess.run(words, cwd=house, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert Path(told["where"]).is_relative_to(house) and told["done"] == [0, 0, 0], ended.stderr
    assert [round(255 * part) for part in told["colour"]] == [0x7B, 0x32, 0x94]
    table = pd.read_csv(house / "tables/decoder.csv").query("attribute == 'ring' and shape == 'mean'")
    assert table["variant"].tolist() == ["tatl", "tatl-encoder"] and table["dice"].between(0, 1).all()
    folders = [path.parent.relative_to(house) for path in house.glob("runs/mine/*/*/*/weights.safetensors")]
    assert {path.parts[3] for path in folders} == {
        f"flat-{BACKBONE}-{start}" for start in ("random", "tatl", "tatl-encoder")
    }

"""Every notebook, cell by cell: it takes the same parameters, and each caption says where its numbers are from."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from matplotlib.figure import Figure

import fake_bound
import fake_comparison
import fake_stability
import fake_study
import fake_suspects
from analysis.pages import html as show
from analysis.site import build as report
from analysis.site import notebook as execute

NOTEBOOKS = report.NOTEBOOKS
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
STUDIES = ("paradigms", "convergence", "data-size", "backbones", "crop")
OTHERS = ("globules", "milia", "pigment", "negative network", "negative_network")


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made and not rendered, which takes most of the time."""

    def figure(drawn: Figure, alt: str, reading: str = "", caption: str = "") -> show.Html:
        return show.Html(f'<figure><p class="reading">{reading}</p><p class="caption">{caption}</p></figure>')

    monkeypatch.setattr(show, "figure", figure)


WINNERS = tuple(fake_study.WINNERS)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fake_study.write(tmp_path_factory.mktemp("made") / "tables", variants=(*fake_study.VARIANTS, *WINNERS))
    fake_bound.write(folder, spectrum=True, distance=True)
    fake_stability.write(folder)
    fake_suspects.write(folder)
    for study in STUDIES:
        fake_comparison.write(folder, study)
    return folder


def shown(name: str, **given: Any) -> dict[str, list[str]]:
    """The HTML of every cell of a notebook, run here with the parameters given, by the cell's first tag."""
    scope: dict[str, Any] = {}
    found: dict[str, list[str]] = {}
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type != "code":
            continue
        *body, last = ast.parse(cell.source).body
        tag = next(iter(cell.metadata.get("tags", [])), "")
        value = last.value if isinstance(last, ast.Expr) else None
        exec(compile(ast.Module(body if value else [*body, last], []), name, "exec"), scope)
        if value:
            found.setdefault(tag, []).append(eval(compile(ast.Expression(value), name, "eval"), scope).text)
        if tag == execute.PARAMETERS:
            scope |= given
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_notebook_takes_tables_attributes_and_a_name_of_the_data(name: str, tables: Path) -> None:
    """So that `analysis.report --study all --parameters.attributes=streaks` works."""
    execute.check_parameters(
        NOTEBOOKS / f"{name}.ipynb", {"tables": "", "attributes": "streaks", "dataset": "drawn on Monday"}
    )
    found = shown(name, tables=str(tables), attributes="streaks", dataset="drawn on Monday")
    page = re.sub(r"data:[^\"]*", "", "".join(html for cells in found.values() for html in cells))
    page = re.sub(r"chosen to show .*?rare ones first", "", page)  # the study chose images, by all its attributes
    assert "drawn on Monday" in page and "store" in page and not [word for word in OTHERS if word in page]


@pytest.mark.parametrize("name", NAMES)
def test_every_page_says_where_its_numbers_are_from(name: str, tables: Path) -> None:
    found = shown(name, tables=str(tables))
    captions = re.findall(r'<p class="caption">(.*?)</p>', "".join(html for cells in found.values() for html in cells))
    named = [caption for caption in captions if re.search(r"(phantom|phantom-quick), \d+ cases at 96x128", caption)]
    assert named
    if name != "data":  # no network is in its numbers
        seeds = "seeds 0, 1 and 2" if name in ("bound", "stability") else "seed 0"
        assert any("source domain textures" in caption and f"{seeds}, fold 0 of 5" in caption for caption in named)


def test_the_page_of_the_variants_knows_both_winners(tables: Path) -> None:
    found = shown("variants", tables=str(tables))
    page = "".join(html for cells in found.values() for html in cells)
    assert "ISIC 2017 winner" in page and "ISIC 2018 winner" in page and "1st" not in page
    assert "isic2018-winner is the average of pyramid-resnet152" in page


PARTS = {
    "crop": "3 of 4 offsets in px at height 384 (not 20)",
    "backbones": "3 of 5 backbones (not resnet152 and inceptionresnetv2)",
    "data_size": "3 of 4 shares of the training groups (not 60 %)",
    "paradigms": "", "convergence": "", "variants": "",
}  # fmt: skip


@pytest.mark.parametrize("name, part", PARTS.items())
def test_a_part_of_a_study_says_what_was_not_measured(name: str, part: str, tables: Path) -> None:
    (said,) = shown(name, tables=str(tables))["partial"]
    assert said == (f'<p class="reading">Only a part of the study was measured: {part}.</p>' if part else "")


@pytest.mark.parametrize("name", ["paradigms", "convergence", "variants"])
def test_rows_that_were_not_measured_are_named(name: str, tmp_path: Path) -> None:
    fake_study.write(tmp_path, variants=("stage3", "stage123"))
    for study in ("paradigms", "convergence"):
        fake_comparison.write(tmp_path, study, starts=("tatl", "source"))
    (said,) = shown(name, tables=str(tmp_path))["partial"]
    rows = {"paradigms": "2 of 15 rows (not tatl-freeze", "convergence": "2 of 4 rows (not pretext and random)"}
    assert rows.get(name, "2 of 5 variants (not stage23, stage13 and stage123-scratch)") in said


def test_the_first_cell_of_data_size_says_what_stays_whole() -> None:
    first = nbformat.read(NOTEBOOKS / "data_size.ipynb", as_version=4).cells[0].source
    assert "validation part, for early stopping, stays whole at every share" in first


def test_the_variants_name_the_figures_that_the_gallery_shows() -> None:
    cells = nbformat.read(NOTEBOOKS / "variants.ipynb", as_version=4).cells
    (said,) = [cell.source for cell in cells if "A.10 and A.11" in cell.source]
    assert "gallery page" in said

"""Every page of a comparison copes with any table: what is there is drawn and said, what is not is said too."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.pages import html as show
from analysis.pages.comparison import Comparison
from analysis.pages.theme import STARTS, markers, palette
from analysis.site import notebook as execute
from fake_comparison import MANY, write

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
COSTS = ("parameters", "memory_mb", "train_seconds_per_image")
STUDIES = {
    "paradigms": "paradigms", "crop": "crop", "backbones": "backbones", "data_size": "data-size",
    "convergence": "convergence",
}  # fmt: skip
ODD_STARTS = tuple(f"start number {number}" for number in range(15))


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Figures are made and not rendered, which takes most of the time; tests marked `rendered` do that too."""

    def figure(drawn: Figure, alt: str, reading: str, caption: str) -> show.Html:
        assert drawn.axes and alt.endswith(".") and caption.endswith(".")
        text = [f'<p class="reading">{reading}</p>', f'<p class="caption">{caption}</p>', *_texts(drawn)]
        return show.Html(f"<figure>{' '.join(text)}</figure>")

    if "rendered" not in request.fixturenames:
        monkeypatch.setattr(show, "figure", figure)


@pytest.fixture
def rendered() -> None:
    """Render figures to SVG as a page does."""


def _texts(drawn: Figure) -> list[str]:
    return [text.get_text() for text in drawn.findobj(Text) if isinstance(text, Text)]


def page(question: str, folder: Path, **options: Any) -> dict[str, str]:
    """Every section of a page as HTML, by its name."""
    module = importlib.import_module(f"analysis.pages.{question}")
    study = module.read(folder, **options)
    return {name: getattr(module, name)(study).text for name in module.SECTIONS}


def said(html: str) -> str:
    return " ".join(re.findall(r'<p class="reading">(.*?)</p>', html))


def head(html: str) -> str:
    return "".join(re.findall(r"<thead>.*?</thead>", html, flags=re.DOTALL))


def edit(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame], pattern: str = "*.csv") -> Path:
    for path in folder.glob(pattern):
        change(pd.read_csv(path)).to_csv(path, index=False)
    return folder


@pytest.mark.parametrize("question", STUDIES)
def test_every_section_has_a_figure_or_a_table_and_a_computed_sentence(
    question: str, tmp_path: Path, rendered: None
) -> None:
    found = page(question, write(tmp_path, STUDIES[question]))
    assert all("<figure" in html or "<table" in html for name, html in found.items() if name != "headline")
    for html in found.values():
        assert "nan" not in said(html).lower() and "inf" not in said(html).lower().replace("infl", "")
    assert "no spread can be given" in found["headline"] or "one fold and seed" in found["headline"]


@pytest.mark.parametrize("question", STUDIES)
def test_sentences_follow_the_numbers(question: str, tmp_path: Path) -> None:
    """Other numbers, other sentences in every section that has one: none is a fixed claim."""
    folders = (write(tmp_path / str(rng), STUDIES[question], rng=rng, folds=2) for rng in (0, 1))
    one, other = (page(question, turned(folder, rng)) for rng, folder in enumerate(folders))
    same = [name for name in one if said(one[name]) and said(one[name]) == said(other[name])]
    assert not same and len([name for name in one if said(one[name])]) >= 4


def turned(folder: Path, again: int) -> Path:
    """The same folder, or one whose numbers go the other way round: who was best is worst."""

    def turn(frame: pd.DataFrame) -> pd.DataFrame:
        up = {name: 0.95 - frame[name] for name in ("jaccard", "dice", "loss", "area") if name in frame}
        steps = {name: 41 - frame[name] for name in ("steps_to_90",) if name in frame}
        costs = {name: frame[name].iloc[::-1].to_numpy() for name in frame if name in COSTS}
        return frame.assign(**up, **steps, **costs)

    return edit(folder, turn) if again else folder


@pytest.mark.parametrize("question", STUDIES)
@pytest.mark.parametrize("shape", ["u", "link", "mean"])
def test_several_folds_seeds_and_shapes(question: str, shape: str, tmp_path: Path) -> None:
    found = page(question, write(tmp_path, STUDIES[question], folds=3, seeds=2, shapes=("u", "link")), shape=shape)
    assert all("<figure" in html or "<table" in html for name, html in found.items() if name != "headline")
    assert any("±" in html for html in found.values())


@pytest.mark.parametrize("question", STUDIES)
@pytest.mark.parametrize("number", [1, 2, 15])
def test_attributes_of_any_name_and_number(question: str, number: int, tmp_path: Path) -> None:
    folder = write(tmp_path, STUDIES[question], attributes=MANY[:number], data="manifest", store_name="mine")
    found = page(question, folder)
    assert "published" not in re.sub(r"<[^>]+>", " ", found["headline"])
    assert "mine, 240 cases" in "".join(found.values())


@pytest.mark.parametrize("question", STUDIES)
def test_starts_networks_and_backbones_of_any_name_in_any_number(question: str, tmp_path: Path) -> None:
    found = page(question, write(tmp_path, STUDIES[question], starts=ODD_STARTS))
    assert ODD_STARTS[14] in "".join(found.values())


@pytest.mark.parametrize("start, said", [("rotation", True), ("source", False)])
def test_the_caption_says_where_rotation_is_not_the_published_one(start: str, said: bool, tmp_path: Path) -> None:
    found = page("paradigms", write(tmp_path, STUDIES["paradigms"], starts=("tatl", start)))
    assert ("tell it from the top level alone" in "".join(found.values())) == said


@pytest.mark.parametrize("question", STUDIES)
def test_a_single_row(question: str, tmp_path: Path) -> None:
    found = page(question, write(tmp_path, STUDIES[question], starts=("alone",), attributes=("streaks",)))
    assert "alone" in found["headline"]


@pytest.mark.parametrize("question", STUDIES)
def test_tables_without_rows_become_a_page_that_says_so(question: str, tmp_path: Path) -> None:
    found = page(question, edit(write(tmp_path, STUDIES[question]), lambda frame: frame.iloc[:0]))
    assert not any("<figure" in html or "<svg" in html for html in found.values())
    assert f"python -m tatl study {STUDIES[question]}" in found["headline"]


@pytest.mark.parametrize("question", STUDIES)
def test_scores_that_are_missing_are_left_out(question: str, tmp_path: Path) -> None:
    """One attribute has no score at all, one row none on another."""

    def lose(frame: pd.DataFrame) -> pd.DataFrame:
        lost = frame["attribute"] == "streaks" if "attribute" in frame else pd.Series(False, frame.index)
        first = frame["variant"].eq(frame["variant"].iloc[0]) if "variant" in frame else lost
        for name in ("jaccard", "dice", "loss", "steps_to_90"):
            if name in frame:
                frame.loc[
                    lost | (first & (frame["attribute"] == "globules") if "attribute" in frame else lost), name
                ] = np.nan
        return frame

    folder = write(tmp_path, STUDIES[question], folds=3)
    found = page(question, edit(folder, lose, "*[!n].csv"))
    assert all("nan" not in said(html).lower() for html in found.values())


@pytest.mark.parametrize("question", STUDIES)
def test_nothing_but_missing_scores(question: str, tmp_path: Path) -> None:
    def lose(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(
            **{name: np.nan for name in ("jaccard", "dice", "loss", "area", "steps_to_90") if name in frame}
        )

    found = page(question, edit(write(tmp_path, STUDIES[question]), lose))
    assert all("nan" not in said(html).lower() for html in found.values())


@pytest.mark.parametrize("question", STUDIES)
def test_missing_columns_and_files_are_named_with_the_command(question: str, tmp_path: Path) -> None:
    study = STUDIES[question]
    folder = write(tmp_path, study)
    edit(folder, lambda frame: frame.drop(columns="dice"), f"{study}.csv")
    with pytest.raises(ValueError, match=rf"{study}\.csv lacks the column dice .*python -m tatl study {study}"):
        page(question, folder)
    (folder / f"{study}.csv").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{study}\.csv is not there: .python -m tatl study {study}"):
        page(question, folder)
    (folder / f"{study}.json").write_text("[]")
    with pytest.raises(ValueError, match=rf"{study}\.json holds a list and not an object"):
        page(question, folder)
    (folder / f"{study}.json").unlink()
    with pytest.raises(FileNotFoundError, match=rf"holds no {study}\.json"):
        page(question, folder)


@pytest.mark.parametrize("question", STUDIES)
def test_provenance_and_what_the_data_are_called(question: str, tmp_path: Path) -> None:
    folder = write(tmp_path, STUDIES[question])
    module = importlib.import_module(f"analysis.pages.{question}")
    study = module.read(folder, dataset="drawn on Monday")
    assert "3f9a11c0d2" in show.provenance(study).text
    captions = "".join(getattr(module, name)(study).text for name in module.SECTIONS)
    assert "drawn on Monday, 240 cases" in captions and "The phantom is not skin." in captions


def test_an_unknown_attribute_shape_or_twice_a_row(tmp_path: Path) -> None:
    folder = write(tmp_path, "paradigms")
    with pytest.raises(ValueError, match=r"paradigms\.csv has no attribute streakz: choose of pigment_network"):
        Comparison.read("paradigms", folder, attributes="streakz")
    with pytest.raises(ValueError, match=r"shape 'v' is not in .*: choose of u, mean"):
        Comparison.read("paradigms", folder, shape="v")
    edit(folder, lambda frame: pd.concat([frame, frame.iloc[:1]]), "paradigms.csv")
    with pytest.raises(ValueError, match=r"has the row tatl, u, pigment_network twice"):
        Comparison.read("paradigms", folder)


def test_the_average_of_some_attributes_is_taken_anew(tmp_path: Path) -> None:
    folder = write(tmp_path, "paradigms", folds=3)
    some = Comparison.read("paradigms", folder, attributes="streaks,globules")
    table = some.measured.set_index(["attribute", "variant"])
    for name in ("tatl", "source"):
        mean = table.loc[[("streaks", name), ("globules", name)], "dice"].mean()
        assert table.loc[("average", name), "dice"] == pytest.approx(mean)
    folds = some.folds[(some.folds["variant"] == "tatl") & (some.folds["attribute"] == "average")]["dice"]
    assert table.loc[("average", "tatl"), "dice_std"] == pytest.approx(folds.std(ddof=1))
    assert some.panels == ["average", "globules", "streaks"] and some.attributes == ["globules", "streaks"]


def test_a_difference_to_the_paper_only_where_data_and_attributes_are_its(tmp_path: Path) -> None:
    for question in ("paradigms", "backbones"):
        study = STUDIES[question]
        here = page(question, write(tmp_path / question / "same", study, data="isic2018", cases=2594))["table"]
        assert "difference" in head(here) and "other data" not in here
        there = page(question, write(tmp_path / question / "other", study))["table"]
        assert "difference" not in head(there) and "published, other data" in head(there)
        part = page(question, write(tmp_path / question / "part", study, data="isic2018", cases=600))["table"]
        assert "difference" not in head(part) and "published, other cases" in head(part)
        assert "The store holds part of ISIC 2018 (600 images)." in part


def test_one_colour_and_marker_per_start_whatever_else_is_drawn() -> None:
    alone = palette(["tatl"], ("tatl",))["tatl"]
    assert alone == palette(["odd", "source", "tatl"], tuple(STARTS))["tatl"] == palette(["tatl"], ())["tatl"]
    assert markers(["tatl"], tuple(STARTS))["tatl"] == markers(["x", "tatl"], ())["tatl"]
    colours = palette([*STARTS, *ODD_STARTS], tuple(STARTS))
    assert len({colours[name] for name in ODD_STARTS}) == 15
    assert not {colours[name] for name in ODD_STARTS} & {colours[name] for name in STARTS}


def test_the_notebooks_say_what_they_need_and_have_the_cells_the_index_shows() -> None:
    for name in (*STUDIES, "data"):
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        assert all(len(execute.tagged(notebook, tag)) == 1 for tag in ("parameters", "headline", "thumbnail"))
        about = notebook.metadata["tatl"]
        assert about["command"].startswith("python -m tatl study ") and about["needs"]
        assert notebook.cells[0].source.splitlines()[0].endswith("?")
        given = execute.defaults(NOTEBOOKS / f"{name}.ipynb")
        assert {"tables", "attributes", "dataset"} <= set(given)


def test_a_notebook_runs_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tables", "paradigms", folds=3)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    given = {"tables": "../tables", "attributes": "streaks,globules", "reference": "random"}
    executed = execute.run_notebook(NOTEBOOKS / "paradigms.ipynb", given, tmp_path / "page.html", progress=False)
    assert execute.failure(executed) == ""
    outputs = execute.tagged(executed, "headline")[0].outputs
    headline = "".join(output.data["text/html"] for output in outputs if "data" in output)
    assert "over 2 attributes" in headline and "tatl minus random" in headline

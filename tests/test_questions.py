"""Every page of a study copes with any table: what is there is drawn and said, what is not is said too."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import fake_study
from analysis.pages import html
from analysis.pages.studies.backbones import Backbones
from analysis.pages.studies.convergence import Convergence
from analysis.pages.studies.crop import Crop
from analysis.pages.studies.data_size import DataSize
from analysis.pages.studies.page import StudyPage
from analysis.pages.studies.paradigms import Paradigms
from analysis.pages.studies.variants import Variants
from analysis.pages.theme import STYLES, markers, palette
from analysis.site import notebook as execute
from analysis.tables.study import StudyTables
from fake_comparison import MANY
from fake_comparison import write as write_comparison

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
COSTS = ("parameters", "memory_mb", "train_seconds_per_image")
PAGES: tuple[type[StudyPage], ...] = (Variants, Paradigms, Crop, Backbones, DataSize, Convergence)
COMPARED = PAGES[1:]
ODD_STARTS = tuple(f"start number {number}" for number in range(15))


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Figures are made and not rendered, which takes most of the time; tests marked `rendered` do that too."""

    def figure(drawn: Figure, alt: str, reading: str = "", caption: str = "") -> html.Html:
        assert drawn.axes and alt.endswith(".") and reading.endswith(".")
        text = [f'<p class="reading">{reading}</p>', f'<p class="caption">{caption}</p>', *_texts(drawn)]
        return html.Html(f"<figure>{' '.join(text)}</figure>")

    if "rendered" not in request.fixturenames:
        monkeypatch.setattr(html, "figure", figure)


@pytest.fixture
def rendered() -> None:
    """Render figures to SVG as a page does."""


def _texts(drawn: Figure) -> list[str]:
    return [text.get_text() for text in drawn.findobj(Text) if isinstance(text, Text)]


def write(folder: Path, kind: type[StudyPage], starts: tuple[str, ...] = (), **more: Any) -> Path:
    """Made-up tables of a page's study."""
    if kind is Variants:
        return fake_study.write(folder, **({"variants": starts} if starts else {}), **more)
    return write_comparison(folder, kind.study, starts=starts, **more)


def page(kind: type[StudyPage], folder: Path, **options: Any) -> dict[str, str]:
    """Every section of a page as HTML, by its name."""
    made = kind.read(str(folder), **options)
    return fake_study.shown(made, kind.study)


def said(text: str) -> str:
    return " ".join(re.findall(r'<p class="reading">(.*?)</p>', text))


def head(text: str) -> str:
    return unescape("".join(re.findall(r"<thead>.*?</thead>", text, flags=re.DOTALL)))


def edit(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame], pattern: str = "*.csv") -> Path:
    for path in folder.glob(pattern):
        change(pd.read_csv(path)).to_csv(path, index=False)
    return folder


@pytest.mark.parametrize("kind", PAGES)
def test_every_section_has_a_figure_or_a_table(kind: type[StudyPage], tmp_path: Path, rendered: None) -> None:
    found = page(kind, write(tmp_path, kind, shapes=("u", "link")))
    shown = {name: text for name, text in found.items() if name not in ("headline", "origin")}
    assert all("<figure" in text or "<table" in text for text in shown.values())
    for text in found.values():
        assert "nan" not in said(text).lower() and "inf" not in said(text).lower().replace("infl", "")
    assert "no spread can be given" in found["origin"] and re.search(r"\d\.\d{3}", found["headline"])


@pytest.mark.parametrize("kind", PAGES)
def test_sentences_follow_the_numbers(kind: type[StudyPage], tmp_path: Path) -> None:
    """Other numbers, other sentences in every section that has one: none is a fixed claim."""
    seeds = ("rng", "seed")[kind is Variants]
    folders = (write(tmp_path / str(n), kind, folds=2, shapes=("u", "link"), **{seeds: n}) for n in (0, 1))
    one, other = (page(kind, turned(folder, number)) for number, folder in enumerate(folders))
    same = [name for name in one if said(one[name]) and said(one[name]) == said(other[name])]
    assert not same and len([name for name in one if said(one[name])]) >= 4


def turned(folder: Path, again: int) -> Path:
    """The same folder, or one whose numbers go the other way round: who was best is worst."""

    def turn(frame: pd.DataFrame) -> pd.DataFrame:
        up = {name: 0.95 - frame[name] for name in ("jaccard", "dice", "loss", "area") if name in frame}
        steps = {name: 41 - frame[name] for name in ("steps_to_90",) if name in frame}
        costs = {name: frame[name].iloc[::-1].to_numpy() for name in frame if name in COSTS}
        return frame.assign(**up, **steps, **costs)

    if not again:
        return folder
    if (folder / "gallery.npz").exists():
        with np.load(folder / "gallery.npz") as file:
            np.savez(folder / "gallery.npz", **(dict(file) | {"probability": file["probability"] // 2}))
    edit(folder, lambda frame: frame.assign(fp=0.01 / frame["fp"], fn=0.01 / frame["fn"]), "*_images.csv.gz")
    return edit(folder, turn)


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("shape", ["u", "link", "mean"])
def test_several_folds_and_shapes(kind: type[StudyPage], shape: str, tmp_path: Path) -> None:
    seeds = {} if kind is Variants else {"seeds": 2}
    found = page(kind, write(tmp_path, kind, folds=3, shapes=("u", "link"), **seeds), shape=shape)
    assert any("±" in text for name, text in found.items() if name != "origin")
    trainings = 3 * seeds.get("seeds", 1)
    assert f"over {trainings} trainings" in found["origin"]


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("number", [1, 2, 15])
def test_attributes_of_any_name_and_number(kind: type[StudyPage], number: int, tmp_path: Path) -> None:
    """Nothing of the paper, and no word of skin, stands on a page of other attributes."""
    folder = write(tmp_path, kind, attributes=MANY[:number], data="manifest", store_name="mine", notes=[])
    found = page(kind, folder)
    network = ("cost.parameters",)  # counts of networks are of no data
    words = " ".join(re.sub(r"<[^>]+>", " ", text) for name, text in found.items() if name not in network).lower()
    assert "published" not in words and "paper" not in words and "skin" not in words
    assert "mine, 240 cases" in found["origin"] and "Measured" not in "".join(list(found.values())[1:-2])


@pytest.mark.parametrize("kind", PAGES)
def test_starts_networks_and_backbones_of_any_name_in_any_number(kind: type[StudyPage], tmp_path: Path) -> None:
    found = page(kind, write(tmp_path, kind, starts=ODD_STARTS))
    assert ODD_STARTS[14] in "".join(found.values())


@pytest.mark.parametrize("start, there", [("rotation", True), ("source", False)])
def test_the_page_says_where_rotation_is_not_the_published_one(start: str, there: bool, tmp_path: Path) -> None:
    found = page(Paradigms, write(tmp_path, Paradigms, starts=("tatl", start)))
    assert ("tell it from the top level alone" in found["origin"]) == there


@pytest.mark.parametrize("kind", PAGES)
def test_a_single_row(kind: type[StudyPage], tmp_path: Path) -> None:
    found = page(kind, write(tmp_path, kind, starts=("alone",), attributes=("streaks",)))
    assert "alone" in found["headline"]


@pytest.mark.parametrize("kind", PAGES)
def test_tables_without_rows_become_a_page_that_says_so(kind: type[StudyPage], tmp_path: Path) -> None:
    folder = edit(write(tmp_path, kind), lambda frame: frame.iloc[:0], f"{kind.study}*.csv")
    (folder / "gallery.npz").unlink(missing_ok=True)
    found = page(kind, folder)
    assert not any("<figure" in text or "<svg" in text for text in found.values())
    assert f"python -m tatl study {kind.study}" in found["headline"]


@pytest.mark.parametrize("kind", PAGES)
def test_scores_that_are_missing_are_left_out(kind: type[StudyPage], tmp_path: Path) -> None:
    """One attribute has no score at all, one row none on another."""

    def lose(frame: pd.DataFrame) -> pd.DataFrame:
        lost = frame["attribute"] == "streaks" if "attribute" in frame else pd.Series(False, frame.index)
        first = frame["variant"].eq(frame["variant"].iloc[0]) if "variant" in frame else lost
        for name in ("jaccard", "dice", "image_dice", "image_jaccard", "loss", "steps_to_90"):
            if name in frame:
                frame.loc[
                    lost | (first & (frame["attribute"] == "globules") if "attribute" in frame else lost), name
                ] = np.nan
        return frame

    folder = write(tmp_path, kind, folds=3)
    found = page(kind, edit(folder, lose, "*[!n].csv"))
    assert all("nan" not in text.lower() for text in found.values())


@pytest.mark.parametrize("kind", PAGES)
def test_nothing_but_missing_scores(kind: type[StudyPage], tmp_path: Path) -> None:
    def lose(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(
            **{name: np.nan for name in ("jaccard", "dice", "loss", "area", "steps_to_90") if name in frame}
        )

    found = page(kind, edit(write(tmp_path, kind), lose))
    assert all("nan" not in said(text).lower() for text in found.values())


@pytest.mark.parametrize("kind", PAGES)
def test_missing_columns_and_files_are_named_with_the_command(kind: type[StudyPage], tmp_path: Path) -> None:
    study, folder = kind.study, write(tmp_path, kind)
    about = folder / ("study.json" if kind is Variants else f"{study}.json")
    for name in (f"{study}.csv", f"{study}_folds.csv"):
        kept = (folder / name).read_text()
        edit(folder, lambda frame: frame.drop(columns="dice"), name)
        with pytest.raises(ValueError, match=rf"{name} lacks the column dice .*python -m tatl study {study}"):
            kind.read(str(folder))
        (folder / name).write_text("")
        with pytest.raises(ValueError, match=rf"{name} is not a CSV table .*python -m tatl study {study}"):
            kind.read(str(folder))
        (folder / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf"{name} is not there: .python -m tatl study {study}"):
            kind.read(str(folder))
        (folder / name).write_text(kept)
    edit(folder, lambda frame: frame.assign(dice="high"), f"{study}.csv")
    with pytest.raises(ValueError, match=rf"{study}\.csv has a cell that is no number"):
        kind.read(str(folder))
    for wrong, error in (("[]", "holds a list and not an object"), ("{", "is not JSON")):
        about.write_text(wrong)
        with pytest.raises(ValueError, match=rf"{about.name} {error}"):
            kind.read(str(folder))
    about.unlink()
    with pytest.raises(FileNotFoundError, match=rf"holds no {about.name}: .python -m tatl study {study}"):
        kind.read(str(folder))


@pytest.mark.parametrize("kind", PAGES)
def test_where_numbers_are_from_is_said_once_a_page(kind: type[StudyPage], tmp_path: Path) -> None:
    folder = write(tmp_path, kind)
    made = kind.read(str(folder), dataset="drawn on Monday")
    told = made.provenance().text
    assert "3f9a11c0d2" in told and "<dt>folds</dt><dd>0</dd><dt>of folds</dt><dd>5</dd>" in told
    found = fake_study.shown(made, kind.study)
    origin = found.pop("origin")
    for part in ("drawn on Monday, 240 cases at 96x128", "enriched", "source domain textures", "seed 0, fold 0 of 5"):
        assert part in origin and part not in "".join(found.values())
    assert "The phantom is not skin." in origin and "textures is not ImageNet." in origin


@pytest.mark.parametrize("kind", PAGES)
def test_a_bare_record_is_enough(kind: type[StudyPage], tmp_path: Path) -> None:
    folder = write(tmp_path, kind)
    (folder / ("study.json" if kind is Variants else f"{kind.study}.json")).write_text("{}")
    made = kind.read(str(folder))
    assert "not recorded" in made.origin().text and "not recorded" in made.provenance().text
    assert made.headline().text


def test_an_unknown_attribute_shape_or_twice_a_row(tmp_path: Path) -> None:
    folder = write(tmp_path, Paradigms)
    with pytest.raises(ValueError, match=r"attribute streakz is not in .*paradigms\.csv: choose of pigment_network"):
        StudyTables.read("paradigms", folder, attributes="streakz")
    with pytest.raises(ValueError, match=r"shape 'v' is not in .*: choose of u, mean"):
        StudyTables.read("paradigms", folder, shape="v")
    edit(folder, lambda frame: pd.concat([frame, frame.iloc[:1]]), "paradigms.csv")
    with pytest.raises(ValueError, match=r"paradigms\.csv has the row tatl, u, pigment_network twice"):
        StudyTables.read("paradigms", folder)


def test_the_average_of_some_attributes_is_taken_anew(tmp_path: Path) -> None:
    folder = write(tmp_path, Paradigms, folds=3)
    some = StudyTables.read("paradigms", folder, attributes="streaks,globules")
    table = some.measured.set_index(["attribute", "variant"])
    for name in ("tatl", "source"):
        mean = table.loc[[("streaks", name), ("globules", name)], "dice"].mean()
        assert table.loc[("average", name), "dice"] == pytest.approx(mean)
    folds = some.folds[(some.folds["variant"] == "tatl") & (some.folds["attribute"] == "average")]["dice"]
    assert table.loc[("average", "tatl"), "dice_std"] == pytest.approx(folds.std(ddof=1))
    assert some.panels == ["average", "globules", "streaks"] and some.attributes == ["globules", "streaks"]


@pytest.mark.parametrize("kind", [Paradigms, Backbones])
def test_a_difference_to_the_paper_only_where_the_data_are_its(kind: type[StudyPage], tmp_path: Path) -> None:
    here = page(kind, write(tmp_path / "same", kind, data="isic2018", cases=2594))
    assert "difference" in head(here["table"]) and "other data" not in "".join(here.values())
    there = page(kind, write(tmp_path / "other", kind))
    assert "difference" not in head(there["table"]) and "published, other data" in head(there["table"])
    part = page(kind, write(tmp_path / "part", kind, data="isic2018", cases=600))
    assert "difference" not in head(part["table"]) and "published, other cases" in head(part["table"])
    assert "The store holds part of ISIC 2018 (600 images)." in part["origin"]


def test_one_colour_and_marker_per_start_whatever_else_is_drawn() -> None:
    alone = palette(["tatl"], ("tatl",))["tatl"]
    assert alone == palette(["odd", "source", "tatl"], tuple(STYLES))["tatl"] == palette(["tatl"], ())["tatl"]
    assert markers(["tatl"], tuple(STYLES))["tatl"] == markers(["x", "tatl"], ())["tatl"]
    colours = palette([*STYLES, *ODD_STARTS], tuple(STYLES))
    assert len({colours[name] for name in ODD_STARTS}) == 15
    assert not {colours[name] for name in ODD_STARTS} & {colours[name] for name in STYLES}


def test_the_notebooks_say_what_they_need_and_have_the_cells_the_index_shows() -> None:
    for name in (*(kind.study.replace("-", "_") for kind in PAGES), "data"):
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        assert all(len(execute.tagged(notebook, tag)) == 1 for tag in ("parameters", "headline", "thumbnail"))
        about = notebook.metadata["tatl"]
        assert about["command"].startswith("python -m tatl study ") and about["needs"]
        assert notebook.cells[0].source.splitlines()[0].endswith("?")
        given = execute.defaults(NOTEBOOKS / f"{name}.ipynb")
        assert {"tables", "attributes", "dataset"} <= set(given)


def test_a_notebook_runs_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tables", Paradigms, folds=3)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    given = {"tables": "../tables", "attributes": "streaks,globules", "reference": "random"}
    executed = execute.run_notebook(NOTEBOOKS / "paradigms.ipynb", given, tmp_path / "page.html", progress=False)
    assert execute.failure(executed) == ""
    outputs = execute.tagged(executed, "headline")[0].outputs
    headline = "".join(output.data["text/html"] for output in outputs if "data" in output)
    assert "over 2 attributes" in headline and "tatl minus random" in headline

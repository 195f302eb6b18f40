"""python -m analysis.report: strict notebooks in, static pages out, whatever fails."""

from __future__ import annotations

import base64
import re
import shlex
import sys
import time
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from analysis.pages import files
from analysis.site import build as report
from analysis.site import card
from analysis.site import notebook as execute
from analysis.site.notebook import ROOT
from analysis.site.page import Builder
from fake_study import write

NOTEBOOK = report.NOTEBOOKS / "variants.ipynb"


class Links(HTMLParser):
    """Everything a page points to, and its pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.targets += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action", "srcset") if v]
        if tag in ("img", "svg"):
            self.pictures.append(given)


def notebook(path: Path, *cells: str, title: str = "A question", needs: tuple[str, ...] = ()) -> Path:
    """A notebook of code cells after a heading and a parameters cell."""
    made = nbformat.v4.new_notebook()
    parameters = nbformat.v4.new_code_cell('tables = "nowhere"\nshape = "mean"\nratio = 1.0', id="parameters")
    parameters.metadata["tags"] = ["parameters"]
    code = [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(cells)]
    made.cells = [nbformat.v4.new_markdown_cell(f"# {title}", id="title"), parameters, *code]
    made.metadata["tatl"] = {"needs": list(needs), "command": "python -m tatl study other"}
    nbformat.write(made, path)
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real notebook on made-up tables, through the command line."""
    out = tmp_path_factory.mktemp("report")
    write(out / "tables")
    given = ["--study", "variants", "--tables", str(out / "tables"), "--out", str(out), "--progress=false"]
    assert report.report_from(given) == 0
    return out


def test_pages_come_out_with_tables_figures_and_provenance(site: Path) -> None:
    page = (site / "variants.html").read_text()
    for part in ("Which stages of TATL help?", "published, other data", "0.401 ± 0.061", "stage123-scratch"):
        assert part in page
    for part in ("3f9a11c0d2", "ea04371", "torch 2.15.0", "python -m tatl study variants --preset quick", "2 threads"):
        assert part in page
    assert "streaks: 3 groups have it" in page and 'href="tables/variants.csv"' in page
    assert "from analysis import" not in page and "Traceback" not in page


def test_pictures_have_alternative_texts(site: Path) -> None:
    pictures = Links((site / "variants.html").read_text()).pictures
    assert len(pictures) == 5
    assert all((each.get("alt") or each.get("aria-label") or "").endswith(".") for each in pictures)
    png = next(each["src"] for each in pictures if "src" in each)
    assert png and (site / png).read_bytes().startswith(b"\x89PNG")


def test_a_notebook_opened_by_hand_holds_its_figures_and_writes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TATL_PAGE", raising=False)
    assert files.address("figure-1.png", b"png") == f"data:image/png;base64,{base64.b64encode(b'png').decode()}"
    monkeypatch.setenv("TATL_PAGE", str(tmp_path / "a page.html"))
    assert files.address("figure-1.png", b"png") == "files/a%20page-figure-1.png"
    assert (tmp_path / "files" / "a page-figure-1.png").read_bytes() == b"png"


def test_a_page_made_again_leaves_no_file_of_the_last_one(tmp_path: Path) -> None:
    notebook(tmp_path / "draws.ipynb", "from analysis.pages import files; files.address(f'{shape}.csv', b'')")
    given = ["--notebooks", str(tmp_path), "--tables", str(tmp_path / "t"), "--out", str(tmp_path), "--progress=false"]
    for shape in ("u", "link"):
        assert report.report_from([*given, f"--parameters.shape={shape}"]) == 0
        assert [path.name for path in (tmp_path / "files").iterdir()] == [f"draws-{shape}.csv"]


@pytest.mark.parametrize("name", ["index.html", "variants.html"])
def test_pages_ask_nothing_of_the_network(site: Path, name: str) -> None:
    text = (site / name).read_text()
    links = Links(text)
    outside = [target for target in links.targets if re.match(r"(https?:)?//", target)]
    assert not outside and not {"link", "iframe"} & set(links.tags) and "<script src" not in text
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    for target in links.targets:
        assert target.startswith(("#", "data:")) or (site / target).exists()


def test_the_index_links_the_page_with_headline_and_thumbnail(site: Path) -> None:
    index = (site / "index.html").read_text()
    links = Links(index)
    assert "variants.html" in links.targets and "svg" in links.tags
    assert "Average Dice over 5 attributes is highest for " in index and "done" in index
    assert "undecided, needs more than one fold" in index
    assert len(index) < 1_000_000 and (site / "variants.html").stat().st_size < 8_000_000


def test_the_notebook_runs_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tables", gallery=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    started = time.monotonic()
    executed = execute.run_notebook(NOTEBOOK, {"tables": "../tables"}, tmp_path / "variants.html", progress=False)
    assert execute.failure(executed) == "" and time.monotonic() - started < 60
    assert "no case can be shown" in executed.cells[-3].outputs[0].data["text/html"]


def test_the_kernel_is_the_running_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where a kernel of the same name starts something else."""
    fake = tmp_path / "share" / "kernels" / "python3"
    fake.mkdir(parents=True)
    fake.joinpath("kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(fake.parents[1]))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    path = notebook(tmp_path / "who.ipynb", "import sys, analysis; sys.executable, analysis.__file__")
    executed = execute.run_notebook(path, {}, tmp_path / "who.html", progress=False)
    said = executed.cells[-1].outputs[0].data["text/plain"]
    assert sys.executable in said and str(ROOT) in said


def test_parameters_are_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = notebook(tmp_path / "strict.ipynb")
    execute.check_parameters(path, {"shape": "u", "ratio": 2})
    with pytest.raises(ValueError, match=r"strict\.ipynb has no parameter shap: it has tables, shape, ratio"):
        execute.check_parameters(path, {"shap": "u"})
    with pytest.raises(ValueError, match=r"parameter shape=3 is not like its default 'mean'"):
        execute.check_parameters(path, {"shape": 3})
    write(tmp_path / "tables", gallery=False)
    given = ["--study", "variants", "--tables", str(tmp_path / "tables"), "--parameters.shap=u", "--progress=false"]
    assert report.report_from(given) != 0
    assert "has no parameter shap" in capsys.readouterr().err
    assert not (tmp_path / "variants.html").exists()


def test_parameters_reach_the_notebook_as_numbers_and_strings(tmp_path: Path) -> None:
    notebook(tmp_path / "given.ipynb", "print(repr(shape), repr(ratio), repr(tables))")
    given = ["--parameters.shape=link", "--parameters.ratio=3", "--notebooks", str(tmp_path), "--progress=false"]
    assert report.report_from([*given, "--tables", str(tmp_path / "tables")]) == 0
    assert f"'link' 3 '{tmp_path / 'tables'}'" in (tmp_path / "given.html").read_text().replace("&#39;", "'")


def test_notebooks_without_a_parameters_cell_are_refused(tmp_path: Path) -> None:
    path = notebook(tmp_path / "none.ipynb")
    made = nbformat.read(path, as_version=4)
    made.cells[1].metadata["tags"] = []
    nbformat.write(made, path)
    with pytest.raises(ValueError, match=r"has 0 cells tagged 'parameters': it needs exactly one"):
        execute.defaults(path)
    made.cells[1].metadata["tags"] = ["parameters"]
    made.cells[1].source = "shape = print('mean')"
    nbformat.write(made, path)
    with pytest.raises(ValueError, match=r"shape = print\('mean'\) among the parameters is not"):
        execute.defaults(path)


def test_one_failure_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = tmp_path / "notebooks"
    books.mkdir()
    notebook(books / "a_fails.ipynb", "1", "raise ValueError('streaks <are> gone')", title="Will it fail?")
    notebook(books / "b_dies.ipynb", "import os; os._exit(1)", title="Will it die?")
    notebook(books / "f_mute.ipynb", "get_ipython()._showtraceback = lambda *_: None", "1 / 0")
    notebook(books / "c_lacks.ipynb", "1", title="Are there tables?", needs=("other.csv",))
    notebook(books / "d_works.ipynb", "print('all is well')", title="Does it work?")
    (books / "e_broken.ipynb").write_text("{")
    out = tmp_path / "out"
    given = ["--notebooks", str(books), "--tables", str(tmp_path / "tables"), "--out", str(out), "--progress=false"]
    assert report.report_from(given) != 0
    captured = capsys.readouterr()
    assert "a_fails, b_dies, e_broken, f_mute failed" in captured.err and str(out / "index.html") in captured.out
    fails = (out / "a_fails.html").read_text()
    assert "streaks &lt;are&gt; gone" in fails and "Will it fail?" in fails and "papermill" not in fails.lower()
    dies = (out / "b_dies.html").read_text()
    assert "DeadKernelError" in dies and "memory ran out" in dies and "Will it die?" in dies
    assert "python -m tatl study other" in (out / "c_lacks.html").read_text()
    assert "all is well" in (out / "d_works.html").read_text()
    index = (out / "index.html").read_text()
    assert [index.count(f'class="card {state}"') for state in ("done", "missing", "failed")] == [1, 1, 4]


def test_the_command_of_a_missing_page_has_the_options_of_what_lies_beside(tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    settings = {"backbone": "tu-lcnet_035", "freeze_encoder": True, "shapes": "u", "epochs": 3, "gone": 1}
    write(tables, gallery=False, store="leaves", preset="smoke", runs="my runs", settings=settings)
    notebook(tmp_path / "other.ipynb", "1", needs=("other.csv",))
    given = ["--notebooks", str(tmp_path), "--tables", str(tables), "--progress=false"]
    assert report.report_from(given) != 0
    command = "python -m tatl study other --store=leaves --preset=smoke '--runs=my runs' --freeze-encoder=true"
    page = unescape((tmp_path / "other.html").read_text())
    assert all(word in page for word in shlex.split(command)[4:]) and f"--tables={tables}" in page
    assert "--gone" not in page
    assert "--epochs=3" in page and "--shapes=u" in page and "--lr" not in page  # the preset's, or not recorded


def test_missing_tables_give_a_page_with_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.report_from(["--study", "variants", "--tables", str(tmp_path / "none"), "--out", str(tmp_path)]) != 0
    assert "python -m tatl study variants" in capsys.readouterr().err
    assert "python -m tatl study variants" in (tmp_path / "variants.html").read_text()
    assert "missing" in (tmp_path / "index.html").read_text()


def test_unknown_studies_and_unwritable_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.report_from(["--study", "varients", "--out", str(tmp_path)]) != 0
    assert "no notebook for varients" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert report.report_from(["--study", "variants", "--out", str(tmp_path / "file" / "out")]) != 0
    assert "cannot be written" in capsys.readouterr().err


def test_help_has_every_option_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        report.report_from(["--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0 and "Example: python -m analysis.report --study variants" in " ".join(said.split())
    for option in ("--study", "--tables", "--out", "--parameters", "--notebooks", "--progress"):
        assert option in said


def test_tables_are_linked_only_where_the_page_can_reach_them(tmp_path: Path) -> None:
    from analysis.site.page import linked

    item = '<li data-file="counts.csv">counts.csv</li>'
    assert 'href="tables/counts.csv"' in linked(item, tmp_path / "tables", tmp_path / "page.html")
    assert linked(item, tmp_path / "a" / "b", tmp_path / "x" / "y" / "z" / "page.html") == item


def test_a_report_leaves_the_notebook_as_it_is(site: Path) -> None:
    assert not any(cell.get("outputs") for cell in nbformat.read(NOTEBOOK, as_version=4).cells)
    assert sorted(path.name for path in site.iterdir()) == [".cache", "files", "index.html", "tables", "variants.html"]


def test_what_did_not_change_is_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook(tmp_path / "dates.ipynb", "import time; print(time.time_ns())", needs=("dates.csv",))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/dates.csv").write_text("a\n1\n")
    given = ["--notebooks", str(tmp_path), "--tables", str(tmp_path / "tables"), "--progress=false"]

    def made(*more: str) -> tuple[int, str]:
        assert report.report_from([*given, *more]) == 0
        said = capsys.readouterr().out.partition(" of 1 pages made")[0]
        return int(said[-1]), (tmp_path / "dates.html").read_text()

    first = made()
    assert first[0] == 1 and made() == (0, first[1])
    assert made("--parameters.shape=u")[0] == 1
    assert made()[0] == 1
    (tmp_path / "tables/dates.csv").write_text("a\n2\n")
    assert made()[0] == 1 and made()[0] == 0
    (tmp_path / "dates.html").unlink()
    assert made()[0] == 1
    (tmp_path / "other").mkdir()
    notebook(tmp_path / "other/more.ipynb", "1", title="What more?")
    assert report.report_from(["--notebooks", str(tmp_path / "other"), *given[2:]]) == 0
    index = (tmp_path / "index.html").read_text()
    assert "What more?" in index and "dates.html" in index


def test_a_page_is_made_from_what_it_names_and_what_has_its_name(tmp_path: Path) -> None:
    path = notebook(tmp_path / "data_size.ipynb", "1", needs=("data-size.json",))
    made = nbformat.read(path, as_version=4)
    made.metadata["tatl"] |= {"wants": ["cost.csv"], "reads": ["spectrum*"]}
    nbformat.write(made, path)
    own = ["cost.csv", "data-size.csv", "data-size.json", "data_size_more.csv", "spectrum.csv", "spectrum.json"]
    (tmp_path / "tables").mkdir()
    for name in [*own, "crop.csv", "crop.json"]:
        (tmp_path / "tables" / name).write_text("{}")
    assert [each.name for each in card.inputs(path, tmp_path / "tables")] == own
    key = card.checksum(path, tmp_path / "tables", {})
    (tmp_path / "tables/crop.csv").write_text("other")
    assert card.checksum(path, tmp_path / "tables", {}) == key
    (tmp_path / "tables/spectrum.csv").write_text("other")
    assert card.checksum(path, tmp_path / "tables", {}) != key
    nameless = notebook(tmp_path / "data.ipynb", "1", needs=("cost.csv",))
    assert {"crop.json", "data-size.json"} <= {each.name for each in card.inputs(nameless, tmp_path / "tables")}


def test_pages_made_before_a_stop_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page is remembered when it is there, not at the end."""
    for name in ("a", "b"):
        notebook(tmp_path / f"{name}.ipynb", "1")
    monkeypatch.setattr(Builder, "__call__", stopping(Builder.__call__, before="b"))
    given = ["--notebooks", str(tmp_path), "--tables", str(tmp_path / "t"), "--progress=false", "--workers=1"]
    assert report.report_from(given) == 130
    assert [path.stem for path in (tmp_path / ".cache").iterdir()] == ["a"]


def stopping(call: Callable[[Builder, Path], card.Card], before: str) -> Callable[[Builder, Path], card.Card]:
    def stopped(builder: Builder, path: Path) -> card.Card:
        if path.stem == before:
            raise KeyboardInterrupt
        return call(builder, path)

    return stopped


def test_a_page_without_a_table_that_it_wants_is_partial(tmp_path: Path) -> None:
    path = notebook(tmp_path / "half.ipynb", "1")
    made = nbformat.read(path, as_version=4)
    made.metadata["tatl"]["wants"] = ["half_more.csv"]
    nbformat.write(made, path)
    assert report.report_from(["--notebooks", str(tmp_path), "--tables", str(tmp_path / "t"), "--progress=false"]) == 0
    index = (tmp_path / "index.html").read_text()
    assert 'class="card partial"' in index and "not there: half_more.csv" in index


def test_a_page_of_a_part_of_a_study_is_partial_and_says_of_what(tmp_path: Path) -> None:
    for name, said in (("half", "<p>Only a part was measured: 2 of 4 networks &amp; no more.</p>"), ("whole", "")):
        path = notebook(tmp_path / f"{name}.ipynb", f"from IPython.display import HTML; HTML({said!r})")
        made = nbformat.read(path, as_version=4)
        made.cells[-1].metadata["tags"] = ["partial"]
        nbformat.write(made, path)
    assert report.report_from(["--notebooks", str(tmp_path), "--tables", str(tmp_path / "t"), "--progress=false"]) == 0
    index = (tmp_path / "index.html").read_text()
    assert index.count('class="card partial"') == index.count('class="card done"') == 1
    assert index.count("Only a part was measured: 2 of 4 networks &amp; no more.") == 1
    assert "Only a part was measured" in (tmp_path / "half.html").read_text()

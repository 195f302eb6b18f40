"""Pages in a real browser: nothing from outside, no error, tables that sort and copy, nothing wider than a phone."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import fake_bound
import fake_comparison
import fake_stability
import fake_study
import fake_suspects
from analysis.pages import files
from analysis.pages.grid import grid
from analysis.site import build as report
from analysis.site.notebook import PARAMETERS
from analysis.site.page import scripts

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PAGES = ["index", *(path.stem for path in report.questions("all", report.NOTEBOOKS))]
# All or some of their tables, or rows of the study, are not there.
STATES = {"crop": "missing", "backbones": "partial", "data": "partial", "data_size": "partial"}


def run_here(path: Path, given: dict[str, Any], page: Path, progress: bool = True) -> nbformat.NotebookNode:
    """A notebook with what its cells show, run in this process: a kernel each takes seconds to start."""
    notebook = nbformat.read(path, as_version=4)
    scope: dict[str, Any] = {}
    files._numbers.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TATL_PAGE", str(page))
        for cell in notebook.cells:
            if cell.cell_type != "code":
                continue
            *body, last = ast.parse(cell.source).body
            exec(compile(ast.Module(body, []), path.name, "exec"), scope)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), path.name, "eval"), scope)
                cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": value._repr_html_()})]
            else:
                exec(compile(ast.Module([last], []), path.name, "exec"), scope)
            if PARAMETERS in cell.metadata.get("tags", []):
                scope |= given
    return notebook


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every notebook on made-up tables, through the command line."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    out = tmp_path_factory.mktemp("site")
    tables = str(fake_study.write(out / "tables", folds=3).parent / "tables")
    fake_bound.write(out / "tables", spectrum=True)
    fake_stability.write(out / "tables")
    fake_suspects.write(out / "tables")
    for study in ("paradigms", "convergence", "data-size", "backbones"):
        fake_comparison.write(out / "tables", study, folds=2)
    (out / "tables" / "backbones_cost.csv").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.site.page.run_notebook", run_here)
        assert report.report_from(["--study", "all", "--tables", tables, "--progress=false", "--workers=1"]) == 0
    return out


@pytest.fixture(scope="module")
def browser(site: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test for an error on its console, and for anything asked of the network."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    opened, wrong = context.new_page(), list[str]()
    opened.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else wrong.append(asked.url))
    yield opened
    context.close()
    assert not wrong


@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_and_load_without_complaint(site: Path, page: Page, name: str) -> None:
    page.goto((site / f"{name}.html").as_uri())
    assert page.locator("h1").inner_text() and not page.locator("pre.stream").count()
    for scheme, width in product(("light", "dark"), (380, 1200)):
        page.emulate_media(color_scheme=scheme, media="screen")  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 800})
        assert overflow(page) <= 0
        paper, ink = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        light = [sum(map(int, colour[4:-1].split(", "))) for colour in (paper, ink)]
        assert (light[0] > light[1]) == (scheme == "light")
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 700, "height": 1000})  # about A4 without its margins
    assert overflow(page) <= 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def overflow(page: Page) -> int:
    """Pixels by which a page is wider than its window."""
    return int(page.evaluate("document.scrollingElement.scrollWidth - innerWidth"))


def test_cards_tell_states_and_link_pages(site: Path, page: Page) -> None:
    page.goto((site / "index.html").as_uri())
    cards = {card.locator("h2 a").get_attribute("href"): card for card in page.locator("article.card").all()}
    assert set(cards) == {f"{name}.html" for name in PAGES[1:]}
    states = {name: card.locator(".state").inner_text() for name, card in cards.items()}
    assert states == {f"{name}.html": STATES.get(name, "done") for name in PAGES[1:]}
    assert "3 of 4 shares of the training groups (not 60 %)" in cards["data_size.html"].inner_text()
    assert "not there: backbones_cost.csv Only a part" in cards["backbones.html"].inner_text()
    assert cards["crop.html"].locator("pre").inner_text() == f"python -m tatl study crop --tables={site / 'tables'}"
    done = [card for name, card in cards.items() if states[name] == "done"]
    assert all(card.locator("svg, img").count() == 1 and card.locator(".caption").count() == 1 for card in done)
    assert all(re.search(r"\d", card.locator(".reading").first.inner_text()) for card in done)
    sizes = {name: (site / f"{name}.html").stat().st_size for name in PAGES}
    assert sizes.pop("index") < 1_000_000 and max(sizes.values()) < 8_000_000


def column(page: Page, table: int, number: int) -> list[str]:
    rows = page.locator("table.numbers").nth(table).locator("tbody tr")
    return [row.locator("th, td").nth(number).inner_text() for row in rows.all()]


@pytest.mark.parametrize("by_keyboard", [False, True])
def test_a_head_sorts_its_table(site: Path, page: Page, by_keyboard: bool) -> None:
    page.goto((site / "variants.html").as_uri())
    before = column(page, 0, 1)
    header = page.locator("table.numbers").nth(0).locator("thead tr").last.locator("th").nth(1)
    act = (lambda: header.press("Enter")) if by_keyboard else header.click
    for order in ("ascending", "descending"):
        act()
        after = column(page, 0, 1)
        numbers = [float(text.split()[0]) for text in after if text]
        assert header.get_attribute("aria-sort") == order and sorted(before) == sorted(after) and len(numbers) > 2
        assert numbers == sorted(numbers, reverse=order == "descending")
        assert not any(after[len(numbers) :])  # blank cells come last either way


def test_numbers_with_commas_sort_as_numbers(page: Page) -> None:
    """10,115,501 is ten million, not ten."""
    counts = ["10,115,501", "9,876", "308,747,840", "", "-1,000", "+2,000 ± 3"]
    shown = grid(pd.DataFrame({"parameters": counts}, index=list("abcdef")))
    page.set_content(f'<div class="table">{shown}</div><script>{scripts()}</script>')
    head = page.locator("thead th").nth(1)
    for order in (1, -1):
        head.click()
        ordered = ["-1,000", "+2,000 ± 3", "9,876", "10,115,501", "308,747,840"][::order]
        assert column(page, 0, 1) == [*ordered, ""]


def test_rows_that_repeat_a_label_show_it_once_until_they_are_sorted(site: Path, page: Page) -> None:
    page.goto((site / "variants.html").as_uri())
    table = page.locator("table.numbers").nth(1)
    hidden = "cells => cells.filter(cell => getComputedStyle(cell).color === 'rgba(0, 0, 0, 0)').length"
    rows = table.locator("tbody tr").count()
    assert table.locator("tbody th").evaluate_all(hidden) == rows - table.locator("tr.group").count() > 0
    table.locator("thead tr").last.locator("th").nth(2).click()
    assert table.locator("tbody th").evaluate_all(hidden) == 0 and table.locator("tbody tr").count() == rows


def test_what_is_wider_than_a_phone_says_so(site: Path, page: Page) -> None:
    page.set_viewport_size({"width": 380, "height": 800})
    page.goto((site / "variants.html").as_uri())
    page.wait_for_selector(".scroll.cut")
    hint = "box => getComputedStyle(box, '::before').content"
    for box in page.locator(".scroll").all():
        wider = box.evaluate("box => box.scrollWidth > box.clientWidth + 1")
        assert ("scroll sideways" in box.evaluate(hint)) == wider


def test_a_table_copies_itself(site: Path, page: Page) -> None:
    page.goto((site / "variants.html").as_uri())
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    page.locator("button.copy").first.click()
    lines = page.evaluate("window.copied").splitlines()
    assert "stage3" in [line.split("\t")[0] for line in lines] and len({line.count("\t") for line in lines}) == 1
    assert page.locator("button.copy").first.inner_text() == "Copied"


def test_what_is_offered_is_there(site: Path, page: Page) -> None:
    page.goto((site / "variants.html").as_uri())
    kinds = {"CSV": ",", "LaTeX": "\\begin{tabular}", "SVG": "<svg", "PNG": "PNG"}
    for label, sign in kinds.items():
        links = page.get_by_role("link", name=label, exact=True).all()
        assert links
        for link in links:
            target = site / (link.get_attribute("href") or "")
            assert target.parent.name == "files" and sign.encode() in target.read_bytes()
    assert {path.name for path in (site / "files").iterdir()} >= {"variants-figure-1.svg", "variants-figure-1.png"}


def test_pages_print_without_tools(site: Path, page: Page) -> None:
    page.goto((site / "variants.html").as_uri())
    page.emulate_media(media="print")
    assert not page.locator(".tools").first.is_visible() and page.locator("table.numbers").first.is_visible()

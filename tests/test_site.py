"""Pages in a real browser: nothing from outside, no error, tables that sort and copy, nothing wider than a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from analysis import report
from fake_study import write

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PAGES = ["index.html", "variants.html"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    out = tmp_path_factory.mktemp("site")
    write(out / "tables", folds=3)
    assert report.main(["--study", "variants", "--tables", str(out / "tables"), "--progress=false"]) == 0
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
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1200])
def test_pages_fit_and_load_without_complaint(site: Path, page: Page, name: str, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    page.goto((site / name).as_uri())
    assert page.locator("h1").inner_text()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    paper, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    light = [sum(map(int, colour[4:-1].split(", "))) for colour in (paper, ink)]
    assert (light[0] > light[1]) == (scheme == "light")


def column(page: Page, table: int, number: int) -> list[str]:
    rows = page.locator("table.numbers").nth(table).locator("tbody tr")
    return [row.locator("th, td").nth(number).inner_text() for row in rows.all()]


def test_a_click_on_a_header_sorts_its_table(site: Path, page: Page) -> None:
    page.goto((site / "variants.html").as_uri())
    before = column(page, 0, 1)
    header = page.locator("table.numbers").nth(0).locator("thead tr").last.locator("th").nth(1)
    header.click()
    down = column(page, 0, 1)
    header.click()
    up = column(page, 0, 1)
    numbers = [float(text.split()[0]) for text in down if text]
    assert numbers == sorted(numbers, reverse=numbers[0] > numbers[-1])
    assert [text for text in up if text] == [text for text in down if text][::-1] and sorted(before) == sorted(down)
    assert header.get_attribute("aria-sort") in ("ascending", "descending")


def test_a_table_copies_itself(site: Path, page: Page) -> None:
    page.goto((site / "variants.html").as_uri())
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    page.locator("button.copy").first.click()
    lines = page.evaluate("window.copied").splitlines()
    assert "stage3" in [line.split("\t")[0] for line in lines] and len({line.count("\t") for line in lines[-3:]}) == 1
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

"""The page of single cases: its words, and its viewer in a real browser, from whatever a study left."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from analysis.pages.gallery import viewer
from analysis.pages.gallery.page import Gallery
from analysis.site import build as report
from analysis.site import notebook as execute
from analysis.tables.words import plain
from fake_study import ISIC, write

NOTEBOOK = report.NOTEBOOKS / "gallery.ipynb"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
MANY = (*(f"attribute_number_{i}" for i in range(14)), "an_attribute_of_a_very_long_name_indeed")
LAYERS = ["image", "truth", "union map", "prediction"]


def change(folder: Path, **arrays: np.ndarray) -> Path:
    """The same folder with other arrays in its gallery.npz."""
    path = folder / "gallery.npz"
    with np.load(path) as old:
        np.savez_compressed(path, **({**old, **arrays}))  # type: ignore[arg-type]
    return folder


def without_stages(folder: Path) -> Path:
    """As a variant without Stage 1 and Stage 2 leaves it."""
    none, no_boxes = np.zeros((0, 96, 128), np.uint8), np.zeros((0, 4), int)
    return change(folder, variant=np.array("stage3"), union=none, boxes=no_boxes)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return write(tmp_path / "tables")


def outlined(path: str) -> float:
    """The area inside SVG path data in half pixels, in pixels (shoelace formula; holes turn the other way)."""
    total = 0.0
    for start, moves in re.findall(r"M([\d ]+)l([-\d ]+)z", path):
        steps = np.array(moves.split(), int).reshape(-1, 2)
        x, y = np.cumsum([np.array(start.split(), int), *steps], axis=0).T
        total += float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    return abs(total) / 4


@pytest.mark.parametrize("rows, columns", [((2, 5), (3, 9)), ((0, 8), (0, 12)), ((7, 8), (11, 12))])
def test_an_outline_holds_its_mask_but_for_its_corners(rows: tuple[int, int], columns: tuple[int, int]) -> None:
    mask = np.zeros((8, 12), bool)
    mask[slice(*rows), slice(*columns)] = True
    path = viewer.outlines([mask])[0]
    assert outlined(path) == mask.sum() - 4 * 0.125  # each corner is cut from edge to edge: a triangle of 1/2 x 1/2
    assert path.count("M") == 1 and len(path.split()) < 20  # straight sides have no points between


def test_a_hole_is_outlined_and_an_empty_mask_is_not() -> None:
    ring = np.ones((7, 7), bool)
    ring[3, 3] = False
    path, none = viewer.outlines([ring, np.zeros((7, 7), bool)])
    assert path.count("M") == 2 and outlined(path) == 49 - 4 * 0.125 - 0.5 and none == ""


def test_dice_of_the_shown_cases_is_pooled(tables: Path) -> None:
    truth = np.zeros((2, 4, 4), np.uint16)
    truth[0, :2, :2], truth[1, 0, 0] = 1 << 1, 1 << 1  # 4 pixels and 1 pixel of the first attribute
    found = np.zeros((2, 2, 4, 4), np.uint8)
    found[0, 0, :2, :2], found[0, 0, 3] = 128, 127  # just above and just below the cut
    arrays: dict[str, np.ndarray] = {
        "image": np.zeros((2, 4, 4, 3), np.uint8),
        "ids": np.array(["a", "b"]),
        "boxes": np.zeros((0, 4), int),
    }
    counted: dict[str, np.ndarray] = {"truth": truth, "probability": found, "union": found[:, 0]}
    shown = Gallery.read(change(tables, attributes=np.array(_names(tables)[:2]), **arrays, **counted))
    assert list(shown.dice) == [pytest.approx(8 / 9), pytest.approx(np.nan, nan_ok=True)]
    assert shown.union_dice == pytest.approx(8 / 9) and shown.boxes is None
    first, second = (name.replace("_", " ") for name in shown.attributes)
    said = shown.headline().text
    assert "0.889" in said and first in said
    says = {layer.name: list(layer.says) for case in (0, 1) for layer in shown.layers(case)}
    assert says["prediction"] == [f"{first}: Dice 0.00 (none found)", f"{second}: none, none found"]
    assert says["truth"] == [f"{first}: 6.2 %", f"{second}: none"]


def _names(tables: Path) -> list[str]:
    with np.load(tables / "gallery.npz") as arrays:
        return [str(name) for name in arrays["attributes"]]


def test_sentences_are_computed_from_what_is_shown(tables: Path) -> None:
    shown = Gallery.read(tables, cases=3, attributes="streaks, globules")
    assert shown.attributes == ["globules", "streaks"] and len(shown.ids) == 3
    said = shown.headline().text
    assert "stage123 on 3 test images" in said
    assert f"chosen to show {', '.join(map(plain, ISIC[:-1]))} and streaks" in shown.origin().text
    low, high = shown.dice.sort_values().index
    assert f"{high} ({shown.dice[high]:.3f}) and lowest for {low} ({shown.dice[low]:.3f})" in said
    above, numbers = (shown.dice > shown.everywhere["dice"]).sum(), shown.numbers().text
    assert f"for {above} of 2 attributes" in numbers and f">{shown.dice['streaks']:.3f}</td>" in numbers
    assert re.findall(r"<th class=.row[^>]*>([a-z ]+)</th>", numbers)[-3:] == ["globules", "streaks", "union map"]


def test_what_is_found_where_nothing_is_true_has_no_dice(tables: Path) -> None:
    nothing = np.zeros((6, 96, 128), np.uint16)
    shown = Gallery.read(change(tables, truth=nothing, probability=np.full((6, len(ISIC), 96, 128), 255, np.uint8)))
    assert {said for layer in shown.layers(0) if layer.name == "prediction" for said in layer.says} == {
        f"{plain(name)}: none, 100.0 % found" for name in ISIC
    }


def test_a_variant_without_stages_has_neither_union_nor_box(tables: Path) -> None:
    shown = Gallery.read(without_stages(tables))
    html = shown.cases().text
    assert [layer.name for layer in shown.layers(0)] == ["image", "truth", "prediction"]
    assert np.isnan(shown.union_dice) and "box of Stage 1" not in html
    assert 'max="2"' in html and "union map" not in shown.numbers().text


@pytest.mark.parametrize("cases", [0, -1])
def test_no_case_is_a_sentence(tables: Path, cases: int) -> None:
    shown = Gallery.read(tables, cases)
    assert "nothing to show" in shown.headline().text and shown.cases().text == shown.headline().text
    assert shown.cover().text == "" and "nothing to show" in shown.numbers().text


def test_a_study_without_gallery_is_a_sentence(tmp_path: Path) -> None:
    shown = Gallery.read(write(tmp_path, gallery=False))
    assert "left no gallery.npz" in shown.cases().text and "<table" not in shown.numbers().text


def test_bad_arrays_and_unknown_attributes_say_what_to_do(tables: Path) -> None:
    with pytest.raises(ValueError, match=r"attribute dots is not in .*choose of .*streaks"):
        Gallery.read(tables, attributes="streaks,dots")
    with pytest.raises(ValueError, match=r"different lengths .*image 1.*write it again with `python -m tatl study"):
        Gallery.read(change(tables, image=np.zeros((1, 96, 128, 3), np.uint8)))
    with pytest.raises(ValueError, match=r"gallery.npz lacks truth, or has another shape: write it again"):
        Gallery.read(change(tables, truth=np.zeros(3, np.uint16)))
    (tables / "gallery.npz").write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match=r"gallery.npz cannot be read .*write it again with"):
        Gallery.read(tables)


def test_pictures_have_alternative_texts_and_lie_in_a_notebook_opened_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TATL_PAGE", raising=False)
    shown = Gallery.read(change(write(tmp_path), ids=np.array([f'<b>"{i}"</b>' for i in range(6)])))
    html = shown.cases().text
    pictures = re.findall(r'<img alt="([^"]*)" width="128" height="96" src="([^"]{30})', html)
    assert len(pictures) == html.count("<img") == 6 * len(LAYERS) and '<b>"' not in html
    assert all(source.startswith("data:image/webp;base64,") for _, source in pictures)
    for alt, name in zip((alt for alt, _ in pictures), 6 * LAYERS, strict=True):
        assert re.match(rf"&lt;b&gt;(&quot;|&#34;)\d(&quot;|&#34;)&lt;/b&gt;, {name}", alt)
        assert ("Dice" in alt) == (name in ("union map", "prediction")) or "none, none found" in alt
    assert "http" not in html.replace("http://www.w3.org", "")


def test_many_attributes_on_large_noisy_images_stay_light(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = write(tmp_path, attributes=MANY)
    small = dict(np.load(folder / "gallery.npz"))
    large = {name: small[name].repeat(4, -2).repeat(4, -1) for name in ("truth", "union", "probability")}
    noise = rng.integers(0, 40, (6, 384, 512, 3)) + small["image"].repeat(4, 1).repeat(4, 2) // 2
    shown = Gallery.read(change(folder, image=noise.astype(np.uint8), **large), cases=2)
    html = shown.cases().text
    assert 3 * len(html) < 2e6 and html.count("<option") == 16  # the usual six cases


def test_more_cases_have_smaller_pictures() -> None:
    assert viewer.longest_side(6) == viewer.LONGEST_SIDE
    assert 50 * viewer.longest_side(50) ** 2 <= 1.01 * viewer.FEW_CASES * viewer.LONGEST_SIDE**2


def test_the_notebook_declares_its_parameters() -> None:
    wanted = {"tables": "../reports/quick/tables", "cases": 6, "attributes": "", "dataset": ""}
    assert execute.defaults(NOTEBOOK) == wanted


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as the report makes it."""
    out = tmp_path_factory.mktemp("site")
    write(out / "tables")
    assert report.report_from(["--study", "gallery", "--tables", str(out / "tables"), "--progress=false"]) == 0
    return out


def test_the_report_shows_headline_and_cover_on_its_card(site: Path) -> None:
    index = (site / "index.html").read_text()
    assert "stage123 on 6 test images" in index and 'src="files/gallery-cover.svg"' in index
    assert len((site / "gallery.html").read_text()) < 2e5 and len(index) < 1e5
    pictures = sorted(path.suffix for path in (site / "files").iterdir())
    assert pictures == [".csv", ".svg", ".tex", *[".webp"] * 24]
    assert (site / "gallery.html").read_text().count('classList.add("live")') == 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: `chromium` or `google-chrome` must be on PATH")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, site: Path) -> Iterator[Page]:
    """The gallery; fails the test for an error on its console, and for anything asked of the network."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    opened, wrong = context.new_page(), list[str]()
    opened.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else wrong.append(asked.url))
    opened.goto((site / "gallery.html").as_uri())
    yield opened
    context.close()
    assert not wrong


def visible(page: Page) -> list[tuple[str, str]]:
    """Case and layer of what is seen of the pictures."""
    seen = [each for each in page.locator(".layer img").all() if each.is_visible()]
    return [tuple((each.get_attribute("alt") or "").split(":")[0].split(", ")) for each in seen]  # type: ignore[misc]


def slider(page: Page) -> Locator:
    return page.get_by_role("slider", name="Layer")


def test_arrows_move_the_slider_and_the_layer(page: Page) -> None:
    slider(page).focus()
    for place, name in enumerate(LAYERS):
        assert visible(page) == [("PHANTOM_0000000", name)]
        assert slider(page).get_attribute("aria-valuetext") == name == page.locator(".layer-name").inner_text()
        page.keyboard.press("ArrowRight")
        assert slider(page).input_value() == str(min(place + 1, 3))
    page.keyboard.press("ArrowLeft")
    assert visible(page) == [("PHANTOM_0000000", "union map")]


def test_the_mouse_moves_the_slider(page: Page) -> None:
    box = slider(page).bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    assert visible(page) == [("PHANTOM_0000000", "prediction")]
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
    page.mouse.up()
    assert visible(page) == [("PHANTOM_0000000", "truth")]


def test_n_and_p_and_the_buttons_change_the_case_and_keep_the_layer(page: Page) -> None:
    page.locator(".layer.shown .frame >> visible=true").click()  # gives the focus to the slider
    page.keyboard.press("ArrowRight")
    page.keyboard.press("n")
    assert visible(page) == [("PHANTOM_0000001", "truth")]
    assert page.locator(".which").inner_text() == "Case 2 of 6: PHANTOM_0000001"
    page.keyboard.press("p")
    page.keyboard.press("p")
    assert visible(page) == [("PHANTOM_0000005", "truth")]
    page.get_by_role("button", name="Next").click()
    page.keyboard.press("ArrowRight")
    assert visible(page) == [("PHANTOM_0000000", "union map")]


def test_one_attribute_can_be_chosen(page: Page) -> None:
    slider(page).focus()
    page.keyboard.press("End")
    lines = page.locator(".case.shown .layer.shown li")
    assert len(lines.all()) == len(ISIC) and all(line.is_visible() for line in lines.all())
    page.get_by_label("Attribute").select_option(label="streaks")
    assert [line.inner_text().split(":")[0] for line in lines.all() if line.is_visible()] == ["streaks"]
    drawn = page.locator(".case.shown .layer.shown g").all()
    shown = {
        each.get_attribute("data-attribute") for each in drawn if each.evaluate("e => !!e.getClientRects().length")
    }
    assert shown <= {str(ISIC.index("streaks"))} and len(drawn) > len(shown)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": 380, "height": 800})
    slider(page).focus()
    for _ in LAYERS:
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 380
        picture = page.locator(".layer.shown img >> visible=true").bounding_box()
        drawing = page.locator(".layer.shown .frame svg >> visible=true").bounding_box()
        assert picture and drawing and picture == pytest.approx(drawing, abs=1)
        page.keyboard.press("ArrowRight")
    assert page.locator(".frame svg").first.evaluate("e => getComputedStyle(e).filter") == "none"
    light = page.locator(".viewer button").first.evaluate("e => getComputedStyle(e).backgroundColor")
    assert (sum(map(int, light[4:-1].split(", "))) > 384) == (scheme == "light")


def test_the_cover_is_seen_on_the_index(page: Page, site: Path) -> None:
    page.goto((site / "index.html").as_uri())
    cover = page.locator(".thumbnail img")
    assert cover.is_visible() and cover.evaluate("e => [e.naturalWidth, e.naturalHeight]") == [512, 384]


def test_print_shows_every_layer_of_every_case(page: Page) -> None:
    assert len(visible(page)) == 1
    page.emulate_media(media="print")
    assert [layer for _, layer in visible(page)] == 6 * LAYERS and not slider(page).is_visible()
    assert page.locator(".layer").first.bounding_box()["y"] == page.locator(".layer").nth(3).bounding_box()["y"]  # type: ignore[index]


def test_without_scripts_every_layer_is_there(browser: Browser, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto((site / "gallery.html").as_uri())
    assert len(visible(plain)) == 6 * len(LAYERS) and not plain.locator(".controls").is_visible()
    context.close()

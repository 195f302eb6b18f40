"""The viewer of the gallery: every case as layers, which a script lays over each other behind one slider.

Each layer is a picture with its outlines as SVG on top: truth solid, prediction dashed, a white line under both.
Without scripts, and in print, the layers of all cases stand side by side.  Everything is inside the page: pictures
are data URIs.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from analysis.pages import html
from analysis.pages.gallery import CUT, Cases, caption, dice, nothing, reading
from analysis.pages.html import Html
from analysis.pages.theme import BOX, PREDICTION, TRUTH
from tatl.prediction.contour import contour

LAYERS = {"image": "image", "truth": "truth", "union": "union map", "prediction": "prediction"}
LONGEST = 640  # pixels of a picture's longer side, where there are no more than FEW cases
FEW = 8
QUALITY = 85
HELP = (
    '<p class="help" hidden><kbd>←</kbd> <kbd>→</kbd> change the layer, <kbd>N</kbd> and <kbd>P</kbd> the case, while '
    "the slider or a button has the focus; a click on the picture gives it to the slider.</p>"
)
UNDER = "#ffffff80"
DASHES, WIDTHS = {PREDICTION: "5 3"}, {UNDER: 4}


@dataclass(frozen=True)
class Layer:
    """One layer of one case.

    picture uint8 [H, W] or [H, W, 3]; outlines are SVG; `says` has one line per attribute, or one for all; `keys` are
    the lines drawn, name and colour.
    """

    name: str
    picture: np.ndarray
    outlines: str
    says: Sequence[str]
    keys: dict[str, str]


def viewer(shown: Cases) -> Html:
    """All cases with their controls, what they say, and where they come from; a sentence where there are none."""
    if nothing(shown):
        return html.sentence(reading(shown))
    cases = "".join(_case(shown, case) for case in range(len(shown.ids)))
    return Html(
        f'<style>{_site("gallery.css")}</style><section class="viewer" aria-label="Cases" '
        f'style="--aspect:{shown.image.shape[2] / shown.image.shape[1]:.4f}">{_controls(shown)}{cases}{HELP}</section>'
        f"{html.sentence(reading(shown)).text}"
        f'<p class="caption">{escape(caption(shown))}</p><script>{_site("gallery.js")}</script>'
    )


def cover(shown: Cases) -> Html:
    """The first case's prediction as one picture for the index, hidden on the page itself; empty without cases."""
    if nothing(shown):
        return Html("")
    layer = list(layers(shown, 0))[-1]
    height, width = layer.picture.shape[:2]
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width} {2 * height}" '
        f'width="{4 * width}" height="{4 * height}">'
        f'<image href="{picture(layer.picture)}" width="{2 * width}" height="{2 * height}"/>{layer.outlines}</svg>'
    )
    data = base64.b64encode(drawing.encode()).decode()
    return Html(f'<div hidden><img alt="" src="data:image/svg+xml;base64,{data}"></div>')


def layers(shown: Cases, case: int) -> Iterator[Layer]:
    """The layers of one case, in order; no union map without Stage 2."""
    image, truth, found = shown.image[case], shown.truth[case], shown.found[case]
    boxes = {} if shown.boxes is None else {BOX: [_box(shown.boxes[case])]}
    yield Layer(
        "image", image, _lines(boxes, each=False), [], {"box of Stage 1, grown by the offset": BOX} if boxes else {}
    )
    true, predicted = outlines(truth), outlines(found)
    areas = [f"{name}: {_area(mask)}" for name, mask in zip(shown.names, truth, strict=True)]
    yield Layer("truth", image, _lines({TRUTH: true}), areas, {"truth, with its share of the image": TRUTH})
    if shown.union_map is not None:
        yield _union(shown.union[case], shown.union_map[case])
    scores = [f"{name}: {_score(*both)}" for name, *both in zip(shown.names, truth, found, strict=True)]
    lines = _lines({TRUTH: true, PREDICTION: predicted})
    yield Layer("prediction", image, lines, scores, {"truth": TRUTH, "prediction": PREDICTION})


def _union(truth: np.ndarray, maps: np.ndarray) -> Layer:
    """The map of Stage 2 in grey, the true union solid, the map cut at 0.5 dashed."""
    found = maps >= CUT
    lines = _lines({TRUTH: outlines([truth]), PREDICTION: outlines([found])}, each=False)
    return Layer("union", maps, lines, [_score(truth, found)], {"true union": TRUTH, "map cut at 0.5": PREDICTION})


def _score(truth: np.ndarray, found: np.ndarray) -> str:
    """Dice 0.61, and which of both masks is empty."""
    if not truth.any() and not found.any():
        return "none, none found"
    why = "" if truth.any() and found.any() else " (none found)" if truth.any() else " (none in truth)"
    return f"Dice {dice(truth, found):.2f}{why}"


def _area(mask: np.ndarray) -> str:
    return f"{100 * mask.mean():.1f} %" if mask.any() else "none"


def outlines(masks: Iterable[np.ndarray]) -> list[str]:
    """The outline of each mask bool [H, W] as SVG path data in half pixels; an empty mask has none."""
    axes = Figure().add_subplot()
    return [_outline(axes, mask) if mask.any() else "" for mask in masks]


def _outline(axes: Axes, mask: np.ndarray) -> str:
    contour(axes, mask)
    polygons = (np.asarray(each) for path in axes.collections[-1].get_paths() for each in path.to_polygons())
    return "".join(_closed(np.rint(2 * polygon + 1).astype(int)) for polygon in polygons)


def _closed(points: np.ndarray) -> str:
    """A closed polygon int [N + 1, 2] whose last point is its first; points on a straight line are left out."""
    step = np.diff(points, axis=0)
    before = np.roll(step, 1, axis=0)
    corners = points[:-1][step[:, 0] * before[:, 1] != step[:, 1] * before[:, 0]]
    moves = np.diff(corners, axis=0)
    return f"M{corners[0, 0]} {corners[0, 1]}l{' '.join(f'{x} {y}' for x, y in moves)}z"


def _lines(paths: dict[str, list[str]], each: bool = True) -> str:
    """Outlines by colour, a wider white line under all of them; `each` is an attribute that can be chosen."""
    under = [(UNDER, every) for every in paths.values()]
    return "".join(
        f"<g{_place(k) if each else ''}>{_line(path, colour)}</g>"
        for colour, every in [*under, *paths.items()]
        for k, path in enumerate(every)
        if path
    )


def _place(attribute: int) -> str:
    return f' data-attribute="{attribute}"'


def _line(path: str, colour: str) -> str:
    width, dashes = WIDTHS.get(colour, 2), DASHES.get(colour, "none")
    style = f'stroke-width="{width}" stroke-dasharray="{dashes}" vector-effect="non-scaling-stroke"'
    return f'<path d="{path}" fill="none" stroke="{colour}" {style}/>'


def _box(box: np.ndarray) -> str:
    top, left, bottom, right = (2 * int(edge) for edge in box)
    return f"M{left} {top}H{right}V{bottom}H{left}z"


def picture(pixels: np.ndarray, longest: int = LONGEST) -> str:
    """A data URI of pixels uint8 [H, W] or [H, W, 3], made smaller where its longer side is above `longest`."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((longest, longest))
    image.save(file, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _longest(cases: int) -> int:
    """So that the pictures of many cases together have no more pixels than those of FEW."""
    return round(LONGEST * min(1, (FEW / cases) ** 0.5))


def _case(shown: Cases, case: int) -> str:
    name = escape(shown.ids[case])
    figures = "".join(_figure(layer, name, _longest(len(shown.ids))) for layer in layers(shown, case))
    return f'<article class="case" data-id="{name}"><h3>{name}</h3><div class="layers">{figures}</div></article>'


def _figure(layer: Layer, name: str, longest: int) -> str:
    """A picture with its outlines and, under it, what they are."""
    height, width = layer.picture.shape[:2]
    label, said = LAYERS[layer.name], escape(", ".join(layer.says))
    return (
        f'<figure class="layer" data-label="{label}"><div class="frame">'
        f'<img alt="{name}, {label}{": " * bool(said)}{said}" width="{width}" height="{height}" '
        f'src="{picture(layer.picture, longest)}">'
        f'<svg viewBox="0 0 {2 * width} {2 * height}" aria-hidden="true">{layer.outlines}</svg></div>'
        f"<figcaption><b>{label.capitalize()}</b>{_keys(layer)}{_said(layer)}</figcaption></figure>"
    )


def _said(layer: Layer) -> str:
    """A line per attribute, by its place, or one for all."""
    places = list(map(_place, range(len(layer.says)))) if len(layer.says) > 1 else [""]
    lines = [f"<li{place}>{escape(each)}</li>" for place, each in zip(places, layer.says, strict=False)]
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def _keys(layer: Layer) -> str:
    """The lines drawn: how they look and what they are."""
    kinds = {colour: "dashed" if colour in DASHES else "solid" for colour in layer.keys.values()}
    return "".join(
        f'<span class="key"><i style="border-top:2px {kinds[colour]} {colour}"></i>{word}</span>'
        for word, colour in layer.keys.items()
    )


def _controls(shown: Cases) -> str:
    """Hidden until the script is there to answer them."""
    names = [label for name, label in LAYERS.items() if name != "union" or shown.union_map is not None]
    stops = "".join(f"<span>{name}</span>" for name in names)
    options = "".join(f'<option value="{k}">{escape(name)}</option>' for k, name in enumerate(shown.names))
    choices = f'<select><option value="">all</option>{options}</select>'
    choice = f'<label class="choice"><span>Attribute:</span> {choices}</label>'
    return (
        '<div class="controls" hidden><p class="row"><button type="button" data-step="-1">Previous</button>'
        '<output class="which"></output><button type="button" data-step="1">Next</button></p>'
        '<p class="row"><span><label for="viewer-layer">Layer:</label> '
        '<b class="layer-name" aria-hidden="true"></b></span>'
        f"{choice if len(shown.attributes) > 1 else ''}</p>"
        f'<input id="viewer-layer" type="range" min="0" max="{len(names) - 1}" step="1" value="0">'
        f'<p class="row stops" aria-hidden="true">{stops}</p></div>'
    )


def _site(name: str) -> str:
    return (files("analysis.site") / "templates" / name).read_text(encoding="utf-8")

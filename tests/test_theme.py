"""Pictures depend on the project's theme alone, whatever matplotlib is configured to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from analysis.pages import html
from analysis.pages.studies.variants import Variants
from fake_study import write
from tatl.names import LESION, UNION
from tatl.prediction.ensemble import Prediction
from tatl.prediction.overlay import draw_overlay

PERSONAL = {
    "text.usetex": True, "font.family": "serif", "font.size": 31, "lines.linewidth": 9, "figure.dpi": 33,
    "axes.facecolor": "black", "savefig.dpi": 7, "savefig.bbox": "tight", "svg.fonttype": "none",
    "contour.algorithm": "mpl2005", "axes.titlelocation": "left", "axes.unicode_minus": False,
}  # fmt: skip
MASK = np.indices((30, 40)).sum(0) > 40


def page(folder: Path) -> bytes:
    made = Variants.read(str(write(folder / "tables")))
    drawn = made.drawn(["average"], made.rows, "variant", "variant", made.look)
    return html._svg(drawn).encode() + html._saved(drawn, "png", dpi=html.RASTER_DPI)


def overlay(folder: Path) -> bytes:
    maps = {name: MASK.astype(np.float32) for name in (LESION, UNION, "dot")}
    draw_overlay(
        np.full((30, 40, 3), 90, np.uint8), Prediction(maps, (2, 3, 20, 30), "found"), {"dot": MASK}, folder / "a.png"
    )
    return (folder / "a.png").read_bytes()


@pytest.mark.parametrize("picture", [page, overlay])
def test_a_persons_matplotlibrc_changes_no_picture(tmp_path: Path, picture: Callable[[Path], bytes]) -> None:
    plain = picture(tmp_path)
    with mpl.rc_context(PERSONAL):
        assert picture(tmp_path) == plain

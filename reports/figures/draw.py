"""The README's two figures: the phantom with its masks, and the bound of the committed tables.

python reports/figures/draw.py      writes phantom.png and bound.png beside itself
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.pages.bound.figure7 import Figure7
from analysis.pages.theme import INK, palette, theme
from analysis.tables.bound.tables import BoundTables
from tatl.data.case import Size
from tatl.data.phantom.drawing import Phantom
from tatl.names import SKIN_ATTRIBUTES
from tatl.prediction.contour import contour

HERE = Path(__file__).resolve().parent
CASES = (14, 9, 27, 3)  # of seed 0, enriched: between them they show every attribute
SIZE = Size(240, 320)


def phantom() -> Figure:
    """Each case plain, and below it with the outlines of its lesion and attributes."""
    colours = palette(SKIN_ATTRIBUTES, SKIN_ATTRIBUTES)
    reader = Phantom(160, seed=0, enrich=True)
    with theme():
        figure = Figure(figsize=(1.75 * len(CASES), 3.1), layout="constrained")
        grid = figure.subplots(2, len(CASES))
        for column, index in enumerate(CASES):
            case = reader.read(index, SIZE)
            for axes in grid[:, column]:
                axes.imshow(case.image)
                axes.set_axis_off()
            contour(grid[1, column], case.lesion, colors=[INK], linewidths=1.2, linestyles=["dashed"])
            for name, mask in case.attributes.items():
                contour(grid[1, column], mask, colors=[colours[name]], linewidths=1.5)
        lines = [Line2D([], [], color=colours[name], label=name.replace("_", " ")) for name in SKIN_ATTRIBUTES]
        lines.insert(0, Line2D([], [], color=INK, linestyle="dashed", label="lesion"))
        figure.legend(handles=lines, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def main() -> None:
    tables = BoundTables.read(HERE.parent / "quick/tables")
    for name, drawn in (("phantom", phantom()), ("bound", Figure7(tables).figure())):
        with theme():
            drawn.savefig(HERE / f"{name}.png", dpi=110, facecolor="white")
        print(HERE / f"{name}.png")


if __name__ == "__main__":
    main()

"""What each backbone costs: parameters (Table 7), memory and time.

The paper counts a backbone with its classifier; ours is the whole segmenter without one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.pages import drawing, html
from analysis.pages.html import Html
from analysis.pages.studies.training import Cells, labelled
from analysis.pages.theme import Look
from analysis.tables.paper import WINNER_NAMES, read_paper
from analysis.tables.read import ordered
from analysis.tables.words import extremes, listed, numbers
from tatl.names import B0, BACKBONES, ISIC2018_WINNER

_COSTS = {  # by column of the table: what it is called, and what it is multiplied by
    "parameters": ("parameters (millions)", 1e-6),
    "memory_mb": ("training memory (MB)", 1.0),
    "train_seconds_per_image": ("training (ms an image)", 1e3),
    "predict_seconds_per_image": ("prediction (ms an image)", 1e3),
}
COST_COLUMNS = ("backbone", "shape", "frozen", "trained", "batch", "size", "device", "threads", *_COSTS)
_OUR_NAMES = {"u": "tatl-u", "link": "tatl-link"}
# The winners' networks where the table has them: their shape, and how many of them one winner is.
_THEIR_SHAPES = {"isic2018-winner": ("pyramid", len(ISIC2018_WINNER)), "isic2017-winner": ("isic2017-winner", 1)}


@dataclass(frozen=True)
class BackboneCosts:
    """The rows of backbones_cost.csv; none where it is not there."""

    table: pd.DataFrame
    store: str
    command: str

    @property
    def lanes(self) -> pd.DataFrame:
        """The same with what each row is called, and whether its encoder is frozen."""
        frozen = self.table["frozen"].str.lower().isin(("true", "1"))
        lane = self.table["shape"] + np.where(frozen, ", encoder frozen", ", all trained")
        return self.table.assign(lane=lane, fixed=frozen)

    @property
    def unmeasured(self) -> str:
        return f"Parameters, memory and time were not measured: `{self.command}` writes backbones_cost.csv."

    @property
    def caption(self) -> str:
        """On what the costs were measured, and which rows could not be."""
        device, threads, batch, size = (
            listed(list(self.table[name].dropna().map(str).unique())) for name in ("device", "threads", "batch", "size")
        )
        said = f"Measured on {device}, {threads} threads, batch {batch}, at {size}, on drawn images of the size of the "
        said += f"store {self.store} and from random weights; memory above that before the first step."
        rows = self.lanes[self.lanes["memory_mb"].isna()].to_dict("records")
        lost = [f"{row['backbone']} ({row['lane']})" for row in rows]
        return f"{said} Not measured (memory ran out, or the step failed): {listed(lost)}." if lost else said

    def parameters(self) -> Html:
        """Table 7: our count of every network, what is trained where the encoder is frozen, and the paper's counts.

        The challenge winners' counts stand below; ours beside them where all their networks were measured.
        """
        if self.table.empty:
            return html.paragraph(self.unmeasured)
        grouped = self.lanes.sort_values("fixed").groupby(["backbone", "shape"], sort=False)
        counts = pd.DataFrame({"whole": grouped["parameters"].first(), "trained": grouped["trained"].last()})
        frame = counts.reset_index()
        paper = read_paper("table7").set_index("architecture")["parameters"]
        ours = frame["shape"].map(_OUR_NAMES).where(frame["backbone"] == B0).map(paper)
        frame = frame.assign(published=ours, classifier=frame["backbone"].map(paper))
        named = counts["whole"].set_axis([f"{backbone} {shape}" for backbone, shape in counts.index])
        said = f"The number of parameters is {extremes(named / 1e6, digits=1)} in millions."
        frame = pd.concat([frame, _winners(frame, paper)], ignore_index=True)
        apart = frame["whole"] - frame["published"]
        cells: Cells = {
            ("network, measured", "parameters"): numbers(frame["whole"], ",.0f"),
            ("network, measured", "trained, encoder frozen"): numbers(frame["trained"], ",.0f"),
            ("published", "network"): numbers(frame["published"], ",.0f"),
            ("published", "difference"): numbers(apart, "+,.0f"),
            ("published", "backbone with classifier"): numbers(frame["classifier"], ",.0f"),
        }
        note = "As the paper counts them: BatchNorm's running statistics are counted too. Published: Table 7."
        return html.table(labelled(cells, frame["backbone"], frame["shape"]), note, said)

    def figure(self) -> Html:
        """Parameters, memory and time, a panel each."""
        if self.table.empty:
            return html.paragraph(self.unmeasured)
        lanes = self.lanes
        parts = [lanes.assign(what=title, value=scale * lanes[name]) for name, (title, scale) in _COSTS.items()]
        names = ordered(lanes["backbone"].dropna(), BACKBONES)
        look = Look.of(list(dict.fromkeys(lanes.sort_values(["shape", "fixed"])["lane"])), ())
        titles = [title for title, _ in _COSTS.values()]
        columns = ("what", "backbone", "lane", "value")
        drawn = drawing.points(pd.concat(parts), titles, names, look, "", columns=columns, in_line=2)
        alt = "Parameters, training memory, and training and prediction time of every backbone."
        return html.figure(drawn, alt, self._reading(), self.caption)

    def _reading(self) -> str:
        """Who is slowest and fastest to train."""
        lanes = self.lanes.dropna(subset=["train_seconds_per_image"])
        whole = lanes[~lanes["fixed"]] if (~lanes["fixed"]).any() else lanes
        times = 1e3 * whole.set_index(whole["backbone"] + " " + whole["shape"])["train_seconds_per_image"]
        return f"Training time in ms an image is {extremes(times, digits=0)}."

    def numbers(self) -> Html:
        """Every measured cost."""
        if self.table.empty:
            return html.paragraph(self.unmeasured)
        lanes = self.lanes
        cells: Cells = {title: numbers(scale * lanes[name], ".1f") for name, (title, scale) in _COSTS.items()}
        cells["trained (millions)"] = numbers(lanes["trained"] / 1e6, ".1f")
        return html.table(labelled(cells, lanes["backbone"], lanes["lane"]), self.caption)


def _winners(frame: pd.DataFrame, paper: pd.Series) -> pd.DataFrame:
    """A row per challenge winner: backbone (its name), shape, whole (NaN where it was not counted), published."""
    rows = []
    for printed, name in WINNER_NAMES.items():
        shape, number = _THEIR_SHAPES[name]
        mine = frame[frame["shape"] == shape]["whole"]
        whole = mine.sum() if len(mine) == number else np.nan
        of = f"{number} x {shape}" if number > 1 else "one network"
        rows.append({"backbone": name, "shape": of, "whole": whole, "published": paper[printed]})
    return pd.DataFrame(rows)

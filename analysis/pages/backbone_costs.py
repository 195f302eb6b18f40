"""What each backbone costs: parameters (Table 7), memory and time.

The paper counts a backbone with its classifier; ours is the whole segmenter without one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.pages import drawing, html, reading
from analysis.pages.html import Html
from analysis.pages.words import listed, score
from analysis.tables.paper import WINNERS, read_paper
from analysis.tables.read import ordered, read_table
from tatl.names import BACKBONES

COST, COMMAND = "backbones_cost.csv", "python -m tatl study backbones"
COSTS = {
    "parameters": "parameters (millions)",
    "memory_mb": "training memory (MB)",
    "train_seconds_per_image": "training (ms an image)",
    "predict_seconds_per_image": "prediction (ms an image)",
}
SCALE = {"parameters": 1e-6, "memory_mb": 1.0, "train_seconds_per_image": 1e3, "predict_seconds_per_image": 1e3}
COST_COLUMNS = ["backbone", "shape", "frozen", "trained", "batch", "size", "device", "threads", *COSTS]
OUR_NAMES = {"u": "tatl-u", "link": "tatl-link"}
# The winners' networks where the table has them: their shape, and how many of them one winner is.
THEIR_SHAPES = {"isic2018-winner": ("pyramid", 4), "isic2017-winner": ("isic2017-winner", 1)}
UNMEASURED = f"Parameters, memory and time were not measured: `{COMMAND}` writes {COST}."


def read(folder: Path) -> pd.DataFrame:
    """backbones_cost.csv; no rows where it is not there."""
    path = folder / COST
    return read_table(path, COST_COLUMNS, COMMAND) if path.exists() else pd.DataFrame(columns=COST_COLUMNS)


def _lanes(cost: pd.DataFrame) -> pd.DataFrame:
    frozen = cost["frozen"].str.lower().isin(("true", "1"))
    return cost.assign(lane=cost["shape"] + np.where(frozen, ", encoder frozen", ", all trained"), fixed=frozen)


def parameters(cost: pd.DataFrame, where: str) -> Html:
    """Table 7: our count of every network, what is trained where the encoder is frozen, and the paper's counts.

    The challenge winners' counts stand below; ours beside them where all their networks were measured.
    """
    if cost.empty:
        return html.sentence(UNMEASURED)
    grouped = _lanes(cost).sort_values("fixed").groupby(["backbone", "shape"], sort=False)
    frame = pd.DataFrame({"whole": grouped["parameters"].first(), "trained": grouped["trained"].last()}).reset_index()
    paper = read_paper("table7").set_index("architecture")["parameters"]
    ours = frame["shape"].map(OUR_NAMES).where(frame["backbone"] == "efficientnet-b0").map(paper)
    frame = frame.assign(published=ours, classifier=frame["backbone"].map(paper))
    frame = pd.concat([frame, _winners(frame, paper)], ignore_index=True)
    difference = frame["whole"] - frame["published"]
    cells = {
        ("network, measured", "parameters"): _thousands(frame["whole"]),
        ("network, measured", "trained, encoder frozen"): _thousands(frame["trained"]),
        ("published", "network"): _thousands(frame["published"]),
        ("published", "difference"): ["" if np.isnan(value) else f"{value:+,.0f}" for value in difference],
        ("published", "backbone with classifier"): _thousands(frame["classifier"]),
    }
    rows = pd.MultiIndex.from_arrays([frame["backbone"], frame["shape"]], names=[None, None])
    caption = "Parameters as the paper counts them: BatchNorm's running statistics are counted too. Published: Table 7."
    return html.table(pd.DataFrame(cells, index=rows), f"{caption} {where}", _parameters_reading(frame))


def _winners(frame: pd.DataFrame, paper: pd.Series) -> pd.DataFrame:
    """A row per challenge winner: backbone (its name), shape, whole (NaN where it was not counted), published."""
    rows = []
    for printed, name in WINNERS.items():
        shape, number = THEIR_SHAPES[name]
        mine = frame[frame["shape"] == shape]["whole"]
        whole = mine.sum() if len(mine) == number else np.nan
        of = f"{number} x {shape}" if number > 1 else "one network"
        rows.append({"backbone": name, "shape": of, "whole": whole, "published": paper[printed]})
    return pd.DataFrame(rows)


def _thousands(values: pd.Series) -> list[str]:
    return ["" if pd.isna(value) else f"{value:,.0f}" for value in values]


def _parameters_reading(frame: pd.DataFrame) -> str:
    known = frame[~frame["backbone"].isin(list(THEIR_SHAPES))].dropna(subset=["whole"])
    if known.empty:
        return "No network was counted."
    low, high = reading.extreme(known, "whole", lowest=True), reading.extreme(known, "whole")
    said = f"The smallest network is {low['backbone']} in shape {low['shape']} "
    said += f" ({low['whole'] / 1e6:.1f} million parameters)"
    if low["whole"] == high["whole"]:
        return f"{said}."
    times = high["whole"] / low["whole"]
    return f"{said}, the largest, {high['backbone']} in shape {high['shape']}, has {times:.1f} times as many."


def costs(cost: pd.DataFrame, where: str) -> Html:
    """Parameters, memory and time, a panel each."""
    if cost.empty:
        return html.sentence(UNMEASURED)
    lanes = _lanes(cost)
    parts = [
        lanes.assign(panel=title, row=lanes["backbone"], value=SCALE[name] * lanes[name])
        for name, title in COSTS.items()
    ]
    names = ordered(lanes["backbone"].dropna(), BACKBONES)
    look = drawing.Look.of(list(dict.fromkeys(lanes.sort_values(["shape", "fixed"])["lane"])), ())
    drawn = drawing.dots(pd.concat(parts), list(COSTS.values()), names, look, "", columns=2)
    alt = "Parameters, training memory, and training and prediction time of every backbone."
    return html.figure(
        drawn, alt, _costs_reading(cost), " ".join(filter(None, [_costs_caption(cost, where), _uneven(cost)]))
    )


def _costs_caption(cost: pd.DataFrame, where: str) -> str:
    each = [
        listed(list(dict.fromkeys(cost[name].dropna().map(str)))) for name in ("device", "threads", "batch", "size")
    ]
    said = f"Measured on {each[0]}, {each[1]} threads, batch {each[2]}, at {each[3]}"
    return f"{said}; memory above that before the first step. {where}"


def _uneven(cost: pd.DataFrame) -> str:
    """Rows that could not be measured."""
    lacking = _lanes(cost)[cost["memory_mb"].isna()]
    each = [f"{row['backbone']} ({row['lane']})" for row in lacking.to_dict("records")]
    return f"Not measured (memory ran out, or the step failed): {listed(each)}." if each else ""


def _costs_reading(cost: pd.DataFrame) -> str:
    """Who is fastest to train, and what freezing the encoder saves."""
    lanes = _lanes(cost).dropna(subset=["train_seconds_per_image"])
    if lanes.empty:
        return "No time was measured."
    whole = lanes[~lanes["fixed"]] if (~lanes["fixed"]).any() else lanes
    best = reading.extreme(whole, "train_seconds_per_image", lowest=True)
    time = 1e3 * best["train_seconds_per_image"]
    said = f"{best['backbone']} in shape {best['shape']} trains fastest ({time:.0f} ms an image)"
    fixed = lanes[lanes["fixed"]].drop(columns=["lane", "fixed"])
    both = lanes[~lanes["fixed"]].merge(fixed, on=["backbone", "shape"], suffixes=("_whole", ""))
    if both.empty:
        return f"{said}."
    speed = (both["train_seconds_per_image_whole"] / both["train_seconds_per_image"]).median()
    memory = (both["memory_mb"] / both["memory_mb_whole"]).median()
    said += f"; with the encoder frozen, training is {speed:.1f} times as fast"
    return f"{said} and takes {100 * memory:.0f} % of the memory (medians)."


def table(cost: pd.DataFrame, where: str) -> Html:
    """Every measured cost."""
    if cost.empty:
        return html.sentence(UNMEASURED)
    lanes = _lanes(cost)
    cells = {title: [score(SCALE[name] * value, digits=1) for value in lanes[name]] for name, title in COSTS.items()}
    cells["trained (millions)"] = [score(value / 1e6, digits=1) for value in lanes["trained"]]
    rows = pd.MultiIndex.from_arrays([lanes["backbone"], lanes["lane"]], names=[None, None])
    return html.table(pd.DataFrame(cells, index=rows), _costs_caption(cost, where), _uneven(cost))

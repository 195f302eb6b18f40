"""How rare, how small, and how mixed are the attributes?  Table 2 and Figure 1, measured beside published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.pages import data_drawing, html
from analysis.pages.data_drawing import MASKS
from analysis.pages.html import Html
from analysis.pages.text import counted, dataset, listed, plain, score, warnings
from analysis.tables.paper import PUBLISHED, Origin, beside_table2
from analysis.tables.read import (
    COUNT_COLUMNS,
    attributes_asked,
    command_of,
    ordered,
    read_about,
    read_optional,
    read_table,
)
from tatl.names import LESION, UNION

PAIRS = ["attribute", "other", "images", "with_attribute", "known"]
AREAS = [
    "mask", "images", "area_min", "area_q25", "area_median", "area_q75", "area_max", "area_mean", "share_median",
    "share_mean", "regions_median", "regions_mean", "regions_max",
]  # fmt: skip
_COMMAND = command_of("variants")
ABOUTS = (
    "study.json",
    "paradigms.json",
    "crop.json",
    "backbones.json",
    "data-size.json",
    "convergence.json",
    "bound.json",
)
SECTIONS = ("headline", "counts", "counts_table", "cooccurrence", "areas", "areas_table", "examples")


@dataclass(frozen=True)
class Census(Origin):
    """What a tables folder says of the store's masks; a table that is not there has no rows."""

    folder: Path
    about: dict[str, Any]
    counts: pd.DataFrame
    pairs: pd.DataFrame
    areas: pd.DataFrame

    @property
    def attributes(self) -> list[str]:
        return [name for name in self.counts["mask"] if name not in MASKS]

    def caption(self) -> str:
        """The data alone: no network is in these numbers, so that there is no source domain, seed or fold."""
        said = [said for said in warnings(self) if "textures" not in said]
        return " ".join([f"Data: {dataset(self)}; counted in the store, without any network or fold.", *said])


def read(folder: str | Path, attributes: str = "", dataset: str = "") -> Census:
    """counts.csv, and data_cooccurrence.csv and data_areas.csv where they are; of some attributes, or of all."""
    folder = Path(folder).expanduser().resolve()
    counts = read_table(folder / "counts.csv", COUNT_COLUMNS, _COMMAND)
    pairs, areas = (
        read_optional(folder / name, columns, _COMMAND)
        for name, columns in (("data_cooccurrence.csv", PAIRS), ("data_areas.csv", AREAS))
    )
    there = next((folder / name for name in ABOUTS if (folder / name).exists()), None)
    about = read_about(there, _COMMAND) if there else {}
    whole = Census(folder, about | ({"label": dataset} if dataset else {}), counts, pairs, areas)
    return _only(whole, attributes_asked(attributes, whole.attributes, folder / "counts.csv"))


def _only(census: Census, names: Sequence[str]) -> Census:
    kept = {*names, *MASKS}
    pairs = census.pairs[census.pairs["attribute"].isin(kept) & census.pairs["other"].isin(kept)]
    counts, areas = (frame[frame["mask"].isin(kept)].reset_index(drop=True) for frame in (census.counts, census.areas))
    return Census(census.folder, census.about, counts, pairs, areas)


def _rarest(census: Census) -> str:
    """The rarest attribute."""
    table = beside_table2(census.counts).set_index("mask").drop(index=list(MASKS), errors="ignore")
    rates = table["rate"].dropna()
    if rates.empty:
        return "counts.csv names no attribute whose masks are known."
    name = str(rates.idxmin())
    present, known = table.loc[name, ["present", "known"]]
    return f"The rarest attribute is {name}: {present:.0f} of {known:.0f} images ({rates[name]:.1f} %)."


def headline(census: Census) -> Html:
    return html.sentence(_rarest(census))


def counts(census: Census) -> Html:
    """Table 2 as a figure."""
    if census.counts.empty:
        return html.sentence(f"counts.csv has no rows: `{_COMMAND}` writes it.")
    theirs = f"Published: Table 2{census.apart}."
    known = beside_table2(census.counts)[[f"{name}_rate" for name in PUBLISHED]].notna().any(axis=None)
    caption = f"{census.caption()} {theirs if known else 'The paper has none of these attributes.'}"
    alt = "Share of images that show the lesion, each attribute, and any attribute, here and as published."
    return html.figure(data_drawing.counted_masks(beside_table2(census.counts)), alt, _rarest(census), caption)


def counts_table(census: Census) -> Html:
    """Table 2: measured beside both of the paper's data sets; a difference where the data are the paper's."""
    frame = beside_table2(census.counts)
    cells = {("measured", name): [score(value, digits=0) for value in frame[name]] for name in ("present", "known")}
    cells["measured", "%"] = [score(value, digits=2) for value in frame["rate"]]
    for name in PUBLISHED:
        here = name == census.data
        if frame[f"{name}_present"].notna().any():
            head = f"published, {name}{census.theirs_cell.removeprefix('published') if here else ', other data'}"
            cells[head, "present"] = [score(value, digits=0) for value in frame[f"{name}_present"]]
            cells[head, "%"] = [score(value, digits=2) for value in frame[f"{name}_rate"]]
        if here and census.comparable:
            difference = frame["present"] - frame[f"{name}_present"]
            cells[head, "difference"] = ["" if np.isnan(value) else f"{value:+.0f}" for value in difference]
    caption = "Images with a non-empty mask, of those where it is known; the paper's Table 2 as published."
    return html.table(pd.DataFrame(cells, index=_named(frame["mask"])), f"{caption} {census.caption()}")


def _named(masks: pd.Series) -> list[str]:
    return [MASKS.get(name, plain(name)) for name in masks]


def cooccurrence(census: Census) -> Html:
    """Of the images with one attribute (rows), how many show another (columns)?"""
    if census.pairs.empty:
        return html.sentence(f"Co-occurrence was not counted: `{_COMMAND}` writes data_cooccurrence.csv.")
    rate = (
        100 * census.pairs["images"] / census.pairs["with_attribute"].where(census.pairs["with_attribute"] > 0)
    ).astype(float)
    table = census.pairs.assign(rate=rate)
    wide, number = (
        table.pivot_table(index="attribute", columns="other", values=name, sort=False, dropna=False)
        for name in ("rate", "images")
    )
    names = [name for name in census.attributes if name in wide.index and name in wide.columns]
    alt = "Share of the images with one attribute that show another, for every pair."
    drawn = data_drawing.heat(wide.loc[names, names], number.loc[names, names])
    return html.figure(drawn, alt, _pairs_reading(table), census.caption())


def _pairs_reading(table: pd.DataFrame) -> str:
    pairs = table[(table["attribute"] != table["other"]) & table["rate"].notna()]
    if pairs.empty:
        return "No two attributes were seen, so none can be seen together."
    most = _extreme(pairs, "rate")
    never = pairs[(pairs["images"] == 0) & (pairs["attribute"] < pairs["other"])]
    said = f"{most['rate']:.0f} % of the images with {most['attribute']} also show {most['other']}"
    said += f" ({most['images']:.0f} of {most['with_attribute']:.0f})"
    return f"{said}, the most of any pair; {counted(len(never), 'pair')} never occur{'s' * (len(never) == 1)} together."


def _extreme(frame: pd.DataFrame, column: str, lowest: bool = False) -> dict:
    """The row whose value is highest, or lowest; missing values are passed over."""
    values = frame[column].dropna()
    at = int(np.argmin(values)) if lowest else int(np.argmax(values))
    return frame.loc[values.index].iloc[at].to_dict()


def areas(census: Census) -> Html:
    """How large the masks are, where they are shown."""
    if census.areas.empty:
        return html.sentence(f"No area was measured: `{_COMMAND}` writes data_areas.csv, or no mask is shown.")
    alt = "Area of the lesion, each attribute, and their union in percent of the image: quartiles and range."
    return html.figure(data_drawing.ranges(census.areas), alt, _areas_reading(census.areas), census.caption())


def _areas_reading(frame: pd.DataFrame) -> str:
    attributes = frame[~frame["mask"].isin(list(MASKS)) & frame["area_median"].notna()]
    if attributes.empty:
        return "No attribute is shown in any image."
    small, large = (_extreme(attributes, "area_median", lowest) for lowest in (True, False))
    pieces = _extreme(attributes, "regions_mean")
    said = f"Where they are shown, {small['mask']} takes the least of the image (median {small['area_median']:.2g} %)"
    said += f" and {large['mask']} the most ({large['area_median']:.2g} %)" if len(attributes) > 1 else ""
    return f"{said}; {pieces['mask']} lies in the most regions ({pieces['regions_mean']:.1f} on average)."


def areas_table(census: Census) -> Html:
    """Areas, shares of the lesion and regions."""
    if census.areas.empty:
        return html.sentence("There is no table of areas.")
    frame = census.areas
    cells = {("", "images"): [score(value, digits=0) for value in frame["images"]]}
    for name in ("min", "q25", "median", "q75", "max", "mean"):
        cells["% of the image", name] = [
            f"{value:.3g}" if np.isfinite(value) else "" for value in frame[f"area_{name}"]
        ]
    for name in ("median", "mean"):
        cells["% of the lesion", name] = [score(value, digits=1) for value in frame[f"share_{name}"]]
    for name in ("median", "mean", "max"):
        cells["regions", name] = [score(value, digits=1) for value in frame[f"regions_{name}"]]
    caption = "Over images that show the mask; regions touch at a side or a corner. The paper does not print these."
    return html.table(pd.DataFrame(cells, index=_named(frame["mask"])), f"{caption} {census.caption()}")


def examples(census: Census, cases: int = 6) -> Html:
    """Figure 1: images with the outlines of their true masks."""
    path = census.folder / "gallery.npz"
    if not path.exists() or cases < 1:
        return html.sentence(f"There are no images to show: `{_COMMAND}` writes gallery.npz.")
    with np.load(path, allow_pickle=False) as file:
        images, truth, ids = file["image"][:cases], file["truth"][:cases], file["ids"][:cases]
    masks = [name for name in ordered(census.counts["mask"], ()) if name not in MASKS]
    bits = {name: _bit(census, name) for name in masks}
    shown = {name: int((truth & bit != 0).any(axis=(1, 2)).sum()) for name, bit in bits.items()}
    each = listed([f"{name} in {number}" for name, number in shown.items() if number]) or "no attribute in any"
    said = f"{counted(len(images), 'image')}, chosen to show the rare attributes and not at random: {each}."
    alt = "Images with the outlines of the true masks of the attributes, a colour each."
    return html.figure(
        data_drawing.outlined(images, truth, [str(name) for name in ids], bits), alt, said, census.caption()
    )


def _bit(census: Census, name: str) -> int:
    """The attribute's bit in the store's masks; the folder's counts.csv has all of them in order."""
    every = read_table(census.folder / "counts.csv", COUNT_COLUMNS, _COMMAND)["mask"]
    return 1 << (1 + [mask for mask in every if mask not in (LESION, UNION)].index(name))

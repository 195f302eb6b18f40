"""How rare, how small, and how mixed are the attributes?  Table 2 and Figure 1, measured beside published."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.pages import data_drawing, html
from analysis.pages.data_drawing import called
from analysis.pages.html import Html
from analysis.tables.paper import PUBLISHED, Origin, beside_table2
from analysis.tables.read import COUNT_COLUMNS, attributes_asked, read_about, read_arrays, read_optional, read_table
from analysis.tables.words import counted, dataset, extremes, listed, numbers, plain, warnings
from tatl.names import LESION, UNION

PAIR_COLUMNS = ("attribute", "other", "images", "with_attribute", "known")
AREA_COLUMNS = (
    "mask", "images", "area_min", "area_q25", "area_median", "area_q75", "area_max", "area_mean", "share_median",
    "share_mean", "regions_median", "regions_mean", "regions_max",
)  # fmt: skip
_HEADS = {"area": ("% of the image", ".3g"), "share": ("% of the lesion", ".1f"), "regions": ("regions", ".1f")}
_COMMAND = "python -m tatl study variants"
_STUDIES = ("study", "paradigms", "crop", "backbones", "data-size", "convergence", "bound")


@dataclass(frozen=True)
class Census(Origin):
    """What a tables folder says of the store's masks; a table that is not there has no rows.

    `masks` are the store's attributes in the order of its bits, whichever of them are shown.
    """

    folder: Path
    about: dict[str, Any]
    counted: pd.DataFrame
    pairs: pd.DataFrame
    sizes: pd.DataFrame
    masks: list[str]

    @classmethod
    def read(cls, folder: str | Path, attributes: str = "", dataset: str = "") -> Census:
        """counts.csv, and data_cooccurrence.csv and data_areas.csv where they are; of some attributes, or of all."""
        folder = Path(folder).expanduser().resolve()
        counts = read_table(folder / "counts.csv", COUNT_COLUMNS, _COMMAND)
        pairs = read_optional(folder / "data_cooccurrence.csv", PAIR_COLUMNS, _COMMAND)
        areas = read_optional(folder / "data_areas.csv", AREA_COLUMNS, _COMMAND)
        there = next((path for name in _STUDIES if (path := folder / f"{name}.json").exists()), None)
        about = (read_about(there, _COMMAND) if there else {}) | ({"label": dataset} if dataset else {})
        masks = [str(name) for name in counts["mask"] if name not in (LESION, UNION)]
        names = {*attributes_asked(attributes, masks, folder / "counts.csv"), LESION, UNION}
        pairs = pairs[pairs["attribute"].isin(names) & pairs["other"].isin(names)]
        counts, areas = (table[table["mask"].isin(names)].reset_index(drop=True) for table in (counts, areas))
        return cls(folder, about, counts, pairs, areas, masks)

    @property
    def attributes(self) -> list[str]:
        return [name for name in self.counted["mask"] if name not in (LESION, UNION)]

    @cached_property
    def table2(self) -> pd.DataFrame:
        """Counts beside those of the paper."""
        return beside_table2(self.counted)

    @cached_property
    def names(self) -> list[str]:
        return [called(name) for name in self.counted["mask"]]

    def headline(self) -> Html:
        return html.paragraph(self._rarest())

    def origin(self) -> Html:
        """Where every number of the page comes from; no network is in them."""
        said = [said for said in warnings(self) if "textures" not in said]
        return html.caption(" ".join([f"Counted in the store: {dataset(self)}.", *said]))

    def _rarest(self) -> str:
        table = self.table2.set_index("mask").reindex(self.attributes)
        rates = table["rate"].dropna()
        if rates.empty:
            return "counts.csv names no attribute whose masks are known."
        name = str(rates.idxmin())
        present, known = table.loc[name, ["present", "known"]]
        return f"The rarest attribute is {plain(name)}: {present:.0f} of {known:.0f} images ({rates[name]:.1f} %)."

    def counts(self) -> Html:
        """Table 2 as a figure: images that show each mask, here (bars) and in the paper's data (hollow marks)."""
        table = self.table2
        if table.empty:
            return html.paragraph(f"counts.csv has no rows: `{_COMMAND}` writes it.")
        alt = "Share of images that show the lesion, each attribute, and any attribute, here and as published."
        theirs = table[[f"{name}_rate" for name in PUBLISHED]].notna().any(axis=None)
        published = f"Published: Table 2{self.apart}." if theirs else ""
        return html.figure(data_drawing.rates(table), alt, self._rarest(), published)

    def counts_table(self) -> Html:
        """Table 2: measured beside both of the paper's data sets; a difference where the data are the paper's."""
        frame = self.table2
        cells = {("measured", name): numbers(frame[name], ".0f") for name in ("present", "known")}
        cells["measured", "%"] = numbers(frame["rate"], ".2f")
        for name in PUBLISHED:
            theirs, here = frame[f"{name}_present"], name == self.data
            if theirs.isna().all() and not (here and self.comparable):
                continue
            head = f"published, {name}{self.theirs_cell.removeprefix('published') if here else ', other data'}"
            cells[head, "present"] = numbers(theirs, ".0f")
            cells[head, "%"] = numbers(frame[f"{name}_rate"], ".2f")
            if here and self.comparable:
                cells[head, "difference"] = numbers(frame["present"] - theirs, "+.0f")
        return html.table(pd.DataFrame(cells, index=self.names), "Images whose mask is not empty, where it is known.")

    def cooccurrence(self) -> Html:
        """Of the images with one attribute (rows), how many show another (columns)?"""
        if self.pairs.empty:
            return html.paragraph(f"Co-occurrence was not counted: `{_COMMAND}` writes data_cooccurrence.csv.")
        shown = self.pairs["with_attribute"].where(self.pairs["with_attribute"] > 0)
        table = self.pairs.assign(rate=(100 * self.pairs["images"] / shown).astype(float))
        alt = "Share of the images with one attribute that show another, for every pair."
        return html.figure(data_drawing.heat(table, self.attributes), alt, _together(table))

    def areas(self) -> Html:
        """How large the masks are, where they are shown."""
        if self.sizes.empty:
            return html.paragraph(f"No area was measured: `{_COMMAND}` writes data_areas.csv, or no mask is shown.")
        sizes = self.sizes.set_index("mask").reindex(self.attributes).rename(plain)
        said = f"The median area, in % of the image, is {extremes(sizes['area_median'], digits=2)}"
        said += f"; the mean number of regions is {extremes(sizes['regions_mean'], digits=1)}."
        alt = "Area of the lesion, each attribute, and their union in percent of the image: quartiles and range."
        return html.figure(data_drawing.ranges(self.sizes), alt, said, "In the images that show it.")

    def areas_table(self) -> Html:
        """Areas, shares of the lesion and regions."""
        frame = self.sizes
        cells = {("", "images"): numbers(frame["images"], ".0f")}
        for column in AREA_COLUMNS[2:]:
            kind, _, name = column.partition("_")
            head, form = _HEADS[kind]
            cells[head, name] = numbers(frame[column], form)
        caption = "Over images that show the mask; regions touch at a side or a corner."
        return html.table(pd.DataFrame(cells, index=[called(name) for name in frame["mask"]]), caption)

    def examples(self, cases: int = 6) -> Html:
        """Figure 1: images with the outlines of their true masks."""
        path = self.folder / "gallery.npz"
        if not path.exists() or cases < 1:
            return html.paragraph(f"There are no images to show: `{_COMMAND}` writes gallery.npz.")
        file = read_arrays(path, _COMMAND)
        images, truth, ids = (file[name][:cases] for name in ("image", "truth", "ids"))
        bits = {name: 1 << (1 + self.masks.index(name)) for name in self.attributes}
        drawn = data_drawing.outlined(images, truth, [str(name) for name in ids], bits)
        shown = {name: int((truth & bit != 0).any(axis=(1, 2)).sum()) for name, bit in bits.items()}
        each = listed([f"{plain(name)} in {number}" for name, number in shown.items()]) or "no attribute"
        alt = "Images with the outlines of the true masks of the attributes, a colour each."
        said, wanted = f"{counted(len(images), 'image')} show {each}.", list(map(plain, file["attributes"]))
        return html.figure(drawn, alt, said, chosen_to_show(wanted, int(file["fold"])))

    def provenance(self) -> Html:
        return html.made_from(self, "data")


def chosen_to_show(attributes: list[str], fold: int) -> str:
    """How the cases of a gallery were chosen (`tatl.studies.examples`)."""
    return f"Test images of fold {fold}, chosen to show {listed(attributes)}, rare ones first, and not at random."


def _together(table: pd.DataFrame) -> str:
    """3 of 3 pairs of attributes are seen together, and for which one shows the other most often."""
    pairs = table[(table["attribute"] != table["other"]) & table["rate"].notna()]
    both = {frozenset(names): number > 0 for *names, number in pairs[["attribute", "other", "images"]].to_numpy()}
    said = f"{sum(both.values())} of {counted(len(both), 'pair')} of attributes are seen together"
    if not any(both.values()):
        return f"{said}."
    most = pairs.iloc[int(np.argmax(pairs["rate"]))]
    said += f"; {most['rate']:.0f} % of the images with {plain(most['attribute'])} show {plain(most['other'])}"
    return f"{said} ({most['images']:.0f} of {most['with_attribute']:.0f}), the largest share."

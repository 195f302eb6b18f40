"""The census of a store counts what was drawn: pairs, areas, shares of the lesion, regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tatl.data.case import Case, Size
from tatl.data.census import areas, census, cooccurrence
from tatl.data.store import Store, prepare
from toy import Toy, make_store

SIZE = Size(4, 8)


class Drawn:
    """Three 4x8 images: a lesion of the left half; `a` two corners apart, `b` the left column, none, unknown."""

    name = "drawn"
    attributes = ("a", "b")
    problems: tuple[str, ...] = ()
    ids = ("one", "two", "three")
    groups = ids
    provenance: dict[str, Any] = {"data": "drawn"}  # noqa: RUF012

    def read(self, index: int, size: Size) -> Case:
        lesion, a, b = (np.zeros(SIZE, bool) for _ in range(3))
        lesion[:, :4] = True
        a[0, 0] = a[3, 7] = index < 2
        b[:, 0] = index == 0
        masks = {"a": a, "b": None if index == 2 else b}
        return Case(self.ids[index], self.groups[index], np.zeros((*SIZE, 3), np.uint8), lesion, masks, *size)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prepare(Drawn(), tmp_path_factory.mktemp("stores") / "drawn", SIZE, workers=1, progress=False)


def test_pairs_are_counted_where_both_are_known(drawn: Store) -> None:
    table = cooccurrence(drawn).set_index(["attribute", "other"])
    assert table.loc[("a", "b")].to_dict() == {"images": 1, "with_attribute": 2, "known": 2}
    assert table.loc[("b", "a")].to_dict() == {"images": 1, "with_attribute": 1, "known": 2}
    assert table.loc[("a", "a")].to_dict() == {"images": 2, "with_attribute": 2, "known": 3}


def test_areas_shares_and_regions_are_those_drawn(drawn: Store) -> None:
    table = areas(drawn).set_index("mask")
    assert table.loc["lesion", "area_median"] == 50 and table.loc["lesion", "share_mean"] == 100
    assert table.loc["a", "area_mean"] == pytest.approx(100 * 2 / 32) and table.loc["a", "regions_median"] == 2
    assert table.loc["a", "share_mean"] == pytest.approx(100 / 16)  # one of its two pixels is inside
    assert table.loc["b", "area_max"] == pytest.approx(12.5) and table.loc["b", "regions_max"] == 1
    # The union of the first image: a's corner belongs to b's column, so two regions of five pixels.
    assert table.loc["union", "area_max"] == pytest.approx(100 * 5 / 32) and table.loc["union", "images"] == 2


def test_corners_that_touch_are_one_region(tmp_path: Path) -> None:
    class Diagonal(Drawn):
        def read(self, index: int, size: Size) -> Case:
            eye = np.eye(*SIZE, dtype=bool)
            return Case(
                self.ids[index], self.ids[index], np.zeros((*SIZE, 3), np.uint8), None, {"a": eye, "b": ~eye}, *size
            )

    table = areas(prepare(Diagonal(), tmp_path / "store", SIZE, workers=1, progress=False)).set_index("mask")
    assert table.loc["a", "regions_max"] == 1 and "lesion" not in table.index
    assert table["share_mean"].isna().all()


def test_a_store_without_attributes_that_are_shown(tmp_path: Path) -> None:
    found = census(make_store(tmp_path / "toy", every=(0, 0, 0), cases=4))
    assert list(found["data_areas"]["mask"]) == ["lesion"] and (found["data_cooccurrence"]["images"] == 0).all()
    bare = census(make_store(tmp_path / "bare", every=(0, 0, 0), cases=4, lesions=False))
    assert bare["data_areas"].empty and list(bare["data_areas"]) == list(found["data_areas"])


def test_pairs_agree_with_the_reader(toy_store: Store) -> None:
    reader, table = Toy(), cooccurrence(toy_store)
    for row in table.to_dict("records"):
        both = [i for i in range(len(toy_store)) if reader.has(row["attribute"], i) and reader.has(row["other"], i)]
        assert row["images"] == len(both)

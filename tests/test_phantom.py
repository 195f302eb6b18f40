"""The phantom has the frequencies and areas of ISIC 2018, is the same everywhere, and shows what its masks say."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tatl.data.case import Case, Size
from tatl.data.phantom import Phantom, draw
from tatl.data.phantom_statistics import AREAS, ATTRIBUTES, COMBINATIONS, QUANTILES

SMALL = Size(48, 64)  # areas are laid out in units of the height, so a small frame measures them


@lru_cache(maxsize=1)
def two_thousand() -> tuple[np.ndarray, np.ndarray]:
    """Areas in per cent of 2000 cases: the lesion [2000], the attributes [2000, 5]."""
    cases = [draw(0, index, SMALL) for index in range(2000)]
    lesions = np.array([case.lesion.mean() for case in cases if case.lesion is not None])
    masks = np.array([[case.attributes[name].mean() for name in ATTRIBUTES] for case in cases])  # type: ignore[union-attr]
    return 100 * lesions, 100 * masks


def test_attributes_are_as_frequent_as_in_isic_2018() -> None:
    _, areas = two_thousand()
    total = sum(COMBINATIONS.values())
    assert total == 2594
    for k, name in enumerate(ATTRIBUTES):
        real = sum(count for key, count in COMBINATIONS.items() if key[k] == "1") / total
        # Four standard errors of 2000 draws.
        assert np.isclose((areas[:, k] > 0).mean(), real, atol=4 * np.sqrt(real * (1 - real) / 2000)), name


def test_combinations_are_as_frequent_as_in_isic_2018() -> None:
    _, areas = two_thousand()
    drawn = pd.Series(["".join("01"[int(a > 0)] for a in row) for row in areas]).value_counts(normalize=True)
    for key, count in COMBINATIONS.items():
        real = count / 2594
        assert np.isclose(drawn.get(key, 0), real, atol=4 * np.sqrt(real * (1 - real) / 2000)), key


@pytest.mark.parametrize("name", ["lesion", *ATTRIBUTES])
def test_area_quartiles_are_those_of_isic_2018(name: str) -> None:
    lesions, areas = two_thousand()
    drawn = lesions if name == "lesion" else areas[:, ATTRIBUTES.index(name)]
    drawn = drawn[drawn > 0]
    pixel = 100 / (SMALL.height * SMALL.width)
    for quantile in (0.25, 0.5, 0.75):
        real = AREAS[name][QUANTILES.index(quantile)]
        # Sampling (fewest: about 80 images with streaks) and whole pixels.
        slack = 0.45 if name in ("streaks", "negative_network") else 0.3
        assert np.isclose(np.quantile(drawn, quantile), real, rtol=slack, atol=pixel), (name, quantile)


def test_the_tables_are_those_of_the_official_masks(shared: Path) -> None:
    real = pd.read_csv(shared / "isic2018_statistics.csv")
    real = real[real["split"] == "train"]
    present = np.array([(real[f"{name}_area_percent"] > 0).to_numpy() for name in ATTRIBUTES]).T
    keys = pd.Series(["".join("01"[int(p)] for p in row) for row in present]).value_counts()
    assert keys.to_dict() == COMBINATIONS
    for name in ("lesion", *ATTRIBUTES):
        areas = real[f"{name}_area_percent"]
        counted = np.quantile(areas[areas > 0], QUANTILES)
        assert np.allclose(counted, AREAS[name], rtol=1e-3), name


def test_enrich_makes_the_rare_ones_frequent() -> None:
    cases = [draw(0, index, SMALL, enrich=True) for index in range(600)]
    shares = [np.mean([case.attributes[name].any() for case in cases]) for name in ATTRIBUTES]  # type: ignore[union-attr]
    assert min(shares) > 0.12


def digest(case: Case) -> str:
    arrays = [case.image, case.lesion, *case.attributes.values()]
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def test_the_same_seed_gives_the_same_bytes_whatever_was_drawn_before() -> None:
    first = digest(draw(3, 7, Size(96, 128)))
    draw(3, 8, Size(96, 128))
    assert digest(Phantom(50, seed=3).read(7, Size(96, 128))) == first
    assert digest(draw(4, 7, Size(96, 128))) != first != digest(draw(3, 6, Size(96, 128)))


def test_one_scene_at_every_size() -> None:
    for index in range(12):
        small, large = draw(2, index, Size(96, 128), enrich=True), draw(2, index, Size(192, 256), enrich=True)
        assert small.lesion is not None and large.lesion is not None
        halved = large.lesion.reshape(96, 2, 128, 2).mean((1, 3)) >= 0.5
        assert (halved != small.lesion).mean() < 0.02
        for name in ATTRIBUTES:
            assert small.attributes[name].any() == large.attributes[name].any()  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "sign"), [("pigment_network", -1), ("globules", -1), ("negative_network", 1)])
def test_a_mask_covers_something_drawn(name: str, sign: int) -> None:
    """Inside its mask an image is darker (or lighter) in places than where nothing is drawn: lines and dots."""
    seen = []
    for index in range(400):
        case = draw(11, index, Size(96, 128))
        mask = case.attributes[name]
        assert case.lesion is not None and mask is not None
        others = np.any([m for other, m in case.attributes.items() if other != name], axis=0)
        plain = case.lesion & ~mask & ~others
        if mask.sum() > 60 and plain.sum() > 60 and not others.any():
            grey = case.image.mean(2)
            local = grey - grey[plain].mean()
            extreme = np.quantile(sign * local[mask], 0.9) - np.quantile(sign * local[plain], 0.9)
            seen.append(extreme)
    assert len(seen) >= 5
    assert np.mean(np.array(seen) > 0) > 0.7


def test_a_phantom_needs_a_case() -> None:
    with pytest.raises(ValueError, match="at least one case"):
        Phantom(0)

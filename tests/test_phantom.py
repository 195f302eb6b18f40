"""The phantom has the frequencies and areas of ISIC 2018, is the same everywhere, and shows what its masks say."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy._core import _multiarray_umath as umath
from scipy import ndimage

from tatl.data.case import Case, Size
from tatl.data.phantom.drawing import Phantom, draw_case
from tatl.data.phantom.statistics import AREAS, COMBINATIONS, QUANTILES, area
from tatl.names import SKIN_ATTRIBUTES

SMALL = Size(48, 64)  # areas are laid out in units of the height, so a small frame measures them


@lru_cache(maxsize=1)
def two_thousand() -> tuple[np.ndarray, np.ndarray]:
    """Areas in per cent of 2000 cases: the lesion [2000], the attributes [2000, 5]."""
    cases = [draw_case(0, index, SMALL) for index in range(2000)]
    lesions = np.array([case.lesion.mean() for case in cases if case.lesion is not None])
    masks = np.array([[case.attributes[name].mean() for name in SKIN_ATTRIBUTES] for case in cases])  # type: ignore[union-attr]
    return 100 * lesions, 100 * masks


def test_attributes_are_as_frequent_as_in_isic_2018() -> None:
    _, areas = two_thousand()
    total = sum(COMBINATIONS.values())
    assert total == 2594
    for k, name in enumerate(SKIN_ATTRIBUTES):
        real = sum(count for key, count in COMBINATIONS.items() if key[k] == "1") / total
        # Four standard errors of 2000 draws.
        assert np.isclose((areas[:, k] > 0).mean(), real, atol=4 * np.sqrt(real * (1 - real) / 2000)), name


def test_combinations_are_as_frequent_as_in_isic_2018() -> None:
    _, areas = two_thousand()
    drawn = pd.Series(["".join("01"[int(a > 0)] for a in row) for row in areas]).value_counts(normalize=True)
    for key, count in COMBINATIONS.items():
        real = count / 2594
        assert np.isclose(drawn.get(key, 0), real, atol=4 * np.sqrt(real * (1 - real) / 2000)), key


@pytest.mark.parametrize("name", ["lesion", *SKIN_ATTRIBUTES])
def test_area_quartiles_are_those_of_isic_2018(name: str) -> None:
    lesions, areas = two_thousand()
    drawn = lesions if name == "lesion" else areas[:, SKIN_ATTRIBUTES.index(name)]
    drawn = drawn[drawn > 0]
    pixel = 100 / (SMALL.height * SMALL.width)
    for quantile in (0.25, 0.5, 0.75):
        # Three standard errors of a quantile's rank among so many (76 with streaks, 2000 lesions); a pixel; and a
        # twentieth, for lesions with a negative network are larger and come on top of the table of all lesions.
        error = 3 * np.sqrt(quantile * (1 - quantile) / len(drawn))
        low, high = (100 * area(name, quantile + sign * error) for sign in (-1, 1))
        floor = pixel + AREAS[name][QUANTILES.index(quantile)] / 20
        assert low - floor <= np.quantile(drawn, quantile) <= high + floor, (name, quantile)


def test_the_tables_are_those_of_the_official_masks(shared: Path) -> None:
    real = pd.read_csv(shared / "isic2018_statistics.csv")
    real = real[real["split"] == "train"]
    present = np.array([(real[f"{name}_area_percent"] > 0).to_numpy() for name in SKIN_ATTRIBUTES]).T
    keys = pd.Series(["".join("01"[int(p)] for p in row) for row in present]).value_counts()
    assert keys.to_dict() == COMBINATIONS
    for name in ("lesion", *SKIN_ATTRIBUTES):
        areas = real[f"{name}_area_percent"]
        counted = np.quantile(areas[areas > 0], QUANTILES)
        assert np.allclose(counted, AREAS[name], rtol=1e-3), name


def test_enrich_makes_the_rare_ones_frequent() -> None:
    cases = [draw_case(0, index, SMALL, enrich=True) for index in range(600)]
    shares = [np.mean([case.attributes[name].any() for case in cases]) for name in SKIN_ATTRIBUTES]  # type: ignore[union-attr]
    assert min(shares) > 0.12


def digest(case: Case) -> str:
    arrays = [case.image, case.lesion, *case.attributes.values()]
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def test_the_same_seed_gives_the_same_bytes_whatever_was_drawn_before() -> None:
    first = digest(draw_case(3, 7, Size(96, 128)))
    draw_case(3, 8, Size(96, 128))
    assert digest(Phantom(50, seed=3).read(7, Size(96, 128))) == first
    assert digest(draw_case(4, 7, Size(96, 128))) != first != digest(draw_case(3, 6, Size(96, 128)))


# What the first cases look like, wherever they are drawn.  When the drawing is changed on purpose: raise DRAWING in
# tatl/data/phantom/drawing.py, and put here what `python -c "import test_phantom; print(test_phantom.pinned())"` prints
# in tests/.  When nothing was changed, a library draws otherwise (NumPy's generators, Pillow's resize): find which, and
# treat it as a change, since every store of phantoms made before is another one now.
PINNED = "31ef37c64c0b67510fd3b724e627718144ac90dece50df3dff5b1af0fcc8a6de"


NUMPY = "NPY_DISABLE_CPU_FEATURES"


def pinned() -> str:
    """One digest of twelve enriched cases, of four that a float32 exponential draws otherwise, and of two sizes."""
    cases = [draw_case(0, index, Size(96, 128), enrich=True) for index in range(12)]
    cases += [draw_case(0, index, Size(96, 128)) for index in (714, 759, 957, 1870)]
    cases += [draw_case(0, 12, Size(64, 256)), draw_case(0, 13, Size(384, 512))]
    return hashlib.sha256("".join(map(digest, cases)).encode()).hexdigest()


def plain_processor() -> dict[str, str]:
    """Environment in which NumPy and the C library do without the vector units that they found here."""
    features = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name]]
    return {
        NUMPY: " ".join(features),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F",
    }


def elsewhere(code: str) -> str:
    """What a line of code prints in a process on a plain processor."""
    environment = {**os.environ, **plain_processor()}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_bytes_are_the_pinned_ones_with_and_without_vector_units() -> None:
    assert pinned() == PINNED
    assert elsewhere("import test_phantom; print(test_phantom.pinned())") == PINNED


@pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc" or not plain_processor()[NUMPY],
    reason="which vector units change a last bit is known for x86-64 with AVX2 and glibc",
)
def test_without_vector_units_the_last_bits_are_others() -> None:
    """Else the test above would compare a thing with itself: NumPy's float32 and the C library's float64 change."""
    code = "import math; import numpy as np; print({}.hex())"
    single = "np.exp(np.linspace(-9, 0, 9999, dtype=np.float32)).tobytes()"
    double = "np.array([math.exp(x) for x in np.linspace(-9, 0, 9999)]).tobytes()"
    for values in (single, double):
        assert elsewhere(code.format(values)) != eval(values, {"np": np, "math": math}).hex()


@pytest.mark.parametrize("size", [Size(96, 256), Size(32, 320), Size(96, 24), Size(1, 1)], ids=str)
def test_any_frame_can_be_drawn(size: Size) -> None:
    for index in range(6):
        case = draw_case(0, index, size, enrich=True)
        assert case.image.shape == (*size, 3) and case.lesion is not None and case.lesion.any()


def test_one_scene_at_every_size() -> None:
    for index in range(12):
        small, large = draw_case(2, index, Size(96, 128), enrich=True), draw_case(2, index, Size(192, 256), enrich=True)
        assert small.lesion is not None and large.lesion is not None
        halved = large.lesion.reshape(96, 2, 128, 2).mean((1, 3)) >= 0.5
        assert (halved != small.lesion).mean() < 0.02
        for name in SKIN_ATTRIBUTES:
            assert small.attributes[name].any() == large.attributes[name].any()  # type: ignore[union-attr]


def as_deep(lesion: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The pixels that are as far inside the lesion, or outside it, as some pixel of the mask: bool [H, W]."""
    depth = ndimage.distance_transform_edt(lesion) - ndimage.distance_transform_edt(~lesion)
    return (depth >= depth[mask].min()) & (depth <= depth[mask].max())


@lru_cache(maxsize=1)
def four_hundred() -> list[Case]:
    return [draw_case(11, index, Size(96, 128), enrich=True) for index in range(400)]


@pytest.mark.parametrize(
    ("name", "sign"),
    [("pigment_network", -1), ("globules", -1), ("milia_like_cyst", 1), ("negative_network", 1), ("streaks", -1)],
)
def test_a_mask_covers_something_drawn(name: str, sign: int) -> None:
    """Inside its mask an image is darker (or lighter) in places than where nothing is drawn: lines and dots."""
    seen = []
    for case in four_hundred():
        mask = case.attributes[name]
        assert case.lesion is not None and mask is not None
        others = np.any([m for other, m in case.attributes.items() if other != name], axis=0)
        if mask.sum() <= 60 or others.any():
            continue
        plain = as_deep(case.lesion, mask) & ~mask
        if plain.sum() > 60:
            grey = sign * case.image.mean(2)
            seen.append(np.quantile(grey[mask], 0.9) - np.quantile(grey[plain], 0.9))
    assert len(seen) >= 5
    assert np.mean(np.array(seen) > 0) > 0.7


def test_a_phantom_needs_a_case() -> None:
    with pytest.raises(ValueError, match="at least one case"):
        Phantom(0)

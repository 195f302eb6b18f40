"""The attributes of ISIC 2017: a picture of numbered superpixels, and per attribute a list of 0 and 1 by number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tatl.data.case import BadCase
from tatl.data.images.masks import check_size
from tatl.data.images.pictures import opened
from tatl.data.images.reading import MAX_PIXELS

ATTRIBUTES_2017 = ("pigment_network", "milia_like_cyst", "negative_network", "streaks")


def decode_features(
    superpixels: Path, features: Path, original: tuple[int, int], max_pixels: int = MAX_PIXELS
) -> dict[str, np.ndarray]:
    """Attribute -> mask bool [h, w], from the superpixel image (index = R + 256 G + 65536 B) and the JSON lists.

    Raises BadCase if either cannot be read, a key is unknown, a list is not of 0 and 1, or lengths differ.
    """
    flags = _read_features(features)
    with opened(superpixels, max_pixels) as picture:
        if picture.mode not in ("RGB", "RGBA"):
            raise BadCase(f"{superpixels.name} is a picture of mode {picture.mode}, and superpixels are coded in RGB")
        colours = np.asarray(picture.convert("RGB"))
    check_size(superpixels.name, colours.shape[:2], original)
    index = colours[..., 0] + (colours[..., 1].astype(np.int32) << 8) + (colours[..., 2].astype(np.int32) << 16)
    count = int(index.max()) + 1
    for name, flag in flags.items():
        if len(flag) != count:
            counted = f"{superpixels.name} has {count} superpixels"
            raise BadCase(f"{features.name} has {len(flag)} values for {name} and {counted}")
    return {name: flag[index] if flag.any() else np.zeros(original, bool) for name, flag in flags.items()}


def _read_features(path: Path) -> dict[str, np.ndarray]:
    """Attribute -> bool [superpixels]."""
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadCase(f"{path.name} cannot be read as JSON ({error})") from error
    if not isinstance(lists, dict):
        raise BadCase(f"{path.name} is not a JSON object of attributes")
    if unknown := sorted(set(lists) - set(ATTRIBUTES_2017)):
        raise BadCase(f"{path.name} has the unknown keys {', '.join(unknown)}: known are {', '.join(ATTRIBUTES_2017)}")
    for name, values in lists.items():
        if not isinstance(values, list) or any(value not in (0, 1) for value in values):
            raise BadCase(f"{path.name} has something else than a list of 0 and 1 for {name}")
    return {name: np.array(values, bool) for name, values in lists.items()}

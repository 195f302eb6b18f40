"""What the phantom imitates: how often and how large things are in the 2594 training images of ISIC 2018 Task 2.

Counted on the official masks; a test counts them again where those statistics are at hand.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# How often each combination (in the order of SKIN_ATTRIBUTES) occurs among the 2594 images of ISIC 2018 training.
COMBINATIONS = {
    "10000": 817, "00000": 514, "10100": 259, "00100": 229, "11000": 206, "01000": 160, "11100": 81, "10010": 52,
    "01100": 44, "00010": 36, "11001": 31, "10110": 24, "10001": 24, "01010": 18, "11010": 17, "01001": 16,
    "00110": 16, "01110": 16, "00001": 15, "10101": 5, "11110": 5, "01011": 4, "01101": 3, "11011": 2,
}  # fmt: skip

# Areas in per cent of the image at these quantiles; attributes where present (ISIC 2018 training masks).
QUANTILES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
AREAS = {
    "lesion": (0.3, 1.547, 2.503, 5.175, 13.81, 31.87, 52.25, 65.18, 98.66),
    "lesion with negative_network": (1.08, 3.61, 4.677, 12.01, 25.89, 50.97, 72.81, 84.76, 98.66),
    "pigment_network": (0.08, 0.331, 0.492, 1.06, 2.94, 8.28, 17.61, 25.68, 77.81),
    "globules": (0.07, 0.221, 0.34, 0.66, 1.43, 3.05, 6.34, 10.7, 46.12),
    "milia_like_cyst": (0.07, 0.11, 0.12, 0.22, 0.44, 0.91, 1.77, 3.047, 7.63),
    "negative_network": (0.1, 0.247, 0.409, 0.68, 2, 4.492, 7.663, 10.28, 33.47),
    "streaks": (0.11, 0.219, 0.338, 0.52, 0.895, 1.587, 2.989, 3.843, 9.94),
}
# Spearman's correlation of an attribute's area with the lesion's, in the same images.
TIED = {"pigment_network": 0.61, "globules": 0.41, "milia_like_cyst": 0.35, "negative_network": 0.57, "streaks": 0.40}


def area(name: str, rank: float) -> float:
    """The area at a quantile, as a fraction of the image (log-linear between the tabulated ones)."""
    return float(np.exp(np.interp(rank, QUANTILES, np.log(AREAS[name])))) / 100


@lru_cache(maxsize=2)
def combination_weights(enrich: bool) -> tuple[np.ndarray, np.ndarray]:
    """Presence rows bool [24, 5] and their probabilities.

    `enrich` takes the 0.4th power of the counts: streaks are then in 17 % of the images, negative network in 25,
    milia-like cysts in 37, globules in 42 and pigment network in 53.
    """
    rows = np.array([[digit == "1" for digit in key] for key in COMBINATIONS])
    weights = np.array(list(COMBINATIONS.values()), float) ** (0.4 if enrich else 1.0)
    return rows, weights / weights.sum()

"""What a store's masks look like: which attributes are seen together, how large they are, and in how many pieces.

Masks are read one case at a time from the memory map, and a few numbers a case are kept: memory does not grow with
the number of cases beyond these.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from tatl.data.store import Store
from tatl.names import LESION, UNION

_QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}
_TOUCHING = np.ones((3, 3), int)  # pixels that touch at a corner are one region


def census(store: Store) -> dict[str, pd.DataFrame]:
    """The tables `data_cooccurrence` and `data_areas`; numbers are of the store's frame.

    data_cooccurrence  one row per ordered pair of attributes whose masks are both known in some case: attribute,
                       other, images (that show both), with_attribute (that show `attribute` where `other` is known),
                       known (in which both are known)
    data_areas         one row per mask (lesion, attributes, union) that some image shows: mask, images (that show it),
                       area_{min,q25,median,q75,max,mean} in % of the image, share_{median,mean} in % of the lesion
                       (inside it; empty where no lesion is known), regions_{median,mean,max}
    """
    return {"data_cooccurrence": cooccurrence(store), "data_areas": areas(store)}


def cooccurrence(store: Store) -> pd.DataFrame:
    """How many images show two attributes at once."""
    known = {name: store.known(name) for name in store.attributes}
    present = {name: store.present(name) for name in store.attributes}
    rows = []
    for name in store.attributes:
        for other in store.attributes:
            both = known[name] & known[other]
            shown = present[name] & both
            rows.append((name, other, int((shown & present[other]).sum()), int(shown.sum()), int(both.sum())))
    table = pd.DataFrame(rows, columns=["attribute", "other", "images", "with_attribute", "known"])
    return table[table["known"] > 0].reset_index(drop=True)


def areas(store: Store) -> pd.DataFrame:
    """How much of the image each mask takes where it is shown, how much of the lesion, and in how many regions."""
    shown = {name: store.present(name) for name in (LESION, *store.attributes, UNION)}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in shown}
    lesion = store.known(LESION)
    for index in np.flatnonzero(np.logical_or.reduce(list(shown.values()))):
        bits = np.asarray(store.masks[index])
        for name in (name for name in shown if shown[name][index]):
            found[name].append(_measured(bits & np.uint16(store.bits(name)) != 0, bits & 1 != 0, bool(lesion[index])))
    rows = [{"mask": name, "images": len(values), **_summary(values)} for name, values in found.items()]
    table = pd.DataFrame(rows)
    return table[table["images"] > 0].reset_index(drop=True)


def _measured(mask: np.ndarray, lesion: np.ndarray, known: bool) -> tuple[float, float, float]:
    """Share of the image and of the lesion in %, and the number of regions."""
    inside = 100 * float((mask & lesion).sum() / lesion.sum()) if known and lesion.any() else np.nan
    return 100 * float(mask.mean()), inside, float(ndimage.label(mask, _TOUCHING)[1])


def _summary(values: list[tuple[float, float, float]]) -> dict[str, float]:
    """Quantiles and means over images; NaN of a share that no lesion gives."""
    table = pd.DataFrame(values, columns=["area", "share", "regions"], dtype=float)
    found = {f"area_{name}": table["area"].quantile(at) for name, at in _QUANTILES.items()}
    others = ("area_mean", "share_median", "share_mean", "regions_median", "regions_mean", "regions_max")
    split = {name: name.split("_") for name in others}
    return found | {name: getattr(table[of], what)() for name, (of, what) in split.items()}

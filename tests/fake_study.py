"""A tables folder as `python -m tatl study variants` writes it, with made-up numbers and drawn shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
ISIC = ("pigment_network", "globules", "milia_like_cyst", "negative_network", "streaks")
VARIANTS = ("stage3", "stage23", "stage13", "stage123", "stage123-scratch")
SCORES = ["jaccard", "dice", "image_jaccard", "image_dice"]
WINNERS = {  # their networks, which are no shape of another variant
    "isic2017-winner": ("isic2017-winner-vgg16",),
    "isic2018-winner": tuple(f"pyramid-{name}" for name in ("resnet152", "densenet169", "xception", "inceptionv2")),
}


def shown(page: Any, study: str) -> dict[str, str]:
    """What a notebook shows of its page as HTML, by what it calls; first where the numbers are from."""
    cells = json.loads((NOTEBOOKS / f"{study.replace('-', '_')}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    called = [
        name for name in re.findall(r"page\.([\w.]+)\(", code) if name not in ("origin", "unmeasured", "provenance")
    ]
    return {name: attrgetter(name)(page)().text for name in ("origin", *called)}


def write(
    folder: Path,
    *,
    attributes: Sequence[str] = ISIC,
    variants: Sequence[str] = VARIANTS,
    folds: int = 1,
    shapes: Sequence[str] = ("u",),
    gallery: bool = True,
    seed: int = 0,
    **about: Any,
) -> Path:
    """Write every file of the contract and return the folder; `about` overrides study.json."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    per_fold = _folds(rng, attributes, variants, folds, shapes)
    per_fold.to_csv(folder / "variants_folds.csv", index=False)
    images(per_fold).to_csv(folder / "variants_images.csv.gz", index=False)
    _over_folds(per_fold).to_csv(folder / "variants.csv", index=False)
    _counts(rng, attributes).to_csv(folder / "counts.csv", index=False)
    lesion = [("source (textures)", fold, 0, 0.78, 0.87 + 0.01 * fold, 0.74, 0.83, 48) for fold in range(folds)]
    columns = ["start", "fold", "seed", *SCORES, "images"]
    pd.DataFrame(lesion, columns=columns).to_csv(folder / "lesion.csv", index=False)
    _curves(variants, folds).to_csv(folder / "variants_curves.csv", index=False)
    described = _about(attributes, variants, folds, shapes) | about
    (folder / "study.json").write_text(json.dumps(described))
    if gallery:
        np.savez_compressed(folder / "gallery.npz", **draw_gallery(rng, attributes))
    return folder


def _folds(
    rng: np.random.Generator, attributes: Sequence[str], variants: Sequence[str], folds: int, shapes: Sequence[str]
) -> pd.DataFrame:
    rows = []
    for v, variant in enumerate(variants):
        for shape in (*WINNERS.get(variant, shapes), "mean"):
            for fold in range(folds):
                dice = np.clip(0.75 - 0.11 * np.arange(len(attributes)) + 0.03 * v, 0.02, 0.9)
                dice = np.clip(dice + rng.normal(0, 0.03, len(attributes)), 0, 0.95)
                values = dict(zip(attributes, dice, strict=True)) | {"average": dice.mean(), "micro": dice.max() - 0.05}
                rows += [_row(variant, shape, fold, name, value) for name, value in values.items()]
    return pd.DataFrame(rows)


def _row(variant: str, shape: str, fold: int, attribute: str, dice: float) -> dict[str, Any]:
    jaccard = dice / (2 - dice)
    keys = {"variant": variant, "shape": shape, "seed": 0, "fold": fold, "attribute": attribute}
    scores = {"jaccard": jaccard, "dice": dice, "image_jaccard": 0.9 * jaccard, "image_dice": 0.9 * dice}
    return keys | scores | {"images": 48, "positives": 11}


def images(folds: pd.DataFrame, groups: int = 24) -> pd.DataFrame:
    """The areas of a test fold's images, two to a group, of about the Dice that the fold's row has."""
    part = folds[(folds["shape"] == "mean") & ~folds["attribute"].isin(["average", "micro"])]
    table = part.loc[part.index.repeat(groups)].drop(columns=["images", "positives"])
    image = table["fold"] * groups + np.tile(np.arange(groups), len(part))
    spread = np.random.default_rng(0).uniform(0.8, 1.2, len(table))
    missed = spread * (1 / table["dice"].clip(lower=0.02) - 1)
    areas = {"tp": 0.1, "fp": 0.1 * missed, "fn": 0.1 * missed}
    named = {"image": [f"P_{i:04d}" for i in image], "group": [f"g{i // 2}" for i in image]}
    return table[["variant", "shape", "seed", "fold", "attribute"]].assign(**named, **areas)


def _over_folds(folds: pd.DataFrame) -> pd.DataFrame:
    grouped = folds.groupby(["variant", "shape", "attribute"], sort=False)
    table = grouped[SCORES].mean().join(grouped[["jaccard", "dice"]].std(ddof=1).add_suffix("_std"))
    table = table.assign(folds=grouped.size(), positives=grouped["positives"].sum()).reset_index()
    scores = ["jaccard", "jaccard_std", "dice", "dice_std", "image_jaccard", "image_dice"]
    return table[["variant", "shape", "attribute", *scores, "folds", "positives"]]


def _curves(variants: Sequence[str], folds: int) -> pd.DataFrame:
    keys = {"shape": "mean", "seed": 0, "attribute": "average", "split": "validation"}
    return pd.DataFrame(
        {**keys, "variant": variant, "fold": fold, "before": 8 * v, "epoch": max(step - 1, 0) // 4, "step": step,
         "loss": 0.9 - 0.02 * v - 0.01 * fold - 0.01 * step}
        for v, variant in enumerate(variants) for fold in range(folds) for step in range(0, 17, 4)
    )  # fmt: skip


def _counts(rng: np.random.Generator, attributes: Sequence[str]) -> pd.DataFrame:
    present = [240, *sorted(rng.integers(20, 150, len(attributes)), reverse=True), 212]
    names = ["lesion", *attributes, "union"]
    return pd.DataFrame({"mask": names, "present": present, "known": 240, "images": 240})


def _about(attributes: Sequence[str], variants: Sequence[str], folds: int, shapes: Sequence[str]) -> dict[str, Any]:
    return {
        "study": "variants",
        "preset": "quick",
        "store": "stores/phantom-quick",
        "store_name": "phantom-quick",
        "store_digest": "3f9a11c0d2",
        "data": "phantom",
        "enrich": True,
        "cases": 240,
        "size": "96x128",
        "source": "textures",
        "shapes": list(shapes),
        "backbone": "efficientnet-b0",
        "seeds": [0],
        "folds": list(range(folds)),
        "n_folds": 5,
        "attributes": list(attributes),
        "variants": list(variants),
        "offset": 10,
        "epochs": 4,
        "notes": ["streaks: 3 groups have it, fewer than the 5 folds, so some test fold has none"],
        "command": "python -m tatl study variants --preset quick",
        "commit": "ea04371",
        "versions": {"torch": "2.15.0", "timm": "1.0.31", "lightning": "2.6.6"},
        "date": "2026-11-23 21:00 UTC",
        "hardware": "x86_64 CPU, 2 threads",
        "seconds": 431.2,
    }


def draw_gallery(
    rng: np.random.Generator, attributes: Sequence[str], cases: int = 6, height: int = 96, width: int = 128
) -> dict[str, np.ndarray]:
    """Brown ellipses on pink with elliptic attributes, and predictions that are the truth a little displaced."""
    y, x = np.mgrid[:height, :width]

    def ellipse(cy: float, cx: float, ry: float, rx: float) -> np.ndarray:
        return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1

    images, truths, unions, probabilities, boxes = [], [], [], [], []
    for _ in range(cases):
        lesion = ellipse(48, 64, rng.uniform(22, 38), rng.uniform(26, 50))
        image = np.where(lesion[..., None], (120, 75, 60), (226, 182, 166)) + rng.normal(0, 9, (height, width, 3))
        truth, maps = lesion.astype(np.uint16), []
        for k in range(len(attributes)):
            cy, cx, r = rng.uniform(34, 62), rng.uniform(44, 84), rng.uniform(5, 15)
            mask = ellipse(cy, cx, r, 1.3 * r) & lesion & bool(rng.random() < 0.6)
            truth |= mask.astype(np.uint16) << (k + 1)
            distance = ((y - cy - 2) / r) ** 2 + ((x - cx - 3) / (1.3 * r)) ** 2
            maps.append(255 / (1 + np.exp(np.minimum(3 * (distance - 1), 50))) * (mask.any() or rng.random() < 0.2))
        rows, columns = np.nonzero(lesion)
        low, high = (rows.min() - 10, columns.min() - 10), (rows.max() + 11, columns.max() + 11)
        boxes.append([max(0, low[0]), max(0, low[1]), min(height, high[0]), min(width, high[1])])
        images.append(image.clip(0, 255))
        truths.append(truth)
        probabilities.append(maps)
        unions.append(np.max(maps, axis=0))
    return {
        "image": np.array(images).astype(np.uint8),
        "truth": np.array(truths, np.uint16),
        "union": np.array(unions).astype(np.uint8),
        "probability": np.array(probabilities).astype(np.uint8),
        "boxes": np.array(boxes),
        "ids": np.array([f"PHANTOM_{i:07d}" for i in range(cases)]),
        "attributes": np.array(attributes),
        "variant": np.array("stage123"),
        "fold": np.array(0),
        "seed": np.array(0),
    }

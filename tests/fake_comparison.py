"""Tables folders as `python -m tatl study NAME` writes them for the comparisons, with made-up numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fake_study import ISIC, _about, _over_folds, images
from tatl.studies.pace import pace

SCORES = ["jaccard", "dice", "image_jaccard", "image_dice"]
PARADIGMS = (
    "tatl", "tatl-freeze", "source", "source-long", "rotation", "context", "augmentation", "random", "attention",
    "multilabel", "multilabel-direct", "lesion", "shuffled-union", "frozen-random", "stage123",
)  # fmt: skip
MANY = tuple(f"{word}_{number}" for number in range(5) for word in ("scaly_patch", "halo", "a_vessel_of_any_kind"))

Row = tuple[str, dict[str, Any], float]  # variant, own columns, how much better than nothing


def rows(study: str, starts: Sequence[str] = ()) -> list[Row]:
    """The rows of a study; `starts` replaces its own."""
    made: list[Row] = []
    if study == "paradigms":
        for i, name in enumerate(starts or PARADIGMS):
            kind = {"start": name, "augment": name == "augmentation", "crop": name == "stage123"}
            made.append((name, kind, 0.1 - 0.01 * i))
    elif study == "crop":
        for network, offset in product(starts or ("u", "unet", "segnet", "mask-rcnn"), (0, 10, 15)):
            made.append((f"{network} {offset} px", {"lesion_network": network, "offset": offset}, 0.001 * offset))
    elif study == "backbones":
        for backbone, start in product(
            ("vgg16", "densenet169", "efficientnet-b0"), starts or ("source", "tatl-freeze", "tatl")
        ):
            made.append((f"{backbone} {start}", {"backbone": backbone, "start": start}, 0.02 * (start != "source")))
    elif study == "data-size":
        for share, start in product((1.0, 0.8, 0.4), starts or ("tatl", "tatl-scratch", "source")):
            kind = {"start": start, "fraction": share}
            made.append((f"{start} {100 * share:g} %", kind, 0.1 * share + 0.05 * (start == "tatl")))
    elif study == "convergence":
        made = [(name, {}, 0.1 - 0.03 * i) for i, name in enumerate(starts or ("pretext", "tatl", "source", "random"))]
    else:
        raise ValueError(f"no study {study}")
    return made


def write(
    folder: Path,
    study: str,
    *,
    attributes: Sequence[str] = ISIC,
    starts: Sequence[str] = (),
    folds: int = 1,
    seeds: int = 1,
    shapes: Sequence[str] = ("u",),
    rng: int = 0,
    **about: Any,
) -> Path:
    """Write every table of the study and return the folder; `about` overrides <study>.json."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, made = np.random.default_rng(rng), rows(study, starts)
    kind = pd.DataFrame([{"variant": name, **own} for name, own, _ in made])
    per_fold = pd.DataFrame(_folds(draw, made, attributes, folds, seeds, shapes))
    per_fold.merge(kind, on="variant").to_csv(folder / f"{study}_folds.csv", index=False)
    images(per_fold).to_csv(folder / f"{study}_images.csv.gz", index=False)
    _over_folds(per_fold).merge(kind, on="variant").to_csv(folder / f"{study}.csv", index=False)
    described = _about(attributes, [name for name, *_ in made], folds, shapes)
    described |= {"study": study, "seeds": list(range(seeds)), "command": f"python -m tatl study {study}"} | about
    (folder / f"{study}.json").write_text(json.dumps(described))
    if study == "crop":
        _lesions([own["lesion_network"] for _, own, _ in made], folds).to_csv(folder / "crop_lesion.csv", index=False)
    if study in ("convergence", "paradigms"):
        curves = pd.DataFrame(_curves(draw, made, attributes, folds, seeds, shapes))
        curves.to_csv(folder / f"{study}_curves.csv", index=False)
    if study == "convergence":
        pace(curves).to_csv(folder / "convergence_pace.csv", index=False)
    if study == "backbones":
        pd.DataFrame(_costs(kind, shapes)).to_csv(folder / "backbones_cost.csv", index=False)
    return folder


def _folds(
    draw: np.random.Generator, made: list[Row], attributes: Sequence[str], folds: int, seeds: int, shapes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for (name, _, better), shape, seed, fold in product(made, (*shapes, "mean"), range(seeds), range(folds)):
        dice = np.clip(0.6 * 0.85 ** np.arange(len(attributes)) + better, 0, 0.9)
        dice = np.clip(dice + draw.normal(0, 0.02, len(attributes)), 0, 0.95)
        values = dict(zip(attributes, dice, strict=True)) | {"average": dice.mean(), "micro": dice.max() - 0.05}
        for attribute, value in values.items():
            keys = {"variant": name, "shape": shape, "seed": seed, "fold": fold, "attribute": attribute}
            scores = [value / (2 - value), value, 0.9 * value / (2 - value), 0.9 * value]
            yield keys | dict(zip(SCORES, scores, strict=True)) | {"images": 48, "positives": 11}


def _lesions(networks: Sequence[str], folds: int) -> pd.DataFrame:
    found = [
        (name, "source (textures)", fold, 0, 0.7, 0.82 + 0.01 * i + 0.005 * fold, 0.68, 0.8, 48)
        for i, name in enumerate(dict.fromkeys(networks))
        for fold in range(folds)
    ]
    return pd.DataFrame(found, columns=["network", "start", "fold", "seed", *SCORES, "images"])


def _curves(
    draw: np.random.Generator, made: list[Row], attributes: Sequence[str], folds: int, seeds: int, shapes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for (name, _, better), shape, seed, fold in product(made, shapes, range(seeds), range(folds)):
        for attribute, split in product(("union",) if name == "pretext" else attributes, ("train", "validation")):
            for step in range(1, 41) if split == "train" else range(0, 41, 4):
                loss = (
                    0.2 + 0.75 * np.exp(-step * max(0.02, 0.1 + better) / 4) + draw.normal(0, 0.02 * (split == "train"))
                )
                keys = {"variant": name, "shape": shape, "seed": seed, "fold": fold, "attribute": attribute}
                yield keys | {"epoch": max(step - 1, 0) // 4, "step": step, "split": split, "loss": loss}


def _costs(kind: pd.DataFrame, shapes: Sequence[str]) -> Iterator[dict[str, Any]]:
    for i, backbone in enumerate(dict.fromkeys(kind["backbone"])):
        for shape, frozen in product(shapes, (False, True)):
            yield {
                "backbone": backbone, "shape": shape, "frozen": frozen, "parameters": 10_115_501 + 1_000_000 * i,
                "trained": 6_065_937, "batch": 8, "size": "96x128", "memory_mb": 700 - 200 * frozen + 90 * i,
                "train_seconds_per_image": 0.05 - 0.02 * frozen, "predict_seconds_per_image": 0.01 + 0.002 * i,
                "device": "cpu", "threads": 2,
            }  # fmt: skip

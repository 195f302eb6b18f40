"""The tables of `python -m analysis.suspects`, with made-up scores and masks drawn at random."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.measure.suspects.scores import BY_MAPS, BY_WEIGHTS, ranked
from fake_study import ISIC

SIZE = (96, 128)


def write(folder: Path, shown: int = 5, curvature: bool = True) -> Path:
    """Eight cases of each attribute, of `shown` of which there are pictures: given none, the same, and another mask."""
    rng = np.random.default_rng(0)
    keys = [(f"CASE_{case}", name) for name in ISIC for case in range(8)]
    table = pd.DataFrame(keys, columns=["case", "attribute"]).assign(group="g", fold=0, networks=1, given="present")
    for name in (*BY_MAPS, *([BY_WEIGHTS] if curvature else [])):
        table[name] = rng.uniform(0, 1, len(table))
    folder.mkdir(parents=True, exist_ok=True)
    ranked(table).to_csv(folder / "suspects.csv", index=False)
    image = rng.integers(0, 255, (shown, *SIZE, 3), np.uint8)
    found = np.zeros((shown, *SIZE), bool)
    found[:, 20:50, 30:60] = True
    given = np.roll(found, np.arange(shown).sum(), 1) & (np.arange(shown) > 0)[:, None, None]
    np.savez_compressed(folder / "suspects.npz", image=image, given=given, found=found)
    about = {
        "study": "suspects", "store": "stores/phantom-quick", "store_name": "phantom-quick", "data": "phantom",
        "cases": 240, "size": "96x128", "source": "textures", "shapes": ["u"], "backbone": "efficientnet-b0",
        "seeds": [0], "folds": [0], "n_folds": 5, "notes": ["48 of 240 masks are ranked"],
        "command": "python -m analysis.suspects --store stores/phantom-quick",
    }  # fmt: skip
    (folder / "suspects.json").write_text(json.dumps(about), encoding="utf-8")
    return folder

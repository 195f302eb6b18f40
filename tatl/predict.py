"""Images to files: masks and probability maps in their original size, overlays, and the table of lesion boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from tatl.choice import choose
from tatl.crop import Box
from tatl.data.pictures import read_image, read_mask
from tatl.data.store import LESION, UNION
from tatl.ensemble import Ensemble
from tatl.fit import pick_device
from tatl.overlay import draw_overlay


def predict_images(
    images: Sequence[Path],
    out: Path,
    variant: str,
    runs: Path,
    store: str = "",
    folds: str = "",
    truth: Path | None = None,
    device: str = "auto",
) -> None:
    """Write masks, probability maps, overlays and boxes.csv; a bad image does not stop the others.

    Raises ValueError for bad images once the others are written; before anything is computed for two images of one
    name, an `out` that is the folder of the truth, or runs that do not fit.
    """
    if truth is not None and out.exists() and truth.exists() and out.samefile(truth):
        raise ValueError(f"{out} holds the true masks, which predictions would overwrite: choose another --out")
    stems = [Path(image).stem for image in images]
    if repeated := [stem for stem in dict.fromkeys(stems) if stems.count(stem) > 1]:
        raise ValueError(f"several images are called {', '.join(repeated)}: their masks would overwrite each other")
    chosen = choose(Path(runs), variant, store, folds)
    ensemble = Ensemble.load(chosen, Path(runs), pick_device(device))
    out.mkdir(parents=True, exist_ok=True)
    boxes, problems = [], []
    for image in tqdm(images, desc="predict", unit="image"):
        try:
            boxes.append((Path(image).stem, *predict_one(Path(image), out, ensemble, truth)))
        except (ValueError, OSError) as error:
            problems.append(str(error))
    table = pd.DataFrame(boxes, columns=["image", "top", "left", "bottom", "right"])
    table.to_csv(out / "boxes.csv", index=False)
    if problems:
        raise ValueError(f"{len(problems)} of {len(images)} images could not be segmented: {'; '.join(problems[:5])}")


def predict_one(path: Path, out: Path, ensemble: Ensemble, truth: Path | None) -> Box:
    """Segment one image and write its files; the box in the image's own pixels."""
    small, original = read_image(path, ensemble.size)
    found = ensemble(small, original)
    masks = {name: p >= 0.5 for name, p in found.probabilities.items()}
    true = {} if truth is None else _truth(truth, path.stem, list(ensemble.attributes), original)
    for name, p in found.probabilities.items():
        _save(masks[name] * 255.0, out / f"{path.stem}{file_label(name)}.png")
        if name != LESION:
            _save(255 * p, out / f"{path.stem}_probability_{name}.png")
    draw_overlay(read_image(path)[0], found.box, masks, true, out / f"{path.stem}_overlay.png")
    return found.box


def file_label(name: str) -> str:
    """ISIC's ending of a mask file: `_segmentation` (the lesion), `_union`, or `_attribute_<name>`."""
    return {LESION: "_segmentation", UNION: "_union"}.get(name, f"_attribute_{name}")


def _truth(folder: Path, stem: str, attributes: Sequence[str], size: tuple[int, int]) -> dict[str, np.ndarray]:
    true = {}
    for name in attributes:
        path = Path(folder) / f"{stem}{file_label(name)}.png"
        if not path.is_file():
            raise FileNotFoundError(f"no true mask {path}: leave --truth out, or give the folder that has it")
        true[name] = read_mask(path)
        if true[name].shape != size:
            raise ValueError(f"{path.name} is {true[name].shape} pixels, its image {size}")
    return true


def _save(values: np.ndarray, path: Path) -> None:
    Image.fromarray(np.round(values).astype(np.uint8)).save(path)

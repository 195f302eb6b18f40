"""Images to masks in their original size, by the trained networks of one variant.

The lesion box comes from the averaged Stage 1 networks; the crop is cut from the frame at network size, as in
training; probabilities of all shapes, folds and seeds are averaged, pasted back and scaled to the original.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from tatl.crop import Box, cut, lesion_box, paste
from tatl.data.case import Size
from tatl.data.feed import normalise
from tatl.data.pictures import read_image, read_mask
from tatl.data.store import LESION, UNION
from tatl.fit import pick_device
from tatl.inference import infer, resize
from tatl.inits import load_exactly, read_weights
from tatl.models import build
from tatl.overlay import draw_overlay
from tatl.pretext import TEXTURES
from tatl.run import Run, find_runs
from tatl.settings import numbers
from tatl.variants import STAGE1, VARIANTS


def is_of(run: Run, variant: str) -> bool:
    """Whether this is a target segmenter (or the lesion network) of the variant, by what it starts from and sees."""
    if variant == STAGE1 or run.task in (LESION, UNION, TEXTURES):
        return variant == STAGE1 and run.task == LESION
    asked = VARIANTS[variant]
    agnostic = run.parent is not None and run.parent.task == UNION
    fits = (run.cropper is not None, agnostic) == (asked.crop, asked.agnostic)
    return fits and (run.source == "random" or not asked.scratch)


def choose(root: Path, variant: str, store: str = "", folds: str = "") -> dict[Run, Path]:
    """The finished runs of a variant, which differ in attribute, shape, fold and seed alone, and their folders.

    Random source weights are the scratch variant's, unless nothing else is there.  FileNotFoundError where there are
    no runs, ValueError where runs of several settings are there, or a fold is not.
    """
    if variant not in (*VARIANTS, STAGE1):
        raise ValueError(f"variant {variant!r} is unknown: choose of {', '.join((*VARIANTS, STAGE1))}")
    there = dict(find_runs(root))
    found = {run: path for run, path in there.items() if is_of(run, variant) and store in ("", run.store)}
    if not found:
        known = [name for name in (*VARIANTS, STAGE1) if any(is_of(run, name) for run in there)]
        raise FileNotFoundError(
            f"{root} has no finished runs of {variant}{f' on store {store}' if store else ''} "
            f"(there are: {', '.join(known) or 'none'}): train them with python -m tatl train --variant {variant}"
        )
    if not (variant in VARIANTS and VARIANTS[variant].scratch) and {run.source for run in found} != {"random"}:
        found = {run: path for run, path in found.items() if run.source != "random"}
    _require_one_setting(found)
    wanted = numbers("folds", folds)
    if missing := sorted(set(wanted) - {run.fold for run in found}):
        raise ValueError(f"no finished runs of {variant} for folds {missing}: leave --folds out to use all there are")
    return {run: path for run, path in found.items() if not wanted or run.fold in wanted}


def _setting(run: Run) -> dict[str, Any]:
    """What all networks of one prediction must share."""
    own = {f.name: getattr(run, f.name) for f in dataclasses.fields(run)}
    for name in ("task", "shape", "fold", "seed", "parent", "cropper"):
        own.pop(name)
    own["agnostic recipe"] = run.parent.recipe if run.parent else None
    own["lesion recipe"] = run.cropper.recipe if run.cropper else None
    return own


def _require_one_setting(runs: Iterable[Run]) -> None:
    settings = [_setting(run) for run in runs]
    differing = [name for name in settings[0] if len({str(each[name]) for each in settings}) > 1]
    if differing:
        shown = "; ".join(f"{name}: {', '.join(sorted({str(s[name]) for s in settings}))[:200]}" for name in differing)
        raise ValueError(f"runs of several settings are there ({shown}): choose with --store, or use another --runs")


@dataclass(frozen=True)
class Ensemble:
    """Networks by what they find; each list is averaged."""

    size: Size
    offset: int
    lesion: list[nn.Module]
    union: list[nn.Module]
    attributes: dict[str, list[nn.Module]]
    device: torch.device

    @classmethod
    def load(cls, chosen: dict[Run, Path], root: Path, device: torch.device) -> Ensemble:
        """Load every network once; ValueError where a weights file is damaged."""
        first = next(iter(chosen))
        stage1 = [run if run.task == LESION else run.cropper for run in chosen]
        stage2 = [run.parent for run in chosen if run.parent is not None and run.parent.task == UNION]
        targets: dict[str, list[nn.Module]] = {}
        for run in chosen:
            if run.task != LESION:
                targets.setdefault(run.task, []).append(network(run, root, device))
        return cls(
            Size.parse(first.size),
            first.offset,
            [network(run, root, device) for run in dict.fromkeys(stage1) if run is not None],
            [network(run, root, device) for run in dict.fromkeys(stage2)],
            targets,
            device,
        )

    def __call__(self, image: np.ndarray) -> tuple[dict[str, Tensor], Box]:
        """Probabilities [1, H, W] by mask name, and the box, in the frame of network size, from uint8 [H, W, 3]."""
        frame = normalise(torch.from_numpy(image)[None].to(self.device))
        found: dict[str, Tensor] = {}
        box: Box = (0, 0, *self.size)
        if self.lesion:
            found[LESION] = average(self.lesion, frame)[0]
            box = lesion_box((found[LESION][0] >= 0.5).cpu().numpy(), self.offset)
        crop = cut(frame, torch.tensor([box], device=self.device), self.size)
        cropped = {UNION: self.union, **self.attributes} if self.union else self.attributes
        for name, models in cropped.items():
            found[name] = paste(average(models, crop)[0], box, self.size)
        return found, box


def network(run: Run, root: Path, device: torch.device) -> nn.Module:
    """A run's trained network, in evaluation mode."""
    model = build(run.shape, run.backbone)
    load_exactly(model, read_weights(run.folder(root) / "weights.safetensors"), run.title())
    return model.to(device).to(memory_format=torch.channels_last).eval()


def average(models: Sequence[nn.Module], images: Tensor) -> Tensor:
    """The mean of the models' probabilities [B, 1, H, W]."""
    images = images.contiguous(memory_format=torch.channels_last)
    return torch.stack([infer(model, images) for model in models]).mean(0)


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
    found, box = ensemble(small)
    scaled = {name: resize(p[None], original)[0, 0].cpu().numpy() for name, p in found.items()}
    masks = {name: p >= 0.5 for name, p in scaled.items()}
    true = {} if truth is None else _truth(truth, path.stem, list(ensemble.attributes), original)
    for name, p in scaled.items():
        _save(masks[name] * 255.0, out / f"{path.stem}{file_label(name)}.png")
        if name != LESION:
            _save(255 * p, out / f"{path.stem}_probability_{name}.png")
    rows, columns = original[0] / ensemble.size.height, original[1] / ensemble.size.width
    top, left, bottom, right = box
    scaled_box = (round(top * rows), round(left * columns), round(bottom * rows), round(right * columns))
    draw_overlay(read_image(path)[0], scaled_box, masks, true, out / f"{path.stem}_overlay.png")
    return scaled_box


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

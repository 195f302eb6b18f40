"""The networks of a variant as ONNX files, with what is between them in a JSON, checked against PyTorch.

    model.json         what to do, in order
    model.onnx         every mask in the box: those that a variant averages, Stage 2's union among them
    model-lesion.onnx  where a variant crops: the lesion, round which the box lies (with stage1 alone it is model.onnx)

What is between is no network: the largest region of the lesion and its box (`tatl.data.crop`), and pasting.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tatl.data.batches import normalise
from tatl.data.case import Size
from tatl.data.crop import ZOOM, cut
from tatl.names import LESION
from tatl.prediction.ensemble import Ensemble, mean_probabilities
from tatl.prediction.onnx_graphs import BOXES, FRAMES, joined, save_graph
from tatl.prediction.select import choose, network_notes, parts
from tatl.run import Run
from tatl.studies.settings import Chosen

TOLERANCE = 1e-4  # of a probability
EXPORTERS = ("onnx", "onnxscript")


def export_networks(out: Path, asked: Chosen) -> dict[str, Any]:
    """Write `out` and what belongs to it, and return what its JSON says; files of that name are replaced.

    Raises ValueError where a library is not installed, for another name than *.onnx, and where networks are missing
    (as `choose` does) or cannot be written; RuntimeError where ONNX Runtime finds other probabilities than PyTorch.
    """
    if missing := [name for name in EXPORTERS if importlib.util.find_spec(name) is None]:
        raise ValueError(f"export needs {' and '.join(missing)}, not installed here: pip install 'tatl[export]'")
    if out.suffix != ".onnx" or out.is_dir():
        raise ValueError(f"{out} is no file for networks: give --out a name that ends in .onnx, such as model.onnx")
    chosen = choose(asked.runs, asked.variant, asked.store, asked.folds, asked.where)
    notes = network_notes(chosen)
    for line in notes:
        print(line)
    found, ensemble = parts(chosen), Ensemble.load(chosen, asked.runs, torch.device("cpu"))
    files = _files(out, list(found))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as name:
        differences = [_write(Path(name) / file, masks, found, ensemble) for file, masks in files.items()]
        described = _described(files, asked.variant, chosen, ensemble, notes[1:], differences)
        told = json.dumps(described, indent=1) + "\n"
        (Path(name) / out.with_suffix(".json").name).write_text(told, encoding="utf-8")
        for path in sorted(Path(name).iterdir(), key=lambda path: path.suffix == ".json"):  # the JSON last
            shutil.move(path, out.parent / path.name)
            print(f"{out.parent / path.name}: {(out.parent / path.name).stat().st_size / 1e6:.1f} MB")
    print(_verdict(differences))
    return described


def _files(out: Path, masks: list[str]) -> dict[str, list[str]]:
    """The masks that each file finds, by its name: the lesion alone, and the others."""
    others = [mask for mask in masks if mask != LESION]
    if LESION not in masks or not others:
        return {out.name: masks}
    return {f"{out.stem}-{LESION}.onnx": [LESION], out.name: others}


def _write(path: Path, masks: list[str], found: Mapping[str, list[Run]], ensemble: Ensemble) -> float | None:
    """Write the networks of some masks into a file; the largest difference from PyTorch, None where it is unknown."""
    networks = {mask: ensemble.networks[mask] for mask in masks}
    crop = LESION in ensemble.networks and masks != [LESION]
    save_graph(joined(networks, found, crop), path)
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for frames, boxes in _examples(ensemble.size):
        given = {FRAMES: frames.numpy()} | ({BOXES: boxes.numpy()} if crop else {})
        images = normalise(frames)
        images = cut(images, boxes, (images.shape[2], images.shape[3])) if crop else images
        wanted = mean_probabilities(networks, images)
        names = [f"probability_{mask}" for mask in masks]
        for mask, got in zip(masks, session.run(names, given), strict=True):
            worst = max(worst, float(np.abs(got - wanted[mask].numpy()).max()))
    if not worst <= TOLERANCE:
        what = f"{path.name} finds other probabilities in ONNX Runtime than in PyTorch (by up to {worst:.1e}"
        raise RuntimeError(f"{what}, allowed {TOLERANCE:g}): install other versions of onnx, onnxscript, onnxruntime")
    return worst


def _examples(size: Size) -> Iterator[tuple[Tensor, Tensor]]:
    """Drawn frames uint8 [B, H, W, 3] and boxes in them [B, 4]: of two sizes, one image and several."""
    draw = torch.Generator().manual_seed(0)
    for images, (height, width) in ((2, size), (1, (size.height // 2 + 5, size.width - 7))):
        coarse = torch.randint(0, 256, (images, 3, height // 8 + 1, width // 8 + 1), generator=draw).float()
        frames = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").round().to(torch.uint8)
        inner = [height // 8, width // 5, height * 3 // 4, width * 5 // 6]
        yield frames.permute(0, 2, 3, 1).contiguous(), torch.tensor([inner, [0, 0, height, width]])[:images]


def _described(
    files: Mapping[str, list[str]],
    variant: str,
    chosen: list[Run],
    ensemble: Ensemble,
    notes: list[str],
    differences: list[float | None],
) -> dict[str, Any]:
    """What a user of the files has to know, and where they are from."""
    first, found = chosen[0], parts(chosen)
    return {
        "format": 1,
        "variant": variant,
        "store": first.store,
        "networks": {mask: [f"{run.title()} {run.hash}" for run in runs] for mask, runs in found.items()},
        "notes": notes,
        "size": list(ensemble.size),
        "files": [
            {"file": file, "masks": masks, "cropped": LESION in found and masks != [LESION]}
            for file, masks in files.items()
        ],
        "offset": ensemble.offset,
        "zoom": ZOOM,
        "largest_difference": differences,
    }


def _verdict(differences: list[float | None]) -> str:
    known = [each for each in differences if each is not None]
    if not known:
        return "note: not checked against PyTorch, as onnxruntime is not installed (pip install 'tatl[export]')"
    return f"ONNX Runtime and PyTorch agree to {max(known):.1e} (allowed {TOLERANCE:g})"

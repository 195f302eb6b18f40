"""Images to files: masks and probability maps in their original size, overlays, and the table of lesion boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from tatl.data.images.masks import check_size, read_part
from tatl.data.images.pictures import read_image
from tatl.data.images.reading import AS_THEY_ARE, Reading
from tatl.data.store import write_csv
from tatl.names import LESION, UNION
from tatl.prediction.ensemble import Ensemble, Prediction
from tatl.prediction.masks import Key, key_of, mask_file, mask_files
from tatl.prediction.overlay import draw_outlines, draw_overlay
from tatl.prediction.select import choose, network_notes, parts
from tatl.prediction.unseen import Assigned, SampleKind, assign, sample_notes
from tatl.studies.settings import Chosen
from tatl.training.device import pick_device

_TABLE = "boxes.csv"
_COLUMNS = ["image", "top", "left", "bottom", "right", "lesion", "sample"]


def predict_images(
    images: Sequence[Path],
    out: Path,
    asked: Chosen,
    truth: Path | None = None,
    device: str = "auto",
    reading: Reading = AS_THEY_ARE,
    in_sample: bool = False,
) -> None:
    """Write masks, probability maps, pictures and boxes.csv; a bad image does not stop the others.

    Of pictures there are `_overlay`, a panel for each mask, and `_outlines`, one of the image's own size.
    Images of the store are segmented by networks that have not seen them (tatl.prediction.unseen), or `in_sample` by
    all; column `sample` of boxes.csv says which: "new" to the store, "out of fold", "in sample", or "unknown".  Images
    of earlier predictions keep their rows, and the table is written also where this is stopped.  True masks of what is
    found are drawn where they are there.  Raises ValueError for bad images once the others are written; before anything
    is computed for images, folders or runs that do not fit.
    """
    _check(images, out, truth)
    chosen = choose(asked.runs, asked.variant, asked.store, asked.folds, asked.where)
    true = {} if truth is None else true_files(truth, images, parts(chosen))
    groups = assign(images, chosen, asked.runs, asked.store, in_sample, reading)
    for line in (*network_notes(chosen), *sample_notes(groups, list(parts(chosen)))):
        print(line)
    boxes, problems = _read_boxes(out / _TABLE), []
    out.mkdir(parents=True, exist_ok=True)
    try:
        bar = tqdm(_each(groups, asked.runs, device), desc="predict", total=len(images), unit="image")
        for image, ensemble, sample in bar:
            try:
                found = segment(image, out, ensemble, reading)
                boxes[image.stem] = (image.stem, *found.box, found.lesion, sample)
                overlay(image, out, found, true, reading)
            except (ValueError, OSError) as error:
                problems.append(str(error))
    finally:
        write_csv(pd.DataFrame(boxes.values(), columns=_COLUMNS), out / _TABLE)
    if problems:
        raise ValueError(f"{len(problems)} of {len(images)} images are not complete: {'; '.join(problems[:5])}")


def _each(groups: Sequence[Assigned], runs: Path, device: str) -> Iterator[tuple[Path, Ensemble, SampleKind]]:
    """Every image with its networks, those of one group of images in memory at a time."""
    for group in groups:
        ensemble = Ensemble.load(group.runs, runs, pick_device(device))
        yield from ((image, ensemble, group.sample) for image in group.images)


def _check(images: Sequence[Path], out: Path, truth: Path | None) -> None:
    if folders := [image for image in images if image.is_dir()]:
        raise ValueError(f"{folders[0]} is a folder: give its pictures, such as {folders[0]}/*.jpg")
    stems = [image.stem for image in images]
    if repeated := [stem for stem in dict.fromkeys(stems) if stems.count(stem) > 1]:
        raise ValueError(f"several images are called {', '.join(repeated)}: their masks would overwrite each other")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file and masks go to a folder: choose another --out")
    if truth is not None and out.exists() and truth.exists() and out.samefile(truth):
        raise ValueError(f"{out} holds the true masks, which predictions would overwrite: choose another --out")


def true_files(folder: Path, images: Sequence[Path], names: Iterable[str]) -> dict[Key, Path]:
    """The true masks in a folder; ValueError where none is of these images and the masks called `names`."""
    files = mask_files(folder)
    wanted = [(image.stem, name) for image in images for name in names if name != UNION]
    if wanted and not any(key_of(*each) in files for each in wanted):
        such = " or ".join(mask_file(*each) for each in wanted[:2])
        raise ValueError(f"{folder} has no true mask of these images, such as {such}: give another --truth")
    return files


def _read_boxes(path: Path) -> dict[str, tuple]:
    """The rows of an earlier table by image, none if there is no file; ValueError for a table of something else."""
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype={"image": str}, keep_default_na=False, encoding_errors="surrogateescape")
    if list(table.columns) == _COLUMNS[:-1]:  # of a version that used every network on every image
        table["sample"] = "unknown"
    if list(table.columns) != _COLUMNS:
        raise ValueError(f"{path} does not have the columns {', '.join(_COLUMNS)}: choose another --out")
    return {row[0]: row for row in table.itertuples(index=False, name=None)}


def segment(path: Path, out: Path, ensemble: Ensemble, reading: Reading = AS_THEY_ARE) -> Prediction:
    """Write the masks and the probability maps of one image."""
    found = ensemble(*read_image(path, ensemble.size, reading))
    for name, mask in found.masks.items():
        _save(mask * 255.0, out / mask_file(path.stem, name))
    for name, p in found.probabilities.items():
        _save(255 * p, out / f"{path.stem}_probability_{name}.png")
    return found


def overlay(path: Path, out: Path, found: Prediction, true: Mapping[Key, Path], reading: Reading = AS_THEY_ARE) -> None:
    """Draw what was found in an image; ValueError whatever goes wrong, so that no picture costs masks or boxes."""
    try:
        image, original = read_image(path, reading=reading)
        masks = read_truth(true, path, found, original, reading)
        draw_overlay(image, found, masks, out / f"{path.stem}_overlay.png")
        draw_outlines(image, found, masks, out / f"{path.stem}_outlines.png")
    except Exception as error:
        raise ValueError(f"{path.name} has masks but no overlay ({error})") from error


def read_truth(
    files: Mapping[Key, Path], image: Path, found: Prediction, size: tuple[int, int], reading: Reading = AS_THEY_ARE
) -> dict[str, np.ndarray]:
    """The true masks bool [H, W] of one image among `files`: the lesion's and every attribute's.

    Attributes that were not looked for are part of the true union; the lesion is left out where it was not.
    Raises BadCase for a mask of another size than the image's.
    """
    spelt = {key_of(image.stem, name)[1]: name for name in found.probabilities}
    masks = {}
    for (of, mask), path in files.items():
        if of != key_of(image.stem, mask)[0] or mask == UNION or (mask == LESION and LESION not in spelt):
            continue
        name = spelt.get(mask, mask)
        part = read_part(path, reading, name)
        check_size(path.name, part.shape, size, image)
        for note in part.notes:
            print(f"note: {path.name}: {note}")
        masks[name] = part.whole()
    return masks


def _save(values: np.ndarray, path: Path) -> None:
    Image.fromarray(np.round(values).astype(np.uint8)).save(path)

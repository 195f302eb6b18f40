"""Images to files: masks and probability maps in their original size, overlays, and the table of lesion boxes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from tatl.data.images.files import composed
from tatl.data.images.masks import check_size, read_part
from tatl.data.images.pictures import read_image
from tatl.data.images.reading import AS_THEY_ARE, Reading
from tatl.data.store import write_csv
from tatl.names import LESION, UNION
from tatl.prediction.ensemble import Ensemble, Found
from tatl.prediction.overlay import draw_overlay
from tatl.prediction.select import choose, parts, report
from tatl.prediction.unseen import Assigned, Sample, assign, told
from tatl.training.device import pick_device

TABLE = "boxes.csv"
COLUMNS = ["image", "top", "left", "bottom", "right", "lesion", "sample"]
TRUE = re.compile(r"[^.].*_(segmentation|attribute_.+)\.png", re.IGNORECASE)


def predict_images(
    images: Sequence[Path],
    out: Path,
    variant: str,
    runs: Path,
    store: str = "",
    folds: str = "",
    where: str = "",
    truth: Path | None = None,
    device: str = "auto",
    reading: Reading = AS_THEY_ARE,
    in_sample: bool = False,
) -> None:
    """Write masks, probability maps, overlays and boxes.csv; a bad image does not stop the others.

    Images of the store are segmented by networks that have not seen them (tatl.prediction.unseen), or `in_sample` by
    all; column `sample` of boxes.csv says which: "new" to the store, "out of fold", "in sample", or "unknown".  Images
    of earlier predictions keep their rows, and the table is written also where this is stopped.  True masks of what is
    found are drawn where they are there.  Raises ValueError for bad images once the others are written; before anything
    is computed for images, folders or runs that do not fit.
    """
    _check(images, out, truth)
    chosen = choose(runs, variant, store, folds, where)
    true = {} if truth is None else true_files(truth, images, parts(chosen))
    groups = assign(images, chosen, runs, store, in_sample, reading)
    for line in (*report(chosen), *told(groups, list(parts(chosen)))):
        print(line)
    boxes, problems = read_table(out / TABLE), []
    out.mkdir(parents=True, exist_ok=True)
    try:
        for image, ensemble, sample in _each(
            groups, runs, device, tqdm(total=len(images), desc="predict", unit="image")
        ):
            try:
                found = segment(image, out, ensemble, reading)
                boxes[image.stem] = (image.stem, *found.box, found.lesion, sample)
                overlay(image, out, found, true, reading)
            except (ValueError, OSError) as error:
                problems.append(str(error))
    finally:
        write_csv(pd.DataFrame(boxes.values(), columns=COLUMNS), out / TABLE)
    if problems:
        raise ValueError(f"{len(problems)} of {len(images)} images are not complete: {'; '.join(problems[:5])}")


def _each(groups: Sequence[Assigned], runs: Path, device: str, bar: tqdm) -> Iterator[tuple[Path, Ensemble, Sample]]:
    """Every image with its networks, those of one group of images in memory at a time."""
    with bar:
        for group in groups:
            ensemble = Ensemble.load(group.runs, runs, pick_device(device))
            for image in group.images:
                yield image, ensemble, group.sample
                bar.update()


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


def true_files(folder: Path, images: Sequence[Path], names: Iterable[str]) -> dict[str, Path]:
    """Lower-case name -> file of the true masks in a folder; as for `prepare` and `score` case does not matter.

    ValueError where none is of these images and the masks called `names`, or where names differ in case alone.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of true masks: give another --truth")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if TRUE.fullmatch(path.name) and (twin := files.setdefault(composed(path.name).lower(), path)) != path:
            raise ValueError(f"{folder} holds {twin.name} and {path.name}: names must not differ in case alone")
    wanted = [mask_file(image.stem, name) for image in images for name in names if name != UNION]
    if wanted and not any(composed(name).lower() in files for name in wanted):
        such = " or ".join(wanted[:2])
        raise ValueError(f"{folder} has no true mask of these images, such as {such}: give another --truth")
    return files


def read_table(path: Path) -> dict[str, tuple]:
    """The rows of an earlier table by image, none if there is no file; ValueError for a table of something else."""
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype={"image": str}, keep_default_na=False, encoding_errors="surrogateescape")
    if list(table.columns) == COLUMNS[:-1]:  # of a version that used every network on every image
        table["sample"] = "unknown"
    if list(table.columns) != COLUMNS:
        raise ValueError(f"{path} does not have the columns {', '.join(COLUMNS)}: choose another --out")
    return {row[0]: row for row in table.itertuples(index=False, name=None)}


def segment(path: Path, out: Path, ensemble: Ensemble, reading: Reading = AS_THEY_ARE) -> Found:
    """Write the masks and the probability maps of one image."""
    found = ensemble(*read_image(path, ensemble.size, reading))
    for name, mask in found.masks.items():
        _save(mask * 255.0, out / mask_file(path.stem, name))
    for name, p in found.probabilities.items():
        _save(255 * p, out / f"{path.stem}_probability_{name}.png")
    return found


def overlay(path: Path, out: Path, found: Found, true: Mapping[str, Path], reading: Reading = AS_THEY_ARE) -> None:
    """Draw what was found in an image; ValueError whatever goes wrong, so that no picture costs masks or boxes."""
    try:
        image, original = read_image(path, reading=reading)
        masks = read_truth(true, path, found, original, reading)
        draw_overlay(image, found, masks, out / f"{path.stem}_overlay.png")
    except Exception as error:
        raise ValueError(f"{path.name} has masks but no overlay ({error})") from error


def mask_file(stem: str, name: str) -> str:
    """ISIC's name of a mask file: `<id>_segmentation.png` (the lesion), `_union`, or `_attribute_<name>`."""
    return stem + {LESION: "_segmentation", UNION: "_union"}.get(name, f"_attribute_{name}") + ".png"


def read_truth(
    files: Mapping[str, Path], image: Path, found: Found, size: tuple[int, int], reading: Reading = AS_THEY_ARE
) -> dict[str, np.ndarray]:
    """The true masks bool [H, W] of one image, by lower-case file name in `files`: the lesion's and every attribute's.

    Attributes that were not looked for are part of the true union; the lesion is left out where it was not.
    Raises BadCase for a mask of another size than the image's.
    """
    stem = image.stem
    start = composed(f"{stem}_attribute_").lower()
    named = {key: key.removeprefix(start).removesuffix(".png") for key in files if key.startswith(start)}
    named |= {composed(mask_file(stem, name)).lower(): name for name in found.probabilities}
    paths = {name: files[key] for key, name in named.items() if key in files}
    parts = {name: read_part(path, reading, name) for name, path in paths.items()}
    for name, part in parts.items():
        check_size(paths[name], part.shape, size, image)
        for note in part.notes:
            print(f"note: {paths[name].name}: {note}")
    return {name: part.whole() for name, part in parts.items()}


def _save(values: np.ndarray, path: Path) -> None:
    Image.fromarray(np.round(values).astype(np.uint8)).save(path)

"""COCO: one JSON file of images, categories and annotations; every category is an attribute.

`root` holds the pictures (anywhere below it, under their `file_name`) and one .json file, or `annotations` names it.
Polygons and run-length encodings are drawn by pycocotools; a crowd region (`iscrowd`) is a mask as any other.  A
category called "lesion" is the lesion; without one the lesion is unknown.  Regions may overlap; of one that leaves its
picture the rest is kept, and the store's notes name it.  The group of an image is its `group` where the file says one,
else its own id: COCO itself knows no patients.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tatl.data.case import BadCase
from tatl.data.images.files import FileReader, Source, existing_folder
from tatl.data.images.masks import Part, check_size
from tatl.data.images.reading import AS_THEY_ARE, Reading
from tatl.data.readers.manifest import attribute_names
from tatl.names import LESION

_TABLES = ("images", "categories", "annotations")
BEYOND = "has annotation {} ({}) outside of the picture{}: look whether the file's sizes and order of x and y are right"


class Coco(FileReader):
    """The pictures under `root` with the regions of a COCO file."""

    name = "coco"

    def __init__(self, root: str | Path, annotations: str | Path | None = None, reading: Reading = AS_THEY_ARE) -> None:
        folder = existing_folder(root)
        path = _file(folder, annotations)
        tables = _tables(path)
        named = {category["id"]: str(category["name"]) for category in tables["categories"]}
        self.masks = {number: LESION if name.casefold() == LESION else name for number, name in named.items()}
        attributes = [name for name in dict.fromkeys(self.masks.values()) if name != LESION]
        attributes = attribute_names(attributes, path.name, "category")
        self.shapes = {image["id"]: (image["height"], image["width"]) for image in tables["images"]}
        self.regions: dict[Any, list[dict[str, Any]]] = {}
        for region in tables["annotations"]:
            self.regions.setdefault(region["image_id"], []).append(region)
        sources, problems = _sources(folder, tables["images"])
        problems += _strays(self.regions, self.shapes, named)
        super().__init__(folder, attributes, sources, problems, reading, annotations=path.name)
        self.numbers = {_case(image): image["id"] for image in tables["images"]}

    def _masks(self, source: Source, original: tuple[int, int], told: int) -> Iterator[tuple[str, Part | None]]:
        number = self.numbers[source.id]
        what = f"{source.image.name} in {self.provenance['annotations']}"
        check_size(what, self.shapes[number], original, source.image)
        masks = {name: np.zeros(original, bool) for name in self.masks.values()}
        notes: dict[str, list[str]] = {name: [] for name in masks}
        for region in self.regions.get(number, []):
            if (name := self.masks.get(region["category_id"])) is not None:
                drawn = _drawn(region, original)
                masks[name] |= drawn
                if _leaves(region, original):
                    rest = ", in part" if drawn.any() else ", of which nothing is left"
                    notes[name].append(BEYOND.format(region.get("id"), name, rest))
        yield from ((name, replace(Part.of(mask), notes=tuple(notes[name]))) for name, mask in masks.items())


def _drawn(region: Mapping[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """A region's pixels, bool [h, w]: what lies outside of the picture is cut off."""
    from pycocotools import mask as coco

    given, (height, width) = region.get("segmentation"), shape
    try:
        if isinstance(given, list) and given:
            encoded = coco.merge(coco.frPyObjects(given, height, width))
        elif isinstance(given, dict):
            encoded = coco.frPyObjects(given, height, width) if isinstance(given["counts"], list) else given
        else:
            raise BadCase(f"annotation {region.get('id')} has no segmentation, and a box alone is no mask")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of its arrays under NumPy 2
            drawn = coco.decode(encoded).astype(bool)
    except BadCase:
        raise
    except Exception as error:  # pycocotools raises whatever its C code meets
        raise BadCase(f"annotation {region.get('id')} cannot be drawn ({error})") from error
    if drawn.shape != shape:
        raise BadCase(f"annotation {region.get('id')} is drawn on {drawn.shape[1]} x {drawn.shape[0]} pixels")
    return drawn


def _leaves(region: Mapping[str, Any], shape: tuple[int, int]) -> bool:
    """Whether a polygon leaves the picture by more than a pixel, which rounding may do."""
    given = region["segmentation"]
    corners = [np.asarray(polygon, float).reshape(-1, 2) for polygon in given] if isinstance(given, list) else []
    return any((found < -1).any() or (found > np.array(shape[::-1]) + 1).any() for found in corners)


def _file(folder: Path, annotations: str | Path | None) -> Path:
    if annotations is not None:
        return Path(annotations)
    found = sorted(folder.glob("*.json")) + sorted(folder.glob("annotations/*.json"))
    if len(found) != 1:
        names = f"{len(found)} ({', '.join(path.name for path in found[:3])})" if found else "no"
        raise ValueError(f"{folder} has {names} .json files: name the one with --annotations FILE")
    return found[0]


def _tables(path: Path) -> dict[str, Sequence[dict[str, Any]]]:
    """The file's three tables; ValueError where one is missing or an id or name comes twice."""
    try:
        tables = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {path}: give the COCO file with --annotations FILE") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON file ({error})") from error
    if lacking := [name for name in _TABLES if not isinstance(tables, dict) or not tables.get(name)]:
        raise ValueError(f"{path} lacks {', '.join(lacking)}: a COCO file has {', '.join(_TABLES)}")
    for name in _TABLES:
        numbers = Counter(entry.get("id") for entry in tables[name])
        if twice := [number for number, count in numbers.items() if count > 1]:
            raise ValueError(f"{path} has {len(twice)} ids more than once in {name}, such as {twice[0]!r}")
    if lacking := [key for key in ("file_name", "height", "width") if any(key not in i for i in tables["images"])]:
        raise ValueError(f"{path} has images without {', '.join(lacking)}")
    return tables


def _case(image: Mapping[str, Any]) -> str:
    return Path(str(image["file_name"])).stem


def _sources(folder: Path, images: Sequence[Mapping[str, Any]]) -> tuple[list[Source], list[str]]:
    """The pictures that are there, by their `file_name` from `folder` or anywhere below it."""
    by_name: dict[str, list[Path]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        by_name.setdefault(path.name, []).append(path)
    sources, problems = [], []
    for image in images:
        name, case = str(image["file_name"]), _case(image)
        found = [folder / name] if (folder / name).is_file() else by_name.get(Path(name).name, [])
        if len(found) == 1:
            sources.append(Source(case, str(image.get("group", case)), found[0]))
        else:
            problems.append(f"{case}: its image {name} is {'there more than once' if found else 'not there'}")
    return sources, problems


def _strays(regions: Mapping[Any, Any], shapes: Mapping[Any, Any], named: Mapping[Any, str]) -> list[str]:
    """Annotations of images or categories that the file lacks."""
    problems = [f"image_id {number}: annotations without image" for number in regions if number not in shapes]
    strange = {region["category_id"] for parts in regions.values() for region in parts} - set(named)
    return problems + [f"category_id {number}: annotations without category" for number in sorted(strange, key=str)]

"""ISIC 2017 and ISIC 2018 (Tasks 1 and 2) as their archives unpack.

    ISIC2018_Task1-2_<split>_Input/ISIC_<id>.jpg                    split: Training, Validation, Test
    ISIC2018_Task1_<split>_GroundTruth/ISIC_<id>_segmentation.png
    ISIC2018_Task2_<split>_GroundTruth[_v3]/ISIC_<id>_attribute_<name>.png

    ISIC-2017_<split>_Data/ISIC_<id>.jpg and ISIC_<id>_superpixels.png     split: Training, Validation, Test_v2
    ISIC-2017_<split>_Part1_GroundTruth/ISIC_<id>_segmentation.png
    ISIC-2017_<split>_Part2_GroundTruth/ISIC_<id>_features.json

`root` may hold any of them: a folder of masks that is not there leaves its masks *unknown* for that split, and a
split without any is not read.  Where a folder of masks is there, an image without its masks and a mask without
its image are problems, and so are two masks of one image.  Names match case-insensitively; other files
(ATTRIBUTION.txt, LICENSE.txt) are no matter.  A folder may hold its files one level deeper, in a folder of its own.
The group of an image is its id, or where a store finds the same picture under several ids the first of them.

The attributes of 2017 are a picture of numbered superpixels, and per attribute a list of 0 and 1 by number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from tatl.data.case import BadCase
from tatl.data.images.files import FileReader, Source, existing_folder
from tatl.data.images.masks import Part, check_size
from tatl.data.images.pictures import FORMATS, opened
from tatl.data.images.reading import AS_THEY_ARE, MAX_PIXELS, Reading
from tatl.names import SKIN_ATTRIBUTES

ATTRIBUTES_2017 = ("pigment_network", "milia_like_cyst", "negative_network", "streaks")
_NAME = re.compile(r"(ISIC_\d+)(?:_(segmentation|superpixels|features|attribute_\w+))?", re.IGNORECASE)
_ATTRIBUTE = "attribute_"
_PICTURES = (".jpg", ".jpeg", ".png")
_WORDS = {"segmentation": "lesion mask", "features": "features", "superpixels": "superpixels"}


def _files(folder: Path) -> list[tuple[str, str, Path]]:
    """Image, kind ("" for a picture itself) and path of ISIC's files in a folder.

    Or else in the one folder in it, as where an archive was unpacked into its own name (beside what a Mac's add).
    """
    inner = [path for path in folder.iterdir() if path.is_dir() and path.name != "__MACOSX"]
    for place in (folder, *(inner if len(inner) == 1 else ())):
        paths = [path for path in sorted(place.iterdir()) if path.suffix.lower() in (*FORMATS, ".json")]
        named = [(match, path) for path in paths if (match := _NAME.fullmatch(path.stem))]
        if named:
            return [(match[1].upper(), (match[2] or "").lower(), path) for match, path in named]
    return []


def _folder(root: Path, name: str) -> Path | None:
    """The folder of that name, or its latest version (`_v3`)."""
    versions = [path for path in root.glob(f"{name}*") if re.fullmatch(rf"{name}(_v\d+)?", path.name) and path.is_dir()]
    return max(versions, key=lambda path: path.name, default=None)


class _Isic(FileReader):
    """What both years share: splits, and `places`, the folders of a split with the kinds of files that they hold."""

    groups_are_ids = True
    known_attributes: tuple[str, ...]
    splits: tuple[str, ...]
    inputs: str
    places: tuple[tuple[str, tuple[str, ...]], ...]

    def __init__(self, root: str | Path, split: str | None = None, reading: Reading = AS_THEY_ARE) -> None:
        folder = existing_folder(root)
        listed = {name: self._list(folder, name) for name in self._chosen(folder, split)}
        read = {name: found for name, found in listed.items() if found is not None}
        if not read:
            raise ValueError(f"{folder} has images but no ground truth folder beside them: unpack the masks there too")
        sources = [source for found, _ in read.values() for source in found]
        problems = [problem for _, found in read.values() for problem in found]
        super().__init__(folder, self.known_attributes, sources, problems, reading, splits=list(read))

    def _chosen(self, root: Path, split: str | None) -> list[str]:
        """The splits whose images are there; ValueError if there are none, or not the one asked for."""
        if split not in (None, *self.splits):
            raise ValueError(f"split {split!r} is not one of {', '.join(self.splits)}")
        wanted = {name: self.inputs.format(name) for name in self.splits if split in (None, name)}
        if chosen := [name for name, folder in wanted.items() if (root / folder).is_dir()]:
            return chosen
        below = sorted(path.parent for folder in wanted.values() for path in root.glob(f"*/{folder}"))
        remedy = "give the folder that the archives were unpacked into" + (f", such as {below[0]}" if below else "")
        raise ValueError(f"{root} has none of the folders {', '.join(wanted.values())}: {remedy}")

    def _list(self, root: Path, split: str) -> tuple[list[Source], list[str]] | None:
        """Sources and problems of one split, None if it has no masks at all."""
        inputs = root / self.inputs.format(split)
        images = [(name, path) for name, kind, path in _files(inputs) if not kind and path.suffix.lower() in _PICTURES]
        if not images:
            raise ValueError(f"{inputs} holds no image ISIC_<number>.jpg: unpack the archive again")
        there = [(_folder(root, place.format(split)), kinds) for place, kinds in self.places]
        folders = {folder: kinds for folder, kinds in there if folder is not None}
        found, problems = _found(folders)
        needed = [kind for kinds in folders.values() for kind in kinds]
        if "features" not in needed and "superpixels" in needed:  # which mean nothing alone
            needed.remove("superpixels")
        if not needed:
            return None
        sources = []
        for name, path in images:
            if wrong := _wrong(found.get(name, {}), needed):
                problems.append(f"{name}: {wrong}")
            else:
                sources.append(_source(name, path, {kind: found[name][kind][0] for kind in needed}))
        strays = [kinds for name, kinds in found.items() if name not in dict(images)]
        alone = [path.name for kinds in strays for paths in kinds.values() for path in paths]
        return sources, problems + [f"{name}: mask without image" for name in alone]


def _found(folders: Mapping[Path, Iterable[str]]) -> tuple[dict[str, dict[str, list[Path]]], list[str]]:
    """Image -> kind -> files, of the kinds that the folders hold, and what is wrong with single files."""
    found: dict[str, dict[str, list[Path]]] = {}
    problems = []
    for folder, kinds in folders.items():
        for name, kind, path in _files(folder):
            suffix = ".json" if kind == "features" else ".png"
            if kind not in kinds and kind.startswith(_ATTRIBUTE):
                known = ", ".join(each.removeprefix(_ATTRIBUTE) for each in kinds)
                problems.append(f"{path.name}: mask of an unknown attribute, not {known}")
            elif kind in kinds and path.suffix.lower() != suffix:
                remedy = f"save it as {suffix[1:].upper()}, with 0 and 255 alone"
                problems.append(f"{path.name}: mask that is {path.suffix} and not {suffix}: {remedy}")
            elif kind in kinds:
                found.setdefault(name, {}).setdefault(kind, []).append(path)
    return found, problems


def _wrong(there: Mapping[str, list[Path]], needed: Iterable[str]) -> str:
    """What an image lacks of the files that its split has, or has twice."""
    if twice := [paths for paths in there.values() if len(paths) > 1]:
        return f"two files are the same mask of it, {twice[0][0].name} and {twice[0][1].name}: remove one"
    if not set(there) & (set(needed) - {"superpixels"}):
        return "image without masks"
    missing = [_WORDS.get(k, f"{k.removeprefix(_ATTRIBUTE)} mask") for k in needed if k not in there]
    return f"image without its {' and '.join(missing)}" if missing else ""


def _source(name: str, image: Path, there: Mapping[str, Path]) -> Source:
    # Sorted: their order is part of what a store remembers of its files.
    masks = {k.removeprefix(_ATTRIBUTE): path for k, path in sorted(there.items()) if k.startswith(_ATTRIBUTE)}
    labels = (there["superpixels"], there["features"]) if "features" in there else ()
    return Source(name, name, image, there.get("segmentation"), masks, labels)


class Isic2018(_Isic):
    """ISIC 2018: a lesion mask (Task 1) and five attribute masks (Task 2) an image, all zero where absent."""

    name = "isic2018"
    known_attributes = SKIN_ATTRIBUTES
    splits = ("Training", "Validation", "Test")
    inputs = "ISIC2018_Task1-2_{}_Input"
    places = (
        ("ISIC2018_Task1_{}_GroundTruth", ("segmentation",)),
        ("ISIC2018_Task2_{}_GroundTruth", tuple(f"{_ATTRIBUTE}{name}" for name in SKIN_ATTRIBUTES)),
    )


class Isic2017(_Isic):
    """ISIC 2017: a lesion mask (Part 1), and attributes (Part 2) told per superpixel."""

    name = "isic2017"
    known_attributes = ATTRIBUTES_2017
    splits = ("Training", "Validation", "Test_v2")
    inputs = "ISIC-2017_{}_Data"
    places = (
        ("ISIC-2017_{}_Part1_GroundTruth", ("segmentation",)),
        ("ISIC-2017_{}_Part2_GroundTruth", ("features",)),
        (inputs, ("superpixels",)),
    )

    def _masks(self, source: Source, original: tuple[int, int], told: int) -> Iterator[tuple[str, Part | None]]:
        yield from super()._masks(source, original, told)
        if source.labels:
            superpixels, features = source.labels
            masks = decode_features(superpixels, features, original, self.reading.max_pixels)
            yield from ((name, Part.of(mask)) for name, mask in masks.items())


def decode_features(
    superpixels: Path, features: Path, original: tuple[int, int], max_pixels: int = MAX_PIXELS
) -> dict[str, np.ndarray]:
    """Attribute -> mask bool [h, w], from the superpixel image (index = R + 256 G + 65536 B) and the JSON lists.

    Raises BadCase if either cannot be read, a key is unknown, a list is not of 0 and 1, or lengths differ.
    """
    flags = _read_features(features)
    with opened(superpixels, max_pixels) as picture:
        if picture.mode not in ("RGB", "RGBA"):
            raise BadCase(f"{superpixels.name} is a picture of mode {picture.mode}, and superpixels are coded in RGB")
        colours = np.asarray(picture.convert("RGB"))
    check_size(superpixels.name, colours.shape[:2], original)
    index = colours[..., 0] + (colours[..., 1].astype(np.int32) << 8) + (colours[..., 2].astype(np.int32) << 16)
    count = int(index.max()) + 1
    for name, flag in flags.items():
        if len(flag) != count:
            counted = f"{superpixels.name} has {count} superpixels"
            raise BadCase(f"{features.name} has {len(flag)} values for {name} and {counted}")
    return {name: flag[index] if flag.any() else np.zeros(original, bool) for name, flag in flags.items()}


def _read_features(path: Path) -> dict[str, np.ndarray]:
    """Attribute -> bool [superpixels]."""
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadCase(f"{path.name} cannot be read as JSON ({error})") from error
    if not isinstance(lists, dict):
        raise BadCase(f"{path.name} is not a JSON object of attributes")
    if unknown := sorted(set(lists) - set(ATTRIBUTES_2017)):
        raise BadCase(f"{path.name} has the unknown keys {', '.join(unknown)}: known are {', '.join(ATTRIBUTES_2017)}")
    for name, values in lists.items():
        if not isinstance(values, list) or any(value not in (0, 1) for value in values):
            raise BadCase(f"{path.name} has something else than a list of 0 and 1 for {name}")
    return {name: np.array(values, bool) for name, values in lists.items()}

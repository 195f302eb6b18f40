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
The group of an image is its id, or for the same picture under several ids the first of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from tatl.data.case import BadCase, Size
from tatl.data.images.files import FileReader, Source, existing_folder, twins, unique
from tatl.data.images.masks import check_size
from tatl.data.images.pictures import FORMATS, opened
from tatl.data.images.reading import AS_THEY_ARE, MAX_PIXELS, Reading
from tatl.data.images.reduction import reduce_mask
from tatl.names import SKIN_ATTRIBUTES

ATTRIBUTES_2017 = ("pigment_network", "milia_like_cyst", "negative_network", "streaks")

IMAGE = re.compile(r"(ISIC_\d+)\.(?:jpe?g|png)", re.IGNORECASE)
LESION = re.compile(r"(ISIC_\d+)_segmentation\.png", re.IGNORECASE)
ATTRIBUTE = re.compile(r"(ISIC_\d+)_attribute_(\w+)\.png", re.IGNORECASE)
SUPERPIXELS = re.compile(r"(ISIC_\d+)_superpixels\.png", re.IGNORECASE)
FEATURES = re.compile(r"(ISIC_\d+)_features\.json", re.IGNORECASE)

Found = dict[str, Path]


def _matches(folder: Path | None, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], Path]]:
    """What matches in a folder, or else in the one folder in it, as where an archive was unpacked into its own name."""
    if folder is not None:
        for place in (folder, *_below(folder)):
            found = [(match, path) for path in sorted(place.iterdir()) if (match := pattern.fullmatch(path.name))]
            yield from found
            if found:
                return


def _below(folder: Path) -> list[Path]:
    """The folder in a folder, if there is just one beside what a Mac's archives add."""
    inner = [path for path in folder.iterdir() if path.is_dir() and path.name != "__MACOSX"]
    return inner if len(inner) == 1 else []


def _repeated(*places: tuple[Path | None, re.Pattern[str]]) -> dict[str, str]:
    """Upper-case id -> what is wrong, where two files in a folder would be the same mask of an image."""
    told: dict[str, str] = {}
    for folder, pattern in places:
        first: dict[tuple[str, ...], Path] = {}
        for match, path in _matches(folder, pattern):
            key = tuple(part.upper() for part in match.groups())
            if (twin := first.setdefault(key, path)) != path:
                told[key[0]] = f"two files are the same mask of it, {twin.name} and {path.name}: remove one"
    return told


def _converted(*places: tuple[Path | None, re.Pattern[str]]) -> list[str]:
    """Masks that are no .png, one problem a file."""
    return [
        f"{path.name}: mask that is {path.suffix} and not .png: save it as PNG, with 0 and 255 alone"
        for folder, pattern in places
        for place in ((folder, *_below(folder)) if folder is not None else ())
        for path in sorted(place.iterdir())
        if path.suffix.lower() in set(FORMATS) - {".png"} and pattern.fullmatch(f"{path.stem}.png")
    ]


def _found(folder: Path | None, pattern: re.Pattern[str]) -> Found | None:
    """Upper-case id -> file, or None without the folder."""
    return None if folder is None else {match[1].upper(): path for match, path in _matches(folder, pattern)}


def _folder(root: Path, name: str) -> Path | None:
    """The folder of that name, or its latest version (`_v3`)."""
    versions = [path for path in root.glob(f"{name}*") if re.fullmatch(rf"{name}(_v\d+)?", path.name) and path.is_dir()]
    return max(versions, key=lambda path: path.name, default=None)


def _chosen(root: Path, split: str | None, known: Iterable[str], inputs: str) -> list[str]:
    """The splits whose images are there; ValueError if there are none, or not the one asked for."""
    expected = [inputs.format(name) for name in known]
    there = [name for name in known if (root / inputs.format(name)).is_dir()]
    if split is not None and split not in known:
        raise ValueError(f"split {split!r} is not one of {', '.join(known)}")
    chosen = [name for name in there if split in (None, name)]
    if not chosen:
        raise ValueError(
            f"{root} has none of the folders {', '.join(expected if split is None else [inputs.format(split)])}: "
            f"give the folder that the official archives were unpacked into{_hint(root, expected)}"
        )
    return chosen


def _hint(root: Path, expected: Iterable[str]) -> str:
    below = sorted(path.parent for name in expected for path in root.glob(f"*/{name}") if path.is_dir())
    return f", such as {below[0]}" if below else ""


def _images(folder: Path) -> list[tuple[str, Path]]:
    images = [(match[1].upper(), path) for match, path in _matches(folder, IMAGE)]
    if not images:
        raise ValueError(f"{folder} holds no image ISIC_<number>.jpg: unpack the archive again")
    return images


def _strays(images: Iterable[tuple[str, Path]], masks: Iterable[tuple[str, Path]]) -> list[str]:
    """Masks whose image is not there, one problem a file."""
    ids = {name for name, _ in images}
    return [f"{path.name}: mask without image" for name, path in masks if name not in ids]


def _together(sources: list[Source]) -> list[Source]:
    """Give the same picture under several ids one group, so that folds keep it on one side."""
    groups = {source.id: cluster[0].group for cluster in twins(sources) for source in cluster}
    return [replace(source, group=groups.get(source.id, source.group)) for source in sources]


class _Isic(FileReader):
    """What both years share: splits, each listed by `_list`."""

    groups_are_ids = True
    known_attributes: tuple[str, ...]
    splits: tuple[str, ...]
    inputs: str

    def __init__(self, root: str | Path, split: str | None = None, reading: Reading = AS_THEY_ARE) -> None:
        folder = existing_folder(root)
        sources: list[Source] = []
        problems: list[str] = []
        read: list[str] = []
        for name in _chosen(folder, split, self.splits, self.inputs):
            listed = self._list(folder, name)
            if listed is not None:
                read.append(name)
                sources += listed[0]
                problems += listed[1]
        if not read:
            raise ValueError(f"{folder} has images but no ground truth folder beside them: unpack the masks there too")
        sources, repeated = unique(sources)
        super().__init__(
            folder, self.known_attributes, _together(sources), [*problems, *repeated], reading, splits=read
        )

    def _list(self, root: Path, split: str) -> tuple[list[Source], list[str]] | None:
        """Sources and problems of one split, None if it has no masks at all."""
        raise NotImplementedError


class Isic2018(_Isic):
    """ISIC 2018: a lesion mask (Task 1) and five attribute masks (Task 2) an image, all zero where absent."""

    name = "isic2018"
    known_attributes = SKIN_ATTRIBUTES
    splits = ("Training", "Validation", "Test")
    inputs = "ISIC2018_Task1-2_{}_Input"

    def _list(self, root: Path, split: str) -> tuple[list[Source], list[str]] | None:
        first = _folder(root, f"ISIC2018_Task1_{split}_GroundTruth")
        second = _folder(root, f"ISIC2018_Task2_{split}_GroundTruth")
        if first is None and second is None:
            return None
        images, lesions = _images(root / self.inputs.format(split)), _found(first, LESION)
        attributes, files, problems = self._attribute_files(second)
        problems += _converted((first, LESION), (second, ATTRIBUTE))
        repeated = _repeated((first, LESION), (second, ATTRIBUTE))
        sources: list[Source] = []
        for name, path in images:
            masks = attributes.get(name, {})
            if lacking := repeated.get(name) or self._lacking(name, lesions, None if second is None else masks):
                problems.append(f"{name}: {lacking}")
            else:
                sources.append(Source(name, name, path, (lesions or {}).get(name), masks))
        return sources, problems + _strays(images, [*(lesions or {}).items(), *files])

    @staticmethod
    def _attribute_files(folder: Path | None) -> tuple[dict[str, Found], list[tuple[str, Path]], list[str]]:
        """Image id -> attribute -> file; all these files; those of unknown attributes as problems."""
        masks: dict[str, Found] = {}
        files: list[tuple[str, Path]] = []
        problems: list[str] = []
        for match, path in _matches(folder, ATTRIBUTE):
            name, attribute = match[1].upper(), match[2].lower()
            if attribute in SKIN_ATTRIBUTES:
                masks.setdefault(name, {})[attribute] = path
                files.append((name, path))
            else:
                problems.append(f"{path.name}: mask of an unknown attribute, not {', '.join(SKIN_ATTRIBUTES)}")
        return masks, files, problems

    @staticmethod
    def _lacking(name: str, lesions: Found | None, masks: Found | None) -> str:
        """What the image lacks of the masks that its split has; None stands for a folder that is not there."""
        lacks_lesion = lesions is not None and name not in lesions
        absent = [] if masks is None else [a for a in SKIN_ATTRIBUTES if a not in masks]
        if (lacks_lesion or lesions is None) and (masks is None or len(absent) == len(SKIN_ATTRIBUTES)):
            return "image without masks"
        if len(absent) == len(SKIN_ATTRIBUTES):
            return "image without attribute masks"
        parts = (["lesion"] if lacks_lesion else []) + absent
        return f"image without its {' and '.join(parts)} mask" if parts else ""


class Isic2017(_Isic):
    """ISIC 2017: a lesion mask (Part 1), and attributes (Part 2) told per superpixel."""

    name = "isic2017"
    known_attributes = ATTRIBUTES_2017
    splits = ("Training", "Validation", "Test_v2")
    inputs = "ISIC-2017_{}_Data"

    def _list(self, root: Path, split: str) -> tuple[list[Source], list[str]] | None:
        first = _folder(root, f"ISIC-2017_{split}_Part1_GroundTruth")
        second = _folder(root, f"ISIC-2017_{split}_Part2_GroundTruth")
        if first is None and second is None:
            return None
        data = root / self.inputs.format(split)
        images, lesions, features = _images(data), _found(first, LESION), _found(second, FEATURES)
        superpixels = _found(data, SUPERPIXELS) or {}
        sources: list[Source] = []
        problems = _converted((first, LESION), (data, SUPERPIXELS))
        repeated = _repeated((first, LESION), (second, FEATURES), (data, SUPERPIXELS))
        for name, path in images:
            if lacking := repeated.get(name) or self._lacking(name, lesions, features, superpixels):
                problems.append(f"{name}: {lacking}")
            else:
                labels = () if features is None else (superpixels[name], features[name])
                sources.append(Source(name, name, path, (lesions or {}).get(name), labels=labels))
        masks = [*(lesions or {}).items(), *(features or {}).items(), *superpixels.items()]
        return sources, problems + _strays(images, masks)

    @staticmethod
    def _lacking(name: str, lesions: Found | None, features: Found | None, superpixels: Found) -> str:
        lacks_lesion = lesions is not None and name not in lesions
        lacks_features = features is not None and name not in features
        if (lacks_lesion or lesions is None) and (lacks_features or features is None):
            return "image without masks"
        if features is not None and not lacks_features and name not in superpixels:
            return "image with features but without its superpixels"
        parts = (["lesion mask"] if lacks_lesion else []) + (["features"] if lacks_features else [])
        return f"image without its {' and '.join(parts)}" if parts else ""

    def _attributes(
        self, source: Source, original: tuple[int, int], size: Size, drawn: Callable[[str, Path], np.ndarray]
    ) -> dict[str, np.ndarray | None]:
        if not source.labels:
            return dict.fromkeys(self.attributes)
        superpixels, features = source.labels
        masks = decode_features(superpixels, features, original, self.reading.max_pixels)
        return {name: reduce_mask(masks[name], size) if name in masks else None for name in self.attributes}


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
    check_size(superpixels, colours.shape[:2], original)
    index = colours[..., 0] + (colours[..., 1].astype(np.int32) << 8) + (colours[..., 2].astype(np.int32) << 16)
    count = int(index.max()) + 1
    for name, flag in flags.items():
        if len(flag) != count:
            raise BadCase(
                f"{features.name} has {len(flag)} values for {name} and {superpixels.name} has {count} superpixels"
            )
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

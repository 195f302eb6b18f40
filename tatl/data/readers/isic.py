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
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tatl.data.images.files import FileReader, Source, existing_folder
from tatl.data.images.masks import Part
from tatl.data.images.pictures import FORMATS
from tatl.data.images.reading import AS_THEY_ARE, Reading
from tatl.data.readers.features import ATTRIBUTES_2017, decode_features
from tatl.names import LESION, SKIN_ATTRIBUTES

_IMAGE = re.compile(r"(ISIC_\d+)\.(?:jpe?g|png)", re.IGNORECASE)
_LESION = re.compile(r"(ISIC_\d+)_segmentation\.png", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"(ISIC_\d+)_attribute_(\w+)\.png", re.IGNORECASE)
_SUPERPIXELS = re.compile(r"(ISIC_\d+)_(superpixels)\.png", re.IGNORECASE)
_FEATURES = re.compile(r"(ISIC_\d+)_(features)\.json", re.IGNORECASE)


@dataclass(frozen=True)
class _Place:
    """A folder of a split, what the files in it are called, and which of them every image has.

    The pattern's first group is the image, its second, if any, which file of it that is.
    """

    folder: str
    pattern: re.Pattern[str]
    kinds: tuple[str, ...]

    def files(self, folder: Path) -> Iterator[tuple[str, str, Path]]:
        """Image, kind and path of every file."""
        for match, path in _matches(folder, self.pattern):
            yield match[1].upper(), match[2].lower() if self.pattern.groups > 1 else self.kinds[0], path


def _matches(folder: Path, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], Path]]:
    """What matches in a folder, or else in the one folder in it, as where an archive was unpacked into its own name."""
    for place in (folder, *_below(folder)):
        found = [(match, path) for path in sorted(place.iterdir()) if (match := pattern.fullmatch(path.name))]
        yield from found
        if found:
            return


def _below(folder: Path) -> list[Path]:
    """The folder in a folder, if there is just one beside what a Mac's archives add."""
    inner = [path for path in folder.iterdir() if path.is_dir() and path.name != "__MACOSX"]
    return inner if len(inner) == 1 else []


def _converted(folder: Path, pattern: re.Pattern[str]) -> list[str]:
    """Masks that are no .png, one problem a file."""
    return [
        f"{path.name}: mask that is {path.suffix} and not .png: save it as PNG, with 0 and 255 alone"
        for place in (folder, *_below(folder))
        for path in sorted(place.iterdir())
        if path.suffix.lower() in set(FORMATS) - {".png"} and pattern.fullmatch(f"{path.stem}.png")
    ]


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
    images = [(match[1].upper(), path) for match, path in _matches(folder, _IMAGE)]
    if not images:
        raise ValueError(f"{folder} holds no image ISIC_<number>.jpg: unpack the archive again")
    return images


class _Isic(FileReader):
    """What both years share: splits, and the places of their files."""

    groups_are_ids = True
    known_attributes: tuple[str, ...]
    splits: tuple[str, ...]
    inputs: str
    places: tuple[_Place, ...]

    def __init__(self, root: str | Path, split: str | None = None, reading: Reading = AS_THEY_ARE) -> None:
        folder = existing_folder(root)
        sources, problems, read = list[Source](), list[str](), list[str]()
        for name in _chosen(folder, split, self.splits, self.inputs):
            if (listed := self._list(folder, name)) is not None:
                read.append(name)
                sources += listed[0]
                problems += listed[1]
        if not read:
            raise ValueError(f"{folder} has images but no ground truth folder beside them: unpack the masks there too")
        super().__init__(folder, self.known_attributes, sources, problems, reading, splits=read)

    def _list(self, root: Path, split: str) -> tuple[list[Source], list[str]] | None:
        """Sources and problems of one split, None if it has no masks at all."""
        folders = [(place, _folder(root, place.folder.format(split))) for place in self.places]
        places = [(place, folder) for place, folder in folders if folder is not None]
        needed = {kind for place, _ in places for kind in place.kinds}
        needed -= set() if "features" in needed else {"superpixels"}  # which mean nothing alone
        if not needed:
            return None
        found: dict[str, dict[str, Path]] = {}
        twice: dict[str, str] = {}
        problems = [problem for place, folder in places for problem in _converted(folder, place.pattern)]
        files = [(*file, place) for place, folder in places for file in place.files(folder)]
        for name, kind, path, place in files:
            if kind not in place.kinds:
                problems.append(f"{path.name}: mask of an unknown attribute, not {', '.join(place.kinds)}")
            elif (first := found.setdefault(name, {}).setdefault(kind, path)) != path:
                twice[name] = f"two files are the same mask of it, {first.name} and {path.name}: remove one"
        images = _images(root / self.inputs.format(split))
        sources = []
        for name, path in images:
            if wrong := twice.get(name) or _lacking(found.get(name, {}), needed):
                problems.append(f"{name}: {wrong}")
            else:
                sources.append(_source(name, path, found[name], needed))
        there = {name for name, _ in images}
        strays = [path.name for name, kind, path, place in files if name not in there and kind in place.kinds]
        return sources, problems + [f"{name}: mask without image" for name in strays]


def _lacking(there: dict[str, Path], needed: set[str]) -> str:
    """What an image lacks of the files that its split has."""
    if not set(there) & (needed - {"superpixels"}):
        return "image without masks"
    order = (LESION, *SKIN_ATTRIBUTES, "features", "superpixels")
    missing = [kind for kind in order if kind in needed and kind not in there]
    words = [kind if kind in ("features", "superpixels") else f"{kind} mask" for kind in missing]
    return f"image without its {' and '.join(words)}" if missing else ""


def _source(name: str, image: Path, there: dict[str, Path], needed: set[str]) -> Source:
    masks = {kind: path for kind, path in there.items() if kind in SKIN_ATTRIBUTES}
    labels = (there["superpixels"], there["features"]) if "features" in needed else ()
    return Source(name, name, image, there.get(LESION), masks, labels)


class Isic2018(_Isic):
    """ISIC 2018: a lesion mask (Task 1) and five attribute masks (Task 2) an image, all zero where absent."""

    name = "isic2018"
    known_attributes = SKIN_ATTRIBUTES
    splits = ("Training", "Validation", "Test")
    inputs = "ISIC2018_Task1-2_{}_Input"
    places = (
        _Place("ISIC2018_Task1_{}_GroundTruth", _LESION, (LESION,)),
        _Place("ISIC2018_Task2_{}_GroundTruth", _ATTRIBUTE, SKIN_ATTRIBUTES),
    )


class Isic2017(_Isic):
    """ISIC 2017: a lesion mask (Part 1), and attributes (Part 2) told per superpixel."""

    name = "isic2017"
    known_attributes = ATTRIBUTES_2017
    splits = ("Training", "Validation", "Test_v2")
    inputs = "ISIC-2017_{}_Data"
    places = (
        _Place("ISIC-2017_{}_Part1_GroundTruth", _LESION, (LESION,)),
        _Place("ISIC-2017_{}_Part2_GroundTruth", _FEATURES, ("features",)),
        _Place(inputs, _SUPERPIXELS, ("superpixels",)),
    )

    def _masks(self, source: Source, original: tuple[int, int], told: int) -> Iterator[tuple[str, Part | None]]:
        yield from super()._masks(source, original, told)
        if source.labels:
            superpixels, features = source.labels
            masks = decode_features(superpixels, features, original, self.reading.max_pixels)
            yield from ((name, Part.of(mask)) for name, mask in masks.items())

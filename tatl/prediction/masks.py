"""ISIC's names of mask files: `<id>_segmentation.png` (the lesion), `_union`, or `_attribute_<name>`, in any case."""

from __future__ import annotations

import re
from pathlib import Path

from tatl.data.images.files import composed
from tatl.names import LESION, UNION

Key = tuple[str, str]  # an image and a mask

_NAME = re.compile(  # <id>_probability_union.png is the map of a union, not its mask
    r"(?P<of>[^.].*)_attribute_(?P<attribute>.+)\.png"
    r"|(?P<image>[^.].*)(?<!_probability)_(?P<other>segmentation|union)\.png",
    re.IGNORECASE,
)
_OTHERS = {LESION: "segmentation", UNION: "union"}


def mask_file(image: str, mask: str) -> str:
    """The name of the file of a mask of an image."""
    return f"{image}_{_OTHERS.get(mask, f'attribute_{mask}')}.png"


def key_of(image: str, mask: str) -> Key:
    """As names are compared: in lower case, accents composed."""
    return composed(image).lower(), composed(mask).lower()


def image_and_mask(path: Path) -> Key:
    """The image of a mask file, as it is written, and the mask in lower case; both empty for any other file."""
    if (found := _NAME.fullmatch(path.name)) is None:
        return "", ""
    if found["attribute"]:
        return found["of"], composed(found["attribute"]).lower()
    return found["image"], LESION if found["other"].lower() == _OTHERS[LESION] else UNION


def mask_files(folder: Path) -> dict[Key, Path]:
    """The masks in a folder; hidden files are none.

    FileNotFoundError if the folder is missing or holds none, ValueError for names that differ in case alone.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: give one that holds <id>_attribute_<name>.png")
    files: dict[Key, Path] = {}
    for path in sorted(folder.iterdir()):
        if any(name := image_and_mask(path)) and (twin := files.setdefault(key_of(*name), path)) != path:
            raise ValueError(f"{folder} holds {twin.name} and {path.name}: names must not differ in case alone")
    if not files:
        raise FileNotFoundError(f"{folder} holds no <id>_attribute_<name>.png{_hint(folder)}")
    return files


def _hint(folder: Path) -> str:
    """What a folder without masks may be instead."""
    if below := sorted({path.parent.name for path in folder.glob("*/*.png") if _NAME.fullmatch(path.name)}):
        return f": give a folder in it, such as {folder / below[0]}"
    if suffixes := sorted({p.suffix for p in folder.iterdir() if _NAME.fullmatch(p.with_suffix(".png").name)}):
        return f": its masks are {', '.join(suffixes)}, convert them to .png"
    images = [path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg")]
    return f": its {len(images)} .jpg are images and not masks" if images else ""

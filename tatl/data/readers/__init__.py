"""The data sets by their names on the command line."""

from __future__ import annotations

from pathlib import Path

from tatl.data.case import Reader
from tatl.data.images.reading import AS_THEY_ARE, Reading
from tatl.data.readers.isic import Isic2017, Isic2018
from tatl.data.readers.labels import LabelImages
from tatl.data.readers.manifest import Manifest

DATA = ("isic2018", "isic2017", "manifest", "labels", "coco", "phantom")  # the drawn one last
_CASES = 2594
_MASKS = ("isic2018", "isic2017", "manifest")  # whose masks are files of levels
_SERVES = {  # option -> the data that have a use for it
    "root": DATA[:-1],
    "split": ("isic2018", "isic2017"),
    "follow_links": ("manifest",),
    **dict.fromkeys(("foreground", "ignore", "threshold"), _MASKS),
    "labels": ("labels",),
    "annotations": ("coco",),
    **dict.fromkeys(("cases", "seed", "enrich"), ("phantom",)),
}


def reader(
    data: str,
    root: str | Path | None = None,
    cases: int = _CASES,
    seed: int = 0,
    enrich: bool = False,
    split: str | None = None,
    reading: Reading = AS_THEY_ARE,
    labels: Path | None = None,
    annotations: Path | None = None,
) -> Reader:
    """The reader of `--data`; `cases`, `seed` and `enrich` are the phantom's, `split` is ISIC's, `reading` all files'.

    `labels` is the legend of label images, `annotations` the COCO file.

    Raises ValueError for an unknown name, an option that the data have no use for, or a root that is missing.
    """
    if data not in DATA:
        raise ValueError(f"--data {data!r} is not one of {', '.join(DATA)}")
    given = {**vars(reading), "threshold": reading.threshold is not None, "root": root, "split": split, "seed": seed}
    given |= {"labels": labels, "annotations": annotations, "cases": cases != _CASES, "enrich": enrich}
    for name, of in _SERVES.items():
        if given[name] and data not in of:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is of --data {', '.join(of)}, and --data {data} is given: leave it out")
    if data == "phantom":
        from tatl.data.phantom.drawing import Phantom

        return Phantom(cases, seed, enrich)
    if root is None:
        raise ValueError(f"--data {data} needs --root, the folder that holds it")
    if data == "manifest":
        return Manifest(root, reading)
    if data == "labels":
        return LabelImages(root, labels, reading)
    if data == "coco":
        from tatl.data.readers.coco import Coco

        return Coco(root, annotations, reading)
    return (Isic2018 if data == "isic2018" else Isic2017)(root, split, reading)

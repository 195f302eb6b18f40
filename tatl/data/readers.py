"""The data sets by their names on the command line."""

from __future__ import annotations

from pathlib import Path

from tatl.data.case import Reader
from tatl.data.isic import Isic2017, Isic2018
from tatl.data.labels import Labels
from tatl.data.manifest import Manifest
from tatl.data.reading import AS_THEY_ARE, Reading

DATA = ("isic2018", "isic2017", "manifest", "labels", "coco", "phantom")
DRAWN = {"labels": "--data labels has its classes in labels.yaml", "coco": "--data coco has its masks as regions"}


def reader(
    data: str,
    root: str | Path | None = None,
    cases: int = 2594,
    seed: int = 0,
    enrich: bool = False,
    split: str | None = None,
    reading: Reading = AS_THEY_ARE,
    labels: Path | None = None,
    annotations: Path | None = None,
) -> Reader:
    """The reader of `--data`; `cases`, `seed` and `enrich` are the phantom's, `split` is ISIC's, `reading` all files'.

    `labels` is the legend of label images, `annotations` the COCO file.

    Raises ValueError for an unknown name or a root that is missing.
    """
    if data not in DATA:
        raise ValueError(f"--data {data!r} is not one of {', '.join(DATA)}")
    if data == "phantom":
        from tatl.data.phantom import Phantom

        return Phantom(cases, seed, enrich)
    if data in DRAWN and (reading.foreground or reading.ignore or reading.threshold is not None):
        raise ValueError(f"--foreground, --ignore and --threshold are of mask files, and {DRAWN[data]}: leave them out")
    if root is None:
        raise ValueError(f"--data {data} needs --root, the folder that holds it")
    if data == "manifest":
        return Manifest(root, reading)
    if data == "labels":
        return Labels(root, labels, reading)
    if data == "coco":
        from tatl.data.coco import Coco

        return Coco(root, annotations, reading)
    return (Isic2018 if data == "isic2018" else Isic2017)(root, split, reading)

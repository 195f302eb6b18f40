"""What the options of a command say about pictures and masks, and the one rule for the levels of a mask.

A mask has two levels, 0 and 255 or 0 and 1 (65535 in 16 bits), whatever its area and size.  A file of other levels
may hold labels, pixels to ignore or soft edges, and only a person knows which: it is refused, with its levels, unless
an option says what they mean.  A lossy file cannot hold such levels exactly: there 0 and 255 have noise about them,
and what is above 128 is set where hardly a pixel lies between the two.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from tatl import cli
from tatl.data.case import BadCase

if cli.MYPY:
    import numpy as np

# numpy takes as long to import as all of --help beside it: the functions import it.

THRESHOLD = 128  # a pixel is set above it, as in the challenge's official score
MAX_PIXELS = 178_956_970  # Pillow's own limit, against small files that unpack to gigabytes
_PLAIN = ({0, 255}, {0, 1})
_BETWEEN = slice(64, 192)  # levels that the noise of a lossy mask hardly reaches
_FEW = 0.02  # so many pixels at most lie there, as a share of the set or of the other pixels, whichever are fewer
_NAMED = 12  # levels that an error names one by one

Levels = tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """How the files of a data set are read.

    Args:
        foreground: of label images, the levels that are the mask: 1,2 for all masks, or lesion=1,2,dots=2
        ignore: of label images, the levels of pixels that nobody judged, written alike: they count as background
        threshold: of grey masks (resized with interpolation), the level of 0 to 255 above which a pixel is set: 128
        exif: apply the EXIF orientation of pictures, or ignore it, where masks were drawn on the stored pixels
        max_pixels: larger pictures are refused
        follow_links: let linked folders lead out of the folder of a cases.csv
    """

    foreground: str = ""
    ignore: str = ""
    threshold: int | None = None
    exif: str = "apply"
    max_pixels: int = MAX_PIXELS
    follow_links: bool = False

    def __post_init__(self) -> None:
        foreground, ignore = _parsed(self.foreground), _parsed(self.ignore)
        if ignore and not ("" in foreground or (foreground and set(ignore) - {""} <= set(foreground))):
            raise ValueError("--ignore needs --foreground for the same masks: say which levels are the mask")
        for name in {*foreground, *ignore}:
            if both := set.intersection(*map(set, self.levels(name))):
                raise ValueError(f"level {min(both)} is given to --foreground and to --ignore: it is one or the other")
        if self.threshold is not None and (self.foreground or not 0 <= self.threshold < 255):
            raise ValueError(f"--threshold {self.threshold} is not a level of 0 .. 254, or given beside --foreground")
        if self.exif not in ("apply", "ignore"):
            raise ValueError(f"--exif {self.exif!r} is neither apply nor ignore")
        if self.max_pixels < 1:
            raise ValueError(f"--max-pixels {self.max_pixels} is not a number of pixels")

    def levels(self, name: str) -> tuple[Levels, Levels]:
        """The foreground and the ignored levels of a mask, both empty where nothing is said about it."""
        foreground, ignore = _parsed(self.foreground), _parsed(self.ignore)
        return foreground.get(name, foreground.get("", ())), ignore.get(name, ignore.get("", ()))

    def check(self, names: tuple[str, ...]) -> None:
        """ValueError for levels of a mask that the data do not have."""
        for option, text in (("--foreground", self.foreground), ("--ignore", self.ignore)):
            if unknown := sorted(set(_parsed(text)) - {"", *names}):
                raise ValueError(f"{option} names {unknown[0]!r}, and the masks are {', '.join(names)}")

    def said(self) -> dict[str, Any]:
        """What differs from the default and changes what is read, for a store's description."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)[:4]}
        return {name: value for name, (value, default) in values.items() if value != default}


@lru_cache
def _parsed(text: str) -> dict[str, Levels]:
    """`1,2` is {"": (1, 2)} and `disc=0,128,cup=0` {"disc": (0, 128), "cup": (0,)}; ValueError for anything else."""
    found: dict[str, Levels] = {}
    name = ""
    for word in filter(None, text.split(",")):
        before, equals, level = word.rpartition("=")
        name = before.strip() if equals else name
        if not level.strip().isdecimal() or int(level) > 255:
            raise ValueError(f"{word!r} in {text!r} is not a level of 0 .. 255: write 1,2 or lesion=1,2,dots=2")
        found[name] = (*found.get(name, ()), int(level))
    return found


AS_THEY_ARE = Reading()


def set_levels(
    file: str, counts: np.ndarray, lossless: bool, labels: bool, reading: Reading, name: str, odd: int = 0
) -> np.ndarray:
    """The levels that are set, of those that occur in a mask; BadCase where nobody can tell.

    counts  int [n]: how many pixels have each level
    labels  the levels are indices of a coloured palette, and mean nothing by themselves
    odd     pixels whose level is not noise although it is near 0 or 255 (`tatl.data.images.masks.odd_pixels`)
    """
    import numpy as np

    levels = np.flatnonzero(counts)
    foreground, _ = reading.levels(name)
    if foreground:
        if not lossless:
            raise BadCase(f"{file} is compressed with loss, so that its levels are no labels: save it as PNG")
        return np.intersect1d(levels, foreground)
    if not labels and (plain := _plain(levels, lossless)) is not None:
        return plain
    if not labels and reading.threshold is not None:
        return levels[levels > reading.threshold]
    if not labels and not lossless and levels[-1] >= 192:
        return _two_ends(file, counts, odd)
    raise BadCase(f"{file} {_refusal(levels, lossless, labels)}")


def _plain(levels: np.ndarray, lossless: bool) -> np.ndarray | None:
    """The set levels of a mask of two levels, or None for any other; a lossy 1 may be noise about 0."""
    for two in _PLAIN:
        if set(levels.tolist()) <= two and (lossless or levels[-1] != 1):
            return levels[levels > 0]
    return None


def _two_ends(file: str, counts: np.ndarray, odd: int) -> np.ndarray:
    import numpy as np

    set_pixels = counts[THRESHOLD + 1 :].sum()
    between = counts[_BETWEEN].sum() + odd
    if between > _FEW * max(1, min(set_pixels, counts.sum() - set_pixels)):
        odd_ones = f"{between} of its pixels are neither 0 nor 255 with noise"
        raise BadCase(f"{file} is compressed with loss and {odd_ones}: save it as PNG, or give --threshold 128")
    return np.arange(THRESHOLD + 1, len(counts))


def _refusal(levels: np.ndarray, lossless: bool, labels: bool) -> str:
    if not lossless:
        return f"is compressed with loss and has levels up to {levels[-1]}, which noise blurs: save it as PNG"
    told = ", ".join(map(str, levels)) if len(levels) <= _NAMED else f"{levels[0]} .. {levels[-1]}"
    resized = ", or, if it was resized with interpolation, --threshold 128" if levels[-1] > THRESHOLD else ""
    if labels:
        return f"has coloured labels, the palette's entries {told}: say with --foreground which of them are the mask"
    which = f"say with --foreground LEVELS (and --ignore LEVELS) which are the mask{resized}"
    return f"has the levels {told}, and a mask has 0 and 255 or 0 and 1: {which}"

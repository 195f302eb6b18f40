"""Mask files -> bool arrays, by the one rule of `tatl.data.images.reading`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from tatl.data.case import BadCase
from tatl.data.images import pictures
from tatl.data.images.reading import AS_THEY_ARE, Reading, set_levels

LOSSLESS = ("PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
TINT = 16  # how far JPEG moves the channels of a grey pixel apart
IGNORED = "has ignored pixels in a mask, which count as background"
FAINT = "has a mask without any level above the threshold, so that none of it is set"
LOSSY = "has a mask compressed with loss, which is set above 128"
BLACK = "has a black mask compressed with loss: empty if it was drawn in 255, and lost if it was drawn in 1"


@dataclass(frozen=True)
class Part:
    """The shape of a mask, and the corner and the values of the part that holds all that is set."""

    shape: tuple[int, int]
    corner: tuple[int, int]
    values: np.ndarray
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, mask: np.ndarray) -> Part:
        """A mask bool [h, w] that is drawn already."""
        return cls((mask.shape[0], mask.shape[1]), (0, 0), mask)

    def whole(self) -> np.ndarray:
        """The mask bool [h, w]."""
        mask = np.zeros(self.shape, bool)
        top, left = self.corner
        mask[top : top + self.values.shape[0], left : left + self.values.shape[1]] = self.values
        return mask


_empty: dict[tuple[bytes, str], Part] = {}  # file that is an empty mask, --exif -> what is read of it


def read_mask(path: str | Path, reading: Reading = AS_THEY_ARE, name: str = "") -> np.ndarray:
    """Decode the mask called `name` in its own size: bool [h, w].

    Accepted are 0 and 255, or 0 and 1, however they are stored: 1, 8 or 16 bits, palette, equal RGB channels, noisy
    JPEG.  Any other levels need `reading` to say what they mean.  Raises BadCase for all else (colours, labels 0 .. n,
    soft edges, a faint 0/100).
    """
    return read_part(Path(path), reading, name).whole()


def read_part(path: Path, reading: Reading = AS_THEY_ARE, name: str = "") -> Part:
    """Decode what is set of a mask.

    Most attribute masks are empty, and empty masks of one size are equal files: these are decoded once.
    """
    foreground, ignore = reading.levels(name)
    with pictures.opened(path, reading.max_pixels) as picture:
        data = path.read_bytes()
        key = (hashlib.sha256(data).digest(), reading.exif)
        if key in _empty and 0 not in foreground:
            return _empty[key]
        told = pictures.orientation(picture)
        lossless = keeps_levels(picture, data)
        picture.load()
        grey, labels = _grey(picture, path, lossless, reading, bool(foreground))
        odd = odd_pixels(np.asarray(grey)) if picture.format in ("JPEG", "MPO") else 0
        grey = pictures.upright(grey, picture, told, reading.exif)
        shape = (grey.height, grey.width)
        # Where 0 is a label like others, what holds nothing else is not empty.
        box = (0, 0, grey.width, grey.height) if labels or 0 in foreground else grey.getbbox()
        if box is None:
            _empty[key] = Part(shape, (0, 0), np.zeros((0, 0), bool), () if lossless else (BLACK,))
            return _empty[key]
        part = grey.crop(box)
        counts = np.array(part.histogram())
        counts[0] += grey.width * grey.height - counts.sum()
        chosen = set_levels(path.name, counts, lossless, labels, reading, name, odd)
        notes = [IGNORED] * bool(foreground and counts[list(ignore)].any()) + [LOSSY] * (not lossless)
        notes += [FAINT] * bool(reading.threshold is not None and not len(chosen))
    return Part(shape, (box[1], box[0]), np.isin(np.asarray(part), chosen), tuple(notes))


def odd_pixels(grey: np.ndarray) -> int:
    """How many pixels of a JPEG, uint8 [h, w], lie in even 8x8 blocks of a level that is not the usual one.

    JPEG keeps an even block even, so that all blocks of 0 have one level, and all of 255: a second one is a label.
    """
    h, w = (side // 8 * 8 for side in grey.shape)
    blocks = grey[:h, :w].reshape(h // 8, 8, w // 8, 8)
    low, high = blocks.min(axis=(1, 3)), blocks.max(axis=(1, 3))
    levels = np.bincount(low[low == high], minlength=256)
    return 64 * int(sum(end.sum() - end.max() for end in (levels[:64], levels[192:])))


def keeps_levels(picture: Image.Image, data: bytes) -> bool:
    """Whether a file keeps the levels that were saved; the first pixels of a WEBP are a chunk VP8L or, lossy, VP8."""
    if picture.format == "WEBP":
        return re.findall(rb"VP8[L ]", data[12:])[:1] == [b"VP8L"]
    if picture.format == "TIFF":
        return picture.info.get("compression") not in LOSSY_TIFF
    return picture.format in LOSSLESS


def _grey(
    picture: Image.Image, path: Path, lossless: bool, reading: Reading, labelled: bool
) -> tuple[Image.Image, bool]:
    """The one channel of a picture that has just one in truth, and whether it holds the indices of a palette."""
    if picture.mode in pictures.SIXTEEN_BIT:
        return _narrow(picture, path, reading), False
    if picture.mode in ("1", "L"):
        return picture if picture.mode == "L" else picture.convert("L"), False
    colours = pictures.rgb(picture, path)
    red, green, blue = colours.split()
    tint = max(_highest(ImageChops.difference(red, other)) for other in (green, blue))
    if tint > (0 if lossless else TINT):
        if picture.mode == "P" and (labelled or reading.threshold is None):
            return Image.fromarray(np.asarray(picture)), True
        raise BadCase(f"{path.name} is a colour picture, not a mask of 0 and 255")
    if green.getbbox() is None and picture.has_transparency_data and _translucent(picture):
        raise BadCase(f"{path.name} is transparent and black alone: a mask must be drawn in white, not in its alpha")
    return green, False


def _narrow(picture: Image.Image, path: Path, reading: Reading) -> Image.Image:
    """16 bits as 8, where the levels are those of 8 bits, or 0 and 65535, or a threshold says what is set."""
    values = np.asarray(picture)
    if values.min() >= 0 and values.max() <= 255:
        return Image.fromarray(values.astype(np.uint8))
    levels = np.unique(values)
    if reading.threshold is None and not set(levels.tolist()) <= {0, 65535}:
        told = ", ".join(map(str, levels[:6])) + (", ..." if len(levels) > 6 else "")
        raise BadCase(f"{path.name} has the 16-bit levels {told}, and a mask has 0 and 65535: save it in 8 bits")
    return pictures.eight_bit(picture, path)


def _highest(channel: Image.Image) -> int:
    return int(np.flatnonzero(channel.histogram())[-1])


def _translucent(picture: Image.Image) -> bool:
    opaque = picture.convert("RGBA").getchannel("A").histogram()[255]
    return opaque < picture.width * picture.height


def check_size(what: str, shape: tuple[int, ...], original: tuple[int, int], image: Path | None = None) -> None:
    """BadCase unless a mask has its image's (height, width); it says where an EXIF orientation may be the reason."""
    if shape == original:
        return
    given, wanted = (f"{width} x {height}" for height, width in (shape, original))
    told = 1 if image is None or shape != original[::-1] else pictures.orientation_of(image)
    why = "a mask has the size of its image"
    if told in pictures.SIDEWAYS:
        why = f"it fits with the EXIF orientation ({told}) read otherwise, so give --exif ignore, or leave it out"
    raise BadCase(f"{what} is {given} pixels and its image {wanted}: {why}")

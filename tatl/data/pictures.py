"""Picture files -> arrays of the store's size, for every kind of file that people really have.

Images become 8-bit RGB.  Whatever is larger than needed is decoded at reduced scale: a JPEG by its own transform
(1/2, 1/4 or 1/8, never below the size asked for), the rest by Lanczos, which averages before it samples.

Masks are reduced so that small regions survive.  Each pixel of the reduced mask has a *coverage*, the exact share
of its area that is set in the original.  Pixels with coverage >= 1/2 are set.  Then every 8-connected region of
touched pixels (coverage > 0) of which less than half the area is set so gets its most-covered pixels instead, as
many as its area comes to, and at least one: a dot stays a dot, thin lines and nets keep their area, and no region
vanishes.
"""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageOps
from scipy import ndimage, sparse

from tatl.data.case import BadCase, Size

FORMATS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
ORIENTATION = 0x0112  # the EXIF tag
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
LOSSY = ("JPEG", "MPO", "WEBP")
NOISE = 32  # how far JPEG moves a pixel of a mask from 0 or 255
BETWEEN = 0.05  # share of pixels, at most, that may lie further off (soft edges)
TINT = 16  # how far JPEG moves the channels of a grey pixel apart

_empty: dict[bytes, tuple[int, int]] = {}  # checksum of a file that is an empty mask -> its (height, width)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture; whatever Pillow cannot read becomes a BadCase that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # very large pictures and odd metadata are no matter here
            with Image.open(path) as picture:
                yield picture
    except BadCase:
        raise
    except FileNotFoundError:
        raise BadCase(f"{path.name} is not in {path.parent}") from None
    except Image.UnidentifiedImageError:
        raise BadCase(f"{path.name} is not a picture that can be read") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise BadCase(f"{path.name} cannot be decoded, it is truncated or damaged ({error})") from error


def read_image(path: str | Path, size: Size | None = None) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode an image: uint8 [H, W, 3] of `size` (None: its own), and its own (height, width).

    EXIF orientation is applied first.  Transparent pixels are composited over black, as outside of a dermatoscope's
    round field; 16-bit grey is scaled to 8 (65535 is white); palette, grey and CMYK are converted.
    Raises BadCase for a file that cannot be read.
    """
    with opened(Path(path)) as picture:
        width, height = picture.size
        turned = picture.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        goal = None if size is None else (size[0], size[1]) if turned else (size[1], size[0])
        if goal is not None:
            picture.draft("RGB", goal)
        picture.load()
        colours = _rgb(picture, Path(path))
        if goal is not None and colours.size != goal:
            colours = colours.resize(goal, Image.Resampling.LANCZOS, reducing_gap=3.0)
        return np.array(_upright(colours, picture)), (width, height) if turned else (height, width)


def _upright(picture: Image.Image, original: Image.Image) -> Image.Image:
    """Turn a picture as the EXIF data of its original say."""
    if (orientation := original.getexif().get(ORIENTATION, 1)) == 1:
        return picture
    picture.getexif()[ORIENTATION] = orientation
    return ImageOps.exif_transpose(picture)


def _rgb(picture: Image.Image, path: Path) -> Image.Image:
    if picture.mode == "F":
        raise BadCase(f"{path.name} holds floating-point numbers, not 8- or 16-bit colours: convert it")
    if picture.mode in SIXTEEN_BIT:
        picture = _eight_bit(picture, path)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    return picture.convert("RGB")


def _eight_bit(picture: Image.Image, path: Path) -> Image.Image:
    """65535 -> 255, rounded."""
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise BadCase(f"{path.name} holds numbers outside of 0 .. 65535: convert it to 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def read_mask(path: str | Path, threshold: int | None = None) -> np.ndarray:
    """Decode a mask in its own size: bool [h, w], set where the 8-bit level is above `threshold`.

    A lossless file with the levels 0 and 1 alone is a mask of 0 and 1 whatever the threshold; a colour picture is
    refused: BadCase.  With a threshold every other grey picture is binarised.  Without one it is 127, and accepted are
    grey levels near 0 and 255 alone (JPEG noise and soft edges included) however they are stored: 1, 8 or 16 bits,
    palette, equal RGB channels; anything else (a photograph, labels 0 .. n, a faint 0/100) is refused: BadCase.
    """
    shape, (top, left), part = _read_part(Path(path), threshold)
    mask = np.zeros(shape, bool)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return mask


def read_reduced(path: str | Path, original: tuple[int, int], size: Size) -> np.ndarray:
    """`reduce_mask(read_mask(path), size)` without ever making the full mask; BadCase if it is not `original`."""
    shape, corner, part = _read_part(Path(path))
    check_size(Path(path), shape, original)
    return _reduce_part(part, corner, shape, size)


def _read_part(path: Path, threshold: int | None = None) -> tuple[tuple[int, int], tuple[int, int], np.ndarray]:
    """The mask's shape, and the corner and the values of the part that holds all that is not 0.

    Most attribute masks are empty, and empty masks of one size are equal files: these are decoded once.
    """
    with opened(path) as picture:
        file = hashlib.sha256(path.read_bytes()).digest()
        if file in _empty:
            return _empty[file], (0, 0), np.zeros((0, 0), bool)
        picture.load()
        grey = _upright(_grey(picture, path), picture)
        shape = (grey.height, grey.width)
        box = grey.getbbox()
        if box is None:
            _empty[file] = shape
            return shape, (0, 0), np.zeros((0, 0), bool)
        part = grey.crop(box)
        counts = np.array(part.histogram())
        counts[0] += grey.width * grey.height - counts.sum()
        set_from = _set_from(counts, picture.format in LOSSY, path, threshold)
    return shape, (box[1], box[0]), np.asarray(part) >= set_from


def _grey(picture: Image.Image, path: Path) -> Image.Image:
    """The one channel of a picture that has just one in truth."""
    if picture.mode in SIXTEEN_BIT:
        small = np.asarray(picture).max() <= 255  # 8-bit levels in a 16-bit file
        return Image.fromarray(np.asarray(picture).astype(np.uint8)) if small else _eight_bit(picture, path)
    if picture.mode in ("1", "L"):
        return picture if picture.mode == "L" else picture.convert("L")
    colours = _rgb(picture, path)
    red, green, blue = colours.split()
    if max(_highest(ImageChops.difference(red, other)) for other in (green, blue)) > (
        TINT if picture.format in LOSSY else 0
    ):
        raise BadCase(f"{path.name} is a colour picture, not a mask of 0 and 255")
    if green.getbbox() is None and picture.has_transparency_data and _translucent(picture):
        raise BadCase(f"{path.name} is transparent and black alone: a mask must be drawn in white, not in its alpha")
    return green


def _highest(channel: Image.Image) -> int:
    return int(np.flatnonzero(channel.histogram())[-1])


def _translucent(picture: Image.Image) -> bool:
    opaque = picture.convert("RGBA").getchannel("A").histogram()[255]
    return opaque < picture.width * picture.height


def _set_from(counts: np.ndarray, lossy: bool, path: Path, threshold: int | None) -> int:
    """The lowest level that is set, given how many pixels have each of the 256 levels."""
    levels = np.flatnonzero(counts)
    top = int(levels[-1])
    if top <= 1 and not lossy:
        return 1
    if threshold is not None:
        return threshold + 1
    if 0 < top <= 127 and not (lossy and top <= NOISE):
        raise BadCase(f"{path.name} is no mask: its levels go up to {top} and not to 255, so that none would be set")
    if counts[NOISE : 256 - NOISE].sum() > BETWEEN * counts.sum():
        raise BadCase(f"{path.name} is a grey picture with {len(levels)} levels, not a mask of 0 and 255")
    return 128


def check_size(path: Path, shape: tuple[int, ...], original: tuple[int, int]) -> None:
    """BadCase unless a mask has its image's (height, width)."""
    if shape != original:
        given, wanted = (f"{width} x {height}" for height, width in (shape, original))
        raise BadCase(f"{path.name} is {given} pixels and its image {wanted}: a mask has the size of its image")


def reduce_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """Scale a mask bool [h, w] to `size` bool [H, W] so that small regions survive (see the module's docstring).

    Enlarging is the same formula: coverage >= 1/2, and never nothing.
    """
    return _reduce_part(mask, (0, 0), mask.shape, size)


def _reduce_part(part: np.ndarray, corner: tuple[int, int], shape: tuple[int, ...], size: Size) -> np.ndarray:
    """Reduce a mask of which only a part is given; nothing is set outside of it."""
    reduced = np.zeros(size, bool)
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    if len(rows) == 0:
        return reduced
    part = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = corner[0] + int(rows[0]), corner[1] + int(columns[0])
    if shape == tuple(size):
        reduced[top : top + part.shape[0], left : left + part.shape[1]] = part
        return reduced
    cells_y, weights_y = _overlap(shape[0], size[0], top, top + part.shape[0])
    cells_x, weights_x = _overlap(shape[1], size[1], left, left + part.shape[1])
    coverage = (weights_x @ (weights_y @ part.astype(np.float32)).T).T
    reduced[cells_y, cells_x] = _survive(coverage)
    return reduced


def _overlap(pixels: int, cells: int, first: int, last: int) -> tuple[slice, sparse.csr_array]:
    """Which cells the pixels first .. last-1 touch, and the share of each cell that each pixel covers.

    Lengths are counted in units of 1/cells of a pixel, so that all overlaps are integers and nothing is rounded:
    a pixel is `cells` long and a cell `pixels`.
    """
    low, high = first * cells // pixels, -(-last * cells // pixels)
    starts = np.arange(low, high) * pixels
    begin, end = starts // cells, -(-(starts + pixels) // cells)
    counts = end - begin
    cell = np.repeat(np.arange(high - low), counts)
    pixel = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - begin, counts)
    inside = (pixel >= first) & (pixel < last)
    cell, pixel = cell[inside], pixel[inside]
    length = np.minimum((pixel + 1) * cells, starts[cell] + pixels) - np.maximum(pixel * cells, starts[cell])
    share = (length / pixels).astype(np.float32)
    return slice(low, high), sparse.csr_array((share, (cell, pixel - first)), shape=(high - low, last - first))


def _survive(coverage: np.ndarray) -> np.ndarray:
    """Half-covered pixels, and for a region that these leave less than half of, its most-covered ones."""
    kept = coverage >= 0.5 - 1e-5
    regions, count = ndimage.label(coverage > 0, structure=np.ones((3, 3)))
    area = np.bincount(regions.ravel(), coverage.ravel(), count + 1)
    left = np.bincount(regions[kept], minlength=count + 1)
    lost = np.flatnonzero((left < area / 2) | (left == 0))
    boxes = ndimage.find_objects(regions)
    for number in lost[lost > 0]:  # 0 is the ground between the regions
        box = boxes[number - 1]
        covered = np.where(regions[box] == number, coverage[box], 0)
        order = np.argsort(-covered, axis=None, kind="stable")
        kept[box].flat[order[: max(1, round(area[number]))]] = True
    return kept

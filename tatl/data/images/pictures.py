"""Picture files -> arrays of the store's size, for every kind of file that people really have.

Images become 8-bit RGB.  Whatever is larger than needed is decoded at reduced scale: a JPEG by its own transform
(1/2, 1/4 or 1/8, never below the size asked for), the rest by Lanczos, which averages before it samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from tatl.data.case import BadCase, Size
from tatl.data.images.reading import AS_THEY_ARE, MAX_PIXELS, Reading

FORMATS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
ORIENTATION = 0x0112  # the EXIF tag
EXIF_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange height and width
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


@contextmanager
def opened(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a picture; whatever Pillow raises about a file becomes a BadCase that names it."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata are no matter here
            with open(path, "rb") as file, Image.open(file) as picture:  # by its name, Pillow maps turned TIFFs wrongly
                _check_pixels(path, picture.width * picture.height, max_pixels)
                yield picture
    except (BadCase, MemoryError):
        raise
    except FileNotFoundError:
        raise BadCase(f"{path.name} is not in {path.parent}") from None
    except Image.UnidentifiedImageError:
        raise BadCase(f"{path.name} is not a picture that can be read") from None
    except Exception as error:  # a decoder meets anything: struct.error, KeyError, TypeError, ...
        raise BadCase(f"{path.name} cannot be decoded, it is truncated or damaged ({error})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_pixels(path: Path, pixels: int, most: int) -> None:
    if pixels > most:
        size = f"{pixels / 1e6:.0f} megapixels, and {most / 1e6:.0f} are allowed"
        raise BadCase(f"{path.name} is large ({size}): reduce it, or allow it with --max-pixels {pixels}")


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation 1 .. 8 of an opened picture, read before it is loaded; 1 where the EXIF tell none.

    A PNG may have its EXIF behind its pixels and is loaded for them.
    """
    if picture.format == "PNG":
        picture.load()  # here, where a damaged picture is an error
    try:
        told = picture.getexif().get(ORIENTATION, 1)
        return int(told) if told in EXIF_TURNS else 1
    except Exception:  # malformed EXIF are no reason to lose an intact picture
        return 1


def orientation_of(path: Path) -> int:
    """The EXIF orientation of a file, 1 where it cannot be opened."""
    try:
        with opened(path, 1 << 62) as picture:
            return orientation(picture)
    except BadCase:
        return 1


def upright(picture: Image.Image, original: Image.Image, told: int, exif: str) -> Image.Image:
    """Turn a loaded picture as its orientation says, or leave it (`exif` is "ignore"); a TIFF is turned by loading."""
    loaded = told if original.format == "TIFF" else 1
    if exif == "ignore":
        back = {6: 8, 8: 6}.get(loaded, loaded)
        return picture.transpose(EXIF_TURNS[back]) if back in EXIF_TURNS else picture
    return picture.transpose(EXIF_TURNS[told]) if told in EXIF_TURNS and loaded == 1 else picture


def read_image(
    path: str | Path, size: Size | None = None, reading: Reading = AS_THEY_ARE
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode an image: uint8 [H, W, 3] of `size` (None: its own), and its own (height, width).

    EXIF orientation is applied first.  Transparent pixels are composited over black, as outside of a dermatoscope's
    round field; 16-bit grey is scaled to 8 (65535 is white); palette, grey and CMYK are converted.
    Raises BadCase for a file that cannot be read.
    """
    return decoded(Path(path), size, reading)[:2]


def decoded(path: Path, size: Size | None, reading: Reading) -> tuple[np.ndarray, tuple[int, int], int]:
    """What `read_image` gives, and the EXIF orientation."""
    with opened(path, reading.max_pixels) as picture:
        told = orientation(picture)
        turned = told in SIDEWAYS and (picture.format == "TIFF") == (reading.exif == "ignore")
        goal = None if size is None else (size[0], size[1]) if turned else (size[1], size[0])
        width, height = picture.size
        if goal is not None:
            picture.draft("RGB", goal)
        picture.load()
        colours = _coloured(picture, path)
        if goal is not None and colours.size != goal:
            colours = colours.resize(goal, Image.Resampling.LANCZOS, reducing_gap=3.0)
        shown = upright(colours, picture, told, reading.exif).convert("RGB")
        return np.array(shown), (width, height) if turned else (height, width), told


def _coloured(picture: Image.Image, path: Path) -> Image.Image:
    """RGB, or grey as it is: a very large grey picture is reduced before it becomes three channels."""
    if picture.mode in ("1", "L") and not picture.has_transparency_data:
        return picture.convert("L")
    return rgb(picture, path)


def rgb(picture: Image.Image, path: Path) -> Image.Image:
    """Any picture as 8-bit RGB over black; BadCase for numbers that are no colours."""
    if picture.mode == "F":
        raise BadCase(f"{path.name} holds floating-point numbers, not 8- or 16-bit colours: convert it")
    if picture.mode in SIXTEEN_BIT:
        picture = eight_bit(picture, path)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    return picture.convert("RGB")


def eight_bit(picture: Image.Image, path: Path) -> Image.Image:
    """65535 -> 255, rounded; BadCase for other numbers."""
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise BadCase(f"{path.name} holds numbers outside of 0 .. 65535: convert it to 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))

"""EXIF orientation: read without rewriting what else the EXIF hold, applied or ignored, and asked about where masks
could lie either way."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tatl.commands import prepare_command as prepare
from tatl.data.case import BadCase, Size
from tatl.data.images import pictures
from tatl.data.images.masks import read_mask
from tatl.data.images.pictures import EXIF_TURNS, orientation_of, read_image
from tatl.data.images.reading import Reading
from tatl.data.readers.manifest import Manifest
from tatl.data.store import Store

HEIGHT, WIDTH = 60, 80
CORNER = np.zeros((HEIGHT, WIDTH), bool)  # unlike itself under any turn
CORNER[:20, :26] = True
COLOURS = np.where(CORNER[..., None], (250, 250, 250), (40, 60, 80)).astype(np.uint8)
IGNORE = Reading(exif="ignore")


def exif_block(*extra: tuple[int, int, bytes], tail: bytes = b"", orientation: int = 6) -> bytes:
    """An EXIF block of an orientation and further entries (tag, kind, value), the value as it lies in the file."""
    size = {2: 1, 3: 2, 4: 4, 10: 8}
    entries = sorted([(0x0112, 3, struct.pack("<H", orientation)), *extra])
    place, body = 8 + 2 + 12 * len(entries) + 4, b""
    for tag, kind, value in entries:
        cell = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", place + len(tail))
        tail += value if len(value) > 4 else b""
        body += struct.pack("<HHI", tag, kind, len(value) // size[kind]) + cell
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + b"\0\0\0\0" + tail


SUB = struct.pack("<HHHIII", 1, 0x9204, 10, 1, 8 + 2 + 24 + 4 + 18, 0) + struct.pack("<ii", -2, 0)
MALFORMED = {
    "a resolution as text": exif_block((0x011A, 2, b"72\0\0")),
    "a resolution of -1/0": exif_block((0x011A, 10, struct.pack("<ii", -1, 0))),
    "a maker of three numbers": exif_block((0x010F, 3, struct.pack("<HHH", 1, 2, 3))),
    "an exposure of -2/0": exif_block((0x8769, 4, struct.pack("<I", 8 + 2 + 24 + 4)), tail=SUB),
    "GPS that are not there": exif_block((0x8825, 4, struct.pack("<I", 999999))),
}


def save(path: Path, orientation: int | bytes) -> Path:
    """A picture of stored pixels COLOURS."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(COLOURS).save(path, exif=orientation if isinstance(orientation, bytes) else exif)
    return path


def white(image: np.ndarray) -> np.ndarray:
    return image[..., 0] > 150


def turned(mask: np.ndarray, orientation: int) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).transpose(EXIF_TURNS[orientation])) if orientation != 1 else mask


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_other_entries_may_be_malformed(tmp_path: Path, what: str, suffix: str) -> None:
    """Pillow's own turning writes the EXIF anew, which raised for each of these and lost intact photographs."""
    path = save(tmp_path / f"a.{suffix}", MALFORMED[what])
    image, original = read_image(path)
    assert original == (WIDTH, HEIGHT) and (white(image) == turned(CORNER, 6)).mean() > 0.98
    small, original = read_image(path, Size(30, 40))
    assert original == (WIDTH, HEIGHT) and small.shape == (30, 40, 3)


@pytest.mark.parametrize(
    "value", [b"Exif\0\0", b"Exif\0\0nonsense", exif_block(orientation=0), exif_block(orientation=9)]
)
def test_exif_without_an_orientation_leave_the_picture_as_it_is(tmp_path: Path, value: bytes) -> None:
    image, original = read_image(save(tmp_path / "a.jpg", value))
    assert original == (HEIGHT, WIDTH) and (white(image) == CORNER).mean() > 0.98


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_orientation_is_applied_or_ignored(tmp_path: Path, orientation: int, suffix: str) -> None:
    """A TIFF is turned by loading it, and was turned twice or given the wrong size."""
    path = save(tmp_path / f"a.{suffix}", orientation)
    assert orientation_of(path) == orientation
    for reading, expected in ((Reading(), turned(CORNER, orientation)), (IGNORE, CORNER)):
        image, original = read_image(path, reading=reading)
        assert original == expected.shape and (white(image) == expected).mean() > 0.98
        small, original = read_image(path, Size(*(side // 2 for side in expected.shape)), reading)
        assert original == expected.shape and (white(small) == expected[::2, ::2]).mean() > 0.95


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_masks_have_an_orientation_too(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray((CORNER * 255).astype(np.uint8)).save(tmp_path / f"a.{suffix}", exif=exif)
    assert np.array_equal(read_mask(tmp_path / f"a.{suffix}"), turned(CORNER, 6))
    assert np.array_equal(read_mask(tmp_path / f"a.{suffix}", IGNORE), CORNER)


def drawn_on_stored_pixels(root: Path, orientations: tuple[int, ...]) -> Path:
    (root / "masks").mkdir(parents=True)
    lines = ["case,image,group,lesion"]
    for told in orientations:
        save(root / "images" / f"{told}.png", told)
        Image.fromarray((CORNER * 255).astype(np.uint8)).save(root / "masks" / f"{told}.png")
        lines.append(f"c{told},images/{told}.png,same,masks/{told}.png")
    (root / "cases.csv").write_text("\n".join(lines) + "\n")
    return root


def test_masks_of_the_stored_pixels_fit_with_exif_ignore(tmp_path: Path) -> None:
    root, size = drawn_on_stored_pixels(tmp_path / "data", tuple(range(1, 9))), Size(HEIGHT, WIDTH)
    data, stored = Manifest(root), Manifest(root, IGNORE)
    for index, told in enumerate(range(1, 9)):
        case = stored.read(index, size)
        assert case.lesion is not None and np.array_equal(case.lesion, white(case.image)) and not case.notes
        if told > 4:
            with pytest.raises(BadCase, match=rf"80 x 60 .*image 60 x 80.* EXIF orientation \({told}\).*--exif ignore"):
                data.read(index, size)
        else:
            assert len(data.read(index, size).notes) == (told != 1)
    Image.fromarray(turned((CORNER * 255).astype(np.uint8), 6)).save(root / "masks" / "6.png")  # the upright picture
    assert not data.read(5, size).notes
    with pytest.raises(BadCase, match=r"60 x 80 .*image 80 x 60.* EXIF orientation \(6\)"):
        stored.read(5, size)


def test_sizes_that_fit_in_no_reading_are_not_blamed_on_exif(tmp_path: Path) -> None:
    root = drawn_on_stored_pixels(tmp_path / "data", (6,))
    Image.new("L", (WIDTH, HEIGHT + 1)).save(root / "masks" / "6.png")
    with pytest.raises(BadCase, match=r"its image 60 x 80: a mask has the size of its image$"):
        Manifest(root).read(0, Size(HEIGHT, WIDTH))


def test_prepare_asks_about_orientations_that_sizes_cannot_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Image and mask disagreed by half a turn without a word."""
    root = drawn_on_stored_pixels(tmp_path / "data", (1, 2, 3))
    prepare(Reading(), "manifest", tmp_path / "a", root, f"{HEIGHT}x{WIDTH}", workers=1)
    assert "note: c3: has an EXIF orientation of 3, which was applied to the image, while" in capsys.readouterr().out
    assert [note.partition(":")[0] for note in Store.open(tmp_path / "a").notes] == ["c2", "c3"]
    prepare(Reading(exif="ignore"), "manifest", tmp_path / "b", root, f"{HEIGHT}x{WIDTH}", workers=1)
    store = Store.open(tmp_path / "b")
    assert store.source["exif"] == "ignore" and not store.notes
    assert all(np.array_equal(store.mask("lesion", i), white(store.images[i])) for i in range(3))
    with pytest.raises(ValueError, match=r"store of another recipe \(what differs: source"):
        prepare(Reading(exif="ignore"), "manifest", tmp_path / "a", root, f"{HEIGHT}x{WIDTH}", workers=1)


def test_a_square_picture_on_its_side_is_asked_about(tmp_path: Path) -> None:
    root = drawn_on_stored_pixels(tmp_path / "data", (6,))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOURS[:, :HEIGHT]).save(root / "images" / "6.png", exif=exif)
    Image.fromarray((CORNER[:, :HEIGHT] * 255).astype(np.uint8)).save(root / "masks" / "6.png")
    assert "EXIF orientation of 6" in Manifest(root).read(0, Size(HEIGHT, HEIGHT)).notes[0]


@pytest.mark.parametrize(
    "error", [TypeError("odd"), KeyError(1), AssertionError(), RecursionError("deep"), IndexError()]
)
def test_whatever_one_file_raises_is_its_own_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A decoder's TypeError stopped `prepare`, even with --skip-bad."""
    root = drawn_on_stored_pixels(tmp_path / "data", (1, 2))

    def fails(picture: Image.Image, path: Path) -> Image.Image:
        if path.name == "2.png":
            raise error
        return picture.convert("RGB")

    monkeypatch.setattr(pictures, "_coloured", fails)
    with pytest.raises(ValueError, match=r"c2: 2\.png cannot be decoded"):
        prepare(Reading(), "manifest", tmp_path / "s", root, f"{HEIGHT}x{WIDTH}", workers=1)
    prepare(Reading(), "manifest", tmp_path / "s", root, f"{HEIGHT}x{WIDTH}", workers=1, skip_bad=True)
    assert Store.open(tmp_path / "s").cases["id"].tolist() == ["c1"]


# ---- very large


def test_a_large_picture_is_said_to_be_large_and_can_be_allowed(tmp_path: Path) -> None:
    """196 megapixels in a few kilobytes, which was called truncated."""
    Image.new("1", (14000, 14000), 1).save(tmp_path / "slide.png")
    with pytest.raises(BadCase, match=r"slide\.png is large \(196 megapixels, .* --max-pixels 196000000"):
        read_image(tmp_path / "slide.png", Size(6, 8))
    with pytest.raises(BadCase, match="is large"):
        read_mask(tmp_path / "slide.png")
    limit = Image.MAX_IMAGE_PIXELS
    image, original = read_image(tmp_path / "slide.png", Size(6, 8), Reading(max_pixels=196_000_000))
    assert original == (14000, 14000) and (image == 255).all() and image.shape == (6, 8, 3)
    assert limit == Image.MAX_IMAGE_PIXELS  # a caller's own limit stands


def test_the_limit_is_that_of_the_option(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    assert read_image(tmp_path / "a.png", reading=Reading(max_pixels=WIDTH * HEIGHT))[1] == (HEIGHT, WIDTH)
    with pytest.raises(BadCase, match=f"allow it with --max-pixels {WIDTH * HEIGHT}"):
        read_image(tmp_path / "a.png", reading=Reading(max_pixels=WIDTH * HEIGHT - 1))

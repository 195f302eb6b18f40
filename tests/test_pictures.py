"""Pictures of every kind become RGB of one size; masks keep their area and their smallest regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tatl.data.case import BadCase, Size
from tatl.data.images.masks import check_size, read_mask, read_part
from tatl.data.images.pictures import read_image
from tatl.data.images.reading import Reading
from tatl.data.images.reduction import reduce_mask, reduce_part

SIZE = Size(24, 32)


@pytest.fixture
def scene() -> np.ndarray:
    """A smooth colour picture, 60 x 80, unlike itself under any turn."""
    y, x = np.mgrid[0:60, 0:80]
    return np.stack([x * 3, y * 4, 128 + x - y], axis=-1).astype(np.uint8)


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 3) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(int) - b.astype(int)).mean()) < tolerance


def test_a_large_jpeg_decoded_at_reduced_scale_looks_like_full_decode_and_resize(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, x = np.mgrid[0:1500, 0:2000]
    waves = np.stack([127 + 120 * np.sin(x / 90), 127 + 120 * np.cos(y / 70), x / 8], axis=-1).astype(np.uint8)
    Image.fromarray(waves).save(tmp_path / "a.jpg", quality=95)
    full = np.asarray(Image.open(tmp_path / "a.jpg").resize((32, 24), Image.Resampling.LANCZOS))
    decoded: list[tuple[int, int]] = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda im, *a, **k: (decoded.append(im.size), resize(im, *a, **k))[1])
    image, original = read_image(tmp_path / "a.jpg", SIZE)
    assert original == (1500, 2000)
    assert decoded[0] == (250, 188)  # an eighth: 1/64 of the pixels
    assert close(image, full)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_exif_orientation_is_applied(tmp_path: Path, scene: np.ndarray, orientation: int, name: str) -> None:
    turns = {1: 0, 3: 180, 6: 90, 8: 270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(scene)
    if orientation in turns:
        stored = stored.rotate(turns[orientation], expand=True)
    else:
        flips = {2: 0, 4: 1, 5: 5, 7: 6}  # FLIP_LEFT_RIGHT, FLIP_TOP_BOTTOM, TRANSPOSE, TRANSVERSE
        stored = stored.transpose(Image.Transpose(flips[orientation]))
    stored.save(tmp_path / name, exif=exif, **({"quality": 98, "subsampling": 0} if name == "a.jpg" else {}))
    image, original = read_image(tmp_path / name)
    assert original == (60, 80)
    assert close(image, scene, 2)
    small, original = read_image(tmp_path / name, SIZE)
    assert original == (60, 80)
    assert close(small, np.asarray(Image.fromarray(scene).resize((32, 24), Image.Resampling.LANCZOS)), 3)


def test_rgba_is_composited_over_black(tmp_path: Path, scene: np.ndarray) -> None:
    alpha = np.full((60, 80, 1), 255, np.uint8)
    alpha[:, 40:] = 0
    Image.fromarray(np.concatenate([scene, alpha], axis=2)).save(tmp_path / "a.png")
    image, _ = read_image(tmp_path / "a.png")
    assert np.array_equal(image[:, :40], scene[:, :40])
    assert not image[:, 40:].any()


def test_palette_grey_bilevel_and_cmyk_images_become_rgb(tmp_path: Path, scene: np.ndarray) -> None:
    picture = Image.fromarray(scene)
    picture.quantize(256).save(tmp_path / "p.png")
    picture.convert("L").save(tmp_path / "l.jpg", quality=98)
    picture.convert("1").save(tmp_path / "1.png")
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    picture.convert("LA").save(tmp_path / "la.png")
    assert close(read_image(tmp_path / "p.png")[0], scene, 8)
    grey = np.asarray(picture.convert("L").convert("RGB"))
    assert close(read_image(tmp_path / "l.jpg")[0], grey)
    assert close(read_image(tmp_path / "la.png")[0], grey)
    assert set(np.unique(read_image(tmp_path / "1.png")[0])) == {0, 255}
    assert close(read_image(tmp_path / "cmyk.jpg")[0], scene, 6)


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 60 * 80).reshape(60, 80).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(levels).save(tmp_path / name)
        image, _ = read_image(tmp_path / name)
        assert np.array_equal(image[..., 0], np.round(levels / 257).astype(np.uint8))
    Image.fromarray(levels.astype(np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(BadCase, match=r"f\.tif holds floating-point"):
        read_image(tmp_path / "f.tif")


def test_images_smaller_than_the_network_size_are_enlarged(tmp_path: Path) -> None:
    Image.new("RGB", (5, 3), (200, 100, 50)).save(tmp_path / "a.png")
    image, original = read_image(tmp_path / "a.png", SIZE)
    assert original == (3, 5)
    assert image.shape == (24, 32, 3) and (image == (200, 100, 50)).all()


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_truncated_and_unreadable_files_are_named(tmp_path: Path, scene: np.ndarray, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for part in (whole[: len(whole) // 2], whole[:30], b"", b"<html>not found</html>"):
        (tmp_path / name).write_bytes(part)
        for reading in (lambda: read_image(tmp_path / name, Size(4, 6)), lambda: read_mask(tmp_path / name)):
            with pytest.raises(BadCase, match=name):
                reading()
    with pytest.raises(BadCase, match=r"missing\.png is not in"):
        read_image(tmp_path / "missing.png")


def test_a_damaged_png_is_a_bad_case(tmp_path: Path, scene: np.ndarray) -> None:
    Image.fromarray(scene).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(BadCase, match=r"a\.png"):
        read_image(tmp_path / "a.png")


# ---- masks


@pytest.fixture
def disc() -> np.ndarray:
    y, x = np.mgrid[0:60, 0:80]
    return (y - 20) ** 2 + (x - 50) ** 2 < 150


def test_a_mask_is_read_however_its_0_and_255_are_stored(tmp_path: Path, disc: np.ndarray) -> None:
    eight = Image.fromarray(disc.astype(np.uint8) * 255)
    variants = {
        "l.png": eight,
        "1.png": eight.convert("1"),
        "p.png": eight.convert("P"),
        "rgb.png": eight.convert("RGB"),
        "rgba.png": eight.convert("RGBA"),
        "la.png": eight.convert("LA"),
        "16.png": Image.fromarray(disc.astype(np.uint16) * 65535),
        "16low.png": Image.fromarray(disc.astype(np.uint16) * 255),
        "16one.png": Image.fromarray(disc.astype(np.uint16)),
        "one.png": Image.fromarray(disc.astype(np.uint8)),
    }
    for name, picture in variants.items():
        picture.save(tmp_path / name)
        assert np.array_equal(read_mask(tmp_path / name), disc), name


def test_jpeg_noise_is_binarised_and_soft_edges_need_a_threshold(tmp_path: Path, disc: np.ndarray) -> None:
    """Soft edges were accepted round a disc and refused along thin lines: one rule asks for both."""
    for mode in ("L", "RGB"):
        Image.fromarray(disc.astype(np.uint8) * 255).convert(mode).save(tmp_path / "a.jpg", quality=85)
        assert (read_mask(tmp_path / "a.jpg") != disc).mean() < 0.01
    soft = ndimage.gaussian_filter(disc * 255.0, 0.5).round().astype(np.uint8)
    Image.fromarray(soft).save(tmp_path / "soft.png")
    with pytest.raises(BadCase, match=r"soft\.png has the levels .* --threshold 128"):
        read_mask(tmp_path / "soft.png")
    assert np.array_equal(read_mask(tmp_path / "soft.png", Reading(threshold=128)), soft > 128)
    Image.new("L", (80, 60), 0).save(tmp_path / "black.jpg")
    assert not read_mask(tmp_path / "black.jpg").any()
    Image.new("L", (80, 60), 3).save(tmp_path / "label.jpg")  # noise, or a label: nobody can tell
    with pytest.raises(BadCase, match=r"label\.jpg is compressed with loss and has levels up to 3"):
        read_mask(tmp_path / "label.jpg")


def test_a_threshold_binarises_any_grey_picture(tmp_path: Path, scene: np.ndarray) -> None:
    levels = np.array([[0, 64, 127, 128, 129, 255]], np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    for threshold in (0, 127, 128, 200):
        assert np.array_equal(read_mask(tmp_path / "a.png", Reading(threshold=threshold)), levels > threshold)
    Image.fromarray(levels // 2).save(tmp_path / "faint.png")
    assert not read_mask(tmp_path / "faint.png", Reading(threshold=128)).any()
    Image.fromarray(scene).save(tmp_path / "colour.png")
    with pytest.raises(BadCase, match="colour picture"):
        read_mask(tmp_path / "colour.png", Reading(threshold=128))


def test_full_and_empty_masks_are_masks(tmp_path: Path) -> None:
    for level, expected in ((0, False), (1, True), (255, True)):
        Image.new("L", (8, 6), level).save(tmp_path / "a.png")
        assert (read_mask(tmp_path / "a.png") == expected).all()
        assert (read_mask(tmp_path / "a.png", Reading(threshold=128)) == expected).all()
        assert (read_mask(tmp_path / "a.png") == expected).all()  # an empty file is remembered


def test_what_is_no_mask_is_refused(tmp_path: Path, scene: np.ndarray, disc: np.ndarray) -> None:
    pictures = {
        "colour": Image.fromarray(scene),
        r"has the levels 15 \.\. 226, and": Image.fromarray(scene).convert("L"),
        "has the levels 0, 1, 2, 3, and": Image.fromarray((np.arange(48).reshape(6, 8) % 4).astype(np.uint8)),
        "has the levels 0, 100, and": Image.fromarray(disc.astype(np.uint8) * 100),
        "transparent": Image.merge("LA", (Image.new("L", (80, 60)), Image.fromarray(disc.astype(np.uint8) * 255))),
    }
    for reason, picture in pictures.items():
        picture.save(tmp_path / "a.png")
        with pytest.raises(BadCase, match=rf"a\.png .*{reason}"):
            read_mask(tmp_path / "a.png")
    Image.fromarray(scene).save(tmp_path / "a.jpg")
    with pytest.raises(BadCase, match="colour picture"):
        read_mask(tmp_path / "a.jpg")


def test_reduction_of_whole_blocks_is_exact() -> None:
    mask = np.random.default_rng(0).random((24, 32)) < 0.5
    assert np.array_equal(reduce_mask(mask.repeat(5, axis=0).repeat(3, axis=1), SIZE), mask)
    assert np.array_equal(reduce_mask(mask, SIZE), mask)


@pytest.mark.parametrize("shape", [(6, 7), (24, 32), (25, 33), (101, 90), (999, 1333), (20, 400)])
@pytest.mark.parametrize("size", [Size(24, 32), Size(40, 40)])
def test_one_pixel_masks_survive_at_their_place(shape: tuple[int, int], size: Size) -> None:
    rng = np.random.default_rng(1)
    for y, x in [(0, 0), (shape[0] - 1, shape[1] - 1), *zip(*rng.integers(0, shape, (20, 2)).T, strict=True)]:
        mask = np.zeros(shape, bool)
        mask[y, x] = True
        ys, xs = np.nonzero(reduce_mask(mask, size))
        assert len(ys)
        scale_y, scale_x = size.height / shape[0], size.width / shape[1]
        assert (np.abs((ys + 0.5) - (y + 0.5) * scale_y) <= 0.5 + scale_y / 2).all()
        assert (np.abs((xs + 0.5) - (x + 0.5) * scale_x) <= 0.5 + scale_x / 2).all()


def test_every_separate_region_survives_and_no_other_appears() -> None:
    mask = np.zeros((480, 640), bool)
    mask[10::40, 15::40] = True  # 12 x 16 single pixels, two cells apart at 24 x 32
    reduced = reduce_mask(mask, SIZE)
    assert ndimage.label(reduced, np.ones((3, 3)))[1] == 12 * 16 == reduced.sum()


def test_thin_lines_and_nets_keep_their_area() -> None:
    line = np.zeros((240, 320), bool)
    line[55, 20:300] = True  # covers a tenth of each cell it touches
    assert reduce_mask(line, SIZE).sum() == 3
    net = np.zeros((240, 320), bool)
    net[::10] = net[:, ::10] = True
    assert abs(reduce_mask(net, SIZE).mean() - net.mean()) < 0.01


def test_areas_of_blobs_are_kept() -> None:
    y, x = np.mgrid[0:601, 0:803]
    blob = (y - 290) ** 2 / 2 + (x - 400) ** 2 < 150**2
    for size in (SIZE, Size(96, 128), Size(700, 900)):
        assert reduce_mask(blob, size).mean() == pytest.approx(blob.mean(), rel=0.02)


def test_reading_and_reducing_at_once_is_the_same(tmp_path: Path, disc: np.ndarray) -> None:
    Image.fromarray(disc.astype(np.uint8) * 255).save(tmp_path / "a.png")
    for size in (SIZE, Size(60, 80), Size(100, 90)):
        part = read_part(tmp_path / "a.png")
        assert np.array_equal(reduce_part(part.values, part.corner, part.shape, size), reduce_mask(disc, size))
    with pytest.raises(BadCase, match=r"a\.png is 80 x 60 pixels and its image 60 x 80"):
        check_size("a.png", (60, 80), (80, 60))

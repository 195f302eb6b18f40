"""The one rule for the levels of a mask: two of them, or a person says what they mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tatl.commands import prepare_command as prepare
from tatl.data.case import BadCase
from tatl.data.images.masks import BLACK, FAINT, IGNORED, LOSSY, read_mask, read_part
from tatl.data.images.reading import Reading
from tatl.data.store import BadCases, Store
from tatl.prediction.commands import score_command as score

HEIGHT, WIDTH = 60, 80
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
DISC = (Y - 28) ** 2 + (X - 40) ** 2 < 15**2
DOT = (Y - 28) ** 2 + (X - 40) ** 2 < 5**2
RING = ((Y - 28) ** 2 + (X - 40) ** 2 < 17**2) & ~DISC
IGNORE = np.where(RING, 255, DISC)  # the object is 1, the ring round it is ignored


def save(path: Path, levels: np.ndarray, dtype: type = np.uint8, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels.astype(dtype)).save(path, **options)  # type: ignore[arg-type]
    return path


LABELS = {
    "0, 1, 255": IGNORE,
    "0, 2, 3, 255": np.where(RING, 255, np.where(DOT, 3, DISC * 2)),
    "0, 128": DISC * 128,
    "0, 2": DOT * 2,
    "0, 1, 2": DISC * 1 + DOT,
    "0, 254": DISC * 254,
    "0, 128, 255": np.where(DOT, 0, np.where(DISC, 128, 255)),
    "7": np.full((HEIGHT, WIDTH), 7),
    "0 .. 16": np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 17,
}


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "pgm", "webp"])
@pytest.mark.parametrize("told", LABELS)
def test_other_levels_are_refused_and_named_in_every_lossless_format(tmp_path: Path, told: str, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", LABELS[told], **({"lossless": True} if suffix == "webp" else {}))
    with pytest.raises(BadCase, match=rf"^a\.{suffix} has the levels {told}, and a mask has .*--foreground LEVELS"):
        read_mask(path)


@pytest.mark.parametrize("share", [1, 2, 200])
def test_levels_are_refused_whatever_their_area(tmp_path: Path, share: int) -> None:
    """0/128 was accepted where it was small, and 255 beside 0 and 1 where the object was."""
    levels = np.zeros(HEIGHT * WIDTH)
    levels[: levels.size // share] = 128
    for extra in (0, 255):
        levels[-1] = extra
        with pytest.raises(BadCase, match="has the levels"):
            read_mask(save(tmp_path / "a.png", levels.reshape(HEIGHT, WIDTH)))


@pytest.mark.parametrize("top", [1, 255])
def test_two_levels_are_a_mask_in_every_lossless_format(tmp_path: Path, top: int) -> None:
    for suffix, options in {"png": {}, "bmp": {}, "tif": {}, "gif": {}, "pgm": {}, "webp": {"lossless": True}}.items():
        path = save(tmp_path / f"a.{suffix}", DISC * top, **options)
        assert np.array_equal(read_mask(path), DISC), path
        assert not read_part(path).notes


def test_foreground_and_ignore_say_what_labels_mean(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", LABELS["0, 2, 3, 255"])
    cases = [
        (Reading("2"), "dots", DISC & ~DOT),
        (Reading("2,3"), "dots", DISC),
        (Reading("lesion=2,3,dots=3", "255"), "lesion", DISC),
        (Reading("lesion=2,3,dots=3", "255"), "dots", DOT),
        (Reading("lesion=2,3,dots=3", "lesion=255"), "dots", DOT),
        (Reading("0"), "dots", ~(DISC | RING)),
        (Reading("9"), "dots", np.zeros_like(DISC)),
    ]
    for reading, name, expected in cases:
        part = read_part(path, reading, name)
        assert np.array_equal(part.whole(), expected), reading
        assert (IGNORED in part.notes) == (reading.ignore == "255")
    with pytest.raises(BadCase, match="has the levels"):  # said of another mask
        read_mask(path, Reading("lesion=2,3"), "dots")


def test_a_palette_whose_only_entry_is_a_coloured_0_is_not_empty(tmp_path: Path) -> None:
    """It was read as an absent attribute, whatever the colour of the label."""
    picture = Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8))
    picture.putpalette([200, 30, 30, 0, 0, 0])
    picture.save(path := tmp_path / "a.png")
    for _ in range(2):  # nothing is remembered of it
        with pytest.raises(BadCase, match="has coloured labels, the palette's entries 0: say with --foreground"):
            read_mask(path)
        assert not read_mask(path, Reading("1")).any() and read_mask(path, Reading("0")).all()


def test_zero_as_foreground_counts_in_empty_files_too(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.zeros((HEIGHT, WIDTH)))
    assert not read_mask(path).any()  # remembered as an empty mask
    assert read_mask(path, Reading("0,128")).all()


def test_a_palette_of_colours_holds_labels(tmp_path: Path) -> None:
    """As Pascal VOC has them: the index is the label, and its colour means nothing."""
    picture = Image.fromarray(IGNORE.astype(np.uint8))
    picture.putpalette([0, 0, 0, 128, 0, 0] + [224, 224, 192] * 254)
    picture.save(tmp_path / "a.png")
    with pytest.raises(BadCase, match=r"has coloured labels, the palette's entries 0, 1, 255: .*--foreground"):
        read_mask(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png", Reading("1", "255")), DISC)


def test_sixteen_bits_hold_a_mask_or_are_refused_by_their_levels(tmp_path: Path) -> None:
    """0 and 257 become 0 and 1 when they are scaled to 8 bits, which is no reason to take them for a mask."""
    for top in (1, 255, 65535):
        assert np.array_equal(read_mask(save(tmp_path / "a.png", DISC * top, np.uint16)), DISC)
    for top in (257, 1000, 65534):
        with pytest.raises(BadCase, match=f"has the 16-bit levels 0, {top}, and a mask has 0 and 65535"):
            read_mask(save(tmp_path / "a.png", DISC * top, np.uint16))
    assert np.array_equal(read_mask(tmp_path / "a.png", Reading(threshold=128)), DISC)


# ---- compressed with loss


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tif"])
def test_a_lossy_mask_of_0_and_255_is_set_above_128_and_said_to_be_lossy(tmp_path: Path, suffix: str) -> None:
    lines = (Y % 12 == 0) & (X > 20)
    options = {"compression": "jpeg"} if suffix == "tif" else {"quality": 85}
    for mask in (DISC, DOT, lines, np.ones_like(DISC)):
        part = read_part(save(tmp_path / f"a.{suffix}", mask * 255, **options))
        assert (part.whole() != mask).mean() < 0.001 and part.notes == (LOSSY,)


@pytest.mark.parametrize("quality", [75, 95])
@pytest.mark.parametrize(
    ("told", "levels"),
    [
        ("has levels up to", DISC),
        ("has levels up to", DISC * 100),
        ("has levels up to", np.ones_like(DISC)),
        ("neither 0 nor 255", IGNORE),  # its 255 is a ring, and its object drowns in what could be noise about 0
        ("neither 0 nor 255", LABELS["0, 128, 255"]),
        ("neither 0 nor 255", LABELS["0, 2, 3, 255"]),
    ],
)
def test_lossy_labels_are_refused(tmp_path: Path, told: str, levels: np.ndarray, quality: int) -> None:
    path = save(tmp_path / "a.jpg", levels, quality=quality)
    with pytest.raises(BadCase, match=rf"^a\.jpg is compressed with loss and .*{told}.* PNG"):
        read_mask(path)
    with pytest.raises(BadCase, match=r"its levels are no labels: save it as PNG"):
        read_mask(path, Reading("1"))


def test_a_black_jpeg_is_said_to_be_empty_or_lost(tmp_path: Path) -> None:
    """At quality 50 nothing is left of a mask of 0 and 1, which was counted as absent without a word."""
    for levels, quality in ((DISC, 50), (0 * DISC, 95)):
        path = save(tmp_path / "a.jpg", levels, quality=quality)
        for part in (read_part(path), read_part(path)):  # the second is remembered
            assert not part.whole().any() and part.notes == (BLACK,)
    assert read_part(save(tmp_path / "a.png", 0 * DISC)).notes == ()


def test_a_lossy_webp_of_0_and_1_is_refused_and_a_lossless_one_is_a_mask(tmp_path: Path) -> None:
    with pytest.raises(BadCase, match=r"compressed with loss .* save it as PNG"):
        read_mask(save(tmp_path / "a.webp", DISC, quality=95))
    assert np.array_equal(read_mask(save(tmp_path / "a.webp", DISC, lossless=True)), DISC)
    with_exif = save(tmp_path / "b.webp", DISC, lossless=True, exif=Image.Exif())  # an extended file has more chunks
    assert np.array_equal(read_mask(with_exif), DISC)


# ---- interpolated


@pytest.mark.parametrize("thin", [False, True])
def test_interpolated_masks_need_a_threshold_discs_and_lines_alike(tmp_path: Path, thin: bool) -> None:
    mask = np.zeros((450, 600), np.uint8)
    mask[100 : 340 : 12 if thin else 1, 180:420] = 255
    Image.fromarray(mask).resize((256, 256), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    with pytest.raises(BadCase, match=r"has the levels 0.*if it was resized with interpolation, --threshold 128"):
        read_mask(tmp_path / "a.png")
    levels = np.asarray(Image.open(tmp_path / "a.png"))
    assert np.array_equal(read_mask(tmp_path / "a.png", Reading(threshold=128)), levels > 128)


def test_a_threshold_that_sets_nothing_is_said(tmp_path: Path) -> None:
    part = read_part(save(tmp_path / "a.png", DISC * 128), Reading(threshold=128))
    assert not part.whole().any() and part.notes == (FAINT,)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"foreground": "one"}, "'one' in 'one' is not a level of 0 .. 255"),
        ({"foreground": "256"}, "not a level"),
        ({"ignore": "255"}, "--ignore needs --foreground"),
        ({"foreground": "a=1", "ignore": "b=255"}, "--ignore needs --foreground for the same masks"),
        ({"foreground": "1,2", "ignore": "2"}, "level 2 is given to --foreground and to --ignore"),
        ({"foreground": "1", "threshold": 128}, "beside --foreground"),
        ({"threshold": 255}, "--threshold 255 is not a level"),
        ({"exif": "maybe"}, "--exif 'maybe' is neither"),
        ({"max_pixels": 0}, "--max-pixels 0"),
    ],
)
def test_options_that_contradict_themselves_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Reading(**options)


# ---- the commands


def labelled(root: Path) -> Path:
    for name in ("a", "b"):
        save(root / "images" / f"{name}.png", np.random.default_rng(len(name)).integers(0, 255, (HEIGHT, WIDTH, 3)))
    save(root / "masks" / "a.png", LABELS["0, 2, 3, 255"])
    save(root / "masks" / "b.png", np.roll(LABELS["0, 2, 3, 255"], 9, axis=1))
    save(root / "images" / "b.png", np.random.default_rng(3).integers(0, 255, (HEIGHT, WIDTH, 3)))
    rows = "".join(f"{name},images/{name}.png,{name},masks/{name}.png,masks/{name}.png\n" for name in ("a", "b"))
    (root / "cases.csv").write_text("case,image,group,lesion,dots\n" + rows)
    return root


def test_prepare_refuses_labels_in_one_line_and_takes_what_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, size = labelled(tmp_path / "data"), f"{HEIGHT}x{WIDTH}"
    with pytest.raises(BadCases, match=r"a\.png has the levels 0, 2, 3, 255, .*: 2 cases \(a, b\)"):
        prepare(Reading(), "manifest", tmp_path / "s", root, size, workers=1)
    with pytest.raises(ValueError, match="--foreground names 'spots', and the masks are lesion, dots"):
        prepare(Reading(foreground="spots=1"), "manifest", tmp_path / "s", root, size, workers=1)
    options = {"foreground": "lesion=2,3,dots=3", "ignore": "255"}
    prepare(Reading(**options), "manifest", tmp_path / "t", root, size, workers=1)  # type: ignore[arg-type]
    store = Store.open(tmp_path / "t")
    assert np.array_equal(store.mask("lesion", 0), DISC) and np.array_equal(store.mask("dots", 0), DOT)
    assert {key: store.source[key] for key in options} == options
    assert store.notes == [f"{name}: {IGNORED}" for name in ("a", "b")]
    assert f"note: {IGNORED}: 2 cases (a, b)" in capsys.readouterr().out


def test_score_reads_a_labelled_truth_as_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A perfect prediction scored 0 against it: the ring was the truth, and the object was not."""
    save(tmp_path / "y" / "x_attribute_dots.png", IGNORE)
    save(tmp_path / "p" / "x_attribute_dots.png", DISC * 255)
    with pytest.raises(ValueError, match=r"x_attribute_dots\.png has the levels 0, 1, 255"):
        score(Reading(), tmp_path / "p", tmp_path / "y", tmp_path / "s.csv")
    score(Reading(foreground="1", ignore="255"), tmp_path / "p", tmp_path / "y", tmp_path / "s.csv")
    said = capsys.readouterr().out
    assert "dots   1.0000" in said and f"note: x_attribute_dots.png: {IGNORED}" in said

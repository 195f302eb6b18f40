"""Boxes round lesions, and crops that can be pasted back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tatl.data.crop import cut, grow, lesion_box, paste, read_boxes, scale

SIZE = (24, 40)


def block(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def smooth_frames(count: int = 2, seed: int = 0) -> torch.Tensor:
    """Slow waves: what survives a change of resolution."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / 40
    waves = [np.sin(rng.uniform(1, 4) * y + rng.uniform(1, 4) * x + rng.uniform(0, 6)) for _ in range(3 * count)]
    return torch.tensor(np.array(waves)).view(count, 3, *SIZE)


def test_a_box_is_tight_at_offset_zero() -> None:
    assert lesion_box(block(5, 10, 12, 31)) == (5, 10, 12, 31)


@pytest.mark.parametrize("offset, grown", [(3, [2, 7, 15, 34]), (8, [0, 2, 20, 39]), (100, [0, 0, *SIZE])])
def test_the_offset_grows_a_box_on_every_side_and_the_frame_clips_it(offset: int, grown: list[int]) -> None:
    assert grow(np.array([[5, 10, 12, 31]]), offset, SIZE).tolist() == [grown]


def test_no_lesion_is_the_whole_frame() -> None:
    assert lesion_box(np.zeros(SIZE, bool)) == (0, 0, *SIZE)


def test_one_pixel_is_a_lesion() -> None:
    assert lesion_box(block(23, 39, 24, 40)) == (23, 39, 24, 40)


def test_a_stray_pixel_does_not_widen_the_box() -> None:
    mask = block(5, 10, 12, 31)
    mask[23, 39] = True
    assert lesion_box(mask) == (5, 10, 12, 31)


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    mask = block(2, 2, 6, 6) | block(6, 6, 9, 9)
    assert lesion_box(mask) == (2, 2, 9, 9)


@pytest.mark.parametrize("seed", range(5))
def test_a_box_contains_its_region_and_grows_with_the_offset(seed: int) -> None:
    rng = np.random.default_rng(seed)
    top, left = int(rng.integers(0, 15)), int(rng.integers(0, 30))
    mask = block(top, left, top + int(rng.integers(1, 9)), left + int(rng.integers(1, 9)))
    inner = lesion_box(mask)
    for offset in range(6):
        top, left, bottom, right = grow(np.array([inner]), offset, SIZE)[0]
        assert mask[top:bottom, left:right].sum() == mask.sum()
        assert top <= inner[0] and left <= inner[1] and bottom >= inner[2] and right >= inner[3]


@pytest.mark.parametrize("offset", [0, 1, 30])
def test_no_side_of_a_box_is_less_than_a_thirtysecond_of_the_frame_s_and_no_other_box_changes(offset: int) -> None:
    rng, frame = np.random.default_rng(0), np.array([384, 500])
    low = rng.integers(0, frame, (2000, 2))
    high = np.minimum(low + np.where(rng.random((2000, 2)) < 0.5, rng.integers(1, 20), rng.integers(1, 300)), frame)
    grown = grow(np.concatenate([low, high], axis=1), offset, (384, 500))
    top, bottom = grown[:, :2], grown[:, 2:]
    plain_top, plain_bottom = np.maximum(low - offset, 0), np.minimum(high + offset, frame)
    assert (top >= 0).all() and (bottom <= frame).all() and (bottom - top >= np.array([12, 16])).all()
    assert (top <= plain_top).all() and (bottom >= plain_bottom).all()
    large = plain_bottom - plain_top >= np.array([12, 16])
    assert (top[large] == plain_top[large]).all() and (bottom[large] == plain_bottom[large]).all()
    assert ((bottom - top)[~large] == np.broadcast_to([12, 16], low.shape)[~large]).all()
    inside = ~large & (top > 0) & (bottom < frame)
    assert (np.abs((top + bottom) - (low + high))[inside] <= 1).all()  # round its middle


def test_boxes_are_read_as_written(tmp_path: Path) -> None:
    columns = {"image": ["007", "8"], "top": [0, 1], "left": [2, 3], "bottom": [4, 5], "right": [6, 7]}
    pd.DataFrame(columns).to_csv(tmp_path / "boxes.csv", index=False)
    assert read_boxes(tmp_path).tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_cutting_the_whole_frame_is_the_identity(mode: str) -> None:
    frames = smooth_frames()
    whole = torch.tensor([[0, 0, *SIZE]] * 2)
    torch.testing.assert_close(cut(frames, whole, SIZE, mode), frames)
    small = frames.float()
    torch.testing.assert_close(cut(small, whole, SIZE, mode), small, atol=1e-5, rtol=0)


def test_cutting_at_the_box_s_own_size_is_slicing() -> None:
    frames = smooth_frames()
    boxes = torch.tensor([[3, 5, 13, 25], [10, 20, 20, 40]])
    expected = torch.stack([frames[0, :, 3:13, 5:25], frames[1, :, 10:20, 20:40]])
    torch.testing.assert_close(cut(frames, boxes, (10, 20)), expected)
    torch.testing.assert_close(cut(frames, boxes, (10, 20), "nearest"), expected)


def test_doubling_repeats_every_mask_pixel() -> None:
    mask = torch.from_numpy(np.random.default_rng(0).random((1, 1, *SIZE)) > 0.5).double()
    doubled = cut(mask, torch.tensor([[2, 4, 14, 24]]), (24, 40), "nearest")
    expected = mask[..., 2:14, 4:24].repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.equal(doubled, expected)


@pytest.mark.parametrize("box", [(3, 5, 15, 30), (0, 0, 12, 20), (20, 33, 24, 40), (0, 0, 24, 40)])
def test_paste_undoes_cut_inside_the_box(box: tuple[int, int, int, int]) -> None:
    frames = smooth_frames(1)
    pasted = paste(cut(frames, torch.tensor([box]), (48, 80))[0], box, SIZE)
    top, left, bottom, right = box
    inside = np.s_[:, top:bottom, left:right]
    torch.testing.assert_close(pasted[inside], frames[0][inside], atol=0.05, rtol=0)
    outside = torch.ones(SIZE, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert not pasted[:, outside].any()


def test_pasting_at_the_crop_s_size_is_exact() -> None:
    crop = smooth_frames(1)[0, :, :10, :20]
    pasted = paste(crop, (4, 8, 14, 28), SIZE)
    torch.testing.assert_close(pasted[:, 4:14, 8:28], crop)


def test_a_crop_is_pasted_into_a_box_of_one_pixel() -> None:
    """Of a tiny original: more than a GPU's antialiased reduction can do at once."""
    crop = torch.arange(4.0).view(1, 2, 2).repeat_interleave(512, 1).repeat_interleave(512, 2)
    pasted = paste(crop, (1, 2, 2, 3), (3, 4))
    assert pasted[0, 1, 2].item() == pytest.approx(1.5) and pasted.count_nonzero() == 1


RAMP = torch.stack(torch.meshgrid(torch.arange(384.0), torch.arange(512.0), indexing="ij"))[None]  # coordinates


@pytest.mark.parametrize("box", [(0, 0, 384, 512), (37, 101, 309, 417), (100, 11, 112, 27)])
def test_crops_are_the_same_under_autocast(box: tuple[int, int, int, int]) -> None:
    """A cut of coordinates says where each pixel came from: exactly for the identity, within 1e-3 px for all."""
    boxes = torch.tensor([box])
    with torch.autocast("cpu", torch.bfloat16):
        seen, nearest = (cut(RAMP, boxes, (384, 512), mode) for mode in ("bilinear", "nearest"))
        low = cut(RAMP.bfloat16(), boxes, (384, 512))
    top, left, bottom, right = box
    rows = (top + (torch.arange(384.0, dtype=torch.float64) + 0.5) * (bottom - top) / 384 - 0.5).clamp(0, 383)
    columns = (left + (torch.arange(512.0, dtype=torch.float64) + 0.5) * (right - left) / 512 - 0.5).clamp(0, 511)
    for made in (seen, cut(RAMP, boxes, (384, 512))):
        assert made.dtype == torch.float32
        assert (made[0, 0] - rows[:, None]).abs().max() < 1e-3 and (made[0, 1] - columns).abs().max() < 1e-3
    assert low.dtype == torch.float32 and (low - seen).abs().max() <= 2  # the values have eight bits, not the places
    if box == (0, 0, 384, 512):
        assert torch.equal(nearest, RAMP)


def test_probabilities_stay_probabilities() -> None:
    crop = (torch.rand(1, 48, 80, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    pasted = paste(crop, (3, 5, 17, 22), SIZE)
    assert pasted.min() >= 0 and pasted.max() <= 1
    assert pasted.mean().item() * 24 * 40 / (14 * 17) == pytest.approx(0.5, abs=0.05)


def test_a_box_in_another_frame_keeps_a_pixel_and_stays_inside() -> None:
    assert scale((4, 8, 20, 40), (32, 64), (64, 192)) == (8, 24, 40, 120)
    assert scale((0, 0, 32, 64), (32, 64), (7, 5)) == (0, 0, 7, 5)
    rng = np.random.default_rng(0)
    for _ in range(500):
        height, width = rng.integers(1, 12, 2)
        top, left = rng.integers(0, 32), rng.integers(0, 64)
        box = (top, left, rng.integers(top, 32) + 1, rng.integers(left, 64) + 1)
        top, left, bottom, right = scale(box, (32, 64), (height, width))
        assert 0 <= top < bottom <= height and 0 <= left < right <= width

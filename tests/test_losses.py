"""Equations 1-3: closed form, range, and gradients that stay finite where masks are empty or full."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tatl.losses import segmentation_loss

A, B = 1.0, 0.6


def closed_form(p: Tensor, y: Tensor) -> Tensor:
    """Eq. 1-3 as printed, over all pixels given."""
    hit = (y * p).sum()
    tversky = 1 - (A + hit) / (A + hit + B * ((1 - p) * y).sum() + (1 - B) * (p * (1 - y)).sum())
    jaccard = 1 - (A + hit) / (A + y.sum() + p.sum() - hit)
    return (tversky + jaccard) / 2


def random_pairs(seed: int, batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, 1, 2, 2, generator=generator)
    return logits, (torch.rand(batch, 1, 2, 2, generator=generator) > 0.5).float()


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_equations_1_to_3(seed: int) -> None:
    logits, masks = random_pairs(seed)
    p = torch.sigmoid(logits)
    torch.testing.assert_close(segmentation_loss(logits, masks, "batch"), closed_form(p, masks))
    each = torch.stack([closed_form(a, b) for a, b in zip(p, masks, strict=True)])
    torch.testing.assert_close(segmentation_loss(logits, masks, "image"), each)


def test_a_hand_made_image() -> None:
    """p = 1/2 everywhere, two of four pixels true: <y,p> = 1, missed 1, false 1, so T = 1/3 and J = 1/2."""
    masks = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    loss = segmentation_loss(torch.zeros(1, 1, 2, 2), masks)
    torch.testing.assert_close(loss, torch.tensor((1 / 3 + 1 / 2) / 2))


def test_one_image_is_its_own_batch() -> None:
    logits, masks = random_pairs(7, batch=1)
    assert segmentation_loss(logits, masks, "image").shape == (1,)
    assert segmentation_loss(logits, masks, "batch").shape == ()
    assert torch.equal(segmentation_loss(logits, masks, "image")[0], segmentation_loss(logits, masks, "batch"))


def test_the_perfect_prediction_costs_nothing_and_the_opposite_almost_one() -> None:
    masks = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]]).repeat(1, 1, 128, 128)
    assert segmentation_loss(2e4 * (masks - 0.5), masks) == 0
    assert 0.999 < segmentation_loss(-2e4 * (masks - 0.5), masks) < 1


@pytest.mark.parametrize("pool", ["batch", "image"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", ["empty", "full", "mixed"])
@pytest.mark.parametrize("level", [-1e4, -30.0, 0.0, 30.0, 1e4])
def test_loss_in_the_unit_interval_and_gradient_finite(pool: str, dtype: torch.dtype, mask: str, level: float) -> None:
    masks = {"empty": torch.zeros, "full": torch.ones}.get(mask, lambda *s: torch.eye(16).expand(*s))(2, 1, 16, 16)
    logits = torch.full((2, 1, 16, 16), level, dtype=dtype, requires_grad=True)
    loss = segmentation_loss(logits, masks.to(dtype), pool)
    assert ((loss >= 0) & (loss < 1)).all()
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("true", [0.0, 1.0])
def test_the_largest_wrong_batch_still_costs_less_than_one(true: float) -> None:
    """Sixteen images of 384x512, wrong in every pixel."""
    masks = torch.full((16, 1, 384, 512), true)
    assert segmentation_loss(1e4 - 2e4 * masks, masks) < 1


def test_bf16_agrees_with_float32() -> None:
    logits, masks = random_pairs(3)
    rounded = logits.bfloat16()
    assert torch.equal(segmentation_loss(rounded, masks.bfloat16()), segmentation_loss(rounded.float(), masks))


def test_masks_may_be_bool() -> None:
    logits, masks = random_pairs(4)
    assert torch.equal(segmentation_loss(logits, masks.bool()), segmentation_loss(logits, masks))


def test_gradient_matches_finite_differences() -> None:
    logits, masks = random_pairs(5)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(segmentation_loss(logits, masks), logits)
    step = torch.zeros_like(logits)
    step[1, 0, 0, 1] = 1e-2
    with torch.no_grad():
        slope = (segmentation_loss(logits + step, masks) - segmentation_loss(logits - step, masks)) / 2e-2
    torch.testing.assert_close(slope, gradient[1, 0, 0, 1], rtol=1e-2, atol=1e-5)


def test_wrong_shapes_and_pools_are_refused() -> None:
    with pytest.raises(ValueError, match=r"logits \(1, 1, 2, 2\) and masks \(1, 1, 2, 3\) differ"):
        segmentation_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3))
    with pytest.raises(ValueError, match="pool 'pixel' is unknown: choose one of batch, image"):
        segmentation_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), pool="pixel")

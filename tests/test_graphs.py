"""Captured products are the eager ones, on a GPU; elsewhere nothing is captured."""

from __future__ import annotations

import pytest
import torch

from analysis.graphs import Captured
from analysis.products import Hessians
from small_networks import example, image_loss, networks

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")


def test_without_a_gpu_products_are_the_eager_ones() -> None:
    model, (image, mask) = networks()["grouped"], example()
    at, plain = Captured(model, image_loss).at(image, mask), Hessians(model, image_loss).at(image, mask)
    assert torch.equal(at(at.gradient), plain(plain.gradient))


@CUDA
@pytest.mark.parametrize("name", networks())
def test_replayed_products_follow_their_inputs(name: str) -> None:
    model = networks()[name].cuda()
    captured, plain = Captured(model, image_loss), Hessians(model, image_loss)
    image, _ = (x.cuda() for x in example())
    for seed in range(3):
        other, mask = (x.cuda() for x in example(seed))
        pairs = [(image, mask), (image, 1 - mask), (other, mask), (other[..., :4], mask[..., :4])]
        for given, true in pairs:  # the same image twice shares its forward pass; another size is captured anew
            at, expected = captured.at(given, true), plain.at(given, true)
            torch.testing.assert_close(at.gradient, expected.gradient)
            torch.testing.assert_close(at(at.gradient), expected(expected.gradient))
    assert captured.note == ""


@CUDA
def test_what_cannot_be_captured_is_made_eagerly_and_said() -> None:
    model = networks()["conv"].cuda()
    image, mask = (x.cuda() for x in example())

    def waiting(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return image_loss(logits, masks) * float(logits.detach().abs().mean() >= 0)

    captured = Captured(model, waiting)
    at, expected = captured.at(image, mask), Hessians(model, waiting).at(image, mask)
    assert "could not be captured" in captured.note
    torch.testing.assert_close(at(at.gradient), expected(expected.gradient))

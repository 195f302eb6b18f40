"""Captured products are the eager ones, on a GPU; elsewhere nothing is captured."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch

from analysis.curvature.graphs import Captured, Replay
from analysis.curvature.products import HessianProduct, Hessians
from small_networks import example, image_loss, networks

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")


def test_without_a_gpu_products_are_the_eager_ones() -> None:
    model, (image, mask) = networks()["grouped"], example()
    at, plain = Captured(model, image_loss).at(image, mask), Hessians(model, image_loss).at(image, mask)
    assert torch.equal(at(at.gradient), plain(plain.gradient))


class Fake:
    """A replay on a CPU: eager products, `factor` times what they are; `error` instead where there is one."""

    factor: float = 1.0
    error: Exception | None = None

    def __init__(self, hessians: Hessians, images: torch.Tensor, masks: torch.Tensor) -> None:
        if self.error is not None:
            raise self.error
        self.plain = Hessians(hessians.model, hessians.loss)

    def at(self, images: torch.Tensor, masks: torch.Tensor) -> HessianProduct:
        at = self.plain.at(images, masks)
        return HessianProduct(at.loss, at.gradient, lambda v: self.factor * at(v))


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    kind = type("Given", (Fake,), {})
    monkeypatch.setattr("analysis.curvature.graphs.Replay", kind)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda *_: None)
    return kind


@pytest.mark.parametrize("factor", [float("nan"), 1.01])
def test_a_replay_that_differs_or_is_no_number_is_not_used(replay: type[Fake], factor: float) -> None:
    captured = Captured(networks()["conv"], image_loss)
    assert captured._captured(*example()) is not None and captured.note == ""
    replay.factor = factor
    assert captured._captured(*example()) is None
    assert "a replayed product differed by" in captured.note


def test_after_a_capture_that_failed_eager_products_are_made_again(
    replay: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    replay.error = RuntimeError("operation not permitted when stream is capturing")
    model, (image, mask) = networks()["conv"], example()
    captured = Captured(model, image_loss)
    assert captured._captured(image, mask) is None and "could not be captured (operation not" in captured.note
    at, plain = captured.at(image, mask), Hessians(model, image_loss).at(image, mask)
    assert torch.equal(at(at.gradient), plain(plain.gradient))
    again = Captured(model, image_loss)

    def spoilt(*_: object) -> None:
        again.weights = {name: weight + 1 for name, weight in again.weights.items()}

    monkeypatch.setattr("torch.cuda.empty_cache", spoilt)
    with pytest.raises(RuntimeError, match="cannot go on"):
        again._captured(image, mask)


class Eager:
    """Graphs that compute when they are replayed."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.replay = action


def on_cpu(model: torch.nn.Module, image: torch.Tensor, mask: torch.Tensor) -> Replay:
    """A `Replay` whose graphs are eager, over tensors that stay in place."""
    hessians, made = Hessians(model, image_loss), Replay.__new__(Replay)
    made.images, made.masks, made._ran, made._turn = image.clone(), mask.clone(), False, 0
    made._loss, made._flat = image.new_zeros(()), image.new_zeros(sum(w.numel() for w in hessians.weights.values()))
    made._v, made._made = made._flat.clone(), made._flat.clone()
    latest: list[HessianProduct] = []

    def gradient() -> None:
        latest[:] = [hessians.at(made.images, made.masks)]
        made._loss.copy_(latest[0].loss)
        made._flat.copy_(latest[0].gradient)

    made.passes = []
    made._forward = Eager(lambda: made.passes.append(1))
    made._gradient, made._product = Eager(gradient), Eager(lambda: made._made.copy_(latest[0](made._v)))
    return made


def test_a_replay_follows_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device", lambda _: nullcontext())
    model, (image, mask) = networks()["silu"], example()
    made = on_cpu(model, image, mask)
    buffer = image.clone()
    first = made.at(buffer, mask)
    expected = Hessians(model, image_loss).at(image, mask)
    torch.testing.assert_close(first(first.gradient), expected(expected.gradient))
    second = made.at(buffer, 1 - mask)
    assert len(made.passes) == 1
    with pytest.raises(RuntimeError, match="went to a later point"):
        first(first.gradient)
    assert second(second.gradient).any()
    buffer.numpy()[:] = 2 * image.numpy()
    third, plain = made.at(buffer, mask), Hessians(model, image_loss).at(2 * image, mask)
    assert len(made.passes) == 2
    torch.testing.assert_close(third(third.gradient), plain(plain.gradient))


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

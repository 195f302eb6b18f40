"""Automatic mixed precision is for networks: what they see is cut, turned and normalised in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from tatl.data.augment import augmented
from tatl.data.batches import Feed
from tatl.data.store import Store
from tatl.run import Run
from tatl.training.pretext import swapped
from tatl.training.tasks import Segmentation
from tatl.training.trainer import fit
from toy import toy_run

RAMP = torch.stack(torch.meshgrid(torch.arange(384.0), torch.arange(512.0), indexing="ij"))  # coordinates
CPU: dict[str, Any] = {"device": "cpu", "progress": False}


def mixed() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def test_augmentation_and_swaps_are_the_same_under_autocast() -> None:
    images = torch.cat([RAMP, RAMP[:1]])[None].repeat(4, 1, 1, 1) / 512
    masks = (images[:, :1] > 0.4).float()
    torch.manual_seed(0)
    seen, moved = augmented(images, masks)
    torch.manual_seed(0)
    with mixed():
        seen_mixed, moved_mixed = augmented(images, masks)
        made = swapped(images, [np.random.default_rng(i) for i in range(4)])
    assert torch.equal(seen, seen_mixed) and torch.equal(moved, moved_mixed)
    assert torch.equal(made, swapped(images, [np.random.default_rng(i) for i in range(4)]))


@pytest.mark.parametrize("box", [(0, 0, 32, 64), (3, 5, 21, 50)])
def test_a_feed_is_the_same_under_autocast(toy_store: Store, box: tuple[int, int, int, int]) -> None:
    indices, boxes = np.arange(8), np.tile(box, (len(toy_store), 1))
    cropping, whole = Feed(toy_store, "disc", boxes), Feed(toy_store, "disc")
    images, masks = cropping(indices)
    with mixed():
        seen = cropping(indices)
        assert torch.equal(seen[0], images) and torch.equal(seen[1], masks)
        assert torch.equal(cropping.masks(indices), masks)
    if box == (0, 0, 32, 64):
        assert torch.equal(masks, whole(indices)[1]) and (images - whole(indices)[0]).abs().max() < 1e-4


def sees(run: Run, root: Path, store: Store, patch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, Tensor]]:
    """Trains a run: which images its network was given in training, calibration, validation and prediction."""
    seen: list[tuple[np.ndarray, Tensor]] = []
    logits = Segmentation._logits

    def recorded(self: Segmentation, indices: np.ndarray, images: Tensor) -> Tensor:
        if self.run == run:
            seen.append((np.array(indices), images.clone()))
        return logits(self, indices, images)

    with patch.context() as inside:
        inside.setattr(Segmentation, "_logits", recorded)
        fit(run, root, store, **CPU)
    return seen


@pytest.mark.parametrize("augment", [False, True])
def test_training_in_bf16_sees_the_crops_of_training_in_float32(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: bool
) -> None:
    cropper = toy_run(toy_store, "lesion")
    boxes = pd.DataFrame([[3, 5, 29, 50]] * len(toy_store), columns=["top", "left", "bottom", "right"])
    cropper.folder(tmp_path).mkdir(parents=True)
    boxes.to_csv(cropper.folder(tmp_path) / "boxes.csv", index=False)
    runs = [
        toy_run(toy_store, "disc", cropper=cropper, offset=1, augment=augment, precision=precision)
        for precision in ("32", "bf16")
    ]
    full, half = (sees(run, tmp_path, toy_store, monkeypatch) for run in runs)
    assert len(full) == len(half) and {len(indices) for indices, _ in full} >= {4}
    for (indices, images), (same, other) in zip(full, half, strict=True):
        assert np.array_equal(indices, same) and other.dtype == torch.float32 and torch.equal(images, other)

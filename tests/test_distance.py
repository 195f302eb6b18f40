"""v^T H v along the way that fine-tuning went, against dense Hessians."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from analysis.curvature.distance import hessian_distance
from small_networks import dense_hessian, image_loss, networks


def moved(seed: int = 3) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A network, and the same with other weights."""
    start = networks()["norm"]
    model = copy.deepcopy(start)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=draw, dtype=p.dtype))
    return start, model


def test_values_are_those_of_dense_hessians() -> None:
    start, model = moved()
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 8, 8, generator=draw, dtype=torch.float64)
    masks = (torch.rand(4, 1, 8, 8, generator=draw) > 0.6).double()
    found = hessian_distance(model, start, lambda i: (images[i], masks[i]), np.array([2, 0, 3]), image_loss)
    pairs = zip(model.parameters(), start.parameters(), strict=True)
    way = torch.cat([(after - before).detach().flatten() for after, before in pairs])
    expected = [float(way @ dense_hessian(model, images[i : i + 1], masks[i : i + 1]) @ way) for i in (2, 0, 3)]
    np.testing.assert_allclose(found.values, expected, rtol=1e-9)
    assert found.length == pytest.approx(float(way.norm()))
    assert found.largest == max(found.values) and found.mean == pytest.approx(np.mean(expected))
    assert found.measure(25) == pytest.approx(np.sqrt(max(max(expected), 0) / 25))


def test_no_way_has_no_distance() -> None:
    start, _ = moved()
    images, masks = torch.ones(1, 3, 8, 8, dtype=torch.float64), torch.ones(1, 1, 8, 8, dtype=torch.float64)
    found = hessian_distance(start, copy.deepcopy(start), lambda i: (images, masks), np.array([0]), image_loss)
    assert found.values.tolist() == [0.0] and found.length == 0 and found.measure(1) == 0


def test_two_networks_and_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="not the same network"):
        hessian_distance(networks()["conv"], networks()["norm"], lambda i: i, np.array([0]), image_loss)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="no image"):
        hessian_distance(*moved(), lambda i: i, np.array([], int), image_loss)  # type: ignore[arg-type, return-value]

"""How long passes would take: their steps, and a few that are timed here on noise."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from analysis.curvature.replace_one import Descent
from analysis.measure.ledger import image_loss
from analysis.measure.stability.protocol import GRID, Cell, Protocol
from analysis.measure.starts import StartScene
from tatl.models import build
from tatl.studies.execution.crew import Crew

_TIMED = 3  # steps, after one that is not


def effort(
    protocol: Protocol, scene: StartScene, drawn: Sequence[tuple[int, Cell]], crew: Crew, predictors: bool = False
) -> str:
    """What the passes take, in words; nothing is read or written."""
    cells = [cell for _, cell in drawn]
    steps = len(protocol.steps) * sum(cell.steps for cell in cells)
    at_once = crew.at_once
    minutes = steps * _seconds(scene, crew.device, at_once) / at_once / 60
    passes = (
        f"{len(protocol.steps) * len(cells)} passes of m up to {len(cells[0].order)}, {len(cells[0].swaps)} forks each"
    )
    said = f"{passes}: {steps:,} steps, about {minutes:.0f} min with {at_once} at once, by a step timed here"
    if protocol.largest:
        said += f"; as many passes at the largest c, sought in up to {len(GRID)} passes of each without forks"
    return said + "; predictors take what analysis.bound takes, beside" * predictors


def _seconds(scene: StartScene, device: str, at_once: int) -> float:
    """Of one step of this network on images of this size."""
    size, before = scene.store.size, torch.get_num_threads()
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)

    def noise(_: np.ndarray) -> tuple[Tensor, Tensor]:
        return images, (images[:, :1] > 0.5).float()

    torch.set_num_threads(1 if device == "cpu" and at_once > 1 else before)
    try:
        model = build(scene.shape, scene.planner.settings.backbone).to(device)
        descent = Descent(model, noise, image_loss, 1e-6)
        descent.follow(range(1))
        started = time.perf_counter()
        descent.follow(range(1 + _TIMED))
        descent.losses([0])  # which waits for a GPU
        return (time.perf_counter() - started) / _TIMED
    finally:
        torch.set_num_threads(before)

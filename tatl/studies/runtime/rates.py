"""Seconds of training per image for networks that were not trained here yet, from a few steps of each.

One step to warm up and two that are timed, of drawn images, at the size and mini-batch asked for where that fits into
the time given; else two images of at most SMALL, or of the smallest network that was timed, scaled by the operations
of a forward pass, which are counted without computing them (on PyTorch's `meta` device).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from tatl.data.case import Size
from tatl.models import build
from tatl.run import Run
from tatl.studies.runtime.cost import Network, Steps, seconds_of
from tatl.training.tasks import start_model

SECONDS = 8.0  # for all networks together
SMALL = Size(96, 128)
TIMED = 2
USUAL = "efficientnet-b0"

How = Literal["measured", "small", "scaled"]


@dataclass(frozen=True)
class Rate:
    """Seconds of training per image, and from what: a step as asked for, a small one, or another network's."""

    seconds: float
    how: How


def network_of(run: Run) -> Network:
    """What a run trains, as far as its time goes; an encoder alone counts as a Link shape, and source as random."""
    recipe = replace(run.recipe, epochs=1, patience=1, lr=0.01, balance=0.5, calibration=0, augment=False)
    shape = "link" if run.shape == "encoder" else run.shape
    return Network(run.backbone, shape, run.start in ("tatl-freeze", "frozen-random"), run.size, recipe)


def rates(wanted: Iterable[Network], device: torch.device, budget: float = SECONDS) -> dict[Network, Rate]:
    """The rate of every network, the smallest measured first, in about `budget` seconds and one small step."""
    networks = sorted(set(wanted), key=_step_operations)
    if not networks:
        return {}
    until = time.monotonic() + budget
    first = _small(replace(networks[0], backbone=USUAL, shape="link", frozen=False))
    pace = measured(first, device) / operations(first)  # seconds per operation
    found = {}
    for network in networks:
        found[network] = Rate(pace * operations(network), "scaled")
        for asked in dict.fromkeys((network, _small(network))):
            if time.monotonic() + (1 + TIMED) * pace * _step_operations(asked) < until:
                scale = operations(network) / operations(asked)
                found[network] = Rate(measured(asked, device) * scale, "measured" if asked == network else "small")
                break
    return found


@lru_cache(maxsize=256)
def measured(network: Network, device: torch.device) -> float:
    """Seconds per image of a training step here; remembered."""
    run = network.run()
    steps = Steps(start_model(run, Path()), run, device)
    return seconds_of(steps.train, device, TIMED) / run.recipe.batch


def operations(network: Network) -> float:
    """Floating-point operations of a forward pass of one image."""
    size = Size.parse(network.size)
    return _per_pixel(network.shape, network.backbone) * size.height * size.width


def _step_operations(network: Network) -> float:
    return network.recipe.batch * operations(network)


@lru_cache(maxsize=256)
def _per_pixel(shape: str, backbone: str) -> float:
    """At SMALL; Mask R-CNN's, which depend on what it finds, as those of a Link shape on its backbone."""
    with torch.device("meta"):
        model = build("link" if shape == "mask-rcnn" else shape, backbone).eval()
        image = torch.empty(1, 3, *SMALL)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    return counter.get_total_flops() / (SMALL.height * SMALL.width)


def _small(network: Network) -> Network:
    """The same with two images of at most SMALL."""
    size = Size.parse(network.size)
    smaller = network.size if size.height * size.width <= SMALL.height * SMALL.width else str(SMALL)
    return replace(network, size=smaller, recipe=replace(network.recipe, batch=min(2, network.recipe.batch)))

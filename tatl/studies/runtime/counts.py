"""Operations and parameters of networks: those of the studies are in networks.csv, others are counted when asked for.

Building a network to count it takes seconds; a plan is to answer at once.  A test counts the rows anew.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from tatl.data.case import Size

COUNTED = Size(96, 128)


class Count(NamedTuple):
    """Floating-point operations of a forward pass of one image of 96x128, and parameters as Table 7 counts them."""

    operations: int
    parameters: int


def network_count(shape: str, backbone: str) -> Count:
    """Of one network; an encoder alone counts as a Link shape, and so do Mask R-CNN's operations."""
    return known().get((shape, backbone)) or count(shape, backbone)


@cache
def known() -> dict[tuple[str, str], Count]:
    """By shape and backbone, what networks.csv says."""
    text = files("tatl.studies.runtime").joinpath("networks.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {(r["shape"], r["backbone"]): Count(int(r["operations"]), int(r["parameters"])) for r in rows}


@cache
def count(shape: str, backbone: str) -> Count:
    """Counted without computing; ValueError for an unknown shape or backbone.

    Mask R-CNN's operations depend on what it finds.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tatl.models import build, count_parameters

    with torch.device("meta"):
        model = build("link" if shape == "encoder" else shape, backbone).eval()
        passed = build("link", backbone).eval() if shape == "mask-rcnn" else model
        image = torch.empty(1, 3, *COUNTED)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        passed(image)
    return Count(counter.get_total_flops(), count_parameters(model))

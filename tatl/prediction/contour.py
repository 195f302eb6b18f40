"""The outline of a mask on a picture, for everything that draws one."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

DETAIL = 1000  # points a side; the outline of a 24-megapixel mask shows no more


def contour(axes: Axes, mask: np.ndarray, **style: Any) -> None:
    """Draw the outline of a mask bool [H, W] in its own pixels; an empty mask has none.

    A border of zeros closes the outline where the mask touches the edge.  A side of more than `DETAIL` pixels is
    divided into blocks, set where any of their pixels is, so that no region vanishes.  `style` is of `Axes.contour`.
    """
    if not mask.any():
        return
    steps = [-(-side // DETAIL) for side in mask.shape]
    for axis, step in enumerate(steps):
        mask = np.logical_or.reduceat(mask, np.arange(0, mask.shape[axis], step), axis)
    rows, columns = ((np.arange(-1, side + 1) + 0.5) * step - 0.5 for side, step in zip(mask.shape, steps, strict=True))
    axes.contour(columns, rows, np.pad(mask.astype(float), 1), [0.5], **style)

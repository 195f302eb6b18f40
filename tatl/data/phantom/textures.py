"""Procedurally drawn textures: an openly labelled stand-in for ImageNet where there is no network.

A dozen classes of plain geometry and noise, each at random scale, angle, phase, tint and contrast.  No class
is drawn as the phantom draws an attribute (no Voronoi nets, no round dots, no radial streaks).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

Plane = np.ndarray  # [S, S]
Drawer = Callable[[Plane, Plane, np.random.Generator], Plane]


def _noise(side: int, sigma: float | tuple[float, float], rng: np.random.Generator) -> Plane:
    field = ndimage.gaussian_filter(rng.standard_normal((side, side)), sigma, mode="wrap")
    return field / (field.std() + 1e-9)


def _rings(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    centre = rng.uniform(-1, 1, 2)
    return np.sin(2 * np.pi * np.hypot(u - centre[0], v - centre[1]))


def _fibres(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    field = _noise(len(u), (rng.uniform(0.5, 1), rng.uniform(6, 12)), rng)
    return ndimage.rotate(field, rng.uniform(0, 180), reshape=False, order=1, mode="wrap")


# What each class draws, from turned and scaled coordinates u and v.
CLASSES: dict[str, Drawer] = {
    "stripes": lambda u, v, rng: np.sin(2 * np.pi * u),
    "bars": lambda u, v, rng: u % 1 < rng.uniform(0.15, 0.35),
    "checks": lambda u, v, rng: (np.floor(u) + np.floor(v)) % 2,
    "grid": lambda u, v, rng: np.maximum(u % 1 < 0.2, v % 1 < 0.2),
    "bricks": lambda u, v, rng: np.maximum((u + 0.5 * (np.floor(v) % 2)) % 2 < 0.25, v % 1 < 0.2),
    "waves": lambda u, v, rng: np.sin(2 * np.pi * (u + 0.4 * np.sin(2 * np.pi * v))),
    "zigzag": lambda u, v, rng: (u + np.abs((v % 2) - 1)) % 1 < 0.4,
    "rings": _rings,
    "triangles": lambda u, v, rng: (u % 1) > (v % 1),
    "clouds": lambda u, v, rng: _noise(len(u), rng.uniform(4, 8), rng),
    "camouflage": lambda u, v, rng: np.digitize(_noise(len(u), rng.uniform(3, 6), rng), [-0.6, 0.6]),
    "fibres": _fibres,
}


def draw_texture(label: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """One texture of class `label`: uint8 [side, side, 3]."""
    angle, cells = rng.uniform(0, 2 * np.pi), rng.uniform(4, 10)
    y, x = (np.mgrid[:side, :side] / side - 0.5) * cells
    u = np.cos(angle) * x + np.sin(angle) * y + rng.uniform(0, 2)
    v = -np.sin(angle) * x + np.cos(angle) * y + rng.uniform(0, 2)
    field = list(CLASSES.values())[label](u, v, rng).astype(float)
    low, high = field.min(), field.max()
    mix = ((field - low) / (high - low + 1e-9))[..., None]
    dark = rng.uniform(10, 110) + rng.uniform(-30, 30, 3)
    light = dark + rng.uniform(50, 140) + rng.uniform(-30, 30, 3)
    shade = _noise(side, side / 4, rng)[..., None] * rng.uniform(0, 20)
    grain = rng.normal(0, rng.uniform(2, 14), (side, side, 3))
    return np.clip(dark + (light - dark) * mix + shade + grain, 0, 255).astype(np.uint8)


def draw_textures(count: int, side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` textures, classes in turn: uint8 [count, side, side, 3] and labels int64 [count]."""
    labels = np.arange(count) % len(CLASSES)
    images = [draw_texture(int(label), side, np.random.default_rng([seed, i])) for i, label in enumerate(labels)]
    return np.stack(images), labels.astype(np.int64)

"""Synthetic dermoscopy with exact masks, drawn from a seed.

A case is skin with uneven light, one irregular lesion, and the structures that ISIC 2018 Task 2 asks for:

    pigment network    dark reticular lines: the edges of a Voronoi net
    negative network   the same net in light lines
    globules           round dark dots in clusters
    milia-like cysts   small bright dots
    streaks            dark radial lines at the border of the lesion

Masks are like the real ones: blobs round the structures, not every line.  Which attributes an image has follows the
joint frequencies of the 2594 ISIC 2018 training images, and lesion and attribute areas follow their quantiles
(`tatl.data.phantom.statistics`).  Distractors (hairs, a ruler or bubbles now and then,
faint net outside the masks, single dots that nobody annotated) keep a network from Dice 1.

A scene is laid out in units of the image's height, so one (seed, index) is one scene at every size.

The same seed gives the same bytes.  What is not exact by IEEE 754 (exponentials, sines, ...) is computed in float64:
its last bit is the processor's and the library's choice, yet it lies 1e9 times closer than the values that thresholds
and the last rounding to 8 bits set apart.  (In float32, one case in 500 at 96x128 had a grey value that was.)  Rounding
earlier would not help: it moves the ties and leaves their number.  Tests pin the bytes, with and without the SIMD paths
of NumPy and of the C library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import expit, ndtr

from tatl.data.case import Case, Size
from tatl.data.phantom.canvas import canvas, draw_lesion, largest
from tatl.data.phantom.statistics import TIED, area, combination_weights
from tatl.names import SKIN_ATTRIBUTES

DRAWING = 2  # goes up whenever the same seed gives other bytes: a store of an older drawing is then not reused


class _Scene:
    """One case being drawn; darkness is subtracted from, and light added to, skin and lesion."""

    def __init__(self, seed: int, index: int, size: Size, enrich: bool) -> None:
        self.rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
        self.c = canvas(size)
        rows, weights = combination_weights(enrich)
        presence = rows[self.rng.choice(len(rows), p=weights)]
        self.present = dict(zip(SKIN_ATTRIBUTES, presence.tolist(), strict=True))
        z = self.rng.standard_normal(1 + len(SKIN_ATTRIBUTES))
        kind = "lesion with negative_network" if self.present["negative_network"] else "lesion"
        self.lesion = draw_lesion(self.c, self.rng, area(kind, float(ndtr(z[0]))))
        ranks = {a: TIED[a] * z[0] + np.sqrt(1 - TIED[a] ** 2) * z[k] for k, a in enumerate(SKIN_ATTRIBUTES, start=1)}
        self.cover = {a: area(a, float(ndtr(rank))) for a, rank in ranks.items()}
        self.mesh = self.rng.uniform(0.048, 0.068)
        self.net = self.c.net(self.rng, self.mesh)
        self.dark = np.zeros(self.c.y.shape)
        self.light = np.zeros(self.c.y.shape)
        self.masks = {a: np.zeros(self.c.y.shape, bool) for a in SKIN_ATTRIBUTES}

    def patch(self, name: str, cells: int, pull: np.ndarray | float = 0.0) -> np.ndarray:
        """Blobs inside the lesion with the attribute's area, where a random field (plus `pull`) is highest."""
        allowed = self.lesion.mask if self.lesion.mask.any() else np.ones_like(self.lesion.mask)
        return largest(self.c.smooth(self.rng, cells) + pull, allowed, self.cover[name])

    def contrast(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def pigment_network(self) -> None:
        self.dark += self._lines("pigment_network", 0.18, 0.42)

    def negative_network(self) -> None:
        self.light += self._lines("negative_network", 0.14, 0.34)

    def _lines(self, name: str, low: float, high: float) -> np.ndarray:
        """The net within a patch, which is the mask."""
        mask = self.masks[name] = self.patch(name, 4)
        return self.contrast(low, high) * self.net * mask

    def globules(self) -> None:
        """A cluster of dots, denser than the net's cells."""
        mask = self.masks["globules"] = self.patch("globules", 4)
        pitch = 0.75 * self.mesh
        grid = np.moveaxis(np.mgrid[0:1:pitch, 0 : self.c.width : pitch], 0, -1).reshape(-1, 2)
        points = grid + self.rng.uniform(0.2, 0.8, grid.shape) * pitch
        inside = mask[self.c.at(points)]
        points = points[inside] if inside.any() else self._centre(mask)
        radii = pitch * self.rng.uniform(0.26, 0.42, len(points))
        self.dark += self.contrast(0.28, 0.55) * self.c.dots(points, radii)

    def milia_like_cyst(self) -> None:
        """Each cyst is a small disc of the mask with a bright dot in it."""
        count = int(self.rng.choice([1, 2, 3, 5, 8], p=[0.27, 0.2, 0.2, 0.2, 0.13]))
        allowed = np.argwhere(self.lesion.mask)
        points = (allowed[self.rng.integers(0, len(allowed), count)] + 0.5) / self.c.size.height
        near = np.full(self.c.y.shape, 9.0)
        for y, x in points:
            near = np.minimum(near, np.hypot(self.c.y - y, self.c.x - x))
        everywhere = np.ones_like(self.lesion.mask)
        mask = self.masks["milia_like_cyst"] = largest(-near, everywhere, self.cover["milia_like_cyst"])
        radius = np.sqrt(mask.mean() * self.c.width / count / np.pi)
        dots = self.c.dots(points, np.full(count, np.clip(0.55 * radius, 0.008, 0.03)))
        self.light += self.contrast(0.2, 0.45) * dots

    def streaks(self) -> None:
        """Radial lines across the border, in a few sectors."""
        band = np.abs(self.lesion.radius - 1.0) < 0.16
        turns = int(self.rng.integers(1, 4))
        sector = np.cos(turns * self.lesion.angle + self.rng.uniform(0, 2 * np.pi)) + 0.3 * self.c.smooth(self.rng, 6)
        mask = self.masks["streaks"] = largest(sector, band if band.any() else self.lesion.mask, self.cover["streaks"])
        rays = round(float(np.clip(2 * np.pi * np.sqrt(self.lesion.cover * self.c.width / np.pi) / self.mesh, 8, 60)))
        lines = (0.5 + 0.5 * np.cos(rays * self.lesion.angle + 1.5 * self.c.smooth(self.rng, 6))) ** 3
        self.dark += self.contrast(0.25, 0.5) * lines * mask

    def _centre(self, mask: np.ndarray) -> np.ndarray:
        return (np.argwhere(mask).mean(0, keepdims=True) + 0.5) / self.c.size.height

    def distract(self) -> None:
        """What is seen and not annotated: a faint net, single dots, hairs."""
        faint = self.c.smooth(self.rng, 4) > 0.6
        sign = self.rng.uniform(-0.07, 0.09) * self.net * (faint & self.lesion.mask)
        self.dark += np.maximum(sign, 0)
        self.light += np.maximum(-sign, 0)
        for layer, strength in ((self.dark, 0.3), (self.light, 0.22)):
            count = int(self.rng.poisson(2.5))
            points = self.rng.uniform(0, 1, (count, 2)) * [1, self.c.width]
            layer += strength * self.c.dots(points, self.rng.uniform(0.008, 0.02, count))
        for _ in range(int(self.rng.choice([0, 0, 1, 3, 7]))):
            self._hair()
        if self.rng.uniform() < 0.1:
            self._bubbles()
        if self.rng.uniform() < 0.08:
            self._ruler()

    def _hair(self) -> None:
        start, angle = self.rng.uniform(0, 1, 2) * [1, self.c.width], self.rng.uniform(0, np.pi)
        dy, dx = self.c.y - start[0], self.c.x - start[1]
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        off = across - self.rng.normal(0, 0.4) * along**2
        reach = np.abs(along) < self.rng.uniform(0.25, 0.9)
        self.dark += self.contrast(0.3, 0.7) * np.exp(-((off / 0.006) ** 2)) * reach

    def _bubbles(self) -> None:
        """Bubbles in the contact fluid: thin bright rims."""
        for _ in range(int(self.rng.integers(1, 5))):
            y, x = self.rng.uniform(0, 1, 2) * [1, self.c.width]
            radius = self.rng.uniform(0.02, 0.07)
            rim = np.abs(np.hypot(self.c.y - y, self.c.x - x) - radius)
            self.light += self.contrast(0.1, 0.25) * np.exp(-((rim / 0.006) ** 2))

    def _ruler(self) -> None:
        """The millimetre marks of a contact plate along the bottom edge, every fifth one longer."""
        pitch, offset = self.rng.uniform(0.03, 0.05), self.rng.uniform(0, 0.05)
        nearest = np.round((self.c.x - offset) / pitch)
        length = np.where(nearest % 5 == 0, 0.09, 0.05)
        mark = (np.abs(self.c.x - offset - nearest * pitch) < 0.005) & (1 - self.c.y < length)
        self.dark += 0.6 * mark

    def image(self) -> np.ndarray:
        """Skin, lesion, structures, light and camera, rounded to uint8 [H, W, 3]."""
        rng, c = self.rng, self.c
        skin = np.array([0.86, 0.66, 0.56]) * rng.uniform(0.72, 1.08) + rng.normal(0, 0.025, 3)
        brown = np.array([0.50, 0.30, 0.21]) * rng.uniform(0.65, 1.35) + rng.normal(0, 0.03, 3)
        soft = expit((1.0 - self.lesion.radius) / rng.uniform(0.02, 0.09))
        depth = soft * np.clip(0.82 + 0.22 * c.smooth(rng, 5) - 0.12 * self.lesion.radius, 0.25, 1.15)
        picture = skin + depth[..., None] * (brown - skin)
        picture = picture + (0.025 * c.smooth(rng, 30) + 0.03 * c.smooth(rng, 3))[..., None]
        picture = picture * (1 - self.dark.clip(0, 0.85))[..., None]
        picture = picture + self.light[..., None] * np.array([0.95, 0.9, 0.8])
        r2 = (c.y - 0.5) ** 2 + (c.x - c.width / 2) ** 2
        picture = picture * (1 - rng.uniform(0.0, 0.35) * r2 + rng.normal(0, 0.06) * (c.x - c.width / 2))[..., None]
        if rng.uniform() < 0.12:  # the dark rim of a round field of view
            picture = picture * (r2 < rng.uniform(0.55, 0.7) ** 2)[..., None]
        picture = picture + rng.normal(0, rng.uniform(0.008, 0.022), (1, 1, 3))
        grain = rng.standard_normal(self.c.y.shape).astype(np.float32) * rng.uniform(0.008, 0.02)
        return np.floor((picture + grain[..., None]).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def draw_case(seed: int, index: int, size: Size, enrich: bool = False) -> Case:
    """Case `index` of the phantom with this seed, at `size`; ids and groups are the same."""
    scene = _Scene(seed, index, size, enrich)
    for name in SKIN_ATTRIBUTES:
        if scene.present[name]:
            getattr(scene, name)()
    scene.distract()
    name = f"PHANTOM_{index:07d}"
    return Case(name, name, scene.image(), scene.lesion.mask, scene.masks, size.height, size.width)


class Phantom:
    """A reader of `cases` drawn cases; case i does not depend on how many there are."""

    name = "phantom"
    attributes = SKIN_ATTRIBUTES
    problems: tuple[str, ...] = ()

    def __init__(self, cases: int, seed: int = 0, enrich: bool = False) -> None:
        if cases < 1 or seed < 0:
            raise ValueError(f"a phantom needs at least one case and a seed from 0: got {cases} cases, seed {seed}")
        self.cases, self.seed, self.enrich = cases, seed, enrich
        self.ids = [f"PHANTOM_{i:07d}" for i in range(cases)]
        self.groups = self.ids
        options = {"cases": cases, "seed": seed, "enrich": enrich, "drawing": DRAWING}
        self.provenance: Mapping[str, Any] = {"data": "phantom", **options}

    def read(self, index: int, size: Size) -> Case:
        return draw_case(self.seed, index, size, self.enrich)

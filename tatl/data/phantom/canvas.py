"""What a scene is laid out on, in units of the image's height: smooth fields, nets, dots, and the lesion's outline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from tatl.data.case import Size


@dataclass(frozen=True)
class Canvas:
    """Pixel centres in units of the height: y, x float [H, W]."""

    size: Size
    y: np.ndarray
    x: np.ndarray

    @property
    def width(self) -> float:
        return self.size.width / self.size.height

    def smooth(self, rng: np.random.Generator, cells: int) -> np.ndarray:
        """A smooth random field of unit variance, `cells` bumps to the height."""
        grid = rng.standard_normal((cells + 3, round(cells * 4 / 3) + 3)).astype(np.float32)
        image = Image.fromarray(grid).resize((self.size.width, self.size.height), Image.Resampling.BICUBIC)
        return np.asarray(image)

    def net(self, rng: np.random.Generator, mesh: float) -> np.ndarray:
        """The edges of a Voronoi net with cells `mesh` wide, 1 on an edge, falling to 0: float [H, W].

        Seeds are a jittered grid, so the two nearest are among the 3 x 3 cells round a pixel.
        """
        rows, columns = int(1 / mesh) + 5, int(self.width / mesh) + 5
        cells = np.moveaxis(np.mgrid[:rows, :columns], 0, -1) - 2
        jitter = rng.uniform(0.15, 0.85, (40, 56, 2))
        if columns > 56:  # a panorama; a frame up to twice as wide as high draws the same numbers at every size
            jitter = np.concatenate([jitter, rng.uniform(0.15, 0.85, (40, columns - 56, 2))], axis=1)
        seeds = ((cells + jitter[:rows, :columns]) * mesh).astype(np.float32)
        i, j = (self.y / mesh).astype(np.intp) + 2, (self.x / mesh).astype(np.intp) + 2
        first = np.full(self.y.shape, 9.0, np.float32)
        second = first.copy()
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                dy, dx = np.moveaxis(seeds[i + di, j + dj], -1, 0)
                d = (self.y - dy) ** 2 + (self.x - dx) ** 2
                second = np.minimum(second, np.maximum(first, d))
                first = np.minimum(first, d)
        apart = np.sqrt(second) - np.sqrt(first)
        exponent = -((apart / (0.30 * mesh)) ** 2)
        return np.exp(exponent.astype(np.float64)).astype(np.float32)  # float32's exp is not the same everywhere

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pixels that hold points (y, x) [n, 2], clipped to the frame."""
        pixels = (points * self.size.height).astype(int)
        return pixels[:, 0].clip(0, self.size.height - 1), pixels[:, 1].clip(0, self.size.width - 1)

    def dots(self, points: np.ndarray, radii: np.ndarray) -> np.ndarray:
        """Soft round dots of the given radii at points [n, 2]: float [H, W] in 0 .. 1."""
        painted = np.zeros(self.y.shape)
        for (y, x), r in zip(points, radii, strict=True):
            rows, columns = (
                slice(max(0, int((v - 2.5 * r) * self.size.height)), max(0, int((v + 2.5 * r) * self.size.height) + 2))
                for v in (y, x)
            )
            d2 = (self.y[rows, columns] - y) ** 2 + (self.x[rows, columns] - x) ** 2
            painted[rows, columns] = np.maximum(painted[rows, columns], np.exp(-d2 / r**2))
        return painted


@lru_cache(maxsize=4)
def canvas(size: Size) -> Canvas:
    y, x = (np.mgrid[: size.height, : size.width] + 0.5) / size.height
    return Canvas(size, y.astype(np.float32), x.astype(np.float32))


def largest(field: np.ndarray, allowed: np.ndarray, share: float) -> np.ndarray:
    """The `share` of the frame's pixels where `field` is highest within `allowed`; at least one pixel."""
    count = min(max(1, round(share * field.size)), int(allowed.sum()))
    ranked = np.where(allowed, field, -np.inf)
    threshold = np.partition(ranked, -count, axis=None)[-count]
    return ranked >= threshold


@dataclass(frozen=True)
class DrawnLesion:
    mask: np.ndarray  # bool [H, W]
    radius: np.ndarray  # 0 at the centre, 1 at the border
    angle: np.ndarray
    cover: float  # fraction of the image


def draw_lesion(c: Canvas, rng: np.random.Generator, cover: float) -> DrawnLesion:
    """An irregular closed curve of exactly the area asked for."""
    cy, cx = 0.5 + rng.uniform(-0.08, 0.08), c.width / 2 + rng.uniform(-0.1, 0.1)
    tilt, squeeze = rng.uniform(0, np.pi), rng.uniform(0.62, 1.0)
    dy, dx = c.y - cy, c.x - cx
    u, v = dx * np.cos(tilt) + dy * np.sin(tilt), (dy * np.cos(tilt) - dx * np.sin(tilt)) / squeeze
    angle = np.arctan2(v, u)
    edge = np.ones_like(angle)
    for k in range(2, 9):
        edge += rng.normal(0, 0.16 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    reach = np.hypot(u, v) / edge + 0.01 * c.smooth(rng, 12)
    mask = largest(-reach, np.ones_like(reach, bool), cover)
    return DrawnLesion(mask, reach / reach[mask].max().clip(1e-6), angle, cover)

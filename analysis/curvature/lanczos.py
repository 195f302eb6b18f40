"""The eigenvalue of largest magnitude of a symmetric operator, from products alone, with a residual.

    Lanczos:  A Q = Q T + b q e^T,   T s = t s,   |A x - t x| = b |s_last|   for the Ritz pair (t, x = Q s)

An eigenvalue lies within the residual r = |A x - t x| of t, and one that is isolated by a gap d from the rest of the
spectrum within r^2 / d; so the error is taken to be min(r, r^2 / d), d the distance to the nearest other Ritz value
less that one's own residual (where nothing is left of it: r); a cluster closer than r counts as one.

The iteration stops when the *relative* residual r / |t| is small, or the error is below an absolute one, and not when t
has stopped moving, which power iteration does long before it has arrived.  Both ends of the spectrum are watched: it
does not stop while the other end may still be the larger one by more than what it stops at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

Product = Callable[[Tensor], Tensor]

# Fewest products: a start near a lesser eigenvector leaves a small residual at once.  After a breakdown the random
# vector that follows has to show what the exhausted space does not hold.
LEAST, MORE = 3, 6

# Length of the random vector beside a start of length 1: a start in an invariant space is blind to all outside it.
NOISE = 0.1


@dataclass(frozen=True)
class Extreme:
    """The eigenvalue found (signed), its relative residual and error, the products it took, the eigenvector [n]."""

    value: float
    residual: float
    error: float
    products: int
    converged: bool
    vector: Tensor


class Basis:
    """Orthonormal rows [k, n] in one block that grows as it must, kept between solves."""

    def __init__(self) -> None:
        self._block: Tensor | None = None
        self.count = 0

    def clear(self) -> None:
        self.count = 0

    def append(self, vector: Tensor) -> None:
        block = self._block
        if block is None or block.shape[1] != len(vector) or block.dtype != vector.dtype:
            block = self._block = vector.new_empty(8, len(vector))
        if self.count == len(block):
            block = self._block = torch.cat([block, torch.empty_like(block)])
        block[self.count] = vector
        self.count += 1

    @property
    def rows(self) -> Tensor:
        assert self._block is not None
        return self._block[: self.count]

    def orthogonalise(self, w: Tensor) -> Tensor:
        """w minus its parts along the basis; twice where the first pass cancelled most of it."""
        before = w.norm()
        w = torch.addmv(w, self.rows.T, self.rows @ w, alpha=-1)
        if w.norm() < 0.7 * before:
            w = torch.addmv(w, self.rows.T, self.rows @ w, alpha=-1)
        return w


@dataclass(frozen=True)
class Tridiagonal:
    """T after k products: diagonal [k], off-diagonal [k - 1] and the next one, 0 where the space is invariant."""

    diagonal: list[float]
    beside: list[float]
    next: float


def recurrence(product: Product, start: Tensor, basis: Basis, generator: torch.Generator) -> Iterator[Tridiagonal]:
    """T after one product, after two, and so on; `basis` then holds the rows of Q.

    After an invariant space it goes on outside it, from a random vector.  A zero start is replaced by one too.
    """
    basis.clear()
    q = _unit(start, generator)
    diagonal: list[float] = []
    beside: list[float] = []
    scale = 0.0
    while True:
        basis.append(q)
        w = product(q)
        diagonal.append(float(w @ q))
        _check_finite(diagonal[-1], len(diagonal))
        w = basis.orthogonalise(w)
        step = float(w.norm())
        scale = max(scale, step, abs(diagonal[-1]))
        broken = step <= _rounding(q) * scale  # the space is invariant: whatever lies outside it is not seen yet
        following = 0.0 if broken else step
        yield Tridiagonal(diagonal, beside, following)
        beside.append(following)
        q = _fresh(basis, generator) if broken else w / step


def lanczos(
    product: Product,
    start: Tensor,
    *,
    tolerance: float = 1e-2,
    absolute: float = 0.0,
    max_products: int = 64,
    seed: int = 0,
    basis: Basis | None = None,
) -> Extreme:
    """Lanczos with full reorthogonalisation.

    Args:
        product: v [n] -> A v [n], A symmetric
        start: vector [n]; anything, a zero vector is replaced by a random one; a little noise is mixed into it
        tolerance: relative residual at which it stops
        absolute: error at which it stops too, however large the residual; in units of A
        max_products: products at most; where they do not suffice `converged` is False
        seed: of that noise, and of the vectors that replace a zero start and follow an exhausted invariant space
        basis: memory to use again; it takes (products + 1) * n numbers
    """
    _check(start, tolerance, absolute, max_products)
    basis, size = basis or Basis(), len(start)
    enough = LEAST
    generator = torch.Generator(start.device).manual_seed(seed)
    for t in recurrence(product, mixed(start, generator), basis, generator):
        end, count = _end(t), len(t.diagonal)
        allowed = max(tolerance * abs(end.value), absolute)
        found = end.residual <= tolerance * abs(end.value) or end.error <= absolute
        converged = found and (end.rival <= abs(end.value) + allowed or count == size)
        if t.next == 0 and enough == LEAST:
            enough = count + MORE
        if (converged and count >= enough) or count == min(max_products, size):
            vector = torch.as_tensor(end.weights, dtype=start.dtype, device=start.device) @ basis.rows
            residual, error = (_relative(size, end.value) for size in (end.residual, end.error))
            return Extreme(end.value, residual, error, count, converged, vector)
    raise AssertionError


@dataclass(frozen=True)
class _End:
    """The Ritz value of largest magnitude, its residual and error, how large the other end may be, its weights [k]."""

    value: float
    residual: float
    error: float
    rival: float
    weights: np.ndarray


def _end(t: Tridiagonal) -> _End:
    values, vectors = eigh_tridiagonal(np.array(t.diagonal), np.array(t.beside))
    first, second = (0, -1) if abs(values[0]) > abs(values[-1]) else (-1, 0)
    residuals = t.next * np.abs(vectors[-1])
    residual, rival = float(residuals[first]), float(abs(values[second]) + residuals[second])
    error = residual
    if len(values) > 1:
        beside = 1 if first == 0 else -2
        gap = float(abs(values[first] - values[beside]) - residuals[beside])
        error = min(residual, residual**2 / gap) if gap > 0 else residual
    return _End(float(values[first]), residual, error, rival, vectors[:, first])


def _relative(number: float, value: float) -> float:
    """As a share of |value|; of a value of 0 whether there is any."""
    return number / abs(value) if value else float(number > 0)


def power(
    product: Product,
    start: Tensor,
    *,
    tolerance: float = 1e-2,
    absolute: float = 0.0,
    max_products: int = 64,
    seed: int = 0,
) -> Extreme:
    """Power iteration, as in the paper, a plain check of `lanczos`; its error is the residual, since it sees no gap.

    It does not converge where the two ends of the spectrum have the same magnitude.
    """
    _check(start, tolerance, absolute, max_products)
    v = mixed(start, torch.Generator(start.device).manual_seed(seed))
    for count in range(1, max_products + 1):
        w = product(v)
        value, norm = float(v @ w), float(w.norm())
        _check_finite(value, count)
        error = float((w - value * v).norm())
        residual, converged = _relative(error, value), error <= max(tolerance * abs(value), absolute)
        if converged or count == max_products:
            return Extreme(value, residual, residual, count, converged, v)
        v = w / norm
    raise AssertionError


def _check(start: Tensor, tolerance: float, absolute: float, max_products: int) -> None:
    if start.ndim != 1 or not len(start):
        raise ValueError(f"the start has shape {tuple(start.shape)}: give a vector [n]")
    if not tolerance > 0 or not absolute >= 0 or max_products < 1:
        both = f"tolerance {tolerance} must be positive, absolute {absolute} not negative"
        raise ValueError(f"{both}, and max_products {max_products} at least 1")


def _check_finite(number: float, product: int) -> None:
    if not math.isfinite(number):
        raise FloatingPointError(f"product {product} of the operator is {number}")


def _rounding(v: Tensor) -> float:
    return 10 * torch.finfo(v.dtype).eps


def mixed(start: Tensor, generator: torch.Generator) -> Tensor:
    """The start [n] and a little noise, a unit vector; noise alone where the start is zero."""
    v = _unit(start, generator) + NOISE * _unit(torch.zeros_like(start), generator)
    return v / v.norm()


def _unit(v: Tensor, generator: torch.Generator) -> Tensor:
    norm = v.norm()
    if not norm > 0 or not torch.isfinite(norm):
        v = torch.randn(len(v), generator=generator, dtype=v.dtype, device=v.device)
        norm = v.norm()
    return v / norm


def _fresh(basis: Basis, generator: torch.Generator) -> Tensor:
    """A random unit vector outside the basis."""
    rows = basis.rows
    w = torch.randn(rows.shape[1], generator=generator, dtype=rows.dtype, device=rows.device)
    w = basis.orthogonalise(basis.orthogonalise(w))
    return w / w.norm()

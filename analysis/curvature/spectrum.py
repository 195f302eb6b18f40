"""The landscape round a start: spectral density, trace and leading eigenvalues of the Hessian of the mean loss.

    density   Lanczos from a random unit vector z gives nodes t_j and weights s_j with
              sum_j s_j f(t_j) ~ z^T f(H) z, on average tr f(H) / n  (stochastic Lanczos quadrature)
    trace     XTrace (Epperly, Tropp & Webber 2024): the trace on the range of H Omega, plus what is left of it along
              each column of Omega when the range is made of the others; the columns' spread is its standard error
    top       the k eigenvalues of largest magnitude (ARPACK), each with its residual

Of *one* Hessian, that of the mean over images; the bound speaks of the mean of per-image norms
(analysis.curvature.norms), which is never smaller than this Hessian's norm.

`python -m analysis.spectrum --init tatl` measures and prints it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import functional_call

from analysis.curvature.evaluation import ImageFeed, Loss
from analysis.curvature.lanczos import Basis, Product, recurrence
from analysis.curvature.products import Hessians

# A column of H Omega shorter than this share of the longest, once the others are taken out, adds no range.
_RANGE = 1e-6


class MeanHessian:
    """v [n] -> H v, H the Hessian of the mean loss of the images `indices`, in evaluation mode.

    A batch that holds all images keeps its graph; several are run through anew for every product, so that memory
    is that of one batch.

    Args:
        model: any module, left as it is
        feed: indices int [B] -> images [B, C, H, W] and masks [B, ...]
        indices: int [N]
        loss: (model(images), masks) -> one loss per image [B]
        batch: images at a time
    """

    def __init__(self, model: nn.Module, feed: ImageFeed, indices: np.ndarray, loss: Loss, batch: int = 8) -> None:
        if not len(indices):
            raise ValueError("no image is given")
        self.hessians, self.feed = Hessians(model, loss), feed
        self.batches = np.array_split(indices, -(-len(indices) // batch))
        self.count = len(indices)
        at = self.hessians.at(*feed(self.batches[0]))
        self.like, self._kept = at.gradient, at if len(self.batches) == 1 else None

    def __call__(self, v: Tensor) -> Tensor:
        if self._kept is not None:
            return self._kept(v)
        total = torch.zeros_like(v)
        for indices in self.batches:
            total.add_(self.hessians.at(*self.feed(indices))(v), alpha=len(indices) / self.count)
        return total


class ScaleFree(nn.Module):
    """A model as a function of u, w = |w0| u: at u0 = w0 / |w0| its Hessian is D H D, D = |w0|; zeros stay zeros."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        own = {name: w for name, w in model.named_parameters() if w.requires_grad}
        self.names = list(own)
        self.units = nn.ParameterList([nn.Parameter(w.detach().sign()) for w in own.values()])
        self.model.requires_grad_(False)

    def forward(self, images: Tensor) -> Any:
        own = dict(self.model.named_parameters())
        weights = {name: own[name].abs() * unit for name, unit in zip(self.names, self.units, strict=True)}
        return functional_call(self.model, weights, (images,))


@dataclass(frozen=True)
class Density:
    """Quadrature nodes and weights [probes, steps]; the weights of a probe sum to 1.  `size` is n."""

    nodes: np.ndarray
    weights: np.ndarray
    size: int

    def at(self, grid: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
        """The density on a grid [m], smoothed by a Gaussian of this width, and its standard error over probes."""
        offsets = (grid[:, None, None] - self.nodes) / width
        bumps = np.exp(-(offsets**2) / 2) / (width * np.sqrt(2 * np.pi))
        return _mean_and_error((bumps * self.weights).sum(-1))

    def moment(self, power: int = 1) -> tuple[float, float]:
        """The trace of H ** power, and its standard error over probes."""
        mean, error = _mean_and_error(self.size * (self.weights * self.nodes**power).sum(-1))
        return float(mean), float(error)

    def grid(self, points: int = 256, margin: float = 0.05) -> tuple[np.ndarray, float]:
        """An even grid over all nodes and a margin, and a width that suits it."""
        seen = self.nodes[self.weights > 0]
        low, high = float(seen.min()), float(seen.max())
        room = margin * (high - low or abs(high) or 1.0)
        return np.linspace(low - room, high + room, points), 2 * (high - low + 2 * room) / points


def density(product: Product, like: Tensor, *, probes: int = 4, steps: int = 32, seed: int = 0) -> Density:
    """Stochastic Lanczos quadrature.

    Args:
        product: v [n] -> H v [n], H symmetric
        like: a vector [n] of the right type, on the right device
        probes: random starts; at least 2, for the error
        steps: products per probe at most; fewer where the spectrum is exhausted
        seed: of the starts
    """
    if probes < 2 or steps < 1:
        raise ValueError(f"probes {probes} must be at least 2, for a standard error, and steps {steps} at least 1")
    steps = min(steps, len(like))
    nodes, weights = np.zeros((probes, steps)), np.zeros((probes, steps))
    generator, basis = torch.Generator(like.device).manual_seed(seed), Basis()
    for probe in range(probes):
        start = torch.randn(len(like), generator=generator, dtype=like.dtype, device=like.device)
        for t in recurrence(product, start, basis, generator):
            if len(t.diagonal) == steps or t.next == 0:
                break
        values, vectors = eigh_tridiagonal(np.array(t.diagonal), np.array(t.beside))
        nodes[probe, : len(values)], weights[probe, : len(values)] = values, vectors[0] ** 2
    return Density(nodes, weights, len(like))


@dataclass(frozen=True)
class Trace:
    """The estimate, its standard error, and the products it took."""

    value: float
    error: float
    products: int


def trace(product: Product, like: Tensor, *, products: int = 32, seed: int = 0) -> Trace:
    """XTrace; exact, with no error, where H has fewer than products / 2 eigenvalues above 1e-6 of its largest scale.

    Keeps products / 2 vectors [n].  `like` as in `density`.
    """
    count = min(products // 2, len(like))
    if count < 2:
        least = "at least 4 (two columns and their images), on two weights or more"
        raise ValueError(f"products {products} must be {least}")
    omega = _columns(like, count, seed)
    image = torch.stack([product(column) for column in omega.T], 1)
    q, r = torch.linalg.qr(image)
    lengths = r.diagonal().abs()
    whole = lengths > _RANGE * lengths.max()
    if not bool(whole.any()):
        return Trace(0.0, 0.0, count)
    h = torch.stack([q.T @ product(column) for column in q.T[whole]], 1)[whole].double().cpu().numpy()
    used = count + int(whole.sum())
    if not bool(whole.all()) or count == len(like):
        return Trace(float(np.trace(h)), 0.0, used)
    w, big = (q.T @ omega).double().cpu().numpy(), r.double().cpu().numpy()
    estimates = _leave_one_out(h, w, big, (omega**2).sum(0).double().cpu().numpy(), len(like))
    mean, error = _mean_and_error(estimates)
    return Trace(float(mean), float(error), used)


def _columns(like: Tensor, count: int, seed: int) -> Tensor:
    """Random vectors of length sqrt(n): [n, count]."""
    generator = torch.Generator(like.device).manual_seed(seed)
    drawn = torch.randn(count, len(like), generator=generator, dtype=like.dtype, device=like.device)
    return (drawn * (len(like) ** 0.5 / drawn.norm(dim=1, keepdim=True))).T


def _leave_one_out(h: np.ndarray, w: np.ndarray, r: np.ndarray, squares: np.ndarray, n: int) -> np.ndarray:
    """One estimate per column i, from H on the range of the *other* columns, and from what column i has outside it.

    h = Q^T H Q, w = Q^T Omega, H Omega = Q r.  The range without column i is Q (I - s s^T), s the unit vector
    orthogonal to the other columns of r.
    """
    k = len(h)
    s = np.linalg.inv(r).T
    s /= np.linalg.norm(s, axis=0)
    x = w - s * (s * w).sum(0)  # the part of omega_i inside
    inside = np.trace(h) - (s * (h @ s)).sum(0)
    outside = (w * r).sum(0) - 2 * (x * r).sum(0) + (x * (h @ x)).sum(0)
    return inside + outside * (n - k + 1) / (squares - (x**2).sum(0))


@dataclass(frozen=True)
class Top:
    """Eigenvalues of largest magnitude [k], that first, their relative residuals, the products, whether converged."""

    values: np.ndarray
    residuals: np.ndarray
    products: int
    converged: bool


def top(product: Product, like: Tensor, *, k: int = 5, tolerance: float = 1e-2, seed: int = 0, rounds: int = 30) -> Top:
    """The k eigenvalues of largest magnitude, to a relative residual; `rounds` restarts of ARPACK at most.

    Where they do not suffice, those that were found are given and `converged` is False.
    """
    size = len(like)
    if not 1 <= k < size:
        raise ValueError(f"k {k} must be at least 1, and less than the number of weights ({size})")
    count = 0

    def matvec(v: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        w = product(torch.as_tensor(v.ravel(), dtype=like.dtype, device=like.device))
        return w.cpu().numpy()

    kind = like.new_empty(0).cpu().numpy().dtype
    operator = LinearOperator((size, size), matvec=matvec, dtype=kind)
    start = np.random.default_rng(seed).standard_normal(size).astype(kind)
    try:
        values, vectors = eigsh(operator, k, which="LM", v0=start, tol=tolerance, maxiter=rounds)
    except ArpackNoConvergence as stopped:
        values, vectors = stopped.eigenvalues, stopped.eigenvectors
    order = np.argsort(-np.abs(values))
    values, vectors = values[order], vectors[:, order]
    errors = [np.linalg.norm(matvec(v) - value * v) for value, v in zip(values, vectors.T, strict=True)]
    residuals = np.array(errors) / np.maximum(np.abs(values), np.finfo(float).tiny)
    converged = len(values) == k and bool((residuals <= 2 * tolerance).all())
    return Top(values.astype(float), residuals, count, converged)


def _mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the last axis, and its standard error."""
    return values.mean(-1), values.std(-1, ddof=1) / np.sqrt(values.shape[-1])

"""Density, trace and leading eigenvalues against matrices of known spectra and dense Hessians of small networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.curvature.lanczos import Product
from analysis.curvature.norms import spectral_norms
from analysis.curvature.spectrum import MeanHessian, density, top, trace
from small_networks import dense_hessian, image_loss, networks


def operator(spectrum: Tensor, seed: int = 0) -> tuple[Product, Tensor]:
    """A product with this spectrum in a random basis, and a vector of its kind."""
    draw = torch.Generator().manual_seed(seed)
    n = len(spectrum)
    basis, _ = torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=torch.float64))
    matrix = (basis * spectrum.double()) @ basis.T
    return lambda v: matrix @ v, torch.zeros(n, dtype=torch.float64)


SPECTRA = {
    "decaying": 0.8 ** torch.arange(200),
    "signed": torch.cat([torch.tensor([50.0, -30.0, 12.0]), torch.linspace(-1, 1, 197)]),
    "flat": torch.ones(200),
    "tiny": 1e-9 * torch.linspace(-2, 3, 200),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_the_trace_lies_within_its_errors(name: str) -> None:
    spectrum = SPECTRA[name].double()
    found = [trace(*operator(spectrum), products=40, seed=seed) for seed in range(20)]
    off = np.array([each.value - float(spectrum.sum()) for each in found])
    errors = np.array([each.error for each in found])
    scale = float(spectrum.abs().max())
    assert (np.abs(off) <= 5 * errors + 1e-9 * scale).all()
    assert abs(off.mean()) <= 4 * off.std() / np.sqrt(len(off)) + 1e-9 * scale  # unbiased
    assert all(each.products <= 40 for each in found)


def test_the_stated_error_is_the_spread_over_seeds() -> None:
    found = [trace(*operator(SPECTRA["signed"]), products=40, seed=seed) for seed in range(60)]
    spread = np.std([each.value for each in found])
    assert 0.5 < np.mean([each.error for each in found]) / spread < 2


def test_xtrace_beats_plain_averaging_where_few_eigenvalues_dominate() -> None:
    product, like = operator(SPECTRA["decaying"])
    draws = [torch.randn(40, 200, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in range(20)]
    plain = np.std([float(torch.stack([v @ product(v) for v in block]).mean()) for block in draws])
    ours = np.std([trace(product, like, products=40, seed=seed).value for seed in range(20)])
    assert ours < plain / 10


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_the_trace_of_low_rank_is_exact(rank: int) -> None:
    spectrum = torch.zeros(100)
    spectrum[:rank] = torch.arange(1.0, rank + 1) * torch.tensor([(-1.0) ** k for k in range(rank)])
    found = trace(*operator(spectrum), products=24)
    assert found.error == 0 and found.value == pytest.approx(float(spectrum.sum()), abs=1e-9)


def test_few_weights_give_the_exact_trace() -> None:
    found = trace(*operator(torch.tensor([3.0, -1.0, 2.0, 0.5])), products=32)
    assert found.value == pytest.approx(4.5) and found.error == 0 and found.products == 8


@pytest.mark.parametrize("name", SPECTRA)
def test_moments_of_the_density_are_traces_of_powers(name: str) -> None:
    spectrum = SPECTRA[name].double()
    found = density(*operator(spectrum), probes=16, steps=20)
    np.testing.assert_allclose(found.weights.sum(1), 1)
    for power in (1, 2, 3):
        value, error = found.moment(power)
        truth = float((spectrum**power).sum())
        assert abs(value - truth) <= 5 * error + 1e-9 * float(spectrum.abs().max()) ** power


def test_the_density_integrates_to_one_and_finds_an_outlier() -> None:
    found = density(*operator(SPECTRA["signed"]), probes=8, steps=30)
    grid, width = found.grid(2000)
    mean, error = found.at(grid, width)
    assert (mean >= 0).all() and (error >= 0).all() and mean.shape == error.shape == grid.shape
    assert np.trapezoid(mean, grid) == pytest.approx(1, abs=0.01)
    near = np.abs(grid - 50) < 3
    assert np.trapezoid(mean[near], grid[near]) == pytest.approx(1 / 200, rel=0.8)
    assert np.abs(found.nodes).max() == pytest.approx(50, rel=1e-6)


def test_an_exhausted_spectrum_ends_a_probe_early() -> None:
    products = [0]
    product, like = operator(torch.tensor([2.0, -1.0]).repeat(30))

    def counted(v: Tensor) -> Tensor:
        products[0] += 1
        return product(v)

    found = density(counted, like, probes=3, steps=20)
    assert products[0] == 6
    np.testing.assert_allclose(found.nodes[:, :2], [[-1, 2]] * 3, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_leading_eigenvalues_come_in_order_of_magnitude_with_true_residuals(scale: float) -> None:
    product, like = operator(scale * SPECTRA["signed"].double())
    found = top(product, like, k=3, tolerance=1e-6)
    np.testing.assert_allclose(found.values, scale * np.array([50.0, -30.0, 12.0]), rtol=1e-9)
    assert found.converged and (found.residuals < 2e-6).all() and found.products > 0


def test_what_did_not_converge_is_said() -> None:
    found = top(*operator(torch.linspace(0.99, 1, 200)), k=4, tolerance=1e-10, rounds=1)
    assert not found.converged and len(found.values) < 4


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("batch", [2, 8])
def test_the_mean_hessian_of_a_network_is_the_dense_one(name: str, batch: int) -> None:
    model = networks()[name]
    draw = torch.Generator().manual_seed(2)
    images = torch.randn(5, 3, 8, 8, generator=draw, dtype=torch.float64)
    masks = (torch.rand(5, 1, 8, 8, generator=draw) > 0.7).double()
    dense = torch.stack([dense_hessian(model, images[i : i + 1], masks[i : i + 1]) for i in range(5)]).mean(0)
    hessian = MeanHessian(model, lambda i: (images[i], masks[i]), np.arange(5), image_loss, batch)
    v = torch.randn(len(dense), generator=draw, dtype=torch.float64)
    torch.testing.assert_close(hessian(v), dense @ v, rtol=1e-9, atol=1e-11)
    values = torch.linalg.eigvalsh(dense)
    found = top(hessian, hessian.like, k=2, tolerance=1e-8)
    np.testing.assert_allclose(np.abs(found.values), values.abs().sort(descending=True)[0][:2], rtol=1e-6)
    whole = trace(hessian, hessian.like, products=40)
    assert abs(whole.value - float(values.sum())) <= 5 * whole.error + 1e-9
    value, error = density(hessian, hessian.like, probes=8, steps=30).moment(1)
    assert abs(value - float(values.sum())) <= 5 * error + 1e-9
    each = spectral_norms(model, images, masks, image_loss, tolerance=1e-8, max_products=300).values
    assert abs(found.values[0]) <= each.mean() * (1 + 1e-6)  # the norm of a mean is at most the mean of norms


def test_wrong_input_is_refused() -> None:
    product, like = operator(torch.ones(10))
    with pytest.raises(ValueError, match="at least 2"):
        density(product, like, probes=1)
    with pytest.raises(ValueError, match="at least 4"):
        trace(product, like, products=3)
    with pytest.raises(ValueError, match="less than the number of weights"):
        top(product, like, k=10)
    with pytest.raises(ValueError, match="no image"):
        MeanHessian(networks()["conv"], lambda i: (like, like), np.array([], int), image_loss)

"""Extreme eigenvalues of operators whose spectrum is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from analysis.curvature.lanczos import Basis, lanczos, power
from analysis.curvature.products import Hessians
from small_networks import dense_hessian, example, image_loss, networks

DOUBLE = torch.float64


def rotated(values: Tensor, seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues in a random basis."""
    n = len(values)
    basis, _ = torch.linalg.qr(torch.randn(n, n, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed)))
    return basis @ torch.diag(values.double()) @ basis.T


def start(n: int, seed: int = 3) -> Tensor:
    return torch.randn(n, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


SPECTRA = {
    "plus and minus": torch.tensor([1.0, -1.0]),
    "plus and minus among many": torch.cat([torch.tensor([5.0, -5.0]), torch.linspace(-1, 1, 60)]),
    "nearly plus and minus": torch.cat([torch.tensor([5.0, -5.02]), torch.linspace(-1, 1, 60)]),
    "cluster at the top": torch.cat([torch.linspace(9.999, 10, 10), torch.linspace(-3, 3, 50)]),
    "rank one": torch.cat([torch.tensor([-4.0]), torch.zeros(40)]),
    "identity": torch.full((30,), 2.0),
    "one number": torch.tensor([-3.0]),
    "slowly decaying": 1 / torch.arange(1, 200),
}


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_value_of_a_known_spectrum(name: str, scale: float) -> None:
    values = SPECTRA[name].double() * scale
    matrix = rotated(values)
    found = lanczos(lambda v: matrix @ v, start(len(values)), tolerance=1e-8, max_products=200)
    assert found.converged and found.residual <= 1e-8
    assert abs(found.value) == pytest.approx(float(values.abs().max()), rel=1e-6)
    assert float((matrix @ found.vector - found.value * found.vector).norm()) <= 2e-8 * float(values.abs().max())


def test_zero_operator() -> None:
    found = lanczos(torch.zeros_like, start(50))
    assert (found.value, found.residual, found.converged) == (0.0, 0.0, True) and found.products < 20


def test_a_start_in_the_wrong_invariant_space_is_left() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0, -50.0, *[0.1] * 20], dtype=DOUBLE))
    first = torch.zeros(23, dtype=DOUBLE)
    first[0] = 1
    assert lanczos(lambda v: matrix @ v, first).value == pytest.approx(-50, rel=1e-2)
    assert lanczos(lambda v: matrix @ v, torch.zeros(23, dtype=DOUBLE)).value == pytest.approx(-50, rel=1e-2)


@pytest.mark.parametrize("method", [lanczos, power])
def test_a_start_that_converges_before_its_space_is_exhausted_is_not_blind(method: Callable) -> None:
    """It lies in the space of -1 to 1, whose end is found at once; 25 is outside."""
    values = torch.cat([torch.linspace(-0.1, 0.1, 300), torch.tensor([1.0, 25.0])]).double()
    first = torch.full((302,), 0.02, dtype=DOUBLE)
    first[-2:] = torch.tensor([1.0, 0.0])
    found = method(lambda v: values * v, first)
    assert found.value == pytest.approx(25, rel=1e-2) and found.converged
    assert method(lambda v: values * v, first, seed=1).value == pytest.approx(25, rel=1e-2)


def test_the_smaller_of_two_close_ends_is_not_taken_for_the_larger() -> None:
    """The start is nearly the eigenvector of +1, whose residual is small at once; -1.05 shows itself later."""
    values = torch.cat([torch.tensor([1.0, -1.05]), torch.linspace(-0.5, 0.5, 100)]).double()
    first = torch.full((102,), 1e-4, dtype=DOUBLE)
    first[0], first[1] = 1, 2e-2
    found = lanczos(lambda v: values * v, first, tolerance=1e-2)
    assert found.value == pytest.approx(-1.05, rel=1e-2)


@pytest.mark.parametrize("absolute", [1e-1, 1e-3, 1e-6])
@pytest.mark.parametrize("name", SPECTRA)
def test_an_absolute_error_is_kept_and_saves_products(name: str, absolute: float) -> None:
    """Also where eigenvalues are degenerate or both ends are as large; a cluster closer than the residual is one."""
    values = SPECTRA[name].double()
    matrix, truth, width = rotated(values), float(values.abs().max()), 1e-3 if "cluster" in name else 0
    found = lanczos(lambda v: matrix @ v, start(len(values)), tolerance=1e-10, absolute=absolute, max_products=200)
    tight = lanczos(lambda v: matrix @ v, start(len(values)), tolerance=1e-10, max_products=200)
    assert found.converged and found.products <= tight.products
    assert found.error * abs(found.value) <= max(absolute, 1e-10 * truth)
    assert truth - max(absolute, width) <= abs(found.value) <= truth * (1 + 1e-9)


def test_the_error_of_an_isolated_eigenvalue_is_its_residual_squared_over_the_gap() -> None:
    values = torch.cat([torch.tensor([-4.0]), torch.linspace(-1, 1, 60)]).double()
    found = lanczos(lambda v: values * v, start(61), tolerance=1e-3)
    assert found.residual**2 / 4 < found.error < 3 * found.residual**2
    assert 0 < 1 - abs(found.value) / 4 <= found.error


def test_too_few_products_are_said() -> None:
    values = 1 / torch.arange(1, 400, dtype=DOUBLE).sqrt()
    found = lanczos(lambda v: values * v, start(399), tolerance=1e-10, max_products=5)
    assert found.products == 5 and not found.converged and found.residual > 1e-10
    assert abs(found.value) <= 1


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("seed", [0, 1])
def test_dense_hessians_in_float64(name: str, seed: int) -> None:
    model, (image, mask) = networks()[name], example(seed)
    truth = torch.linalg.eigvalsh(dense_hessian(model, image, mask))
    at = Hessians(model, image_loss).at(image, mask)
    found = lanczos(at, at.gradient, tolerance=1e-8, max_products=200)
    assert found.converged
    assert abs(found.value) == pytest.approx(float(truth.abs().max()), rel=1e-6)
    assert float((truth - found.value).abs().min()) <= 1e-6 * abs(found.value)


@pytest.mark.parametrize("name", networks())
def test_the_stated_residual_is_true_in_float32(name: str) -> None:
    model, (image, mask) = networks()[name].float(), example()
    at = Hessians(model, image_loss).at(image.float(), mask.float())
    found = lanczos(at, at.gradient, tolerance=1e-3)
    double = Hessians(model.double(), image_loss).at(image.float().double(), mask)
    x = found.vector.double()
    residual = float((double(x) - found.value * x).norm()) / abs(found.value)
    assert found.converged and residual == pytest.approx(found.residual, abs=1e-5)
    assert residual <= 1.02e-3


def test_power_iteration_agrees_where_it_converges_and_says_where_not() -> None:
    values = torch.cat([torch.tensor([-3.0]), torch.linspace(-1, 1, 40)]).double()

    def product(v: Tensor) -> Tensor:
        return values * v

    found = power(product, start(41), tolerance=1e-6)
    assert found.converged and found.value == pytest.approx(-3, rel=1e-9)
    pair = torch.tensor([1.0, -1.0], dtype=DOUBLE)
    assert not power(lambda v: pair * v, start(2)).converged
    nothing = power(torch.zeros_like, start(5))
    assert nothing.value == 0 and nothing.converged


def test_solves_share_memory_without_sharing_results() -> None:
    basis = Basis()
    first = lanczos(lambda v: 2 * v, start(20), basis=basis)
    second = lanczos(lambda v: torch.arange(20) * v, start(20), tolerance=1e-6, basis=basis)
    third = lanczos(lambda v: 3 * v, start(30), basis=basis)
    assert (first.value, third.value) == (pytest.approx(2), pytest.approx(3))
    assert second.value == pytest.approx(19) and float(second.vector.abs().argmax()) == 19


@pytest.mark.parametrize("method", [lanczos, power])
def test_wrong_input_is_refused(method: Callable) -> None:
    with pytest.raises(ValueError, match="vector"):
        method(lambda v: v, torch.ones(2, 2))
    with pytest.raises(ValueError, match="tolerance 0"):
        method(lambda v: v, torch.ones(2), tolerance=0)
    with pytest.raises(ValueError, match="max_products 0"):
        method(lambda v: v, torch.ones(2), max_products=0)
    with pytest.raises(ValueError, match="absolute -1"):
        method(lambda v: v, torch.ones(2), absolute=-1)
    with pytest.raises(FloatingPointError, match="product 1"):
        method(lambda v: v * float("nan"), torch.ones(4))

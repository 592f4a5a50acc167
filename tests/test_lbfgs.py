"""L-BFGS side by side: known minima, and rows that do not know of each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dgan_backend.inversion.lbfgs import minimize


def rosenbrock(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The valley whose minimum is 1, 1, ...; in twentieths, since first steps are small."""
    x = (20 * rows).requires_grad_(True)
    values = (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(dim=1)
    (slope,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), 20 * slope


def quadratic(x: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum at 0.3; curvatures from 1 to 100."""
    curvature = torch.linspace(1, 100, x.shape[1], dtype=x.dtype)
    return (curvature * (x - 0.3) ** 2).sum(dim=1), 2 * curvature * (x - 0.3)


def test_a_curved_valley_is_followed_to_its_end() -> None:
    start = torch.zeros(1, 4, dtype=torch.float64)
    assert minimize(rosenbrock, start, 200).numpy() * 20 == pytest.approx(np.ones((1, 4)), abs=1e-4)


def test_it_learns_the_curvature() -> None:
    """A hundred steps of steepest descent leave a tenth of the way in the flattest direction."""
    found = minimize(quadratic, torch.zeros(2, 20, dtype=torch.float64), 60)
    assert (found - 0.3).abs().max() < 1e-4


def test_rows_do_not_know_of_each_other() -> None:
    start = torch.randn(3, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = minimize(quadratic, start, 15)
    for n in range(3):
        assert torch.allclose(minimize(quadratic, start[n : n + 1], 15)[0], together[n])


@pytest.mark.parametrize("size", [1e-8, 1e6])
def test_the_size_of_values_and_of_variables_means_nothing(size: float) -> None:
    start = torch.zeros(1, 20, dtype=torch.float64)

    def small(x: Tensor) -> tuple[Tensor, Tensor]:
        values, slopes = quadratic(x)
        return size * values, size * slopes

    def wide(x: Tensor) -> tuple[Tensor, Tensor]:
        values, slopes = quadratic(x / 50)
        return values, slopes / 50

    found = minimize(quadratic, start, 25)
    assert torch.allclose(minimize(small, start, 25), found, rtol=1e-3)
    assert torch.allclose(minimize(wide, start, 25, unit=50.0), 50 * found, rtol=1e-3)


def test_what_becomes_no_number_is_taken_back() -> None:
    def walled(x: Tensor) -> tuple[Tensor, Tensor]:
        values, slopes = quadratic(x)
        beyond = (x.abs() > 0.31).any(dim=1)
        return torch.where(beyond, torch.nan, values), slopes.where(~beyond[:, None], torch.nan)

    found = minimize(walled, torch.zeros(1, 20, dtype=torch.float64), 60)
    assert walled(found)[0].isfinite().all()
    assert walled(found)[0] < 0.01 * walled(torch.zeros(1, 20, dtype=torch.float64))[0]


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_it_asks_as_often_as_it_was_told_and_never_goes_up(steps: int) -> None:
    asked = []

    def steep(x: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(x)
        return (1e6 * x.abs()).sum(dim=1), 1e6 * x.sign()  # every step may be too long

    start = torch.full((2, 3), 1e-3)
    found = minimize(steep, start, steps)
    assert len(asked) == steps + 1
    assert (found.abs().sum(dim=1) <= start.abs().sum(dim=1)).all()


def test_what_cannot_be_improved_stays() -> None:
    flat = minimize(lambda x: (torch.zeros(len(x)), torch.zeros_like(x)), torch.ones(2, 3), 5)
    assert torch.equal(flat, torch.ones(2, 3))

"""Muon: updates are orthogonal, and it is as the quintic of its paper says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dgan_backend.student.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (16, 200), (1, 7)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = orthogonal(matrix)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6
    assert values.max() < 1.25
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ found @ right.T  # diagonal, when the singular vectors are the same
    assert torch.allclose(inside, torch.diag(torch.diagonal(inside)), atol=1e-6)


@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_short_way_over_the_gram_matrix_gives_the_same(
    rows: int, columns: int, seed: int
) -> None:
    """The iteration as published (Jordan et al., 2024), X <- a X + (b A + c A A) X, A = X X^T."""
    random = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=random, dtype=torch.float64)
    x = matrix / (matrix.norm() + 1e-7)
    if tall := rows > columns:
        x = x.T
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    np.testing.assert_allclose(orthogonal(matrix), x.T if tall else x, atol=1e-6)


def test_single_precision_does_for_a_wide_kernel() -> None:
    """Of the U-Net's largest shape, with singular values over three decades."""
    random = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(96, 864, generator=random), full_matrices=False)
    kernel = left @ torch.diag(torch.logspace(0, -3, 96)) @ right
    exact = orthogonal(kernel.double())
    assert (orthogonal(kernel) - exact).abs().max() < 0.005 * exact.abs().max()


def test_a_step_known_answer() -> None:
    """Of a gradient with one direction all entries but one stay, whatever its size."""
    for size in (1e-3, 1e3):
        kernel = torch.zeros(2, 3, 1, 1)
        kernel.grad = torch.zeros(2, 3, 1, 1)
        kernel.grad[1, 2] = size
        Muon([kernel], lr=0.5).step()
        moved = kernel.flatten(1)
        assert moved[1, 2] == pytest.approx(-0.5, rel=0.35)  # its singular value is 0.7
        moved[1, 2] = 0
        assert not moved.any()


def test_it_goes_downhill_where_directions_differ_in_strength() -> None:
    """|W - T|^2 with one row a thousand times as steep as the other."""
    target, steep = torch.tensor([[1.0, -2.0], [0.5, 1.5]]), torch.tensor([[1000.0], [1.0]])
    kernel = torch.zeros(2, 2, requires_grad=True)
    optimizer = Muon([kernel], lr=0.2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=100)
    for _ in range(100):
        optimizer.zero_grad()
        (steep * (kernel - target) ** 2).sum().backward()
        optimizer.step()
        schedule.step()
    assert torch.allclose(kernel, target, atol=0.2)


def test_kernels_without_a_gradient_stay() -> None:
    kernel = torch.ones(2, 2)
    Muon([kernel], lr=1.0).step()
    assert torch.equal(kernel, torch.ones(2, 2))

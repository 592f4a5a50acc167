"""Muon, the optimizer of a network's hidden kernels: steps whose directions all weigh alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Coefficients of the quintic that drives singular values towards 1 (Jordan et al., 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal (Jordan et al., "Muon: an optimizer for hidden layers in neural
    networks", 2024), for kernels [out, in, ...] seen as matrices [out, in * ...].

    torch's own Muon takes matrices alone, and computes in bfloat16, which CPUs may have to
    imitate.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; there is no closure."""
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                gradient = kernel.grad.flatten(1)
                state = self.state[kernel]
                if not state:
                    state["momentum"] = torch.zeros_like(gradient)
                mean = state["momentum"].lerp_(gradient, 1 - group["momentum"])
                update = orthogonal(gradient.lerp(mean, group["momentum"]))  # Nesterov's
                wide = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                kernel.add_(update.view_as(kernel), alpha=-group["lr"] * wide)


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix [M, N] with its directions kept and its singular values near 1 (0.7 to 1.2),
    but for those that are less than about a hundredth of the largest.

    Newton-Schulz iterations, carried out on the smaller Gram matrix: they are polynomials p of
    X X^T times X, and p can be had without X. That takes 2 products with X in place of 10.
    """
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (torch.linalg.matrix_norm(x) + 1e-7)
    gram = x @ x.T
    identity = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    product = identity
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        factor = a * identity + gram @ (b * identity + c * gram)
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T

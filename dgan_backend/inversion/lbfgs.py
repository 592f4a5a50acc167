"""L-BFGS on many problems side by side, each with a history and a step length of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Function = Callable[[Tensor], tuple[Tensor, Tensor]]

_FIRST = 0.02  # root mean square of the first step, in `unit`, before curvature is known
_LONGEST = 0.13  # of any step
_CURVED = 1e-6  # cosine of step and change of the gradient, from which on they say something
_SHORTER = 0.4  # times as long is the step that is tried after one that led upwards


def minimize(function: Function, start: Tensor, steps: int, unit: float = 1.0) -> Tensor:
    """Rows [N, D] that go down from `start`, each for itself; none ends above its beginning.

    function: rows [N, D] -> their values [N] and gradients [N, D]. It is asked once, and once more
    for each step, which all stay in the history. unit: how far a variable typically is from its
    mean; the first step and the longest are measured in it. A step that leads upwards, or to no
    number, is taken back and tried shorter; there is no other line search. Directions are those of
    Nocedal & Wright, Numerical Optimization, 2nd edition (2006), algorithm 7.4.
    """
    x = start
    value, gradient = function(x)
    across = unit * x.shape[1] ** 0.5
    past = _Past(_FIRST * across / _length(gradient), _LONGEST * across)
    share = torch.ones_like(value)[:, None]
    for _ in range(steps):
        tried = x - share * past.direction(gradient)
        found, slope = function(tried)
        lower = (found <= value)[:, None]
        past.add(tried - x, slope - gradient, lower)
        x, gradient = torch.where(lower, tried, x), torch.where(lower, slope, gradient)
        value = torch.where(lower[:, 0], found, value)
        share = torch.where(lower, 1.0, share * _SHORTER)
    return x


@dataclass
class _Past:
    """Steps s and changes of the gradient y [N, D] each, inverse products 1 / s.y [N, 1] or 0
    where a row's step was taken back, the scale [N, 1] of what the history does not know, and the
    length of the longest step."""

    scale: Tensor
    longest: float
    steps: list[Tensor] = field(default_factory=list)
    changes: list[Tensor] = field(default_factory=list)
    inverses: list[Tensor] = field(default_factory=list)

    def add(self, step: Tensor, change: Tensor, taken: Tensor) -> None:
        """Remember the rows that were taken and saw the gradient grow along their step."""
        product = _dot(step, change)
        least = _CURVED * _length(step) * _length(change)
        known = taken & (product > least)
        inverse = torch.where(known, 1 / product, 0.0)
        self.steps.append(torch.where(known, step, 0.0))
        self.changes.append(torch.where(known, change, 0.0))
        self.inverses.append(inverse)
        self.scale = torch.where(known, product / _dot(change, change), self.scale)

    def direction(self, gradient: Tensor) -> Tensor:
        """An approximation of the inverse Hessian times the gradient [N, D], not too long."""
        found, shares = gradient, []
        past = list(zip(self.steps, self.changes, self.inverses, strict=True))
        for step, change, inverse in reversed(past):
            share = inverse * _dot(step, found)
            shares.append(share)
            found = found - share * change
        found = found * self.scale
        for (step, change, inverse), share in zip(past, reversed(shares), strict=True):
            found = found + step * (share - inverse * _dot(change, found))
        return found * (self.longest / _length(found)).clamp_max(1.0)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1, keepdim=True)


def _length(a: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a, dim=1, keepdim=True).clamp_min(torch.finfo(a.dtype).tiny)

"""Adaptive discriminator augmentation for small sets (Karras et al., NeurIPS 2020).

The picture is moved, scaled, turned and recoloured with probability p before the discriminator
sees it; p follows how sure the discriminator is on real pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TARGET = 0.6  # wanted mean sign of the logits of real pictures


@dataclass(frozen=True)
class Augmentation:
    """One draw for N pictures: affine maps [N, 2, 3], colour gain and shift [N, 3, 1, 1]."""

    affine: Tensor
    gain: Tensor
    shift: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        grid = F.affine_grid(self.affine, list(images.shape), align_corners=False)
        moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        return moved * self.gain + self.shift

    def repeated(self, times: int) -> Augmentation:
        """The same draw for `times` sets of N pictures one after the other."""
        return Augmentation(
            self.affine.repeat(times, 1, 1),
            self.gain.repeat(times, 1, 1, 1),
            self.shift.repeat(times, 1, 1, 1),
        )


def draw(count: int, p: float, device: torch.device) -> Augmentation | None:
    """Draw for `count` pictures, each kind applied with probability p; None when p is 0."""
    if p <= 0:
        return None

    def value(spread: float, *shape: int) -> Tensor:
        chosen = (torch.rand(count, *[1] * len(shape), device=device) < p).float()
        return torch.randn(count, *shape, device=device) * spread * chosen

    scale = torch.exp2(value(0.2))
    angle = value(math.pi / 12)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    move = value(0.125, 2)
    rows = [torch.stack([cos, -sin, move[:, 0]], 1), torch.stack([sin, cos, move[:, 1]], 1)]
    gain = torch.exp2(value(0.2, 1, 1, 1) + value(0.1, 3, 1, 1))
    return Augmentation(torch.stack(rows, 1), gain, value(0.2, 1, 1, 1))


def adapt(p: float, sign: float, pictures: int, length: int = 100_000) -> float:
    """The next p: up when the discriminator is surer than the target, in [0, 0.85].

    `sign` is the mean sign of real logits, `length` the pictures that p takes from 0 to 1.
    """
    step = pictures / length * (1.0 if sign > TARGET else -1.0)
    return min(max(p + step, 0.0), 0.85)

"""How far a reconstruction is from its picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_SIZES = (2, 4)  # the coarser sizes that are compared too
_ROUNDED = 0.1  # difference of values in [-1, 1] below which a rounded loss is a parabola


def pixel_loss(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of [N, C, H, W] at the full, half and quarter size; a scalar."""
    loss = F.l1_loss(a, b)
    for size in _SIZES:
        loss = loss + F.l1_loss(F.avg_pool2d(a, size), F.avg_pool2d(b, size))
    return loss / (1 + len(_SIZES))


def rounded_pixel_losses(a: Tensor, b: Tensor) -> Tensor:
    """As `pixel_loss` for each picture, [N], but smooth where pictures agree.

    sqrt(d^2 + e^2) - e in place of |d| (Charbonnier et al., ICIP 1994), e = 0.1.
    """
    parts = []
    for size in (1, *_SIZES):
        d = a - b if size == 1 else F.avg_pool2d(a, size) - F.avg_pool2d(b, size)
        parts.append((d.square() + _ROUNDED**2).sqrt().mean(dim=(1, 2, 3)) - _ROUNDED)
    return torch.stack(parts).mean(dim=0)


def maps_losses(maps: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Of each picture, [N]: the mean over maps [N, C_l, H_l, W_l] of their L1, by the deviation of
    what is wanted there."""
    parts = []
    for a, b in zip(maps, wanted, strict=True):
        deviation = b.flatten(1).std(dim=1) + 1e-4
        parts.append((a - b).abs().mean(dim=(1, 2, 3)) / deviation)
    return torch.stack(parts).mean(dim=0)


def maps_loss(maps: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """The mean of `maps_losses`, a scalar."""
    return maps_losses(maps, wanted).mean()


def picture_errors(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of each picture, [N], for values nominally in [-1, 1]."""
    return torch.clamp(a, -1, 1).sub(b).abs().mean(dim=(1, 2, 3))

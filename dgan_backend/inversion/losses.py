"""How far a reconstruction is from its picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_SIZES = (2, 4)  # the coarser sizes that are compared too


def pixel_loss(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of [N, C, H, W] at the full, half and quarter size; a scalar."""
    loss = F.l1_loss(a, b)
    for size in _SIZES:
        loss = loss + F.l1_loss(F.avg_pool2d(a, size), F.avg_pool2d(b, size))
    return loss / (1 + len(_SIZES))


def maps_loss(maps: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean over maps [N, C_l, H_l, W_l] of their L1, each picture's map by the deviation of what is
    wanted there, so that pictures do not influence each other; a scalar."""
    parts = []
    for a, b in zip(maps, wanted, strict=True):
        deviation = b.flatten(1).std(dim=1) + 1e-4
        parts.append(((a - b).abs().mean(dim=(1, 2, 3)) / deviation).mean())
    return torch.stack(parts).mean()


def picture_errors(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of each picture, [N], for values nominally in [-1, 1]."""
    return torch.clamp(a, -1, 1).sub(b).abs().mean(dim=(1, 2, 3))

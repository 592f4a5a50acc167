"""Reading feature maps: at chosen points for fitting, as projected rows for labeling.

A pixel feature is the vector of one pixel through all maps, each brought to the label grid
bilinearly (align_corners=False). It is never held for a whole picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def gather(features: Sequence[Tensor], points: Tensor) -> Tensor:
    """Pixel features at points of one picture.

    features: maps [1, C_l, H_l, W_l]. points [P, 2] float32: x and y in [0, 1] of the picture,
    pixel centres at (column + 0.5) / width. Returns [P, sum C_l] float32.
    """
    grid = (points * 2.0 - 1.0)[None, None].to(features[0].device)
    parts = [
        F.grid_sample(f.float(), grid, padding_mode="border", align_corners=False)[0, :, 0]
        for f in features
    ]
    return torch.cat(parts).T


def project(features: Sequence[Tensor], weight: Tensor) -> list[Tensor]:
    """The first linear layer at each map's own resolution.

    It commutes with bilinear upsampling, so maps of equal size are added before they grow.
    features: maps [1, C_l, H_l, W_l] of one picture; weight [O, sum C_l].
    Returns one map [O, H, W] a resolution.
    """
    sums: dict[tuple[int, int], Tensor] = {}
    start = 0
    for f in features:
        part = weight[:, start : start + f.shape[1]]
        start += f.shape[1]
        size = (f.shape[2], f.shape[3])
        product = (part @ f[0].float().flatten(1)).reshape(-1, *size)
        sums[size] = sums[size] + product if size in sums else product
    if start != weight.shape[1]:
        raise ValueError(f"maps have {start} channels, the interpreter reads {weight.shape[1]}.")
    return list(sums.values())


def upsample_rows(maps: Sequence[Tensor], size: tuple[int, int], top: int, bottom: int) -> Tensor:
    """Rows top..bottom of the sum of maps [O, H, W], each brought to `size` directly.

    Returns [O, bottom - top, size[1]].
    """
    total: Tensor | None = None
    for m in maps:
        rows = _rows(m, size[0], top, bottom)[None]
        wide = F.interpolate(rows, (bottom - top, size[1]), mode="bilinear", align_corners=False)
        total = wide[0] if total is None else total.add_(wide[0])
    if total is None:
        raise ValueError("there are no maps to bring to the label grid.")
    return total


def _rows(x: Tensor, height: int, top: int, bottom: int) -> Tensor:
    """Rows top..bottom of x [O, H, W] when it is brought to a new height (bilinear)."""
    old = x.shape[1]
    if old == height:
        return x[:, top:bottom]
    at = (torch.arange(top, bottom, device=x.device) + 0.5) * (old / height) - 0.5
    at = at.clamp(0, old - 1)
    low = at.floor().long()
    high = (low + 1).clamp_max(old - 1)
    share = (at - low)[:, None].to(x.dtype)
    return torch.lerp(x[:, low], x[:, high], share)

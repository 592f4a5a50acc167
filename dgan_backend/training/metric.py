"""How near samples come to the pictures they were learned from, without a downloaded network."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_PATCH = 7
_PATCHES = 64  # of each picture and level
_DIRECTIONS = 256


def sliced_wasserstein(a: Tensor, b: Tensor, seed: int = 0) -> float:
    """Sliced Wasserstein distance between two sets of pictures (Karras et al., ICLR 2018, 5).

    a, b: [N, 3, R, R] in [-1, 1], the same N. 7x7 patches of each Laplacian pyramid level down
    to 16 px, normalised by channel, are projected on random directions and their sorted values
    compared; mean over levels, times 1000. 0 for equal sets; lower is nearer.
    """
    if a.shape != b.shape:
        raise ValueError(f"both sets must have one shape, not {list(a.shape)} and {list(b.shape)}.")
    random = torch.Generator().manual_seed(seed)
    distances = []
    for level_a, level_b in zip(_laplacian(a.cpu()), _laplacian(b.cpu()), strict=True):
        where = torch.randint(
            level_a.shape[-1] - _PATCH + 1, (len(a), _PATCHES, 2), generator=random
        )
        pa, pb = _patches(level_a, where), _patches(level_b, where)
        directions = F.normalize(torch.randn(pa.shape[1], _DIRECTIONS, generator=random), dim=0)
        sorted_a, sorted_b = (pa @ directions).sort(dim=0)[0], (pb @ directions).sort(dim=0)[0]
        distances.append((sorted_a - sorted_b).abs().mean())
    return float(torch.stack(distances).mean() * 1000)


def _laplacian(x: Tensor) -> list[Tensor]:
    levels = []
    while x.shape[-1] > 16:
        small = F.avg_pool2d(x, 2)
        levels.append(x - F.interpolate(small, scale_factor=2.0, mode="bilinear"))
        x = small
    return [*levels, x]


def _patches(x: Tensor, where: Tensor) -> Tensor:
    """[N * P, 3 * 49] patches with mean 0 and deviation 1 a channel over the whole set."""
    offset = torch.arange(_PATCH)
    rows = (where[:, :, 0, None] + offset)[:, :, :, None]
    columns = (where[:, :, 1, None] + offset)[:, :, None, :]
    n = torch.arange(len(x))[:, None, None, None]
    patches = x.permute(0, 2, 3, 1)[n, rows, columns].flatten(0, 1)
    mean = patches.mean(dim=(0, 1, 2), keepdim=True)
    deviation = patches.std(dim=(0, 1, 2), keepdim=True)
    return ((patches - mean) / (deviation + 1e-8)).flatten(1)

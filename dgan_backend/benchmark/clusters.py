"""Masks without a person: k-means of a generator's own coarse features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

_ROUNDS = 12
_DIRECTIONS = 16
_SOME = 20_000  # pixels that directions and centres are found on


def kmeans(points: Tensor, count: int, seed: int = 0) -> Tensor:
    """Lloyd's algorithm: points [P, D] float32 -> centres [count, D].

    Begun at points that are drawn by the square of their distance to those drawn before (Arthur
    and Vassilvitskii, 2007). A centre that no point is nearest to moves to the point that is
    farthest from its own.
    """
    random = torch.Generator().manual_seed(seed)
    centres = points[torch.randint(len(points), (1,), generator=random)]
    while len(centres) < count:
        away = torch.cdist(points, centres).min(dim=1).values.square()
        drawn = torch.multinomial(away.clamp_min(1e-12), 1, generator=random)
        centres = torch.cat([centres, points[drawn]])
    for _ in range(_ROUNDS):
        distance, nearest = torch.cdist(points, centres).min(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        sizes = torch.bincount(nearest, minlength=count)
        centres = sums / sizes.clamp_min(1)[:, None]
        for lost in (sizes == 0).nonzero()[:, 0].tolist():
            farthest = int(distance.argmax())
            centres[lost], distance[farthest] = points[farthest], 0.0
    return centres


def cluster_masks(
    features: Sequence[Tensor], classes: int, size: int, blur: int = 3, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Maps of one size of N pictures, [1, C, h, h] each -> masks [N, size, size] uint8.

    Principal directions of the maps, averaged over blur x blur px, brought to `size` bilinearly;
    of each pixel the nearest of `classes` centres.
    """
    maps = torch.cat(list(features))
    n, channels, side, _ = maps.shape
    pixels = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    pixels = (pixels - pixels.mean(dim=0)) / (pixels.std(dim=0) + 1e-3)
    some = pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))]
    _, vectors = torch.linalg.eigh(some[:_SOME].T @ some[:_SOME])
    maps = (pixels @ vectors[:, -_DIRECTIONS:]).reshape(n, side, side, -1).permute(0, 3, 1, 2)
    maps = F.pad(maps, [blur // 2] * 4, mode="reflect")
    maps = F.avg_pool2d(maps, blur, stride=1)
    points = maps.permute(0, 2, 3, 1).flatten(0, 2)
    picked = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:_SOME]
    centres = kmeans(points[picked], classes, seed)
    masks = []
    for picture in maps.split(1):
        wide = F.interpolate(picture, (size, size), mode="bilinear", align_corners=False)
        nearest = torch.cdist(wide[0].flatten(1).T, centres).argmin(dim=1)
        masks.append(nearest.reshape(size, size).to(torch.uint8).numpy())
    return np.stack(masks)


def border_share(labels: npt.NDArray[np.generic]) -> float:
    """The share of pixels of [H, W] that have another class beside, above or below them."""
    border = np.zeros(labels.shape, dtype=bool)
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= across
    border[:, :-1] |= across
    return float(border.mean())

"""Coarse to fine: which pixels are read, and what is said of the others.

Everywhere on a grid of every s-th pixel; then exactly where classes meet, where members disagree,
where the second class is near the first, and around classes of few pixels. Between the points of
the grid, probabilities and uncertainty are interpolated bilinearly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Refinement:
    """stride: s of the grid, 1 = every pixel is read.

    doubt: uncertainty, of its largest, from which on the surroundings of a point are read; lead:
    by how much the probability of the first class must exceed the second's, or they are too;
    small: classes that fewer points have are read closely.
    """

    stride: int
    doubt: float = 0.3
    lead: float = 0.2
    small: int = 12


EXACT = Refinement(1)


def refinement_for(resolution: int) -> Refinement:
    """What serves a grid of so many px a side. What a coarse grid interpolates is closer to what is
    read, beside the width of parts, where there are more pixels."""
    return Refinement(4, lead=0.15) if resolution >= 256 else Refinement(2)


class Grid:
    """Every s-th pixel of N pictures of `size` (H, W), from the s/2-th on."""

    def __init__(self, pictures: int, size: tuple[int, int], stride: int) -> None:
        if not 1 <= stride <= min(size):
            raise ValueError(f"stride {stride} is not from 1 to the sides of {size}.")
        self.pictures, self.size, self.stride = pictures, size, stride
        self.rows, self.columns = (torch.arange(stride // 2, n, stride) for n in size)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.pictures, len(self.rows), len(self.columns)

    def index(self) -> Tensor:
        """Of its points among all pixels (n * H + y) * W + x, ascending: [N * h * w] int64."""
        height, width = self.size
        row = (torch.arange(self.pictures)[:, None] * height + self.rows).flatten()
        return (row[:, None] * width + self.columns).flatten()

    def interpolated(self, values: Tensor) -> Tensor:
        """[..., h, w] float at the points -> [..., H, W], bilinear, constant beyond them."""
        down, across = (
            self._weights(n, len(at)).to(values)
            for n, at in zip(self.size, (self.rows, self.columns), strict=True)
        )
        return down @ values @ across.T

    def nearest(self, values: Tensor) -> Tensor:
        """[N, h, w] at the points -> [N, H, W]."""
        y, x = (
            (torch.arange(n) // self.stride).clamp_max(len(at) - 1).to(values.device)
            for n, at in zip(self.size, (self.rows, self.columns), strict=True)
        )
        return values[:, y][:, :, x]

    def between(self, cells: Tensor) -> Tensor:
        """[N, h + 1, w + 1] bool, of the cells between points, and outside of the outer ones ->
        [N, H, W] of the pixels in them; the points are False."""
        y, x = (
            ((torch.arange(n) + self.stride - self.stride // 2) // self.stride).to(cells.device)
            for n in self.size
        )
        pixels = cells[:, y][:, :, x]
        pixels[:, self.stride // 2 :: self.stride, self.stride // 2 :: self.stride] = False
        return pixels

    def _weights(self, count: int, points: int) -> Tensor:
        """[count, points]: how pixels of one axis are mixed from the points."""
        at = ((torch.arange(count) - self.stride // 2) / self.stride).clamp(0, points - 1)
        low = at.floor().clamp_max(max(points - 2, 0)).long()
        weights = torch.zeros(count, points)
        weights.scatter_(1, low[:, None], (1 - (at - low))[:, None])
        if points > 1:
            weights.scatter_(1, low[:, None] + 1, (at - low)[:, None])
        return weights


def doubtful_cells(
    vote: Tensor, probabilities: Tensor, uncertainty: Tensor, bound: float, how: Refinement
) -> Tensor:
    """Cells between points that are to be read: [N, h + 1, w + 1] bool.

    Of the points: vote [N, h, w] int64, probabilities [N, K, h, w], uncertainty [N, h, w] in nats
    of at most `bound`.
    """
    first, second = probabilities.topk(2, dim=1).values.unbind(1)
    unsure = (uncertainty > how.doubt * bound) | (first - second < how.lead)
    count = F.one_hot(vote.flatten(1), probabilities.shape[1]).sum(dim=1)  # [N, K]
    rare = count.gather(1, vote.flatten(1)).reshape(vote.shape) < how.small
    around = F.pad((unsure | rare).float()[:, None], (1, 1, 1, 1), mode="replicate")
    touched = F.max_pool2d(around, 2, stride=1)[:, 0] > 0
    corners = F.pad(vote.float()[:, None], (1, 1, 1, 1), mode="replicate")
    highest, lowest = F.max_pool2d(corners, 2, stride=1), -F.max_pool2d(-corners, 2, stride=1)
    return touched | (highest != lowest)[:, 0]

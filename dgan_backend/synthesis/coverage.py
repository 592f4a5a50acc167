"""Samples that stand for all others: what a first version is best learned from.

k-means (Lloyd 1982, begun as in Arthur & Vassilvitskii 2007) on the w of some thousand samples;
each mean is stood for by the sample nearest to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dgan_backend.generators import Generator

_ROUNDS, _RUNS = 25, 8
_BATCH = 512  # latents that are mapped together


@torch.inference_mode()
def covering_seeds(generator: Generator, count: int, seeds: Sequence[int]) -> list[int]:
    """`count` of these seeds, in their order."""
    points = latents(generator, seeds)
    return [seeds[n] for n in sorted(medoids(points, count))]


@torch.inference_mode()
def latents(generator: Generator, seeds: Sequence[int]) -> Tensor:
    """w [N, w_dim] of sampled pictures, at the truncation of the generator's card."""
    z = torch.cat([generator.latent_from_seed(seed) for seed in seeds])
    psi = generator.card.truncation
    return torch.cat([generator.mapping(part, truncation=psi)[:, 0] for part in z.split(_BATCH)])


def medoids(points: Tensor, count: int) -> list[int]:
    """Indices of `count` different ones of points [N, D] that lie near the means of k-means, the
    best of a few runs. Raises ValueError when there are fewer points.
    """
    if not 0 < count <= len(points):
        raise ValueError(f"{count} of {len(points)} points cannot be chosen.")
    runs = [_means(points, count, seed) for seed in range(_RUNS)]
    return _distinct(torch.cdist(min(runs, key=lambda means: _spent(points, means)), points))


def _means(points: Tensor, count: int, seed: int) -> Tensor:
    """[count, D]."""
    means = points[_spread(points, count, seed)]
    for _ in range(_ROUNDS):
        nearest = torch.cdist(points, means).argmin(dim=1)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        sums = torch.zeros_like(means).index_add_(0, nearest, points)
        means = torch.where(sizes > 0, sums / sizes.clamp_min(1), means)
    return means


def _spent(points: Tensor, means: Tensor) -> float:
    """Sum of squared distances to the nearest mean, which k-means makes small."""
    return float((torch.cdist(points, means).min(dim=1).values ** 2).sum())


def _spread(points: Tensor, count: int, seed: int) -> list[int]:
    """k-means++: each further one is drawn with a chance that grows with its squared distance."""
    random = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(points), (1,), generator=random))]
    squared = torch.full((len(points),), torch.inf)
    while len(chosen) < count:
        distances = torch.cdist(points, points[chosen[-1:]])[:, 0].cpu()
        squared = torch.minimum(squared, distances**2)
        weights = squared if squared.sum() > 0 else torch.ones(len(points))
        weights[chosen] = 0.0
        chosen.append(int(torch.multinomial(weights, 1, generator=random)))
    return chosen


def _distinct(distances: Tensor) -> list[int]:
    """For each row the nearest column that no row before it has taken."""
    chosen: list[int] = []
    for row in distances:
        row = row.clone()
        row[chosen] = torch.inf
        chosen.append(int(row.argmin()))
    return chosen

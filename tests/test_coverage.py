"""Samples that stand for all others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dgan_backend.generators import load_generator
from dgan_backend.synthesis.coverage import covering_seeds, latents, medoids


def nearest(points: Tensor, chosen: Tensor) -> float:
    """Mean distance of points to the nearest chosen one."""
    return float(torch.cdist(points, chosen).min(dim=1).values.mean())


def test_each_heap_of_points_is_stood_for_by_its_middle() -> None:
    middles = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [30.0, 30.0]])
    around = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    points = (middles[:, None] + around).reshape(-1, 2)
    assert sorted(medoids(points, 4)) == [0, 5, 10, 15]


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(0, 100), st.booleans())
def test_they_are_as_many_as_asked_for_and_all_different(
    count: int, seed: int, alike: bool
) -> None:
    points = torch.randn(12, 3, generator=torch.Generator().manual_seed(seed))
    if alike:
        points = torch.zeros(12, 3)
    chosen = medoids(points, count)
    assert len(set(chosen)) == count and all(0 <= n < 12 for n in chosen)
    assert chosen == medoids(points, count)


@pytest.mark.parametrize("count", [0, 4])
def test_more_than_there_are_cannot_be_chosen(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} of 3"):
        medoids(torch.zeros(3, 2), count)


def test_seeds_of_the_shipped_generator_cover_its_latents_better_than_any_of_20_draws() -> None:
    generator = load_generator("toonhead")
    seeds = covering_seeds(generator, 16, range(2048))
    assert seeds == sorted(set(seeds)) and len(seeds) == 16
    fresh = latents(generator, range(10_000, 10_500))
    drawn = latents(generator, range(20 * 16))
    others = [nearest(fresh, some) for some in drawn.split(16)]
    assert nearest(fresh, latents(generator, seeds)) < min(others)

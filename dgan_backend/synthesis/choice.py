"""Which seeds become tasks: the surest, or for people to label the least sure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from dgan_backend.factory.order import DROPPED

_POOL_TIMES, _POOL_MOST = 10, 1000  # samples for each one that people get to label, and in all


def candidates(count: int) -> int:
    """How many samples to draw so that `count` arrive when the most uncertain are dropped."""
    return math.ceil(count / (1.0 - DROPPED) - 1e-9)


def pool(count: int) -> int:
    """How many samples to draw so that the most uncertain `count` are worth a person's time."""
    return max(2 * count, min(_POOL_TIMES * count, _POOL_MOST))


def free_seeds(first: int, count: int, taken: Collection[int]) -> list[int]:
    """The next `count` seeds from `first` on that are not taken; after 2^32 - 1 comes 0."""
    found: list[int] = []
    seed = first
    while len(found) < count:
        if seed not in taken:
            found.append(seed)
        seed = (seed + 1) % 2**32
    return found


def surest(seeds: Sequence[int], scores: Sequence[float], count: int) -> list[int]:
    """The `count` seeds of the highest scores, the surest first; of equals the smaller seed."""
    return _ordered(seeds, [-score for score in scores])[:count]


def least_sure(seeds: Sequence[int], scores: Sequence[float], count: int) -> list[int]:
    """The `count` seeds of the lowest scores, the least sure first; of equals the smaller seed."""
    return _ordered(seeds, list(scores))[:count]


def _ordered(seeds: Sequence[int], ranks: Sequence[float]) -> list[int]:
    pairs = zip(seeds, ranks, strict=True)
    return [seed for seed, _ in sorted(pairs, key=lambda pair: (pair[1], pair[0]))]

"""Chunks of work on threads of their own, each operation on one.

Work of many small operations does not get faster when every one of them is shared out among
threads: waking them takes as long as the operation does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")
Result = TypeVar("Result")


def shares(index: Tensor, most: int) -> list[Tensor]:
    """[P] in parts of at most `most`, as many at least as there are threads."""
    each = -(-len(index) // torch.get_num_threads()) if index.device.type == "cpu" else most
    return list(index.split(max(1, min(most, each))))


def side_by_side(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """What `work` makes of each part, in their order; as many at a time as torch has threads."""
    threads = torch.get_num_threads()
    if threads == 1 or len(parts) < 2:
        return [work(part) for part in parts]
    mode = torch.is_inference_mode_enabled()

    def alone(part: Part) -> Result:
        torch.set_num_threads(1)  # of this thread, and of all products of matrices
        with torch.inference_mode(mode):
            return work(part)

    try:
        return list(_pool(threads).map(alone, parts))
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="read")

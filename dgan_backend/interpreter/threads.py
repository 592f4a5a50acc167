"""Parts of a computation on threads of their own, each operation on one.

Work of many small operations does not get faster when every one of them is shared out among
threads: waking them takes as long as the operation does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")
Result = TypeVar("Result")
_LEAST = 512  # pixels that are worth a thread


def shares(index: Tensor, most: int) -> list[Tensor]:
    """[P] in parts of at most `most`, as many as there are threads if they are worth it."""
    each = max(_LEAST, -(-len(index) // _threads(index.device)))
    return list(index.split(max(1, min(most, each))))


def side_by_side(
    work: Callable[[Part], Result], parts: Sequence[Part], device: torch.device
) -> list[Result]:
    """What `work` makes of each part, in their order; on a CPU as many at a time as torch has
    threads here, elsewhere one after the other. An exception is raised when all have ended."""
    threads = _threads(device)
    if threads == 1 or len(parts) < 2:
        return [work(part) for part in parts]
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def alone(part: Part) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return work(part)

    pool = _pool(threads)
    futures = [pool.submit(alone, part) for part in parts]
    try:
        wait(futures)
    finally:
        for future in futures:
            future.cancel()
    return [future.result() for future in futures]


def _threads(device: torch.device) -> int:
    return torch.get_num_threads() if device.type == "cpu" else 1


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that have one torch thread each, for good. All are begun at once, since threads that
    use torch for the first time get the number that was set last, whoever set it."""
    pool, met = ThreadPoolExecutor(threads, thread_name_prefix="part"), Barrier(threads)

    def begin() -> None:
        torch.get_num_threads()  # or else it is the first use that sets the number
        torch.set_num_threads(1)
        met.wait()

    wait([pool.submit(begin) for _ in range(threads)])
    torch.set_num_threads(threads)
    return pool


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork

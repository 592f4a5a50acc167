"""Segmentations of the pictures that people have just opened."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from dgan_backend.records import Segmentation

MAX_BYTES = 256 * 2**20  # 130 pictures of 512 x 512


class SegmentationCache:
    """The latest used ones, up to a number of bytes. Safe to use from many threads.

    A key is computed by one thread at a time; those who ask for it meanwhile wait, and get the
    same segmentation or the same error. Errors are not kept, nor is what is too large for the
    cache. The arrays that it hands out are shared, so nobody may write into them.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, Segmentation] = OrderedDict()  # latest used last
        self._running: dict[Hashable, Future[Segmentation]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], Segmentation]) -> Segmentation:
        """The segmentation of `key`, computed if it is not there; raises what `compute` raises."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        return self.renew(key, compute)

    def renew(self, key: Hashable, compute: Callable[[], Segmentation]) -> Segmentation:
        """As `get`, but what is there already does not count, only what is being computed."""
        with self._lock:
            running = self._running.get(key)
            mine = Future[Segmentation]()
            if running is None:
                self._running[key] = mine
        if running is not None:
            return running.result()
        try:
            found = compute()
        except BaseException as error:
            with self._lock:
                del self._running[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._running[key]
            self._keep(key, found)
        mine.set_result(found)
        return found

    def _keep(self, key: Hashable, segmentation: Segmentation) -> None:
        if key in self._kept:
            self._bytes -= size_of(self._kept.pop(key))
        if size_of(segmentation) > self._max_bytes:
            return
        self._kept[key] = segmentation
        self._bytes += size_of(segmentation)
        while self._bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= size_of(oldest)


def size_of(segmentation: Segmentation) -> int:
    """Bytes of its arrays."""
    arrays = (segmentation.image, segmentation.labels, segmentation.uncertainty)
    return sum(array.nbytes for array in arrays)

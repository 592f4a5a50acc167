"""Segmentations are kept, up to a size, and computed once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgan_backend.errors import DganError
from dgan_backend.records import Segmentation
from dgan_backend.segmentation_cache import SegmentationCache, size_of

SIDE = 4
BYTES = SIDE * SIDE * (3 + 1 + 4)


def segmentation(side: int = SIDE) -> Segmentation:
    return Segmentation(
        image=np.zeros((side, side, 3), dtype=np.uint8),
        labels=np.zeros((side, side), dtype=np.uint8),
        uncertainty=np.zeros((side, side), dtype=np.float32),
        score=1.0,
        bound=1.0,
    )


class Counter:
    """Computes, and remembers for which keys."""

    def __init__(self) -> None:
        self.computed: list[object] = []

    def of(self, key: object, side: int = SIDE) -> Callable[[], Segmentation]:
        def compute() -> Segmentation:
            self.computed.append(key)
            return segmentation(side)

        return compute


@pytest.fixture
def counter() -> Counter:
    return Counter()


def test_the_size_is_that_of_all_arrays() -> None:
    assert size_of(segmentation()) == BYTES


def test_what_is_there_is_not_computed_again(counter: Counter) -> None:
    cache = SegmentationCache()
    first = cache.get("a", counter.of("a"))
    assert cache.get("a", counter.of("a")) is first
    assert cache.get("b", counter.of("b")) is not first
    assert counter.computed == ["a", "b"]


def test_renew_computes_again_and_replaces(counter: Counter) -> None:
    cache = SegmentationCache(2 * BYTES)
    first = cache.get("a", counter.of("a"))
    second = cache.renew("a", counter.of("a"))
    assert second is not first
    assert cache.get("a", counter.of("a")) is second
    cache.get("b", counter.of("b"))  # the replaced one takes no room
    assert cache.get("a", counter.of("a")) is second
    assert counter.computed == ["a", "a", "b"]


def test_the_least_recently_used_goes_first(counter: Counter) -> None:
    cache = SegmentationCache(2 * BYTES)
    for key in ("a", "b", "a", "c", "a", "b"):
        cache.get(key, counter.of(key))
    assert counter.computed == ["a", "b", "c", "b"]


def test_what_is_larger_than_the_cache_is_not_kept(counter: Counter) -> None:
    cache = SegmentationCache(BYTES)
    cache.get("a", counter.of("a"))
    cache.get("large", counter.of("large", SIDE + 1))
    cache.get("large", counter.of("large", SIDE + 1))
    cache.get("a", counter.of("a"))  # and takes nothing else's place
    assert counter.computed == ["a", "large", "large"]


@given(keys=st.lists(st.integers(0, 5)), room=st.integers(1, 4))
def test_it_holds_the_latest_keys(keys: list[int], room: int) -> None:
    """Against a plain list, the latest used last."""
    cache, counter = SegmentationCache(room * BYTES + 1), Counter()
    latest: list[int] = []
    expected = []
    for key in keys:
        if key not in latest:
            expected.append(key)
        latest = [*(other for other in latest if other != key), key][-room:]
        cache.get(key, counter.of(key))
    assert counter.computed == expected


def test_errors_are_raised_and_not_kept(counter: Counter) -> None:
    cache = SegmentationCache()

    def fail() -> Segmentation:
        raise DganError("no picture")

    with pytest.raises(DganError, match="no picture"):
        cache.get("a", fail)
    cache.get("a", counter.of("a"))
    assert counter.computed == ["a"]


class Held:
    """A computation that ends when it may."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.may_end, self.times, self.error = (
            threading.Event(), threading.Event(), 0, error
        )  # fmt: skip

    def __call__(self) -> Segmentation:
        self.times += 1
        self.begun.set()
        assert self.may_end.wait(10)
        if self.error:
            raise self.error
        return segmentation()


def test_those_who_ask_meanwhile_wait_for_the_first(counter: Counter) -> None:
    cache, held = SegmentationCache(), Held()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(cache.get, "a", held)
        assert held.begun.wait(10)
        others = [pool.submit(cache.get, "a", held), pool.submit(cache.renew, "a", held)]
        cache.get("b", counter.of("b"))  # other keys do not wait
        assert not any(asked.done() for asked in (first, *others))
        held.may_end.set()
        assert all(asked.result(10) is first.result(10) for asked in others)
    assert held.times == 1


def test_those_who_wait_get_its_error() -> None:
    cache, held = SegmentationCache(), Held(DganError("no picture"))
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(cache.get, "a", held)]
        assert held.begun.wait(10)
        asked.append(pool.submit(cache.get, "a", held))
        held.may_end.set()
        for one in asked:
            with pytest.raises(DganError, match="no picture"):
                one.result(10)
    cache.get("a", segmentation)

"""Fixtures that several test modules share."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # side by side: threads that spin would stop each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator

import pytest
import redis
from hypothesis import settings

from dgan_backend.segmenter import Segmenter
from tests.boards import embedded_redis
from tests.labeling import VERSION, TinyRegistry, tiny_registry

settings.register_profile("busy", deadline=None)  # machines that do other work are slow at times
settings.load_profile("busy")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TinyRegistry:
    """A registry whose only version is a tiny real one."""
    return tiny_registry(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def segmenter(registry: TinyRegistry) -> Segmenter:
    return registry.segmenter(VERSION)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """A client of a real Redis."""
    with embedded_redis(tmp_path_factory.mktemp("state")) as client:
        yield client

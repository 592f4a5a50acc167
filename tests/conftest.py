"""Fixtures that several test modules share."""

from __future__ import annotations

import pytest

from dgan_backend.segmenter import Segmenter
from tests.labeling import VERSION, TinyRegistry, tiny_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TinyRegistry:
    """A registry whose only version is a tiny real one."""
    return tiny_registry(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def segmenter(registry: TinyRegistry) -> Segmenter:
    return registry.segmenter(VERSION)

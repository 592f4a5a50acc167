"""Which version serves a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgan_backend.errors import DganError
from dgan_backend.partonomy import from_labels, load_partonomy
from dgan_backend.records import version_name
from dgan_backend.registry import Registry
from tests.builders import tiny_segmenter


def test_the_last_own_version_serves_and_else_the_shipped_one(tmp_path: Path) -> None:
    tree = from_labels("project-5", ["paw"])
    made = tiny_segmenter(tmp_path, tree)
    registry = Registry(tmp_path / "models")
    assert registry.current(tree, 5) is None
    (tmp_path / "models").mkdir()
    for number in (1, 2):
        made.save(tmp_path / "models" / version_name(tree.name, 5, number))
    assert registry.current(tree, 5) == "p5-project-5-v0002"
    assert registry.current(tree, 6) is None
    assert registry.current(load_partonomy("toonhead"), 5) == "toonhead-shipped"
    loaded = registry.segmenter("p5-project-5-v0002")
    assert loaded is registry.segmenter("p5-project-5-v0002")
    assert loaded.partonomy == tree


def test_a_version_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DganError, match="There is no version"):
        Registry(tmp_path).segmenter("p1-x-v0001")

"""Folders anywhere: what is written is there whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgan_backend.errors import DganError
from dgan_backend.storage import Storage


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    place = Storage(tmp_path / "a/b" if request.param == "local" else "memory://a/b")
    yield place
    place.delete_all()


def test_files_and_folders(storage: Storage, tmp_path: Path) -> None:
    assert storage.names() == [] and storage.folders() == [] and storage.find("x") is None
    storage.write("x", b"1")
    (storage / "below").write_all({"y": b"2", "z/q": b"3"})
    assert storage.names() == ["x"] and storage.folders() == ["below"]
    assert (storage / "below").names() == ["y"] and storage.read("below/z/q") == b"3"
    assert storage.has("x") and not storage.has("below") and not storage.has("none")
    (tmp_path / "file").write_bytes(b"4")
    storage.put(tmp_path / "file", "x")
    storage.get("x", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"4"
    storage.delete("x", "none")
    assert storage.names() == []
    (storage / "below").delete_all()
    assert storage.find("below/y") is None


def test_what_is_missing_is_named(storage: Storage) -> None:
    with pytest.raises(DganError, match="a/b/x is missing"):
        storage.read("x")


def test_a_local_file_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(tmp_path)
    storage.write("x", b"old")

    def killed(*paths: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        storage.write("x", b"new")
    assert storage.read("x") == b"old" and storage.names() == ["x"]


def test_what_a_killed_process_was_writing_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-0123-x").write_bytes(b"hal")
    assert Storage(tmp_path).names() == []


def test_errors_name_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DganError, match="file/below/x cannot be written"):
        Storage(tmp_path / "file/below").write("x", b"")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DganError, match=r"pip install 'dgan-backend\[s3\]'"):
        Storage("s3://bucket/folder")

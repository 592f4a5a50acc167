"""Labeled pictures on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dgan_backend.errors import DganError
from dgan_backend.labeled import load_pairs
from tests.builders import labeled_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images, masks = labeled_pictures(3, 6, 8)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for i in range(3):
        Image.fromarray(images[i]).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(masks[i]).save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def test_a_folder_of_pairs(folder: Path) -> None:
    images, masks = labeled_pictures(3, 6, 8)
    pairs = load_pairs(folder)
    assert pairs.names == ["0.png", "1.png", "2.png"]
    assert np.array_equal(np.stack(pairs.images), images)
    assert np.array_equal(np.stack(pairs.masks), masks)
    assert pairs.pick([2, 0]).names == ["2.png", "0.png"]


def test_an_npz(tmp_path: Path) -> None:
    images, masks = labeled_pictures(2)
    np.savez(tmp_path / "some.npz", image=images, mask=masks)
    pairs = load_pairs(tmp_path / "some.npz")
    assert len(pairs) == 2
    assert pairs.names[1] == "some.npz[1]"


def _drop_mask(folder: Path) -> None:
    (folder / "masks" / "1.png").unlink()


def _resize_mask(folder: Path) -> None:
    Image.new("L", (3, 3)).save(folder / "masks" / "1.png")


def _color_mask(folder: Path) -> None:
    Image.new("RGB", (8, 6)).save(folder / "masks" / "1.png")


def _break_picture(folder: Path) -> None:
    path = folder / "images" / "1.png"
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop_mask, r"1\.png has no mask"),
        (_resize_mask, r"1\.png is \(3, 3\), its picture \(6, 8\)"),
        (_color_mask, r"1\.png is a RGB picture; a mask is"),
        (_break_picture, r"1\.png cannot be read"),
    ],
)
def test_the_file_at_fault_is_named(folder: Path, spoil, message: str) -> None:
    spoil(folder)
    with pytest.raises(DganError, match=message):
        load_pairs(folder)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DganError, match="no images/"):
        load_pairs(tmp_path)
    with pytest.raises(DganError, match="There is no"):
        load_pairs(tmp_path / "no.npz")
    (tmp_path / "bad.npz").write_text("hello")
    with pytest.raises(DganError, match=r"bad\.npz is no npz"):
        load_pairs(tmp_path / "bad.npz")

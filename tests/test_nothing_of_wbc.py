"""Nothing of wbc is in this repository: no file, mask or photo, whole, cropped or on a sheet.

A photo is known again by 16 pixels in a row out of its middle, at its own size and at those that
this project brings pictures to. What was made from it, or stored with losses, is not found so.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from dgan_backend.inversion.framing import Frame
from dgan_backend.pictures import load_picture, middle_square
from tests.test_tutorial import ROOT, WBC, needs_wbc

RUN = 16  # pixels
COLORS = 8  # at least, in such a run: plain ground is everywhere
WEIGHTS = np.random.RandomState(0).randint(0, 2**62, RUN).astype(np.uint64)


def runs(picture: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 -> [H, W - 15] uint64: a hash of each run of 16 pixels."""
    codes = picture.astype(np.uint64) @ np.array([1, 2**8, 2**16], dtype=np.uint64)
    width = codes.shape[1] - RUN + 1
    return sum(WEIGHTS[n] * codes[:, n : n + width] for n in range(RUN))


def middles(photo: np.ndarray) -> Iterator[int]:
    """Hashes of some runs near the middle of a photo, and of its mirror image."""
    for picture in (photo, photo[:, ::-1]):
        height, width = picture.shape[:2]
        left, found = (width - RUN) // 2, runs(picture)
        for row in range(height // 3, 2 * height // 3, 4):
            if len(np.unique(picture[row, left : left + RUN], axis=0)) >= COLORS:
                yield int(found[row, left])


class Known:
    """What must not be there."""

    def __init__(self) -> None:
        self.masks: set[str] = set()
        found: list[int] = []
        for path in sorted(WBC.glob("*.bmp")):
            photo = load_picture(path)
            sizes = (photo, Frame(*photo.shape[:2]).picture(photo, 128), middle_square(photo, 64))
            found += [run for size in sizes for run in middles(size)]
        for path in sorted(WBC.glob("*.png")):
            with Image.open(path) as opened:
                mask = np.asarray(opened)
            self.masks |= {digest(mask), digest(np.searchsorted([0, 128, 255], mask))}
        files = [*WBC.glob("*.bmp"), *WBC.glob("*.png")]
        self.files = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        self.runs = np.array(found, dtype=np.uint64)

    def of(self, path: Path) -> str:
        """What of it is in a file; "" = nothing."""
        if hashlib.sha256(path.read_bytes()).hexdigest() in self.files:
            return "a file"
        for picture in pictures_of(path):
            if picture.ndim == 2 and digest(picture) in self.masks:
                return "a mask"
            wide = picture.ndim == 3 and picture.shape[1] >= RUN
            if wide and np.isin(runs(picture), self.runs).any():
                return "a photo"
        return ""


def digest(mask: np.ndarray) -> str:
    return hashlib.sha256(f"{mask.shape}".encode() + mask.astype(np.uint8).tobytes()).hexdigest()


def pictures_of(path: Path) -> Iterator[np.ndarray]:
    """Pictures [H, W, 3] and masks [H, W] in a file of any kind, uint8."""
    if path.suffix == ".safetensors":
        with safe_open(path, "numpy") as stored:
            for name in sorted(stored.keys()):
                yield from parts(stored.get_tensor(name))
    elif path.suffix == ".npz":
        with np.load(path) as stored:
            for name in stored.files:
                yield from parts(stored[name])
    elif path.suffix == ".npy":
        yield from parts(np.load(path))
    elif path.suffix == ".html":
        for data in re.findall(r"base64,([A-Za-z0-9+/=]+)", path.read_text()):
            yield from decoded(io.BytesIO(base64.b64decode(data)))
    else:
        yield from decoded(path)


def decoded(file: Path | io.BytesIO) -> Iterator[np.ndarray]:
    try:
        with Image.open(file) as opened:
            yield np.asarray(opened.convert("RGB"))
            yield np.asarray(opened.convert("L"))
    except (OSError, SyntaxError):
        return


def parts(array: np.ndarray) -> Iterator[np.ndarray]:
    if array.dtype != np.uint8:
        return
    if array.ndim == 4:
        yield from (np.moveaxis(one, 0, 2) if len(one) == 3 else one for one in array)
    elif array.ndim == 3:
        yield from array


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


@needs_wbc
def test_nothing_of_it_is_in_the_tree(known: Known) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    there = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    found = {path: known.of(path) for path in there if path.is_file()}
    assert len(found) > 100
    assert {path: what for path, what in found.items() if what} == {}


@needs_wbc
def test_it_would_be_found(known: Known, tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    photo, mask = load_picture(WBC / "002.bmp"), Image.open(WBC / "002.png")
    noise = np.random.RandomState(0).randint(0, 256, (300, 400, 3)).astype(np.uint8)
    sheet = noise.copy()
    sheet[50 : 50 + photo.shape[0], 70 : 70 + photo.shape[1]] = photo
    Image.fromarray(sheet).save(tmp_path / "sheet.png")
    Image.fromarray(photo[20:100, 20:100]).save(tmp_path / "crop.webp", lossless=True)
    Image.fromarray(middle_square(photo, 64)[:, ::-1]).save(tmp_path / "small.png")
    np.savez(tmp_path / "set.npz", image=photo[None])
    Image.fromarray(noise).save(tmp_path / "noise.png")
    mask.point(lambda value: {0: 0, 128: 1}.get(value, 2)).save(tmp_path / "mask.png")
    page = base64.b64encode((tmp_path / "sheet.png").read_bytes()).decode()
    (tmp_path / "page.html").write_text(f'<img src="data:image/png;base64,{page}">')
    (tmp_path / "copy.txt").write_bytes((WBC / "002.png").read_bytes())
    said = {path.name: known.of(path) for path in tmp_path.iterdir()}
    names = ("sheet.png", "crop.webp", "small.png", "set.npz", "page.html")
    photos = dict.fromkeys(names, "a photo")
    assert said == {**photos, "noise.png": "", "mask.png": "a mask", "copy.txt": "a file"}


def test_only_reports_of_toonhead_have_pictures() -> None:
    """A reconstruction, or a mask that a network made of a photo, is found by nothing else."""
    for path in (ROOT / "docs" / "reports").glob("*.html"):
        if path.name != "toonhead.html":
            assert "data:image" not in path.read_text(), path

"""Pictures and index masks as people keep them on disk."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from dgan_backend.errors import DganError
from dgan_backend.merging import IGNORE
from dgan_backend.migration.collection import IGNORED, Region
from dgan_backend.pictures import Picture, PictureError, decode_picture
from dgan_backend.records import MAX_PIXELS

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"}

LabelMap = npt.NDArray[np.uint8]


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DganError(f"{path} cannot be read ({error.strerror}).") from error


def read_picture(data: bytes, said: str) -> tuple[Picture, bytes, str]:
    """[H, W, 3] uint8, and a file that browsers show with its ending: the data as it is, or as PNG.

    said: what an error calls it.
    """
    try:
        picture = decode_picture(data)
    except PictureError as error:
        raise DganError(f"{said} cannot be read as a picture: it {error}.") from error
    with Image.open(io.BytesIO(data)) as opened:
        ending = _ENDINGS.get(str(opened.format), "")
    return (picture, data, ending) if ending else (picture, png(picture), ".png")


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of [H, W, 3] or [H, W] uint8."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def pictures_in(folder: Path) -> list[Path]:
    """By name."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.is_file())
    return sorted(found, key=lambda path: path.name)


def read_mask(path: Path) -> LabelMap:
    """[H, W] uint8 of class numbers, 255 = ignored, from a grey or palette PNG or an npy file.

    Raises DganError that names the file.
    """
    return _from_npy(path) if path.suffix.lower() == ".npy" else _from_picture(path)


def _from_picture(path: Path) -> LabelMap:
    try:
        with Image.open(path) as opened:
            if opened.mode not in ("L", "P", "1"):
                raise DganError(
                    f"{path} is a {opened.mode} picture; a mask is an 8-bit grey or palette PNG "
                    "whose values are class numbers."
                )
            if opened.format not in ("PNG", "BMP", "GIF", "TIFF"):
                raise DganError(f"{path} is {opened.format}, which changes numbers; use PNG.")
            return np.array(opened, dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DganError(f"{path} cannot be read as a mask ({error}).") from error


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array of an npy file, which never runs code; raises DganError that names the file."""
    try:
        return np.lib.format.read_array(io.BytesIO(read_bytes(path)), allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, MemoryError) as error:
        raise DganError(f"{path} cannot be read as an array of numbers ({error}).") from error


def _from_npy(path: Path) -> LabelMap:
    values = read_npy(path)
    values = np.squeeze(values)
    if values.ndim != 2 or not 0 < values.size <= MAX_PIXELS:
        raise DganError(f"{path} is {values.shape}; a mask is [height, width].")
    if values.dtype.kind not in "buif":
        raise DganError(f"{path} holds {values.dtype}; a mask holds class numbers.")
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= IGNORE):
        raise DganError(f"{path} holds numbers that are not from 0 to 255; these are no classes.")
    whole = values.astype(np.uint8)
    if not np.array_equal(whole, values):
        raise DganError(f"{path} holds fractions; a mask holds whole class numbers.")
    return whole


def regions_of_mask(mask: LabelMap, names: Mapping[int, str], path: Path) -> tuple[Region, ...]:
    """One region for each class but background, whose number is 0; 255 is ignored unless it has
    a name.

    Raises DganError that names a number without a name.
    """
    regions = []
    for number in np.unique(mask).tolist():
        if number in names:
            if number:
                regions.append(Region(names[number], mask == number))
        elif number == IGNORE:
            regions.append(Region(IGNORED, mask == IGNORE))
        else:
            last = max(names)
            raise DganError(
                f"{path} has the class {number}, which has no name; the last that has one is "
                f"{last} ({names[last]}). Name all classes with --classes."
            )
    return tuple(regions)


def fitted(mask: LabelMap, picture: Picture, path: Path) -> LabelMap:
    """The mask at the picture's size, which must have its proportions."""
    height, width = picture.shape[:2]
    rows, columns = mask.shape
    if (rows, columns) == (height, width):
        return mask
    if abs(rows * width - columns * height) > max(height, width):
        raise DganError(
            f"{path} is {columns} x {rows}, its picture {width} x {height}: another frame. Cut the "
            "picture to what the mask shows."
        )
    resized = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    return np.array(resized, dtype=np.uint8)

"""Pictures and masks as files."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from dgan_backend.pictures import Picture

_LEVEL = 4  # of zlib: 6 takes twice as long for 3 % less


def picture_png(picture: Picture) -> bytes:
    """[H, W, 3] uint8 RGB."""
    return _png(Image.fromarray(picture))


def mask_png(labels: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8]) -> bytes:
    """[H, W] class indices as a palette PNG, whose values are the indices.

    palette: [K, 3] uint8.
    """
    image = Image.fromarray(labels)
    image.putpalette(palette.flatten().tolist())
    return _png(image)


def panoptic_png(labels: npt.NDArray[np.uint8]) -> bytes:
    """[H, W] class indices as COCO's panoptic PNG: segment id = R + 256 G + 256^2 B, where 0 says
    nothing. A class is one segment, its id and its category are index + 1."""
    colors = np.zeros((*labels.shape, 3), dtype=np.uint8)
    colors[:, :, 0] = labels + 1  # a partonomy has 255 classes at most
    return _png(Image.fromarray(colors))


def labels_of(mask: bytes, format: str) -> npt.NDArray[np.uint8]:
    """[H, W] class indices of a file that one of these wrote."""
    with Image.open(io.BytesIO(mask)) as image:
        values = np.asarray(image)
    return values[:, :, 0] - 1 if format == "coco" else values


def areas_of(labels: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Pixels of each class that is there, by its index (a JSON key)."""
    counts = np.bincount(labels.ravel())
    return {str(k): int(counts[k]) for k in np.flatnonzero(counts)}


def boxes_of(labels: npt.NDArray[np.uint8]) -> dict[str, list[int]]:
    """x, y, width, height of each class that is there, px, by its index."""
    boxes: dict[str, list[int]] = {}
    for k in np.unique(labels):
        rows, columns = np.nonzero(labels == k)
        x, y = int(columns.min()), int(rows.min())
        boxes[str(k)] = [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]
    return boxes


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=_LEVEL)
    return file.getvalue()

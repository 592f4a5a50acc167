"""A folder of pictures as training batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.pictures import load_square, to_tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_CACHE_BYTES = 4 * 2**30


def turned(images: Tensor, mirrored: np.ndarray, quarters: np.ndarray) -> Tensor:
    """Square pictures [N, C, R, R], each mirrored or not and turned by so many quarters: [N] bool
    and [N] in 0 to 3. Together they are the eight symmetries of the square."""
    found = []
    for image, mirror, quarter in zip(images, mirrored, quarters, strict=True):
        flipped = image.flip(2) if mirror else image
        found.append(torch.rot90(flipped, int(quarter), (1, 2)))
    return torch.stack(found)


def pictures_of(folder: Path) -> list[Path]:
    """Files of a folder and its subfolders that are pictures by their names, in order. Raises
    DganError where there is no such folder."""
    if not folder.is_dir():
        raise DganError(f"{folder} is no folder of pictures.")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


class PictureFolder:
    """Pictures of a folder (searched with its subfolders), centre-cropped to a square.

    `holdback` pictures, the last by name, are left out of training for measuring.
    Decoded pictures are kept in memory while they fit in 4 GiB.
    Raises DganError when the folder holds fewer than 2 pictures for training.
    """

    def __init__(self, folder: Path, resolution: int, holdback: int) -> None:
        paths = pictures_of(folder)
        holdback = min(holdback, len(paths) // 10)
        if len(paths) - holdback < 2:
            raise DganError(
                f"{folder} holds {len(paths)} pictures ({', '.join(SUFFIXES)}); add some."
            )
        self.train, self.held_back = paths[: len(paths) - holdback], paths[len(paths) - holdback :]
        self.held_back = self.held_back or self.train[:16]
        self.resolution = resolution
        fits = len(self.train) * 3 * resolution**2 <= _CACHE_BYTES
        shape = (len(self.train) if fits else 0, resolution, resolution, 3)
        self._cache = np.empty(shape, dtype=np.uint8)
        self._cached = np.zeros(len(self._cache), dtype=bool)

    def __len__(self) -> int:
        return len(self.train)

    def batch(self, indices: np.ndarray) -> Tensor:
        """[N, 3, R, R] float32 in [-1, 1]."""
        return to_tensor(np.stack([self._picture(int(i)) for i in indices]))

    def measuring_set(self, count: int) -> Tensor:
        """Up to `count` held-back pictures, [N, 3, R, R] float32 in [-1, 1]."""
        return to_tensor(
            np.stack([load_square(p, self.resolution) for p in self.held_back[:count]])
        )

    def _picture(self, index: int) -> np.ndarray:
        if index >= len(self._cache):
            return load_square(self.train[index], self.resolution)
        if not self._cached[index]:
            self._cache[index] = load_square(self.train[index], self.resolution)
            self._cached[index] = True
        return self._cache[index]

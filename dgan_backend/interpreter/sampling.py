"""Which pixels a member learns from: class-balanced, and at least one of every labeled region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from dgan_backend.errors import DganError
from dgan_backend.merging import IGNORE


@dataclass(frozen=True)
class Draw:
    """Pixels of one member. picture, index [P] int64 (index into the flat mask), label [P]."""

    picture: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]


class PixelPool:
    """All labeled pixels of masks [N, H, W] uint8 (255 = ignore).

    weights: of each picture, in (0, 1]; its pixels are drawn that much less often than those of a
    picture of weight 1, also where nothing else shows their class. None = all alike.
    Raises DganError when no pixel is labeled, or a label is outside the partonomy.
    """

    def __init__(
        self,
        masks: npt.NDArray[np.uint8],
        num_classes: int,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.masks = masks.reshape(len(masks), -1)
        labeled = self.masks != IGNORE
        found = np.unique(self.masks[labeled])
        if found.size == 0:
            raise DganError("No pixel is labeled (all are 255 = ignore); label a part first.")
        if int(found[-1]) >= num_classes:
            bad = int(np.argmax((self.masks == found[-1]).any(axis=1)))
            raise DganError(
                f"mask {bad} holds label {found[-1]}, but there are classes 0 to {num_classes - 1} "
                "only (255 = ignore); correct the mask or the partonomy."
            )
        self.classes = found.astype(np.int64)
        self._where = {int(k): np.nonzero(self.masks == k) for k in found}
        self._regions = _regions(masks)
        self._weights = None if weights is None else np.array(weights, dtype=np.float64)
        counts = np.array([len(self._where[int(k)][0]) for k in found], dtype=np.float64)
        self.prior = counts / counts.sum()

    def draw(self, count: int, random: np.random.RandomState) -> Draw:
        """About `count` pixels, an equal share a class, and one of every region.

        A class with fewer pixels than its share is repeated.
        """
        share = max(1, count // len(self.classes))
        pictures, indices, labels = [], [], []
        for k in self.classes:
            where = self._where[int(k)]
            chosen = self._chosen(where[0], share, random)
            pictures.append(where[0][chosen])
            indices.append(where[1][chosen])
            labels.append(np.full(len(chosen), k))
        must = [(n, pixels[random.randint(len(pixels))], k) for n, k, pixels in self._regions]
        n, index, label = (np.array(column, dtype=np.int64) for column in zip(*must, strict=True))
        return Draw(
            np.concatenate([*pictures, n]).astype(np.int64),
            np.concatenate([*indices, index]).astype(np.int64),
            np.concatenate([*labels, label]).astype(np.int64),
        )

    def draw_all(self, count: int, random: np.random.RandomState) -> Draw:
        """Every labeled pixel once. count, random: not used."""
        picture, index = np.nonzero(self.masks != IGNORE)
        label = self.masks[picture, index]
        return Draw(picture.astype(np.int64), index.astype(np.int64), label.astype(np.int64))

    def _chosen(
        self, pictures: npt.NDArray[np.int64], count: int, random: np.random.RandomState
    ) -> npt.NDArray[np.int64]:
        """Places in a class's list of pixels; pictures: of each pixel there, ascending."""
        if self._weights is None:
            return random.randint(len(pictures), size=count)
        edges = np.searchsorted(pictures, np.arange(len(self._weights) + 1))
        pixels = np.diff(edges)
        share = pixels * self._weights
        count = max(1, round(count * share.sum() / len(pictures)))
        drawn = random.choice(len(share), size=count, p=share / share.sum())
        within = (random.random_sample(count) * pixels[drawn]).astype(np.int64)
        return np.asarray(edges[drawn] + within, dtype=np.int64)


def _regions(masks: npt.NDArray[np.uint8]) -> list[tuple[int, int, npt.NDArray[np.int64]]]:
    """(picture, class, flat pixel indices) of every connected region."""
    found = []
    for n, mask in enumerate(masks):
        for k in np.unique(mask[mask != IGNORE]):
            count, parts = cv2.connectedComponents((mask == k).astype(np.uint8), connectivity=8)
            flat = parts.reshape(-1)
            order = np.argsort(flat, kind="stable")
            edges = np.searchsorted(flat[order], np.arange(1, count + 1))
            for low, high in pairwise(edges):
                found.append((n, int(k), order[low:high].astype(np.int64)))
    return found

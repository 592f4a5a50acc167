"""Lessons of sampled pictures: a data set of `synthesize`, or a stream as they are made."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.factory.card import read_order
from dgan_backend.factory.formats.png import MANIFEST
from dgan_backend.interpreter.uncertainty import image_uncertainty, keep_certain
from dgan_backend.partonomy import Partonomy
from dgan_backend.pictures import Picture, decode_picture, resize, to_tensor
from dgan_backend.records import Segmentation
from dgan_backend.segmenter import Segmenter
from dgan_backend.storage import Storage
from dgan_backend.student.lessons import shares

_LOOKED_AT = 64  # samples that a stream's limit and frequencies are measured on
_AHEAD = 8  # samples that a stream makes at once
_SEEDS = 2**31  # a stream's are drawn from so many


@dataclass(frozen=True)
class Sampled:
    """One line of a manifest. pixels: of each class, by its name."""

    folder: Storage
    image: str
    mask: str
    uncertainty: float
    pixels: dict[str, int]


@dataclass(frozen=True)
class DataSet:
    """Pictures of data sets on disk, read when they are wanted. side: px they are brought to."""

    entries: Sequence[Sampled]
    partonomy: Partonomy
    side: int

    @classmethod
    def open(cls, urls: Sequence[str], partonomy: Partonomy, side: int) -> DataSet:
        """Raises DganError when one is no finished data set in PNG, or has other classes."""
        entries = [entry for url in urls for entry in _entries(Storage(url))]
        unknown = {name for entry in entries for name in entry.pixels} - set(partonomy.classes)
        if unknown:
            raise DganError(
                f"{urls[0]} has the class {sorted(unknown)[0]!r}, which {partonomy.name!r} has "
                "not; name the version that labeled it with --version."
            )
        return cls(entries, partonomy, side)

    def __len__(self) -> int:
        return len(self.entries)

    def pick(self, count: int, drop: float) -> DataSet:
        """The first pictures of which `count` remain without the most uncertain share `drop`.

        Raises DganError when there are too few.
        """
        needed = next((n for n in range(count, len(self) + 1) if n - int(n * drop) >= count), 0)
        if not needed:
            raise DganError(f"{len(self)} samples are too few for {count} without {drop:.0%}.")
        first = self.entries[:needed]
        kept = keep_certain([entry.uncertainty for entry in first], drop)[:count]
        return replace(self, entries=[first[n] for n in kept])

    def batch(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(self), (count,), generator=random).tolist()
        found = [self.read(n) for n in chosen]
        return batch_of([image for image, _ in found], [mask for _, mask in found])

    def read(self, number: int) -> tuple[Picture, npt.NDArray[np.uint8]]:
        """[S, S, 3] and [S, S], uint8."""
        entry = self.entries[number]
        image = decode_picture(entry.folder.read(entry.image))
        with Image.open(io.BytesIO(entry.folder.read(entry.mask))) as mask:
            return resize(image, self.side, self.side), _resized(np.asarray(mask), self.side)

    def frequencies(self, num_classes: int) -> Tensor:
        counts = torch.zeros(num_classes, dtype=torch.float64)
        for entry in self.entries:
            for name, pixels in entry.pixels.items():
                counts[self.partonomy.classes.index(name)] += pixels
        return shares(counts)


def _entries(folder: Storage) -> list[Sampled]:
    order = read_order(folder)
    if order is None:
        raise DganError(
            f"{folder} is no finished data set; make one by `dgan-backend synthesize --out`."
        )
    if order.format != "png":
        raise DganError(
            f"{folder} is in the format {order.format}; students learn from `--format png`."
        )
    lines = [json.loads(line) for line in folder.read(MANIFEST).splitlines()]
    return [
        Sampled(folder, line["image"], line["mask"], line["uncertainty"], line["pixels"])
        for line in lines
    ]


@dataclass(frozen=True)
class Stream:
    """Samples that are made when they are wanted, by a version; each is seen once.

    drop: share of the most uncertain ones that is left out, by the limit of some samples.
    """

    segmenter: Segmenter
    side: int
    drop: float

    @cached_property
    def _looked_at(self) -> list[Segmentation]:
        return list(self.segmenter.segment_seeds(range(_LOOKED_AT), side=self.side))

    @cached_property
    def _limit(self) -> float:
        found = [image_uncertainty(s.uncertainty) for s in self._looked_at]
        return float(np.quantile(found, 1.0 - self.drop))

    def batch(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        made = self._made(random)
        kept = [next(made) for _ in range(count)]
        return batch_of([s.image for s in kept], [s.labels for s in kept])

    def _made(self, random: torch.Generator) -> Iterator[Segmentation]:
        while True:
            seeds = torch.randint(_LOOKED_AT, _SEEDS, (_AHEAD,), generator=random).tolist()
            for found in self.segmenter.segment_seeds(seeds, side=self.side):
                if image_uncertainty(found.uncertainty) <= self._limit:
                    yield found

    def frequencies(self, num_classes: int) -> Tensor:
        labels = np.stack([s.labels for s in self._looked_at])
        return shares(torch.from_numpy(np.bincount(labels.ravel(), minlength=num_classes)))


def batch_of(
    images: Sequence[Picture], masks: Sequence[npt.NDArray[np.uint8]]
) -> tuple[Tensor, Tensor]:
    """[N, 3, S, S] float32 in [-1, 1] and [N, S, S] uint8."""
    return to_tensor(np.stack(images)), torch.from_numpy(np.stack(masks))


def _resized(mask: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    if mask.shape == (side, side):
        return mask
    return np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))

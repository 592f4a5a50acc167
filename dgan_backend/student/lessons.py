"""Where a student's batches come from: labeled pictures, and mixtures of sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.merging import IGNORE
from dgan_backend.pictures import to_tensor


class Lessons(Protocol):
    """Labeled pictures of one size. What is drawn follows from `random` alone, so that a training
    that was stopped goes on as if it had not been."""

    def batch(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images [count, 3, S, S] float32 in [-1, 1] and masks [count, S, S] uint8, 255 =
        ignore."""

    def frequencies(self, num_classes: int) -> Tensor:
        """Share of the labeled pixels that each class has, [K] float64; all 0 where none is."""


@dataclass(frozen=True)
class Labeled:
    """Pictures that are at hand: images [N, 3, S, S] float32 in [-1, 1], masks [N, S, S] uint8."""

    images: Tensor
    masks: Tensor

    def batch(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(self.images), (count,), generator=random)
        return self.images[chosen], self.masks[chosen]

    def frequencies(self, num_classes: int) -> Tensor:
        said = self.masks[self.masks != IGNORE].flatten().long()
        return shares(torch.bincount(said, minlength=num_classes))


class Compact(Labeled):
    """The same in a quarter of the memory: images [N, S, S, 3] uint8, masks [N, S, S] uint8."""

    def batch(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        images, masks = super().batch(count, random)
        return to_tensor(images.numpy()), masks


@dataclass(frozen=True)
class Mixed:
    """Several sources; each picture of a batch is of one of them, by chance.

    parts: each source with its share of the pictures, in (0, 1]; they sum up to 1.
    """

    parts: Sequence[tuple[Lessons, float]]

    def __post_init__(self) -> None:
        if abs(sum(share for _, share in self.parts) - 1.0) > 1e-6:
            raise DganError("shares of a mixture must sum up to 1.")

    def batch(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        chances = torch.tensor([share for _, share in self.parts], dtype=torch.float64)
        drawn = torch.multinomial(chances, count, replacement=True, generator=random)
        numbers = torch.bincount(drawn, minlength=len(self.parts)).tolist()
        found = [
            source.batch(number, random)
            for (source, _), number in zip(self.parts, numbers, strict=True)
            if number
        ]
        images, masks = zip(*found, strict=True)
        return torch.cat(images), torch.cat(masks)

    def frequencies(self, num_classes: int) -> Tensor:
        return torch.stack(
            [source.frequencies(num_classes) * share for source, share in self.parts]
        ).sum(dim=0)


class Counted:
    """Lessons that count the pictures that were drawn of them. drawn: with repeats."""

    def __init__(self, source: Lessons) -> None:
        self._source = source
        self._seen: set[int] = set()
        self.drawn = 0

    @property
    def distinct(self) -> int:
        """How many different ones."""
        return len(self._seen)

    def batch(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        images, masks = self._source.batch(count, random)
        self._seen.update(_digest(image) for image in images)
        self.drawn += len(images)
        return images, masks

    def frequencies(self, num_classes: int) -> Tensor:
        return self._source.frequencies(num_classes)

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "seen": torch.tensor(sorted(self._seen), dtype=torch.int64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn, self._seen = int(state["drawn"]), set(state["seen"].tolist())


def _digest(image: Tensor) -> int:
    found = blake2b(image.contiguous().numpy().tobytes(), digest_size=8).digest()
    return int.from_bytes(found, "big", signed=True)


def mixed(parts: Sequence[tuple[Lessons, float]]) -> Lessons:
    """Those with a share; one alone as it is."""
    there = [(source, share) for source, share in parts if share > 0]
    return there[0][0] if len(there) == 1 else Mixed(there)


def shares(counts: Tensor) -> Tensor:
    """Pixel counts [K] -> their shares [K] float64."""
    return counts.double() / max(1, int(counts.sum()))

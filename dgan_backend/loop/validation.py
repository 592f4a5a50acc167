"""Is the candidate better than the current version? Decided on whole pictures that neither saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend import metrics
from dgan_backend.merging import IGNORE

FOLDS = 2
FEWEST = 4  # pictures; fewer tell nothing
_DRAWS = 2000
_LEVEL = 0.95

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Comparison:
    """mIoU of both over the same pictures, and the mean of the paired differences, candidate -
    current, with its bootstrap interval (percentiles; Efron & Tibshirani, 1993, ch. 13)."""

    pictures: int
    candidate: float
    current: float
    difference: float
    low: float
    high: float

    @property
    def worse(self) -> bool:
        """Whether the candidate is worse beyond doubt."""
        return self.high < 0

    def said(self) -> str:
        return (
            f"on {self.pictures} pictures that neither had learned from, mean IoU "
            f"{self.candidate:.3f} against {self.current:.3f}: a difference of "
            f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(candidate: Sequence[float], current: Sequence[float]) -> Comparison | None:
    """From the mIoU of each picture; None when there are too few pictures to tell anything."""
    if len(candidate) != len(current):
        raise ValueError(f"{len(candidate)} pictures of the candidate, {len(current)} of the other")
    if len(candidate) < FEWEST:
        return None
    difference = np.array(candidate) - np.array(current)
    random = np.random.RandomState(0)
    drawn = random.randint(len(difference), size=(_DRAWS, len(difference)))
    means = difference[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Comparison(
        len(difference),
        float(np.mean(candidate)),
        float(np.mean(current)),
        float(difference.mean()),
        float(low),
        float(high),
    )


def picture_miou(true: Labels, found: Labels, classes: int) -> float | None:
    """mIoU of one picture over the classes in either mask, 255 left out; None when all is."""
    labeled = true != IGNORE
    if not labeled.any():
        return None
    return metrics.mean_iou(metrics.confusion(true[labeled], found[labeled], classes))


def fold_of(task: int) -> int:
    """The fold that a task's picture is in, for good."""
    return (task * 2654435761 % 2**32) * FOLDS // 2**32

"""The few-label ruler: masks of outside pictures from 1, 4, 16 and 40 labeled ones.

A cell is one method fitted on one draw with one seed.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend import metrics
from dgan_backend.errors import DganError
from dgan_backend.labeled import LabeledPictures, load_pairs
from dgan_backend.partonomy import Partonomy, load_partonomy

COUNTS = (1, 4, 16, 40)
DRAWS = 5
SEEDS = 3  # of the U-Net that starts at random
POOL = 60  # pictures that labels are drawn from; all later ones are the test
HELD_BACK = 20  # pool pictures that no draw holds, for choosing a baseline's settings
LARGEST = POOL - HELD_BACK  # labels that a draw can hold
_MULTIPLE = 32  # px; U-Nets halve pictures five times


@dataclass(frozen=True)
class FewShotSet:
    """Labeled pictures of one size: the first POOL for drawing, the others for testing."""

    pairs: LabeledPictures
    partonomy: Partonomy

    @classmethod
    def load(cls, path: Path, partonomy: str) -> FewShotSet:
        """Raises DganError when there are too few pictures, when they are not squares of one
        size, and names the first mask that is not labeled whole."""
        pairs = load_pairs(path)
        if len(pairs) <= POOL:
            raise DganError(
                f"{path} has {len(pairs)} pictures; the first {POOL} are for drawing labels, and "
                "the test needs more."
            )
        if len({m.shape for m in pairs.masks}) != 1:
            raise DganError(f"the pictures of {path} differ in size; make them one size.")
        height, width = pairs.masks[0].shape
        if height != width or height % _MULTIPLE:
            raise DganError(
                f"the pictures of {path} are {width}x{height}; make them squares whose side is a "
                f"multiple of {_MULTIPLE}."
            )
        tree = load_partonomy(partonomy)
        for name, mask in zip(pairs.names, pairs.masks, strict=True):
            if mask.max() >= tree.num_classes:
                raise DganError(
                    f"the mask of {name} holds {mask.max()}; every pixel must have a class of "
                    f"{tree.name!r}, 0 to {tree.num_classes - 1}."
                )
        return cls(pairs, tree)

    @cached_property
    def digest(self) -> str:
        """Of pictures, masks and classes."""
        found = hashlib.sha256("\n".join(self.partonomy.classes).encode())
        for image, mask in zip(self.pairs.images, self.pairs.masks, strict=True):
            found.update(image.tobytes())
            found.update(mask.tobytes())
        return found.hexdigest()

    def draw(self, count: int, draw: int) -> LabeledPictures:
        """`count` labels; a larger count of the same draw holds the smaller one."""
        return self.pairs.pick(self.order(draw)[:count])

    def held_back(self, draw: int) -> LabeledPictures:
        """Pool pictures that no count of that draw holds."""
        return self.pairs.pick(self.order(draw)[LARGEST:])

    def test(self) -> LabeledPictures:
        return self.pairs.pick(np.arange(POOL, len(self.pairs)))

    @staticmethod
    def order(draw: int) -> npt.NDArray[np.intp]:
        """The pool's pictures in the order of a draw, [POOL]."""
        return np.random.RandomState(draw).permutation(POOL)


@dataclass(frozen=True, order=True)
class Cell:
    """One method fitted on one draw with one seed."""

    method: str
    count: int
    draw: int
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.method}-{self.count}-draw{self.draw}-seed{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What a method says of T test pictures.

    labels: [T, H, W] uint8. uncertainty: [T, H, W] float32 in nats, and scores [T] in [0, 1],
    where the method has them. seconds: of fitting, and of labeling one picture.
    """

    labels: npt.NDArray[np.uint8]
    uncertainty: npt.NDArray[np.float32] | None
    scores: npt.NDArray[np.float64] | None
    fit_seconds: float
    picture_seconds: float
    notes: dict[str, Any]


def measure(true: npt.NDArray[np.uint8], outcome: Outcome, classes: int) -> dict[str, Any]:
    """All that the tables need of one cell, as JSON."""
    counts = metrics.confusion(true, outcome.labels, classes)
    measured: dict[str, Any] = {
        "miou": metrics.mean_iou(counts),
        "miou_large": metrics.large_mean_iou(counts),
        "boundary_f": metrics.boundary_counts(true, outcome.labels, classes).f(),
        "wrong": metrics.wrong_share(counts),
        "class_iou": [None if np.isnan(v) else float(v) for v in metrics.class_iou(counts)],
        "fit_seconds": outcome.fit_seconds,
        "picture_seconds": outcome.picture_seconds,
        **outcome.notes,
    }
    if outcome.scores is not None:
        each = [
            metrics.mean_iou(metrics.confusion(t, p, classes))
            for t, p in zip(true, outcome.labels, strict=True)
        ]
        measured["spearman"] = or_none(metrics.spearman(outcome.scores, np.array(each)))
        measured["median_score"] = float(np.median(outcome.scores))
    if outcome.uncertainty is not None:
        foreground = (true > 0) | (outcome.labels > 0)
        wrong = (true != outcome.labels)[foreground]
        measured["auroc"] = or_none(metrics.auroc(outcome.uncertainty[foreground], wrong))
    return measured


def or_none(value: float) -> float | None:
    """NaN, which JSON does not know, as None."""
    return None if np.isnan(value) else value


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._began

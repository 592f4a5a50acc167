"""The few-label ruler: masks of outside pictures from 1, 4, 16 and 40 labeled ones.

Labels are drawn from a pool, and all is measured on pictures that are not of it. A cell is one
method fitted on one draw with one seed.
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
from dgan_backend.fitting import LABEL_RESOLUTION
from dgan_backend.inversion.framing import Frame
from dgan_backend.labeled import LabeledPictures, load_pairs
from dgan_backend.merging import IGNORE
from dgan_backend.partonomy import Partonomy, load_partonomy

COUNTS = (1, 4, 16, 40)
LABELS = 16  # that finer comparisons are made with
DRAWS = 5
SEEDS = 3  # of the U-Net that starts at random
POOL = 60  # pictures that labels are drawn from, where the test pictures stand behind them
HELD_BACK = 20  # pool pictures that no draw holds, for choosing a baseline's settings
_MULTIPLE = 32  # px; U-Nets halve pictures five times


@dataclass(frozen=True)
class FewShotSet:
    """Labeled pictures, squares of one size: the first `pool` for drawing, the others for testing.

    turns: the pictures have no up, so that they are learned at any angle.
    """

    pairs: LabeledPictures
    partonomy: Partonomy
    pool: int = POOL
    turns: bool = False

    @classmethod
    def load(
        cls, path: Path, partonomy: str, test: Path | None = None, turns: bool = False
    ) -> FewShotSet:
        """Read a pool and the pictures behind it, or those of `test`.

        Where they are not squares of one size that U-Nets can halve, they are framed on a grid
        of 128 px, whose margins are ignored. Raises DganError when there are too few pictures or
        when one of the test is in the pool, and names the first mask that holds no class.
        """
        pairs, pool = load_pairs(path), POOL
        if test is not None:
            pool, others = len(pairs), load_pairs(test)
            check_apart(pairs, others, path, test)
            pairs = pairs + others
        if len(pairs) <= pool:
            raise DganError(
                f"{path} has {len(pairs)} pictures; the first {pool} are for drawing labels, and "
                "the test needs more, or a folder of its own (--test)."
            )
        if pool <= HELD_BACK:
            raise DganError(
                f"{path} has {pool} pictures; {HELD_BACK} choose the baseline's settings, and "
                "labels are drawn from the others."
            )
        tree = load_partonomy(partonomy)
        return cls(squares(pairs.checked(tree)), tree, pool, turns)

    @property
    def largest(self) -> int:
        """Labels that a draw can hold."""
        return self.pool - HELD_BACK

    @cached_property
    def digest(self) -> str:
        """Of pictures, masks and classes."""
        found = hashlib.sha256("\n".join(self.partonomy.classes).encode())
        if self.pool != POOL:
            found.update(f"{self.pool}".encode())
        for image, mask in zip(self.pairs.images, self.pairs.masks, strict=True):
            found.update(image.tobytes())
            found.update(mask.tobytes())
        return found.hexdigest()

    def draw(self, count: int, draw: int) -> LabeledPictures:
        """`count` labels; a larger count of the same draw holds the smaller one."""
        return self.pairs.pick(self.order(draw)[:count])

    def held_back(self, draw: int) -> LabeledPictures:
        """Pool pictures that no count of that draw holds."""
        return self.pairs.pick(self.order(draw)[self.largest :])

    def test(self) -> LabeledPictures:
        return self.pairs.pick(np.arange(self.pool, len(self.pairs)))

    def order(self, draw: int) -> npt.NDArray[np.intp]:
        """The pool's pictures in the order of a draw, [pool]."""
        return np.random.RandomState(draw).permutation(self.pool)


def check_apart(pool: LabeledPictures, test: LabeledPictures, path: Path, other: Path) -> None:
    """Raises DganError when a test picture is one of those that are learned from."""
    names = {(i.shape, i.tobytes()): n for n, i in zip(pool.names, pool.images, strict=True)}
    for name, image in zip(test.names, test.images, strict=True):
        if (same := names.get((image.shape, image.tobytes()))) is not None:
            raise DganError(
                f"{name} of {other} is the same picture as {same} of {path}; what is measured on "
                "must not be learned from."
            )


def squares(pairs: LabeledPictures) -> LabeledPictures:
    """As they are, if they are squares of one size that can be halved, else framed."""
    sizes = {mask.shape for mask in pairs.masks}
    if len(sizes) == 1 and all(h == w and h % _MULTIPLE == 0 for h, w in sizes):
        return pairs
    frames = [Frame(*mask.shape) for mask in pairs.masks]
    return LabeledPictures(
        pairs.names,
        [f.picture(i, LABEL_RESOLUTION) for f, i in zip(frames, pairs.images, strict=True)],
        [f.mask(m, LABEL_RESOLUTION, IGNORE) for f, m in zip(frames, pairs.masks, strict=True)],
    )


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
        foreground = ((true > 0) | (outcome.labels > 0)) & (true != IGNORE)
        wrong = (true != outcome.labels)[foreground]
        measured["auroc"] = or_none(metrics.auroc(outcome.uncertainty[foreground], wrong))
    return measured


def or_none(value: float) -> float | None:
    """NaN, which JSON does not know, as None."""
    return None if np.isnan(value) else value


class Stopwatch:
    """Seconds since it was made, and `before` that, where a training was gone on with."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.before = 0.0

    def seconds(self) -> float:
        return self.before + time.monotonic() - self._began

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds()}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.before = state["seconds"]

"""The original's way to say how good a network is, beside this project's, on the same labels.

`datasetGAN_release` (test_deeplab_cross_validation.py) keeps the network after each epoch. With
cross validation the test pictures are cut into 5 folds in their order; one chooses the epoch, the
other four say the mIoU, and mean and deviation over the folds are told. Without it (the script's
default) the epoch is chosen on the very pictures that are measured. Either way the background is a
class like any other, and one that no picture shows counts as 0. Here: the last epoch, whatever it
is, and no class that is in neither map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend import metrics

FOLDS = 5
Counts = npt.NDArray[np.int64]
Score = Callable[[Counts], float]


@dataclass(frozen=True)
class Fold:
    """epoch: the one that the fold's own fifth chose. score: on the other four fifths."""

    epoch: int
    score: float


def cross_validated(
    counts: Counts, score: Score = metrics.lenient_mean_iou, folds: int = FOLDS
) -> list[Fold]:
    """counts: [E, T, K, K], the confusion of each test picture after each epoch."""
    pictures = np.arange(counts.shape[1])
    found = []
    for part in np.array_split(pictures, folds):
        others = np.setdiff1d(pictures, part)
        reached = [score(epoch[part].sum(axis=0)) for epoch in counts]
        best = int(np.nanargmax(reached))
        found.append(Fold(best, score(counts[best, others].sum(axis=0))))
    return found


def best_on_test(counts: Counts, score: Score = metrics.lenient_mean_iou) -> float:
    """Of the epoch that is best on the pictures that are measured."""
    return max(score(epoch.sum(axis=0)) for epoch in counts)


def last_epoch(counts: Counts, score: Score = metrics.mean_iou) -> float:
    return score(counts[-1].sum(axis=0))


def compared(counts: Counts) -> dict[str, Any]:
    """The same network by each way of counting, as JSON: mIoU in [0, 1].

    'ours' and one pitfall of the original's at a time, then all of them together.
    """
    folds = cross_validated(counts)
    scores = [fold.score for fold in folds]
    return {
        "ours": last_epoch(counts),
        "without_background": last_epoch(counts, metrics.foreground_mean_iou),
        "absent_is_zero": last_epoch(counts, metrics.lenient_mean_iou),
        "epoch_on_test": best_on_test(counts, metrics.mean_iou),
        "original_best_on_test": best_on_test(counts),
        "original_folds": float(np.mean(scores)),
        "original_folds_deviation": float(np.std(scores)),
        "epochs_chosen": [fold.epoch for fold in folds],
        "epochs": len(counts),
        "pictures": counts.shape[1],
    }

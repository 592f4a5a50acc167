"""Measures of label maps against the true ones: pure functions with known answers.

Label maps are [N, H, W] uint8 or int64 with values in [0, K); pixels whose true label is 255 are
ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dgan_backend.merging import IGNORE

LARGE_SHARE = 0.002  # classes above this share of the area count as large
BOUNDARY_RADIUS = 1  # px that a boundary may be off
# An experienced annotator took about 20 minutes for a face of 58 parts on average (DatasetGAN,
# Zhang et al., CVPR 2021, supplement).
SECONDS_A_PART = 20.0

Labels = npt.NDArray[np.integer]


def confusion(true: Labels, predicted: Labels, classes: int) -> npt.NDArray[np.int64]:
    """[K, K] pixel counts, row = true class, column = predicted class."""
    if true.shape != predicted.shape:
        raise ValueError(f"true labels are {true.shape}, predicted ones {predicted.shape}.")
    said = true != IGNORE
    true, predicted = true[said], predicted[said]
    codes = true.astype(np.int64).ravel() * classes + predicted.astype(np.int64).ravel()
    return np.bincount(codes, minlength=classes**2).reshape(classes, classes)


def class_iou(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Intersection over union of each class, [K]; NaN where a class is in neither."""
    hit = np.diag(counts).astype(np.float64)
    union = counts.sum(axis=0) + counts.sum(axis=1) - hit
    return np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)


def mean_iou(counts: npt.NDArray[np.int64]) -> float:
    """mIoU over the classes that are in the true or the predicted maps, in [0, 1]."""
    return float(np.nanmean(class_iou(counts)))


def foreground_mean_iou(counts: npt.NDArray[np.int64]) -> float:
    """mIoU without class 0, the background, in [0, 1]; NaN when nothing else is in either map."""
    found = class_iou(counts)[1:]
    return float("nan") if np.isnan(found).all() else float(np.nanmean(found))


def lenient_mean_iou(counts: npt.NDArray[np.int64]) -> float:
    """mIoU as datasetGAN_release counts it: over all classes, background among them, and 0 for a
    class that is in neither map. To compare with its figures, and for nothing else."""
    return float(np.nan_to_num(class_iou(counts), nan=0.0).mean())


def large_mean_iou(counts: npt.NDArray[np.int64], share: float = LARGE_SHARE) -> float:
    """mIoU over the classes whose true area is above `share` of all pixels."""
    area = counts.sum(axis=1) / counts.sum()
    return float(np.nanmean(class_iou(counts)[area > share]))


def wrong_share(counts: npt.NDArray[np.int64]) -> float:
    """Share of the pixels that a person would have to correct."""
    return float(1.0 - np.trace(counts) / counts.sum())


@dataclass(frozen=True)
class BoundaryCounts:
    """Boundary pixels of one class over a set: how many, and how many have a partner.

    predicted, predicted_hit, true, true_hit: int64 [K].
    """

    predicted: npt.NDArray[np.int64]
    predicted_hit: npt.NDArray[np.int64]
    true: npt.NDArray[np.int64]
    true_hit: npt.NDArray[np.int64]

    def class_f(self) -> npt.NDArray[np.float64]:
        """F = 2 P R / (P + R) of each class, [K]; NaN where a class is in neither.

        P: share of predicted boundary pixels with a true one of that class within the radius;
        R: the other way round (Csurka et al., BMVC 2013; Martin et al., PAMI 2004).
        """
        precision = self.predicted_hit / np.maximum(self.predicted, 1)
        recall = self.true_hit / np.maximum(self.true, 1)
        both = precision + recall
        values = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
        return np.where((self.predicted > 0) | (self.true > 0), values, np.nan)

    def f(self) -> float:
        """Mean over the classes that are in either."""
        return float(np.nanmean(self.class_f()))


def boundary_counts(
    true: Labels, predicted: Labels, classes: int, radius: int = BOUNDARY_RADIUS
) -> BoundaryCounts:
    """Boundary pixels of each class, and those with a partner within `radius` px (a square)."""
    totals = np.zeros((4, classes), dtype=np.int64)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    for t, p in zip(true, predicted, strict=True):
        said = t != IGNORE
        for k in np.union1d(np.unique(t[said]), np.unique(p[said])).astype(int):
            edge_t, edge_p = _boundary(t == k, said), _boundary(p == k, said)
            near_t = cv2.dilate(edge_t, kernel).astype(np.uint8)
            near_p = cv2.dilate(edge_p, kernel).astype(np.uint8)
            totals[:, k] += (
                edge_p.sum(dtype=np.int64),
                (edge_p & near_t).sum(dtype=np.int64),
                edge_t.sum(dtype=np.int64),
                (edge_t & near_p).sum(dtype=np.int64),
            )
    return BoundaryCounts(*totals)


def _boundary(mask: npt.NDArray[np.bool_], said: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Pixels of the mask with a 4-neighbour outside of it, both where labels say something; the
    picture's edge is no boundary."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    beside = cv2.dilate((said & ~mask).astype(np.uint8), cross)
    return (mask & said).astype(np.uint8) & np.asarray(beside, dtype=np.uint8)


def grid_ceiling(true: npt.NDArray[np.uint8], side: int, classes: int) -> float:
    """mIoU that exact masks [N, S, S] keep on a grid of `side`: reduced there and enlarged back.

    Each class's coverage is averaged down, interpolated bilinearly up, and the largest wins; the
    best that labels computed on that grid can reach.
    """
    found = np.empty_like(true)
    size = (true.shape[2], true.shape[1])
    for n, mask in enumerate(true):
        cover = np.stack([(mask == k).astype(np.float32) for k in range(classes)])
        parts = [
            cv2.resize(cv2.resize(c, (side, side), interpolation=cv2.INTER_AREA), size)
            for c in cover
        ]
        found[n] = np.stack(parts).argmax(axis=0)
    return mean_iou(confusion(true, found, classes))


def auroc(values: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a positive has the larger value (ties count half).

    values, positive: [P]. NaN when all are positive or none is. Equals the Mann-Whitney U
    statistic over the number of pairs.
    """
    many = int(positive.sum())
    few = positive.size - many
    if many == 0 or few == 0:
        return float("nan")
    ranks = _ranks(values)
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * few))


def risk_coverage(
    uncertainty: npt.NDArray[np.floating], wrong: npt.NDArray[np.bool_], points: int = 20
) -> list[tuple[float, float]]:
    """(coverage, risk): the share of wrong ones among the surest share, from 1 / points to 1.

    uncertainty, wrong: [P]. Geifman and El-Yaniv, NeurIPS 2017.
    """
    order = np.argsort(uncertainty, kind="stable")
    shares = np.arange(1, points + 1) / points
    ends = np.unique(np.ceil(shares * wrong.size - 1e-9).astype(int))
    summed = np.cumsum(wrong[order])
    return [(float(end / wrong.size), float(summed[end - 1] / end)) for end in ends if end]


def bootstrap(
    counts: npt.NDArray[np.int64],
    statistic: Callable[[npt.NDArray[np.int64]], float] = mean_iou,
    rounds: int = 1000,
    share: float = 0.95,
) -> tuple[float, float]:
    """The interval that holds `share` of a statistic's values when pictures are drawn again.

    counts: [T, K, K] of each picture; statistic: of their sum [K, K]. Percentiles of as many
    draws of T with replacement, by a fixed seed (Efron, 1979).
    """
    number, classes = counts.shape[:2]
    random = np.random.RandomState(0)
    weights = random.multinomial(number, np.full(number, 1 / number), size=rounds)
    sums = weights @ counts.reshape(number, -1)
    values = [statistic(one.reshape(classes, classes)) for one in sums]
    low, high = np.nanpercentile(values, [50 * (1 - share), 50 * (1 + share)])
    return float(low), float(high)


def spearman(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Spearman's rank correlation of [P] and [P], in [-1, 1]; ties share their mean rank."""
    x, y = _ranks(a), _ranks(b)
    if x.std() == 0 or y.std() == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Ranks from 1, equal values share their mean rank."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2.0)[group.reshape(-1)]

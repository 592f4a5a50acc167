"""How right a fitted version is on labeled pictures, and whether its scores know it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend import metrics
from dgan_backend.errors import DganError
from dgan_backend.evaluation.few_shot import Stopwatch, or_none
from dgan_backend.labeled import LabeledPictures
from dgan_backend.merging import IGNORE
from dgan_backend.pictures import Picture
from dgan_backend.records import Segmentation
from dgan_backend.segmenter import Segmenter

Steps = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True)
class Judged:
    """One labeled picture. miou: over the classes in its two masks; NaN when all is ignored."""

    name: str
    segmentation: Segmentation
    true: npt.NDArray[np.uint8]
    counts: npt.NDArray[np.int64]

    @property
    def miou(self) -> float:
        return metrics.mean_iou(self.counts) if self.counts.any() else float("nan")


@dataclass(frozen=True)
class Judgement:
    """All labeled pictures, and the seconds that labeling one took."""

    judged: list[Judged]
    seconds: float

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """[K, K] pixels of the whole set, row = true class, column = the version's."""
        return np.sum([j.counts for j in self.judged], axis=0)

    def auroc(self) -> float:
        """Of the uncertainty for wrong pixels, where either mask is foreground."""
        values, wrong = [], []
        for j in self.judged:
            found = j.segmentation.labels
            looked = ((j.true > 0) | (found > 0)) & (j.true != IGNORE)
            values.append(j.segmentation.uncertainty[looked])
            wrong.append((j.true != found)[looked])
        return metrics.auroc(np.concatenate(values), np.concatenate(wrong))

    def spearman(self) -> float:
        """Rank correlation of the scores with the pictures' mIoU."""
        known = [j for j in self.judged if not np.isnan(j.miou)]
        scores = np.array([j.segmentation.score for j in known])
        return metrics.spearman(scores, np.array([j.miou for j in known]))

    def scores(self) -> npt.NDArray[np.float64]:
        return np.array([j.segmentation.score for j in self.judged])

    def ious(self) -> npt.NDArray[np.float64]:
        """Of each picture, without those of which all is ignored."""
        found = np.array([j.miou for j in self.judged])
        return found[~np.isnan(found)]

    def worst(self, count: int) -> list[Judged]:
        """Those with the lowest mIoU, the worst first."""
        known = [j for j in self.judged if not np.isnan(j.miou)]
        return sorted(known, key=lambda j: j.miou)[:count]


def judge(segmenter: Segmenter, pairs: LabeledPictures, progress: Steps = iter) -> Judgement:
    """Label every picture as an outside one and hold that against its mask.

    Masks may hold 255 (ignored) and differ in size. Raises DganError that names the first mask
    with a value that is no class.
    """
    classes = segmenter.partonomy.num_classes
    for name, mask in zip(pairs.names, pairs.masks, strict=True):
        if (wrong := mask[(mask >= classes) & (mask != IGNORE)]).size:
            raise DganError(
                f"the mask of {name} holds {wrong[0]}; the classes of version "
                f"{segmenter.version} are 0 to {classes - 1}, and {IGNORE} is ignored."
            )
    judged, watch = [], Stopwatch()
    for n in progress(range(len(pairs))):
        found, true = segmenter.segment_image(pairs.images[n]), pairs.masks[n]
        counts = metrics.confusion(true, found.labels, classes)
        judged.append(Judged(pairs.names[n], found, true, counts))
    return Judgement(judged, watch.seconds() / len(pairs))


def scores_of(segmenter: Segmenter, pictures: Iterable[Picture]) -> list[float]:
    """Scores of pictures of something else; all should be near 0."""
    return [segmenter.segment_image(picture).score for picture in pictures]


def measure_version(
    segmenter: Segmenter, found: Judgement, strange: Sequence[float]
) -> dict[str, Any]:
    """All that the report tells, as JSON. strange: scores of pictures of something else."""
    ious, scores = found.ious(), found.scores()
    return {
        "version": segmenter.version,
        "miou": metrics.mean_iou(found.counts),
        "miou_large": metrics.large_mean_iou(found.counts),
        "wrong": metrics.wrong_share(found.counts),
        "median_picture_miou": float(np.median(ious)),
        "median_score": float(np.median(scores)),
        "auroc": or_none(found.auroc()),
        "spearman": or_none(found.spearman()),
        "picture_seconds": found.seconds,
        "classes": {
            name: or_none(float(iou))
            for name, iou in zip(
                segmenter.partonomy.classes, metrics.class_iou(found.counts), strict=True
            )
        },
        "pictures": [
            {"name": j.name, "score": j.segmentation.score, "miou": or_none(j.miou)}
            for j in found.judged
        ],
        "strange_scores": list(strange),
    }

"""Whether uncertainty knows what is wrong: on samples, and on pictures from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend import metrics
from dgan_backend.evaluation.few_shot import or_none
from dgan_backend.interpreter.uncertainty import image_uncertainty, keep_certain
from dgan_backend.merging import IGNORE

DROPPED = 0.1  # of the pictures, the most uncertain ones
_POINTS = 20  # of a risk-coverage curve
_ROUNDS = 200  # of the bootstrap of an AUROC, which takes long


@dataclass(frozen=True)
class Guesses:
    """Labels of T pictures and how unsure they are, with the truth or a judge's word for it.

    true, labels: [T, H, W] uint8, 255 = ignored. uncertainty: [T, H, W] float32, nats.
    """

    true: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    uncertainty: npt.NDArray[np.float32]
    classes: int

    def looked_at(self, chosen: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.bool_]:
        """Pixels that are foreground in either map."""
        true, labels = (
            (self.true, self.labels) if chosen is None else (self.true[chosen], self.labels[chosen])
        )
        return ((true > 0) | (labels > 0)) & (true != IGNORE)

    def auroc(self, chosen: npt.NDArray[np.intp] | None = None) -> float:
        """Of the uncertainty for wrong foreground pixels. chosen: pictures, with repeats."""
        every = np.arange(len(self.true)) if chosen is None else chosen
        looked = self.looked_at(every)
        wrong = self.true[every] != self.labels[every]
        return metrics.auroc(self.uncertainty[every][looked], wrong[looked])

    def auroc_interval(self) -> tuple[float, float]:
        """95 % of its values when pictures are drawn again (bootstrap)."""
        random, number = np.random.RandomState(0), len(self.true)
        values = [self.auroc(random.randint(0, number, number)) for _ in range(_ROUNDS)]
        low, high = np.nanpercentile(values, [2.5, 97.5])
        return float(low), float(high)

    def counts(self) -> npt.NDArray[np.int64]:
        """[T, K, K] of each picture."""
        pairs = zip(self.true, self.labels, strict=True)
        return np.stack([metrics.confusion(t, p, self.classes) for t, p in pairs])


def calibrated(guesses: Guesses) -> dict[str, Any]:
    """All that the report tells of it, as JSON.

    `miou_all` and `miou_kept`: before and after the most uncertain tenth of the pictures is left
    out; `gain_low`, `gain_high`: 95 % of the difference when pictures are drawn again.
    """
    counts = guesses.counts()
    uncertain = np.array([image_uncertainty(u) for u in guesses.uncertainty])
    kept = keep_certain(uncertain, DROPPED)
    looked = guesses.looked_at()
    wrong = (guesses.true != guesses.labels)[looked]
    low, high = guesses.auroc_interval()
    gain_low, gain_high = _gain_interval(counts, uncertain)
    return {
        "pictures": len(counts),
        "auroc": or_none(guesses.auroc()),
        "auroc_low": or_none(low),
        "auroc_high": or_none(high),
        "miou_all": metrics.mean_iou(counts.sum(axis=0)),
        "miou_kept": metrics.mean_iou(counts[kept].sum(axis=0)),
        "gain_low": or_none(gain_low),
        "gain_high": or_none(gain_high),
        "risk_coverage": metrics.risk_coverage(guesses.uncertainty[looked], wrong, _POINTS),
    }


def _gain_interval(
    counts: npt.NDArray[np.int64], uncertain: npt.NDArray[np.float64]
) -> tuple[float, float]:
    random, number = np.random.RandomState(0), len(counts)
    gains = []
    for _ in range(_ROUNDS * 5):
        drawn = random.randint(0, number, number)
        kept = drawn[keep_certain(uncertain[drawn], DROPPED)]
        reached = [metrics.mean_iou(counts[some].sum(axis=0)) for some in (kept, drawn)]
        gains.append(reached[0] - reached[1])
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)

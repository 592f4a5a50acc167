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
_ROUNDS = 1000  # of a bootstrap
_BINS = 1000  # of values, for an AUROC of each round


@dataclass(frozen=True)
class Guesses:
    """Labels of T pictures and how unsure they are, with the truth or a judge's word for it.

    true, labels: [T, H, W] uint8, 255 = ignored. uncertainty: [T, H, W] float32, nats.
    """

    true: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    uncertainty: npt.NDArray[np.float32]
    classes: int

    def looked_at(self, foreground: bool = False) -> npt.NDArray[np.bool_]:
        """Pixels that are labeled; foreground: and no background in at least one of both maps."""
        labeled = self.true != IGNORE
        return labeled & ((self.true > 0) | (self.labels > 0)) if foreground else labeled

    def auroc(self, foreground: bool = False) -> float:
        """Of the uncertainty for wrong pixels, see `looked_at`."""
        looked = self.looked_at(foreground)
        return metrics.auroc(self.uncertainty[looked], (self.true != self.labels)[looked])

    def auroc_interval(self, foreground: bool = False) -> tuple[float, float]:
        """95 % of its values when pictures are drawn again (bootstrap); values that fall into the
        same one of _BINS quantiles count as equal."""
        random, number = np.random.RandomState(0), len(self.true)
        each = self._binned(foreground)
        values = [
            _auroc_of(each[random.randint(0, number, number)].sum(axis=0)) for _ in range(_ROUNDS)
        ]
        if np.isnan(values).all():
            return float("nan"), float("nan")
        low, high = np.nanpercentile(values, [2.5, 97.5])
        return float(low), float(high)

    def _binned(self, foreground: bool) -> npt.NDArray[np.int64]:
        """[T, 2, B]: right and wrong pixels of each picture by their uncertainty."""
        looked = self.looked_at(foreground)
        edges = np.unique(np.quantile(self.uncertainty[looked], np.linspace(0, 1, _BINS + 1)))
        size = len(edges) + 1
        found = []
        for picture, uncertain in enumerate(self.uncertainty):
            wrong = self.true[picture] != self.labels[picture]
            places = np.searchsorted(edges, uncertain, side="right") + size * wrong
            found.append(np.bincount(places[looked[picture]], minlength=2 * size))
        return np.stack(found).reshape(-1, 2, size)

    def counts(self) -> npt.NDArray[np.int64]:
        """[T, K, K] of each picture."""
        pairs = zip(self.true, self.labels, strict=True)
        return np.stack([metrics.confusion(t, p, self.classes) for t, p in pairs])


def _auroc_of(counts: npt.NDArray[np.int64]) -> float:
    """counts: [2, B] right and wrong ones, by rising values. NaN when one of both is missing."""
    right, wrong = counts
    if not right.any() or not wrong.any():
        return float("nan")
    below = np.cumsum(right) - right / 2  # equal ones count half
    return float((wrong * below).sum() / (float(right.sum()) * float(wrong.sum())))


def calibrated(guesses: Guesses) -> dict[str, Any]:
    """All that the report tells of it, as JSON.

    `auroc`: over all labeled pixels; `auroc_foreground`: without background that both maps say.
    `risk_coverage`: of the latter.
    `miou_all` and `miou_kept`: before and after the most uncertain tenth of the pictures is left
    out; `gain_low`, `gain_high`: 95 % of the difference when pictures are drawn again.
    """
    counts = guesses.counts()
    uncertain = np.array([image_uncertainty(u) for u in guesses.uncertainty])
    kept = keep_certain(uncertain, DROPPED)
    looked = guesses.looked_at(foreground=True)
    wrong = (guesses.true != guesses.labels)[looked]
    gain_low, gain_high = _gain_interval(counts, uncertain)
    return {
        "pictures": len(counts),
        **_aurocs(guesses, "auroc", foreground=False),
        **_aurocs(guesses, "auroc_foreground", foreground=True),
        "miou_all": metrics.mean_iou(counts.sum(axis=0)),
        "miou_kept": metrics.mean_iou(counts[kept].sum(axis=0)),
        "gain_low": or_none(gain_low),
        "gain_high": or_none(gain_high),
        "risk_coverage": metrics.risk_coverage(guesses.uncertainty[looked], wrong, _POINTS),
    }


def _aurocs(guesses: Guesses, name: str, foreground: bool) -> dict[str, float | None]:
    low, high = guesses.auroc_interval(foreground)
    values = {name: guesses.auroc(foreground), f"{name}_low": low, f"{name}_high": high}
    return {key: or_none(value) for key, value in values.items()}


def _gain_interval(
    counts: npt.NDArray[np.int64], uncertain: npt.NDArray[np.float64]
) -> tuple[float, float]:
    random, number = np.random.RandomState(0), len(counts)
    gains = []
    for _ in range(_ROUNDS):
        drawn = random.randint(0, number, number)
        kept = drawn[keep_certain(uncertain[drawn], DROPPED)]
        reached = [metrics.mean_iou(counts[some].sum(axis=0)) for some in (kept, drawn)]
        gains.append(reached[0] - reached[1])
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)

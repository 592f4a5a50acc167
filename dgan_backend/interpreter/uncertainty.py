"""Vote, uncertainty, score and filter: pure functions with known answers."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

TOP_SHARE = 0.1  # an image is as uncertain as its most uncertain tenth


def entropy(probabilities: Tensor, dim: int) -> Tensor:
    """Shannon entropy in nats along `dim`, with 0 log 0 = 0."""
    logs = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log_()
    return -logs.mul_(probabilities).sum(dim=dim)


def jensen_shannon(probabilities: Tensor) -> Tensor:
    """Disagreement of members: [M, K, ...] probabilities -> [...] nats in [0, ln min(M, K)].

    JS = H(mean_m p_m) - mean_m H(p_m) (DatasetGAN, section 3.3). With two members it is the
    weighted form H(a p + (1 - a) q) - a H(p) - (1 - a) H(q) at a = 1/2.
    """
    mean = entropy(probabilities.mean(dim=0), dim=0)
    return (mean - entropy(probabilities, dim=1).mean(dim=0)).clamp_min(0.0)


def of_logits(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Members' finite logits [M, K, ...], which are lost -> the mean of their softmax [K, ...],
    their majority [...] int64, and their Jensen-Shannon divergence [...] in nats.

    As `softmax`, `majority_vote` and `jensen_shannon`, in fewer passes: with z = logits less their
    largest and S = sum exp z, an entropy is ln S - sum (z exp z) / S, which needs one logarithm a
    member instead of K.
    """
    top = logits.amax(dim=1, keepdim=True)
    vote = _most_frequent((logits >= top).float().sum(dim=0))
    z = logits.sub_(top)
    weights = z.exp()
    total = weights.sum(dim=1, keepdim=True)
    spread = z.mul_(weights).sum(dim=1, keepdim=True)
    own = (total.log() - spread / total).mean(dim=0)[0]
    probabilities = weights.div_(total).mean(dim=0)
    return probabilities, vote, (entropy(probabilities, dim=0) - own).clamp_min_(0.0)


def majority_vote(scores: Tensor) -> Tensor:
    """[M, K, ...] of which a member's largest is its label -> [...] int64: the most frequent label;
    a tie goes to the smallest class.

    Of operations that run over whole planes: as many `argmax` would take longer than all else.
    """
    return _most_frequent((scores >= scores.amax(dim=1, keepdim=True)).float().sum(dim=0))


def _most_frequent(chosen: Tensor) -> Tensor:
    """How many chose each class [K, ...] -> [...] int64: the first of the largest."""
    classes = len(chosen)
    order = torch.arange(classes - 1, -1, -1, device=chosen.device, dtype=chosen.dtype)
    ranked = chosen * classes + order.reshape(-1, *[1] * (chosen.ndim - 1))
    return classes - 1 - ranked.amax(dim=0).long() % classes


def image_uncertainty(uncertainty: npt.NDArray[np.float32]) -> float:
    """Mean of the top 10 % of a picture's uncertainty map (at least one pixel), in nats."""
    count = max(1, int(uncertainty.size * TOP_SHARE))
    flat = np.partition(uncertainty, uncertainty.size - count, axis=None)
    return float(flat[-count:].mean(dtype=np.float64))


def reconstruction_factor(error: float, median: float, limit: float) -> float:
    """r in [0, 1]: 1 up to the median error of in-domain pictures, falling to 0 at `limit`.

    `limit` is their 99.9th percentile; median and limit come from held-back pictures.
    """
    if not 0.0 <= median <= limit:
        raise ValueError(f"need 0 <= median <= limit, not {median} and {limit}.")
    if error <= median:
        return 1.0
    return max(0.0, (limit - error) / (limit - median)) if limit > median else 0.0


def largest(members: int, classes: int) -> float:
    """The largest Jensen-Shannon divergence that M members can reach over K classes, in nats."""
    return math.log(max(2, min(members, classes)))


def expected_iou(probabilities: Tensor) -> float:
    """The mean IoU that a picture's labels can be expected to have, in [0, 1].

    probabilities: [K, H, W], whose largest are the labels. Of each class that is found, expected
    intersection over expected union with the truth, which is near the expected IoU (Nowozin,
    CVPR 2014): small parts weigh as much as large ones, as they do in what it stands for.
    """
    flat, classes = probabilities.flatten(1), len(probabilities)
    largest_one, said = flat.max(dim=0)
    right = torch.bincount(said, weights=largest_one.double(), minlength=classes)
    missed = flat.sum(dim=1, dtype=torch.float64) - right
    sizes = torch.bincount(said, minlength=classes)
    return float((right / (sizes + missed).clamp_min(1e-9))[sizes > 0].mean())


def score(expected: float, r: float = 1.0) -> float:
    """How good a segmentation may be taken to be, in [0, 1]: `expected_iou` times r.

    r: `reconstruction_factor` or familiarity, 1 for samples.
    """
    return min(max(expected * r, 0.0), 1.0)


def keep_certain(uncertainties: npt.ArrayLike, drop: float = 0.1) -> npt.NDArray[np.intp]:
    """Indices, ascending, that are left when the most uncertain share is dropped.

    Drops exactly floor(N * drop), and nothing else; among equals the later ones go first.
    Raises ValueError when drop is outside [0, 1).
    """
    if not 0.0 <= drop < 1.0:
        raise ValueError(f"drop must be in [0, 1), not {drop}.")
    values = np.asarray(uncertainties, dtype=np.float64)
    kept = values.size - math.floor(values.size * drop + 1e-9)
    return np.sort(np.argsort(values, kind="stable")[:kept])

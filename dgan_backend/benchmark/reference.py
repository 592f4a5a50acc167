"""The original's way of labeling, written from its description: every map brought to the label
grid, all features of all pixels held, the members one after the other, softmax and entropy of each,
in float32 (Zhang et al., CVPR 2021). What labels cost is measured against it.

Batch norms are folded here too, which makes it a little faster than it was.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dgan_backend.interpreter import Ensemble, PixelPrediction

FIT_BATCH = 64  # pixels
FIT_EPOCHS = 4  # over all pixels, before its rule may stop it


def dense_weights(ensemble: Ensemble) -> Tensor:
    """First layers that read all features: [M, H1, D]."""
    if not ensemble.bases:
        return ensemble.w1
    parts = ensemble.w1.split([len(basis) for basis in ensemble.bases], dim=2)
    return torch.cat([w @ basis for w, basis in zip(parts, ensemble.bases, strict=True)], dim=2)


def upsampled(features: Sequence[Tensor], size: tuple[int, int], rows: int) -> Tensor:
    """Maps [1, C_l, H_l, W_l] on the first `rows` rows of a grid of `size` (H, W): [D, rows, W].

    Only those rows of a map are brought to the grid that they are made of, so that the time of
    some rows tells that of all.
    """
    column = torch.empty(sum(f.shape[1] for f in features), rows, size[1])
    start = 0
    for f in features:
        band, high = _band(f, size[0], rows)
        wide = F.interpolate(band, (high, size[1]), mode="bilinear", align_corners=False)
        column[start : start + f.shape[1]] = wide[0, :, :rows]
        start += f.shape[1]
        del wide
    return column


def _band(f: Tensor, height: int, rows: int) -> tuple[Tensor, int]:
    """The top rows of a map that the grid's first `rows` are made of, and as how many rows of the
    grid: whole multiples, so that they come out as they would of the whole map."""
    factor = height // f.shape[2]
    if factor * f.shape[2] != height:
        return f, height
    needed = min(f.shape[2], -(-rows // factor) + 1)
    return f[:, :, :needed].contiguous(), needed * factor


def reference_labels(ensemble: Ensemble, w1: Tensor, column: Tensor) -> PixelPrediction:
    """What `Ensemble.predict` says of pixel features [D, rows, W].

    w1: of `dense_weights`.
    """
    pixels = column.flatten(1).T
    mean = torch.zeros(len(pixels), ensemble.num_classes)
    entropies = torch.zeros(len(pixels))
    votes = []
    for m in range(ensemble.members):
        x = F.linear(pixels, w1[m], ensemble.b1[m]).relu()
        x = F.linear(x, ensemble.w2[m], ensemble.b2[m]).relu()
        probabilities = F.linear(x, ensemble.w3[m], ensemble.b3[m]).softmax(dim=1)
        entropies += _entropy(probabilities)
        mean += probabilities
        votes.append(probabilities.argmax(dim=1))
    mean /= ensemble.members
    uncertainty = _entropy(mean) - entropies / ensemble.members
    vote = torch.stack(votes).mode(dim=0).values
    shape = (column.shape[1], column.shape[2])
    return PixelPrediction(
        mean.T.reshape(-1, *shape), vote.reshape(shape), uncertainty.reshape(shape),
        ensemble.members,
    )  # fmt: skip


def _entropy(probabilities: Tensor) -> Tensor:
    return -(probabilities * probabilities.clamp_min(1e-30).log()).sum(dim=1)


def reference_step_seconds(
    features: int, classes: int, hidden: tuple[int, int], steps: int
) -> float:
    """Seconds of one step of training one member, the median of `steps`: 64 pixels, Adam."""
    first, second = hidden
    network = torch.nn.Sequential(
        torch.nn.Linear(features, first), torch.nn.ReLU(), torch.nn.BatchNorm1d(first),
        torch.nn.Linear(first, second), torch.nn.ReLU(), torch.nn.BatchNorm1d(second),
        torch.nn.Linear(second, classes),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    pixels = torch.randn(16 * FIT_BATCH, features)
    labels = torch.randint(classes, (len(pixels),))
    seconds = []
    for step in range(steps):
        started = time.perf_counter()
        chosen = torch.arange(FIT_BATCH) + step % 16 * FIT_BATCH
        loss = F.cross_entropy(network(pixels[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[len(seconds) // 2]


def reference_fit(
    pictures: int, size: int, features: int, members: int, step_seconds: float
) -> dict[str, float]:
    """seconds and peak_bytes of the original's fit, extrapolated: it visits all pixels at least
    four times, 64 at a time, and holds them in float16 and in float32."""
    pixels = pictures * size * size
    return {
        "seconds": members * FIT_EPOCHS * pixels / FIT_BATCH * step_seconds,
        "peak_bytes": float(pixels * features * (2 + 4)),
    }

"""M three-layer pixel classifiers, held and run as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dgan_backend.interpreter.features import project, upsample_rows
from dgan_backend.interpreter.uncertainty import jensen_shannon, largest, majority_vote

_TILE_VALUES = 32 * 2**20  # members x hidden x pixels that are held at once (128 MB)


@dataclass(frozen=True)
class PixelPrediction:
    """What the ensemble says of one picture, on the label grid.

    probabilities [K, H, W] float32: mean softmax of the members
    vote          [H, W] int64: majority of the members' labels
    uncertainty   [H, W] float32: Jensen-Shannon divergence in nats
    members       how many were compared
    """

    probabilities: Tensor
    vote: Tensor
    uncertainty: Tensor
    members: int

    @property
    def bound(self) -> float:
        """The largest uncertainty possible, in nats."""
        return largest(self.members, len(self.probabilities))


@dataclass(frozen=True)
class Ensemble:
    """Weights of M members, batch norms and input scaling folded in.

    w1 [M, H1, D], b1 [M, H1], w2 [M, H2, H1], b2 [M, H2], w3 [M, K, H2], b3 [M, K], float32.
    """

    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor
    w3: Tensor
    b3: Tensor

    @property
    def members(self) -> int:
        return self.w1.shape[0]

    @property
    def num_classes(self) -> int:
        return self.w3.shape[1]

    @property
    def num_features(self) -> int:
        return self.w1.shape[2]

    def tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in ("w1", "b1", "w2", "b2", "w3", "b3")}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], device: str = "cpu") -> Ensemble:
        """Raises KeyError that names a missing tensor."""
        names = ("w1", "b1", "w2", "b2", "w3", "b3")
        return cls(*(tensors[name].float().to(device) for name in names))

    def logits(self, pixels: Tensor) -> Tensor:
        """Pixel features [P, D] -> logits of each member [M, K, P]."""
        return self._tail(self.w1 @ pixels.T + self.b1[:, :, None])

    def predict(self, features: Sequence[Tensor], size: tuple[int, int]) -> PixelPrediction:
        """Label one picture on a grid of `size` (H, W), from its maps [1, C_l, H_l, W_l].

        Memory stays flat: rows are labeled in tiles, the first layer runs at native resolution.
        """
        height, width = size
        m, hidden, d = self.w1.shape
        maps = project(features, self.w1.reshape(m * hidden, d))
        rows = max(1, _TILE_VALUES // (m * hidden * width))
        parts = []
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            first = upsample_rows(maps, size, top, bottom).reshape(m, hidden, -1)
            parts.append(self._reduce(self._tail(first + self.b1[:, :, None])))
        joined = [torch.cat(values, dim=-1) for values in zip(*parts, strict=True)]
        return PixelPrediction(
            probabilities=joined[0].reshape(-1, height, width),
            vote=joined[1].reshape(height, width),
            uncertainty=joined[2].reshape(height, width),
            members=m,
        )

    def _tail(self, first: Tensor) -> Tensor:
        """First layer's output [M, H1, P] -> logits [M, K, P]."""
        second = torch.baddbmm(self.b2[:, :, None], self.w2, first.relu())
        return torch.baddbmm(self.b3[:, :, None], self.w3, second.relu())

    def _reduce(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        probabilities = logits.softmax(dim=1)
        vote = majority_vote(logits.argmax(dim=1), self.num_classes)
        return probabilities.mean(dim=0), vote, jensen_shannon(probabilities)

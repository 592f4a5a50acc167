"""How like the generator's domain a picture is, by the backbone's coarse features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgan_backend.interpreter.uncertainty import reconstruction_factor
from dgan_backend.student.unet import Trunk

_COARSE = 3  # levels, from the coarsest, that are looked at


@dataclass(frozen=True)
class Familiarity:
    """A Gaussian over pooled features (Lee et al., NeurIPS 2018), and how far its own lie out.

    mean [C], whitening [C, C] float32: distance = |whitening (x - mean)|. median and limit: of
    the distances of held-back in-domain pictures, the latter their 98th percentile.
    """

    mean: Tensor
    whitening: Tensor
    median: float
    limit: float

    @torch.inference_mode()
    def factors(self, trunk: Trunk, images: Tensor) -> list[float]:
        """r in [0, 1] of each of [N, 3, S, S]: 1 up to the median, 0 beyond the limit."""
        found = distances(pooled(trunk, images), self.mean, self.whitening)
        return [reconstruction_factor(float(d), self.median, self.limit) for d in found]


@torch.no_grad()
def pooled(trunk: Trunk, images: Tensor) -> Tensor:
    """Mean of each channel of the coarse maps, [N, C]."""
    return torch.cat([m.mean(dim=(2, 3)) for m in trunk(images)[-_COARSE:]], dim=1)


def distances(features: Tensor, mean: Tensor, whitening: Tensor) -> Tensor:
    """Of each of [N, C], [N]: |whitening (x - mean)|."""
    return torch.linalg.vector_norm((features - mean) @ whitening.T, dim=1)

"""How like the generator's domain a picture is, by the backbone's coarse features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgan_backend.interpreter.uncertainty import reconstruction_factor
from dgan_backend.student.unet import Trunk

_COARSE = 3  # levels, from the coarsest, that are looked at
_SHRINKAGE = 0.05  # of the covariance towards its diagonal
_LIMIT = 0.98  # quantile of held-back in-domain pictures, damaged as uploads are


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

    @classmethod
    def measured(cls, known: Tensor, held_back: Tensor) -> Familiarity:
        """From pooled features [N, C] and held-back ones [M, C]."""
        mean = known.mean(dim=0)
        covariance = torch.cov(known.T)
        diagonal = torch.diag(torch.diagonal(covariance) + 1e-6)
        shrunk = torch.lerp(covariance, diagonal, _SHRINKAGE)
        root = torch.linalg.cholesky(shrunk.double())
        identity = torch.eye(len(mean), dtype=torch.float64, device=known.device)
        whitening = torch.linalg.solve_triangular(root, identity, upper=False).float()
        distances = _distances(held_back, mean, whitening)
        return cls(
            mean, whitening, float(distances.median()), float(torch.quantile(distances, _LIMIT))
        )

    @torch.inference_mode()
    def factors(self, trunk: Trunk, images: Tensor) -> list[float]:
        """r in [0, 1] of each of [N, 3, S, S]: 1 up to the median, 0 beyond the limit."""
        found = _distances(pooled(trunk, images), self.mean, self.whitening)
        return [reconstruction_factor(float(d), self.median, self.limit) for d in found]


@torch.no_grad()
def pooled(trunk: Trunk, images: Tensor) -> Tensor:
    """Mean of each channel of the coarse maps, [N, C]."""
    return torch.cat([m.mean(dim=(2, 3)) for m in trunk(images)[-_COARSE:]], dim=1)


def _distances(features: Tensor, mean: Tensor, whitening: Tensor) -> Tensor:
    return torch.linalg.vector_norm((features - mean) @ whitening.T, dim=1)

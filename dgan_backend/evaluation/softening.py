"""Pictures as soft as samples are: a network that judges samples has to have seen such ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dgan_backend.student.lessons import Labeled


def softened(images: Tensor, resolution: int) -> Tensor:
    """Pictures [N, C, S, S] as they would be had a generator of that resolution made them: reduced
    to it and enlarged again. As they are where they are no larger."""
    side = images.shape[-1]
    if resolution >= side:
        return images
    small = F.interpolate(images, size=resolution, mode="area")
    return F.interpolate(small, size=side, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Softened(Labeled):
    """Lessons of which every other picture, by chance, is soft. resolution: as `softened`."""

    resolution: int

    def batch(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        images, masks = super().batch(count, random)
        soft = torch.rand(count, generator=random) < 0.5
        return torch.where(
            soft[:, None, None, None], softened(images, self.resolution), images
        ), masks

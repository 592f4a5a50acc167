"""Picture -> w+ in one pass: a feature pyramid with one head for each row of w+.

Coarse rows read the coarse maps and fine rows the finer ones, after pSp (Richardson et al.,
CVPR 2021).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgan_backend.generators.operators import FullyConnected
from dgan_backend.inversion.pyramid import Pyramid

_HEAD_SIZE = 4  # every head sees its map pooled to 4x4


@dataclass(frozen=True)
class EncoderConfig:
    """channels: coarse to fine, one number a resolution from 4 px to `resolution`."""

    resolution: int
    num_ws: int
    w_dim: int
    channels: tuple[int, ...]
    img_channels: int = 3

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> EncoderConfig:
        return cls(**{**value, "channels": tuple(value["channels"])})


class Encoder(nn.Module):
    """images [N, C, S, S] float32 in [-1, 1] -> w+ [N, num_ws, w_dim]; it looks at them at its
    own resolution."""

    w_avg: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.pyramid = Pyramid(config.resolution, list(config.channels), config.img_channels)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))
        for row in range(config.num_ws):
            width = config.channels[self._level(row)] * _HEAD_SIZE**2
            self.add_module(f"head{row}", FullyConnected(width, config.w_dim))

    def forward(self, images: Tensor) -> Tensor:
        maps = self._pyramid_of(images)
        pooled = {
            level: F.adaptive_avg_pool2d(maps[4 * 2**level], _HEAD_SIZE).flatten(1)
            for level in {self._level(row) for row in range(self.config.num_ws)}
        }
        rows = [
            self.get_submodule(f"head{row}")(pooled[self._level(row)])
            for row in range(self.config.num_ws)
        ]
        return self.w_avg + torch.stack(rows, dim=1)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The maps that its heads read, and those before them: [N, C_l, H_l, W_l] each."""
        return list(self._pyramid_of(images).values())

    def _pyramid_of(self, images: Tensor) -> dict[int, Tensor]:
        side = self.config.resolution
        if images.shape[-1] != side:
            images = F.interpolate(images, size=(side, side), mode="area")
        found: dict[int, Tensor] = self.pyramid(images)
        return found

    def _level(self, row: int) -> int:
        """Which map a row reads: 4 px for the first three rows, 8 px to row 5, then 16 px."""
        finest = len(self.config.channels) - 2
        return min(max(0, (row - 1) // 2), 2, finest)

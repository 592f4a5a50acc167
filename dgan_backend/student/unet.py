"""A U-Net of few channels: picture -> logits, or -> the maps that a backbone is trained on.

After Ronneberger et al. (MICCAI 2015), with batch norm and nearest-neighbour upsampling.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgan_backend.student.network import SegmentationNetwork


@dataclass(frozen=True)
class UNetConfig:
    """channels: fine to coarse, one number a level; every level halves the resolution.

    The finest level has one convolution on the way down, all others two; each has one on the
    way up. A picture's sides must be multiples of 2^(levels - 1).
    """

    channels: tuple[int, ...] = (12, 32, 48, 72, 96, 96)
    img_channels: int = 3

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> UNetConfig:
        return cls(**{**value, "channels": tuple(value["channels"])})


class Trunk(nn.Module):
    """images [N, C, S, S] float32 in [-1, 1] -> maps, finest first: [N, channels[l], S/2^l, S/2^l].

    All maps are of the way up, but for the coarsest one.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        before = (config.img_channels, *widths[:-1])
        self.down = nn.ModuleList(
            _block(i, o, 2 if level else 1)
            for level, (i, o) in enumerate(zip(before, widths, strict=True))
        )
        pairs = pairwise(widths)
        self.up = nn.ModuleList(_block(fine + coarse, fine, 1) for fine, coarse in pairs)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = images.contiguous(memory_format=torch.channels_last), []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            maps.append(x)
        for level in reversed(range(len(self.up))):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = self.up[level](torch.cat([maps[level], x], dim=1))
            maps[level] = x
        return maps


class UNet(SegmentationNetwork):
    """images [N, C, S, S] float32 in [-1, 1] -> logits [N, K, S, S]."""

    def __init__(self, config: UNetConfig, num_classes: int) -> None:
        super().__init__()
        self.trunk = Trunk(config)
        self.head = nn.Conv2d(config.channels[0], num_classes, 1)

    @property
    def first(self) -> nn.Conv2d:  # type: ignore[override]
        return self.trunk.down[0][0]  # type: ignore[index]

    def features(self, images: Tensor) -> Tensor:
        finest: Tensor = self.trunk(images)[0]
        return finest

    def architecture(self) -> dict[str, Any]:
        return self.trunk.config.to_json()


def _block(in_channels: int, out_channels: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(convolutions):
        wide = in_channels if i == 0 else out_channels
        layers += [
            nn.Conv2d(wide, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def resized(images: Tensor, side: int) -> Tensor:
    """[N, C, S, S] -> [N, C, side, side]: averaged when it shrinks, else bicubic."""
    if images.shape[-1] == side:
        return images
    if images.shape[-1] > side:
        return F.interpolate(images, size=(side, side), mode="area")
    return F.interpolate(images, size=(side, side), mode="bicubic", align_corners=False)

"""Picture -> feature pyramid: the trunk that the encoder and the discriminator share.

A picture enters at every resolution through its own 1x1 conv (the 'skip' input of Karras et al.,
CVPR 2020, fig. 7), so a trunk grows by one finer block that starts as a zero contribution.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgan_backend.generators.operators import Conv, leaky_relu


class DownBlock(nn.Module):
    """[N, I, 2H, 2W] -> [N, O, H, W]: a 3x3 conv, then a 4x4 conv of stride 2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv0 = Conv(in_channels, in_channels)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 4, 4))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1.0 / math.sqrt(in_channels * 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv0(x)
        return leaky_relu(F.conv2d(x, self.weight * self.weight_gain, self.bias, 2, 1))


class Pyramid(nn.Module):
    """images [N, C, R, R] -> {resolution: features [N, channels, r, r]} for r = R/2 .. 4.

    channels: coarse to fine, one number a resolution from 4 px to R.
    """

    def __init__(self, resolution: int, channels: list[int], img_channels: int = 3) -> None:
        super().__init__()
        self.resolutions = [2**k for k in range(2, int(math.log2(resolution)) + 1)]
        for r, width in zip(self.resolutions, channels, strict=True):
            self.add_module(f"from_rgb{r}", Conv(img_channels, width, size=1))
        for i, r in enumerate(self.resolutions[1:], start=1):
            self.add_module(f"down{r}", DownBlock(channels[i], channels[i - 1]))

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        maps: dict[int, Tensor] = {}
        x = self.get_submodule(f"from_rgb{self.resolutions[-1]}")(images)
        for r in reversed(self.resolutions[1:]):
            images = F.avg_pool2d(images, 2)
            x = self.get_submodule(f"down{r}")(x)
            x = x + self.get_submodule(f"from_rgb{r // 2}")(images)
            maps[r // 2] = x
        return maps

    def silence_finest(self) -> None:
        """Make the finest block contribute nothing, so a grown trunk begins where it stood."""
        block = self.get_submodule(f"down{self.resolutions[-1]}")
        if not isinstance(block, DownBlock):
            raise TypeError("a pyramid is made of DownBlocks")
        nn.init.zeros_(block.weight)
        nn.init.zeros_(block.bias)

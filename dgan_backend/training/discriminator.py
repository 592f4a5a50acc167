"""The discriminator: real or made, from a feature pyramid and the spread within a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dgan_backend.generators.operators import Conv, FullyConnected
from dgan_backend.inversion.pyramid import Pyramid

_GROUP = 4


class Discriminator(nn.Module):
    """images [N, C, R, R] in [-1, 1] -> logits [N] and the pyramid's maps."""

    def __init__(self, resolution: int, channels: list[int], img_channels: int = 3) -> None:
        super().__init__()
        self.pyramid = Pyramid(resolution, channels, img_channels)
        self.conv = Conv(channels[0] + 1, channels[0])
        self.hidden = FullyConnected(channels[0] * 16, channels[0], activate=True)
        self.out = FullyConnected(channels[0], 1)

    def forward(self, images: Tensor, sets: int = 1) -> tuple[Tensor, dict[int, Tensor]]:
        """`sets` equally large sets of pictures lie one after the other; each has its spread."""
        maps = self.pyramid(images)
        spread = [append_batch_spread(part) for part in maps[4].chunk(sets)]
        x = self.conv(torch.cat(spread))
        return self.out(self.hidden(x.flatten(1)))[:, 0], maps


def append_batch_spread(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C + 1, H, W]: minibatch standard deviation (Karras et al., ICLR 2018).

    Groups of 4 pictures (fewer when N has no such divisor).
    """
    n, _, h, w = x.shape
    group = next(g for g in range(min(_GROUP, n), 0, -1) if n % g == 0)
    spread = (x.reshape(group, n // group, -1).var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=1)
    return torch.cat([x, spread.repeat(group)[:, None, None, None].expand(n, 1, h, w)], dim=1)

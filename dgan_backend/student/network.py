"""What every network that labels pictures has in common, however it is built."""

from __future__ import annotations

from abc import abstractmethod
from copy import copy
from typing import Any

from torch import Tensor, nn


class SegmentationNetwork(nn.Module):
    """images [N, 3, H, W] float32 in [-1, 1] -> logits [N, K, H, W].

    first: the convolution that reads colours. head: the 1x1 convolution that says classes, of
    `features`. Training, going on with more classes, and serving ask for nothing else.
    """

    first: nn.Conv2d
    head: nn.Conv2d

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """What the head reads, [N, C, H, W], as fine as the pictures."""

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """All numbers but the classes, as JSON; `native.built` makes the network of it."""

    def with_head(self, head: nn.Conv2d) -> SegmentationNetwork:
        """The same network, which it shares all else with, and another head."""
        return self._with("head", head)

    def _with(self, name: str, module: nn.Module) -> SegmentationNetwork:
        other = copy(self)
        other._modules = {**self._modules, name: module}
        return other

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits

    @property
    def num_classes(self) -> int:
        return self.head.out_channels

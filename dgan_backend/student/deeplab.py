"""DeepLab-V3 (Chen et al., arXiv 1706.05587) on a ResNet, and a light one for small pictures.

The ResNets are those of He et al. (CVPR 2016) with the stride of a stage in its 3x3 convolution,
the last two stages dilated instead of strided (output stride 8), with atrous rates 12, 24, 36: all
tensors have the names and shapes of torchvision's `deeplabv3_resnet*`, so that its published
weights fit (`published.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgan_backend.errors import DganError
from dgan_backend.student.network import SegmentationNetwork

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
LIGHT = "light"
BACKBONES = (LIGHT, *BLOCKS)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, colours in [0, 1]
_EXPANSION = 4  # output channels of a bottleneck over its inner ones
_RATES, _ATROUS = (12, 24, 36), 256  # of ASPP, and its channels
_LIGHT_RATES, _LIGHT_ATROUS = (2, 4, 6), 64  # on the 16 x 16 grid that a picture of 128 px has


@dataclass(frozen=True)
class DeepLabConfig:
    """backbone: one of BACKBONES. widths: channels of the light one's five stages, finest first."""

    backbone: str = LIGHT
    widths: tuple[int, ...] = (16, 32, 48, 72, 96)

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise DganError(f"{self.backbone!r} is no backbone: {', '.join(BACKBONES)}.")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> DeepLabConfig:
        return cls(**{**value, "widths": tuple(value["widths"])})


def new_deeplab(config: DeepLabConfig, num_classes: int, seed: int = 0) -> SegmentationNetwork:
    """At random by `seed`; torch's global generator is left as it was."""
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return deeplab(config, num_classes)


def deeplab(config: DeepLabConfig, num_classes: int) -> SegmentationNetwork:
    kind = LightDeepLab if config.backbone == LIGHT else DeepLab
    return kind(config, num_classes).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class DeepLab(SegmentationNetwork):
    """images [N, 3, H, W] in [-1, 1] -> logits [N, K, H, W]; sides in multiples of 8."""

    def __init__(self, config: DeepLabConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = ResNet(BLOCKS[config.backbone])
        channels = 512 * _EXPANSION
        self.classifier = nn.Sequential(
            ASPP(channels, _ATROUS, _RATES),
            *_block(_ATROUS, _ATROUS, 3),
            nn.Conv2d(_ATROUS, num_classes, 1),
        )

    @property
    def first(self) -> nn.Conv2d:  # type: ignore[override]
        return self.backbone.conv1

    @property
    def head(self) -> nn.Conv2d:  # type: ignore[override]
        return self.classifier[-1]  # type: ignore[return-value]

    def with_head(self, head: nn.Conv2d) -> SegmentationNetwork:
        return self._with("classifier", nn.Sequential(*list(self.classifier)[:-1], head))

    def architecture(self) -> dict[str, Any]:
        return self.config.to_json()

    def features(self, images: Tensor) -> Tensor:
        return _enlarged(self._coarse(images), images)

    def forward(self, images: Tensor) -> Tensor:
        """The head before it is enlarged: a 1x1 convolution and interpolation commute."""
        return _enlarged(self.head(self._coarse(images)), images)

    def _coarse(self, images: Tensor) -> Tensor:
        found: Tensor = self.classifier[:-1](self.backbone(_normalized(images)))
        return found


class LightDeepLab(SegmentationNetwork):
    """DeepLab-V3 of a tenth of the channels. Its stem keeps the pictures' size, and three steps
    bring what ASPP found back to it, as in DeepLab-V3+ (Chen et al., ECCV 2018): on an output
    stride of 8 a part of 5 px would be lost. Sides in multiples of 8.
    """

    def __init__(self, config: DeepLabConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.backbone = LightBackbone(widths)
        self.aspp = ASPP(widths[-1], _LIGHT_ATROUS, _LIGHT_RATES, pool_norm=False, dropout=0.1)
        fine = widths[2::-1]
        self.refine = nn.ModuleList(
            nn.Sequential(*_block(before + own, own, 3))
            for before, own in zip((_LIGHT_ATROUS, *fine), fine, strict=False)
        )
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    @property
    def first(self) -> nn.Conv2d:  # type: ignore[override]
        return self.backbone.stages[0][0]  # type: ignore[index]

    def architecture(self) -> dict[str, Any]:
        return self.config.to_json()

    def features(self, images: Tensor) -> Tensor:
        maps = self.backbone(_normalized(images))
        x = self.aspp(maps[-1])
        for step, fine in zip(self.refine, maps[2::-1], strict=True):
            x = F.interpolate(x, size=fine.shape[2:], mode="nearest")
            x = step(torch.cat([x, fine], dim=1))
        return x


class LightBackbone(nn.Module):
    """Five stages: strides 1, 2, 4, 8 and again 8, dilated."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*_block(3, a, 3)),
                nn.Sequential(BasicBlock(a, b, stride=2)),
                nn.Sequential(BasicBlock(b, c, stride=2), BasicBlock(c, c)),
                nn.Sequential(BasicBlock(c, d, stride=2), BasicBlock(d, d)),
                nn.Sequential(BasicBlock(d, e, dilation=2), BasicBlock(e, e, dilation=2)),
            ]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class ResNet(nn.Module):
    """images -> the last stage's maps [N, 2048, H / 8, W / 8]."""

    def __init__(self, blocks: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, blocks[0])
        self.layer2 = _stage(256, 128, blocks[1], stride=2)
        self.layer3 = _stage(512, 256, blocks[2], dilation=2)
        self.layer4 = _stage(1024, 512, blocks[3], dilation=4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        found: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return found


class Bottleneck(nn.Module):
    def __init__(self, before: int, inner: int, stride: int, dilation: int) -> None:
        super().__init__()
        after = inner * _EXPANSION
        self.conv1, self.bn1 = _conv(before, inner, 1), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = _conv(inner, inner, 3, stride, dilation), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = _conv(inner, after, 1), nn.BatchNorm2d(after)
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(_conv(before, after, 1, stride), nn.BatchNorm2d(after))
        else:
            self.downsample = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class BasicBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(before, after, 3, stride, dilation), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = _conv(after, after, 3, 1, dilation), nn.BatchNorm2d(after)
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(_conv(before, after, 1, stride), nn.BatchNorm2d(after))
        else:
            self.downsample = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one 1x1 and some dilated 3x3 convolutions side by side, and
    the mean of the whole picture.

    pool_norm: batch norm of that mean, of which a batch of 4 pictures gives only 4 values.
    """

    def __init__(
        self,
        before: int,
        after: int,
        rates: Sequence[int],
        pool_norm: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        pool = _block(before, after, 1) if pool_norm else [nn.Conv2d(before, after, 1), nn.ReLU()]
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*_block(before, after, 1)),
                *(nn.Sequential(*_block(before, after, 3, dilation=rate)) for rate in rates),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), *pool),
            ]
        )
        wide = after * len(self.convs)
        self.project = nn.Sequential(*_block(wide, after, 1), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        found = [conv(x) for conv in self.convs]
        found[-1] = found[-1].expand(-1, -1, *x.shape[2:])
        projected: Tensor = self.project(torch.cat(found, dim=1))
        return projected


def _stage(
    before: int, inner: int, blocks: int, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """A stage that is dilated in place of its stride dilates from its second block on; the first
    one has the dilation of the stage before."""
    first = Bottleneck(before, inner, stride, max(1, dilation // 2))
    after = inner * _EXPANSION
    others = [Bottleneck(after, inner, 1, dilation) for _ in range(blocks - 1)]
    return nn.Sequential(first, *others)


def _conv(before: int, after: int, side: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (side // 2)
    return nn.Conv2d(before, after, side, stride, padding, dilation, bias=False)


def _block(before: int, after: int, side: int, dilation: int = 1) -> list[nn.Module]:
    convolution = _conv(before, after, side, dilation=dilation)
    return [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]


def _normalized(images: Tensor) -> Tensor:
    """[-1, 1] -> what networks trained on ImageNet expect."""
    mean = images.new_tensor(_MEAN).reshape(1, 3, 1, 1)
    deviation = images.new_tensor(_DEVIATION).reshape(1, 3, 1, 1)
    return ((images + 1) / 2 - mean).div_(deviation).contiguous(memory_format=torch.channels_last)


def _enlarged(maps: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(maps, size=images.shape[2:], mode="bilinear", align_corners=False)

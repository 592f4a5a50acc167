"""StyleGAN2 (Karras et al., CVPR 2020) in plain torch.

Parameter names are those of published checkpoints, so converted files load by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dgan_backend.errors import DganError
from dgan_backend.generators.mapping import MappingNetwork
from dgan_backend.generators.network import Architecture, Network, Synthesis, SynthesisOutput
from dgan_backend.generators.operators import (
    FullyConnected,
    fir_kernel,
    leaky_relu,
    modulated_conv,
    upsample,
)

ARCHITECTURES = ("skip", "resnet", "orig")


@dataclass(frozen=True)
class StyleGAN2Config(Architecture):
    """Every number of the architecture.

    channels: one number a block, coarse to fine (4 px first); empty = min(channel_base //
    resolution, channel_max). conv_clamp: bound of activations, or None. resample_filter: the 1-D
    taps of the FIR.
    """

    channels: tuple[int, ...] = ()
    architecture: str = "skip"
    conv_clamp: float | None = None
    resample_filter: tuple[float, ...] = (1, 3, 3, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture not in ARCHITECTURES:
            raise DganError(f"architecture {self.architecture!r} is none of {ARCHITECTURES}.")
        if self.channels and len(self.channels) != len(self.block_resolutions):
            raise DganError(f"channels needs {len(self.block_resolutions)} numbers, one a block.")

    @property
    def block_resolutions(self) -> list[int]:
        return [2**k for k in range(2, int(math.log2(self.resolution)) + 1)]

    @property
    def num_ws(self) -> int:
        return 2 * int(math.log2(self.resolution)) - 2

    @property
    def block_channels(self) -> list[int]:
        if self.channels:
            return list(self.channels)
        return [min(self.channel_base // r, self.channel_max) for r in self.block_resolutions]


class SynthesisLayer(nn.Module):
    """Modulated 3x3 conv, fixed noise, bias, leaky ReLU, clamp; twice the size when `up`."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(self, config: StyleGAN2Config, i: int, o: int, resolution: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv_clamp = config.conv_clamp
        self.affine = FullyConnected(config.w_dim, i, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(o, i, 3, 3))
        self.bias = nn.Parameter(torch.zeros(o))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("resample_filter", fir_kernel(config.resample_filter))

    def forward(self, x: Tensor, w: Tensor, use_noise: bool = True, gain: float = 1.0) -> Tensor:
        kernel = self.resample_filter if self.up else None
        y = modulated_conv(x, self.weight, self.affine(w), kernel)
        return leaky_relu(y + self._offset(y, use_noise), gain, self.conv_clamp)

    def _offset(self, y: Tensor, use_noise: bool) -> Tensor:
        """Bias and noise, which lie in memory as y does: adding is 5 times as slow otherwise."""
        if not use_noise:
            return self.bias[None, :, None, None].to(y.dtype)
        noise = self.noise_const * self.noise_strength
        if y.is_contiguous(memory_format=torch.channels_last):
            return (self.bias + noise[:, :, None]).to(y.dtype).permute(2, 0, 1)[None]
        return (self.bias[None, :, None, None] + noise).to(y.dtype)


class ToRGB(nn.Module):
    """Modulated 1x1 conv without demodulation; the weight gain is applied to the style."""

    def __init__(self, config: StyleGAN2Config, in_channels: int) -> None:
        super().__init__()
        self.conv_clamp = config.conv_clamp
        self.affine = FullyConnected(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(config.img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.img_channels))
        self.gain = 1.0 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = modulated_conv(x, self.weight, self.affine(w) * self.gain, demodulate=False)
        y = y.float() + self.bias[None, :, None, None]
        return y if self.conv_clamp is None else y.clamp(-self.conv_clamp, self.conv_clamp)


class SkipConv(nn.Module):
    """The residual branch of the 'resnet' architecture: 1x1 conv, then upsampling, no bias."""

    resample_filter: Tensor

    def __init__(self, config: StyleGAN2Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.gain = math.sqrt(0.5) / math.sqrt(in_channels)
        self.register_buffer("resample_filter", fir_kernel(config.resample_filter))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.conv2d(x, (self.weight * self.gain).to(x.dtype))
        return upsample(y, self.resample_filter)


class SynthesisBlock(nn.Module):
    """The layers of one resolution."""

    resample_filter: Tensor

    def __init__(self, config: StyleGAN2Config, index: int) -> None:
        super().__init__()
        resolution = config.block_resolutions[index]
        channels = config.block_channels
        out = channels[index]
        self.architecture = config.architecture
        self.is_first = index == 0
        self.register_buffer("resample_filter", fir_kernel(config.resample_filter))
        if self.is_first:
            self.const = nn.Parameter(torch.randn(out, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(config, channels[index - 1], out, resolution, up=True)
            if config.architecture == "resnet":
                self.skip = SkipConv(config, channels[index - 1], out)
        self.conv1 = SynthesisLayer(config, out, out, resolution, up=False)
        is_last = resolution == config.resolution
        self.has_rgb = is_last or config.architecture == "skip"
        if self.has_rgb:
            self.torgb = ToRGB(config, out)

    def forward(
        self, x: Tensor, image: Tensor | None, w: Tensor, use_noise: bool
    ) -> tuple[Tensor, Tensor | None, list[tuple[str, Tensor]]]:
        """w [N, rows of this block + 1, w_dim]: toRGB reads the row of the next conv."""
        maps = []
        if self.is_first:
            x = self.const[None].expand(len(w), -1, -1, -1).to(x.dtype)
            x = self.conv1(x, w[:, 0], use_noise)
        elif self.architecture == "resnet":
            branch = self.skip(x)
            first = self.conv0(x, w[:, 0], use_noise)
            maps.append(("conv0", first))
            x = self.conv1(first, w[:, 1], use_noise, gain=math.sqrt(0.5))
        else:
            first = self.conv0(x, w[:, 0], use_noise)
            maps.append(("conv0", first))
            x = self.conv1(first, w[:, 1], use_noise)
        maps.append(("conv1", x))
        if self.architecture == "resnet" and not self.is_first:
            x = branch + x
        return x, self._image(x, image, w[:, -1]), maps

    def _image(self, x: Tensor, image: Tensor | None, w: Tensor) -> Tensor | None:
        if image is not None:
            image = upsample(image, self.resample_filter)
        if not self.has_rgb:
            return image
        rgb = self.torgb(x, w)
        return rgb if image is None else image + rgb


class SynthesisNetwork(Synthesis):
    """w+ [N, num_ws, w_dim] -> picture and the output of every 3x3 conv after its activation."""

    config: StyleGAN2Config

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config)
        for index, resolution in enumerate(config.block_resolutions):
            self.add_module(f"b{resolution}", SynthesisBlock(config, index))

    @property
    def feature_names(self) -> list[str]:
        names = [f"b{r}.{c}" for r in self.config.block_resolutions for c in ("conv0", "conv1")]
        return names[1:]

    @property
    def feature_channels(self) -> list[int]:
        twice = [c for c in self.config.block_channels for _ in range(2)]
        return twice[1:]

    def forward(
        self,
        w: Tensor,
        use_noise: bool = True,
        features: bool = True,
        dtype: torch.dtype | None = None,
    ) -> SynthesisOutput:
        self.check(w)
        x, image = w.to(dtype or w.dtype), None
        names: list[str] = []
        kept: list[Tensor] = []
        row = 0
        for resolution in self.config.block_resolutions:
            block = self.get_submodule(f"b{resolution}")
            convs = 1 if resolution == 4 else 2
            x, image, maps = block(x, image, w[:, row : row + convs + 1], use_noise)
            row += convs
            if features:
                names += [f"b{resolution}.{name}" for name, _ in maps]
                kept += [feature for _, feature in maps]
            del maps
        if image is None:
            raise AssertionError("the last block always makes an image")
        return SynthesisOutput(image.float(), kept, names)


class StyleGAN2(Network):
    """Mapping and synthesis; FIR buffers follow from the config."""

    redundant = ("resample_filter",)
    channels_last = True

    config: StyleGAN2Config
    mapping: MappingNetwork
    synthesis: SynthesisNetwork

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config)
        self.synthesis = SynthesisNetwork(config)

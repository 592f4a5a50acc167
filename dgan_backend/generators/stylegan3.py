"""StyleGAN3, configurations T and R (Karras et al., NeurIPS 2021), in plain torch.

Parameter names are those of published checkpoints, so converted files load by name.

A layer works on a canvas larger than the picture. A map of `size` samples at `rate` samples a
picture side has its sample j at (j + 0.5 - size / 2) / rate from the picture's middle, in picture
sides, and the filters keep it there. So the picture, which reaches from -1/2 to 1/2, is exactly
the middle `rate` samples: feature maps are cut by (size - rate) / 2 on each side, and bilinear
upsampling (align_corners=False) of what is left lies on the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from dgan_backend.errors import DganError
from dgan_backend.generators.mapping import MappingNetwork
from dgan_backend.generators.network import Architecture, Network, Synthesis, SynthesisOutput
from dgan_backend.generators.operators import FullyConnected, leaky_relu, modulated_conv
from dgan_backend.generators.resampling import downsample_by, low_pass, upsample_by


@dataclass(frozen=True)
class Band:
    """The signal between two layers. Frequencies are in cycles, rates in samples a picture side.

    half_width: of the transition band, from the cutoff. size: samples of the canvas.
    """

    rate: int
    size: int
    cutoff: float
    half_width: float
    channels: int

    @property
    def margin(self) -> int:
        """Samples on each side that lie outside the picture."""
        return (self.size - self.rate) // 2


@dataclass(frozen=True)
class StyleGAN3Config(Architecture):
    """Every number of the architecture; T by default, R with conv_kernel 1 and radial_filters.

    layers: beside toRGB, the last `critical` of them critically sampled. first_cutoff,
    first_stopband: in cycles a picture side; last_stopband: as a multiple of the last cutoff,
    which is resolution / 2. margin: samples that the canvas reaches beyond the picture on each
    side. filter_size: taps for each step of a resampling. upsampling: rate of the non-linearity
    as a multiple of its layer's.
    """

    mapping_layers: int = 2
    layers: int = 14
    critical: int = 2
    first_cutoff: float = 2.0
    first_stopband: float = 2**2.1
    last_stopband: float = 2**0.3
    margin: int = 10
    conv_kernel: int = 3
    filter_size: int = 6
    upsampling: int = 2
    radial_filters: bool = False
    conv_clamp: float | None = 256.0
    output_scale: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.critical < self.layers:
            raise DganError(f"critical must be from 1 to {self.layers - 1}, not {self.critical}.")
        if self.conv_kernel not in (1, 3):
            raise DganError(f"conv_kernel must be 1 (R) or 3 (T), not {self.conv_kernel}.")
        if self.filter_size % 2:
            raise DganError(f"filter_size must be even, not {self.filter_size}.")
        if not 0 < self.first_cutoff < self.resolution / 2:
            raise DganError(
                f"first_cutoff must lie between 0 and {self.resolution / 2:g} (half the "
                f"resolution), not at {self.first_cutoff}."
            )

    @property
    def num_ws(self) -> int:
        """One row for the input, one a layer, one for toRGB."""
        return self.layers + 2

    @cached_property
    def bands(self) -> list[Band]:
        """The output of every layer and of toRGB, first to last.

        Cutoffs and stopbands grow geometrically up to the critically sampled layers; a rate is
        the power of two that holds the stopband (section 3.2 of the paper).
        """
        last_cutoff = self.resolution / 2
        last_stopband = last_cutoff * self.last_stopband
        bands = []
        for i in range(self.layers + 1):
            step = min(i / (self.layers - self.critical), 1.0)
            cutoff = self.first_cutoff * (last_cutoff / self.first_cutoff) ** step
            stopband = self.first_stopband * (last_stopband / self.first_stopband) ** step
            rate = 2 ** math.ceil(math.log2(min(2 * stopband, self.resolution)))
            size = rate + 2 * self.margin if i < self.layers - 1 else self.resolution
            half_width = max(stopband, rate / 2) - cutoff
            channels = round(min(self.channel_base / 2 / cutoff, self.channel_max))
            bands.append(Band(rate, size, cutoff, half_width, channels))
        return bands

    @property
    def layer_names(self) -> list[str]:
        """Number, canvas size and channels of every layer and of toRGB, as checkpoints have it."""
        names = [f"L{i}_{b.size}_{b.channels}" for i, b in enumerate(self.bands[:-1])]
        return [*names, f"L{self.layers}_{self.bands[-1].size}_{self.img_channels}"]


class FourierInput(nn.Module):
    """w [N, w_dim] -> [N, C, size, size]: waves over the canvas, turned and shifted by w.

    transform: a user's 3x3 matrix, in picture sides from the middle; it says where each point of
    the canvas is taken from, so the picture moves by its inverse.
    """

    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__()
        self.band = config.bands[0]
        channels = self.band.channels
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = FullyConnected(config.w_dim, 4)
        nn.init.zeros_(self.affine.weight)
        self.affine.bias.data.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        angles, radii = torch.rand(channels) * 2 * math.pi, torch.rand(channels).sqrt()
        waves = torch.stack([angles.cos(), angles.sin()], dim=1) * radii[:, None]
        self.register_buffer("freqs", waves * self.band.cutoff)
        self.register_buffer("phases", torch.rand(channels) - 0.5)
        self.register_buffer("transform", torch.eye(3))

    def forward(self, w: Tensor) -> Tensor:
        """A point p is taken from R (U p - t): U the user's, then w's shift, then its rotation."""
        turn = self._turn_and_shift(w.float())
        linear = turn[:, :, :2] @ self.transform[:2, :2]
        offset = turn[:, :, :2] @ self.transform[:2, 2:] + turn[:, :, 2:]
        frequencies = self.freqs @ linear  # [N, C, 2]
        phases = (self.freqs @ offset)[:, :, 0] + self.phases  # [N, C]
        along = torch.arange(self.band.size, device=w.device) + 0.5 - self.band.size / 2
        along = along / self.band.rate
        across = frequencies[:, None, None, :, 0] * along[None, None, :, None]
        down = frequencies[:, None, None, :, 1] * along[None, :, None, None]
        waves = torch.sin(2 * math.pi * (across + down + phases[:, None, None]))
        waves = waves * self._strengths(frequencies)[:, None, None]
        mixed = waves @ self.weight.T / math.sqrt(len(self.weight))
        return mixed.permute(0, 3, 1, 2)

    def _turn_and_shift(self, w: Tensor) -> Tensor:
        """[N, 2, 3]: w's rotation, and what its shift becomes under it."""
        cosine, sine, x, y = self.affine(w).unbind(dim=1)
        length = torch.hypot(cosine, sine)
        cosine, sine, x, y = cosine / length, sine / length, x / length, y / length
        rows = [cosine, -sine, sine * y - cosine * x, sine, cosine, -sine * x - cosine * y]
        return torch.stack(rows, dim=1).reshape(-1, 2, 3)

    def _strengths(self, frequencies: Tensor) -> Tensor:
        """[N, C] in [0, 1]: waves that a user's scaling lifts above the cutoff fade out, linearly
        up to half the sampling rate."""
        above = frequencies.norm(dim=2) - self.band.cutoff
        return (1 - above / (self.band.rate / 2 - self.band.cutoff)).clamp(0, 1)


class SynthesisLayer(nn.Module):
    """Modulated conv, bias, then a leaky ReLU between up- and downsampling.

    magnitude_ema: running mean square of the layer's input, which its gain makes up for.
    """

    magnitude_ema: Tensor
    up_filter: Tensor
    down_filter: Tensor

    def __init__(self, config: StyleGAN3Config, index: int) -> None:
        super().__init__()
        before, after = config.bands[max(index - 1, 0)], config.bands[index]
        self.clamp = config.conv_clamp
        self.kernel = config.conv_kernel
        self.affine = FullyConnected(config.w_dim, before.channels, bias_init=1.0)
        shape = (after.channels, before.channels, self.kernel, self.kernel)
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(after.channels))
        self.register_buffer("magnitude_ema", torch.ones([]))
        rate = max(before.rate, after.rate) * config.upsampling
        self.up, self.down = rate // before.rate, rate // after.rate
        taps = config.filter_size * self.up, config.filter_size * self.down
        radial = config.radial_filters and index < config.layers - config.critical
        low, high = (before.cutoff, before.half_width), (after.cutoff, after.half_width)
        self.register_buffer("up_filter", low_pass(taps[0], *low, rate))
        self.register_buffer("down_filter", low_pass(taps[1], *high, rate, radial))
        self.pad = self._padding(before.size, after.size, sum(taps))

    def _padding(self, size: int, wanted: int, taps: int) -> tuple[int, int]:
        """(before, after), negative where the canvas shrinks; the middle stays the middle."""
        have = (size + self.kernel - 1) * self.up
        need = (wanted - 1) * self.down + 1 + taps - 2
        before = (need - have + self.up) // 2
        return before, need - have - before

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = modulated_conv(x, self.weight, self.affine(w), padding=self.kernel - 1)
        y = y * self.magnitude_ema.rsqrt().to(y.dtype) + self.bias[:, None, None].to(y.dtype)
        y = upsample_by(y, self.up_filter, self.up, self.pad)
        return downsample_by(leaky_relu(y, clamp=self.clamp), self.down_filter, self.down)


class ToRGB(nn.Module):
    """Modulated 1x1 conv without demodulation; the weight gain is applied to the style."""

    magnitude_ema: Tensor

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__()
        channels = config.bands[-2].channels
        self.clamp = config.conv_clamp
        self.affine = FullyConnected(config.w_dim, channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(config.img_channels, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.img_channels))
        self.register_buffer("magnitude_ema", torch.ones([]))
        self.gain = 1.0 / math.sqrt(channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * (self.gain * self.magnitude_ema.rsqrt())
        y = modulated_conv(x, self.weight, style, demodulate=False).float()
        y = y + self.bias[:, None, None]
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


class SynthesisNetwork(Synthesis):
    """w+ [N, num_ws, w_dim] -> picture, and every layer's output without its margin."""

    config: StyleGAN3Config

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__(config)
        self.input = FourierInput(config)
        for i, name in enumerate(config.layer_names[:-1]):
            self.add_module(name, SynthesisLayer(config, i))
        self.add_module(config.layer_names[-1], ToRGB(config))

    @property
    def feature_names(self) -> list[str]:
        return self.config.layer_names[:-1]

    @property
    def feature_channels(self) -> list[int]:
        return [band.channels for band in self.config.bands[:-1]]

    def forward(
        self,
        w: Tensor,
        use_noise: bool = True,
        features: bool = True,
        dtype: torch.dtype | None = None,
    ) -> SynthesisOutput:
        """use_noise: there is none, so it changes nothing."""
        if not features:
            for image in self.canvases(w, dtype):  # noqa: B007  the last one
                pass
            return SynthesisOutput(image * self.config.output_scale, [], [])
        *layers, image = self.canvases(w, dtype)
        maps = [
            x[:, :, band.margin : x.shape[2] - band.margin, band.margin : x.shape[3] - band.margin]
            for x, band in zip(layers, self.config.bands, strict=False)
        ]
        return SynthesisOutput(image * self.config.output_scale, maps, self.feature_names)

    def canvases(self, w: Tensor, dtype: torch.dtype | None = None) -> Iterator[Tensor]:
        """The output of every layer with its margin, then toRGB's, not scaled."""
        self.check(w)
        x = self.input(w[:, 0])
        x = x.to(dtype or x.dtype)
        for row, name in enumerate(self.config.layer_names, start=1):
            x = self.get_submodule(name)(x, w[:, row])
            yield x


class StyleGAN3(Network):
    """Mapping and synthesis. Filters are read from the file, and designed for a new network."""

    exact = ("freqs", "phases", "transform", "up_filter", "down_filter", "magnitude_ema")

    config: StyleGAN3Config
    mapping: MappingNetwork
    synthesis: SynthesisNetwork

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config)
        self.synthesis = SynthesisNetwork(config)

"""StyleGAN (Karras et al., CVPR 2019) as the PyTorch port has it that DatasetGAN reads.

Parameter names are those of the port's checkpoints. They hold neither the average latent nor
noise: the former is then the mean of samples, the latter is drawn once from a seed and stored,
so that a latent is its picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgan_backend.errors import DganError
from dgan_backend.generators.network import (
    Architecture,
    Network,
    Synthesis,
    SynthesisOutput,
    check_latents,
    normalize_second_moment,
    truncated,
)
from dgan_backend.generators.operators import LRELU_SLOPE, FullyConnected, fir_filter, fir_kernel

_FUSED_FROM = 128  # px from which upsampling is part of a transposed convolution
_FIRST_ROWS = {False: 7, True: 8}  # that are truncated: up to 256 px, and above
_AVERAGED = 8000  # samples whose mean stands in for an average latent that is not in a file
_AVERAGE = "truncation.avg_latent"
_NOISE_SEED = 0


@dataclass(frozen=True)
class StyleGAN1Config(Architecture):
    """Every number of the architecture.

    A block of r px has min(channel_base // r, channel_max) channels. truncation_cutoff: rows of
    w+ that are truncated when nothing else is said; None = 7 up to 256 px and 8 above, as
    DatasetGAN has it.
    """

    channel_base: int = 16384
    truncation_cutoff: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.c_dim:
            raise DganError("StyleGAN1 generators with classes (c_dim above 0) cannot be read.")

    @property
    def block_resolutions(self) -> list[int]:
        return [2**k for k in range(2, int(math.log2(self.resolution)) + 1)]

    @property
    def block_channels(self) -> list[int]:
        return [min(self.channel_base // r, self.channel_max) for r in self.block_resolutions]

    @property
    def num_ws(self) -> int:
        """Two rows a block; the port repeats w 18 times whatever the size and reads these."""
        return 2 * len(self.block_resolutions)

    @property
    def truncated_rows(self) -> int:
        if self.truncation_cutoff is not None:
            return self.truncation_cutoff
        return _FIRST_ROWS[self.resolution > 256]


class MappingNetwork(nn.Module):
    """z [N, z_dim] -> w [N, w_dim]. The gain sqrt(2) is the weight's, so biases do not have it."""

    def __init__(self, config: StyleGAN1Config) -> None:
        super().__init__()
        self.num_layers = config.mapping_layers
        sizes = config.mapping_widths
        for i in range(config.mapping_layers):
            layer = FullyConnected(
                sizes[i], sizes[i + 1], lr_multiplier=config.mapping_lr_multiplier
            )
            layer.weight_gain *= math.sqrt(2.0)
            self.add_module(f"dense{i}", layer)

    def forward(self, z: Tensor) -> Tensor:
        x = normalize_second_moment(z.float())
        for i in range(self.num_layers):
            x = F.leaky_relu(self.get_submodule(f"dense{i}")(x), LRELU_SLOPE)
        return x


class Blur(nn.Module):
    """Binomial low-pass [1, 2, 1], of unit sum."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel((1, 2, 1))[None, None])

    def forward(self, x: Tensor) -> Tensor:
        return fir_filter(x, self.kernel[0, 0], (1, 1, 1, 1), gain=1.0)


class Conv(nn.Module):
    """Convolution with equalised learning rate; with `up` twice the size, blurred before the bias.

    From 128 px upward upsampling and convolution are one transposed convolution, whose kernel is
    the sum of the four shifts of the plain one; below, pixels are repeated first. At borders
    the two differ.
    """

    def __init__(
        self, i: int, o: int, size: int = 3, gain: float = math.sqrt(2.0), up: int = 0
    ) -> None:
        """up: resolution that the result is upsampled to, 0 = none."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(o, i, size, size))
        self.bias = nn.Parameter(torch.zeros(o))
        self.weight_gain = gain / math.sqrt(i * size * size)
        self.up = up
        if up:
            self.intermediate = Blur()

    def forward(self, x: Tensor) -> Tensor:
        w = (self.weight * self.weight_gain).to(x.dtype)
        if self.up >= _FUSED_FROM:
            x = self.intermediate(F.conv_transpose2d(x, _fused(w), stride=2, padding=1))
        elif self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = self.intermediate(F.conv2d(x, w, padding=1))
        else:
            x = F.conv2d(x, w, padding=w.shape[-1] // 2)
        return x + self.bias[:, None, None].to(x.dtype)


def _fused(w: Tensor) -> Tensor:
    """[O, I, 3, 3] -> [I, O, 4, 4]: the sum of the kernel at four shifts."""
    return F.avg_pool2d(F.pad(w, (1, 1, 1, 1)), 2, stride=1).mul(4).transpose(0, 1)


class Noise(nn.Module):
    """Adds one fixed noise picture [r, r], times a weight for each channel."""

    noise_const: Tensor

    def __init__(self, channels: int, resolution: int, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        noise = np.random.RandomState(seed).randn(resolution, resolution).astype(np.float32)
        self.register_buffer("noise_const", torch.from_numpy(noise))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.weight[:, None, None] * self.noise_const).to(x.dtype)


class Epilogue(nn.Module):
    """Noise, leaky ReLU, instance norm and style: the AdaIN of the paper."""

    def __init__(self, config: StyleGAN1Config, channels: int, resolution: int, row: int) -> None:
        super().__init__()
        self.top_epi = nn.ModuleDict({"noise": Noise(channels, resolution, _NOISE_SEED + row)})
        self.style_mod = nn.ModuleDict({"lin": FullyConnected(config.w_dim, 2 * channels)})

    def forward(self, x: Tensor, w: Tensor, use_noise: bool) -> Tensor:
        if use_noise:
            x = self.top_epi["noise"](x)
        y = F.instance_norm(F.leaky_relu(x, LRELU_SLOPE).float(), eps=1e-5)
        scale, shift = self.style_mod["lin"](w)[:, :, None, None].chunk(2, dim=1)
        return (y * (scale + 1.0) + shift).to(x.dtype)


class Block(nn.Module):
    """The layers of one resolution."""

    def __init__(self, config: StyleGAN1Config, index: int) -> None:
        super().__init__()
        resolution, out = config.block_resolutions[index], config.block_channels[index]
        self.is_first = index == 0
        if self.is_first:
            self.const = nn.Parameter(torch.ones(1, out, resolution, resolution))
            self.bias = nn.Parameter(torch.ones(out))
            self.conv = Conv(out, out)
        else:
            self.conv0_up = Conv(config.block_channels[index - 1], out, up=resolution)
            self.conv1 = Conv(out, out)
        self.epi1 = Epilogue(config, out, resolution, 2 * index)
        self.epi2 = Epilogue(config, out, resolution, 2 * index + 1)

    def forward(self, x: Tensor, w: Tensor, use_noise: bool) -> tuple[Tensor, Tensor]:
        """w [N, 2, w_dim]. Returns the block's output and its last conv's, before the epilogue."""
        if self.is_first:
            const = (self.const + self.bias[:, None, None]).to(x.dtype)
            x = const.expand(len(w), -1, -1, -1)
        else:
            x = self.conv0_up(x)
        x = self.epi1(x, w[:, 0], use_noise)
        raw = self.conv(x) if self.is_first else self.conv1(x)
        return self.epi2(raw, w[:, 1], use_noise), raw


class SynthesisNetwork(Synthesis):
    """w+ [N, num_ws, w_dim] -> picture, and of each block the two maps that DatasetGAN reads.

    They are the block's output (after the AdaIN of its second conv), then that conv's own output
    with its bias, before noise and activation.
    """

    config: StyleGAN1Config

    def __init__(self, config: StyleGAN1Config) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleDict(
            {f"{r}x{r}": Block(config, i) for i, r in enumerate(config.block_resolutions)}
        )
        self.torgb = Conv(config.block_channels[-1], config.img_channels, size=1, gain=1.0)

    @property
    def feature_names(self) -> list[str]:
        kinds = ("post_adain", "pre_epilogue")
        return [f"{r}x{r}.{kind}" for r in self.config.block_resolutions for kind in kinds]

    @property
    def feature_channels(self) -> list[int]:
        return [c for c in self.config.block_channels for _ in range(2)]

    def forward(
        self,
        w: Tensor,
        use_noise: bool = True,
        features: bool = True,
        dtype: torch.dtype | None = None,
    ) -> SynthesisOutput:
        self.check(w)
        x, kept = w.to(dtype or w.dtype), []
        for i, block in enumerate(self.blocks.values()):
            x, raw = block(x, w[:, 2 * i : 2 * i + 2], use_noise)
            if features:
                kept += [x, raw]
        names = self.feature_names if features else []
        return SynthesisOutput(self.torgb(x.float()), kept, names)


class Truncation(nn.Module):
    """The average latent that w+ is moved towards, a row for each of w+'s."""

    avg_latent: Tensor

    def __init__(self, config: StyleGAN1Config) -> None:
        super().__init__()
        self.register_buffer("avg_latent", torch.zeros(config.num_ws, config.w_dim))


class StyleGAN1(Network):
    """Mapping and synthesis; blur kernels follow from the config, absent noise from a seed."""

    redundant = ("intermediate.kernel",)
    optional = ("noise_const", _AVERAGE)

    config: StyleGAN1Config

    def __init__(self, config: StyleGAN1Config) -> None:
        super().__init__()
        self.config = config
        self.g_mapping = MappingNetwork(config)
        self.g_synthesis = SynthesisNetwork(config)
        self.truncation = Truncation(config)

    @property
    def synthesis(self) -> SynthesisNetwork:  # type: ignore[override]
        return self.g_synthesis

    def mapping(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """z [N, z_dim] -> w+ [N, num_ws, w_dim]. c: there are no classes, so it must be None.

        truncation_cutoff: rows of w+ that are truncated; None = the config's number.
        """
        check_latents(self.config, z, c)
        w = self.g_mapping(z)[:, None].repeat(1, self.config.num_ws, 1)
        cutoff = self.config.truncated_rows if truncation_cutoff is None else truncation_cutoff
        return truncated(w, self.truncation.avg_latent, truncation, cutoff)

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """As `Network.load_tensors`; without an average latent it is the mean w of 8000 samples."""
        super().load_tensors(tensors)
        if _AVERAGE not in tensors:
            self.truncation.avg_latent.copy_(self._mean_latent())

    @torch.no_grad()
    def _mean_latent(self) -> Tensor:
        """[w_dim]; the samples are the same on every machine."""
        z = np.random.RandomState(0).randn(_AVERAGED, self.config.z_dim).astype(np.float32)
        batch = torch.from_numpy(z).to(self.truncation.avg_latent.device)
        return self.g_mapping(batch).mean(dim=0)

"""The networks of one training: built for a resolution, and grown to the next."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from dgan_backend.generators.stylegan2 import StyleGAN2, StyleGAN2Config
from dgan_backend.inversion.encoder import Encoder, EncoderConfig
from dgan_backend.training.discriminator import Discriminator

_HALVED_FROM = 32  # px from which the trunks are half as wide as the generator
_FEWEST = 16


class Networks(nn.Module):
    """Generator, encoder, discriminator, and the running averages that get shipped."""

    def __init__(self, target: StyleGAN2Config, resolution: int) -> None:
        super().__init__()
        self.target = target
        self.resolution = resolution
        config = config_at(target, resolution)
        widths = trunk_channels(config)
        self.generator = StyleGAN2(config)
        self.encoder = Encoder(
            EncoderConfig(
                resolution, config.num_ws, config.w_dim, tuple(widths), config.img_channels
            )
        )
        self.discriminator = Discriminator(resolution, widths, config.img_channels)
        self.generator_average = _frozen_copy(self.generator)
        self.encoder_average = _frozen_copy(self.encoder)

    def grown(self) -> Networks:
        """The same networks at twice the resolution, whose pictures are the old ones enlarged."""
        new = Networks(self.target, self.resolution * 2).to(next(self.parameters()).device)
        top = new.generator.synthesis.get_submodule(f"b{new.resolution}")
        nn.init.zeros_(top.torgb.weight)  # type: ignore[arg-type, union-attr]
        new.encoder.pyramid.silence_finest()
        new.discriminator.pyramid.silence_finest()
        for row in range(self.generator.config.num_ws, new.generator.config.num_ws):
            nn.init.zeros_(new.encoder.get_submodule(f"head{row}").weight)  # type: ignore[arg-type]
        new.load_state_dict(self.state_dict(), strict=False)
        new.generator_average = _frozen_copy(new.generator, self.generator_average)
        new.encoder_average = _frozen_copy(new.encoder, self.encoder_average)
        return new

    @torch.no_grad()
    def update_averages(self, decay: float) -> None:
        """Move the averages towards the networks by 1 - decay."""
        pairs = (
            (self.generator_average, self.generator),
            (self.encoder_average, self.encoder),
        )
        for average, network in pairs:
            for kept, now in zip(average.parameters(), network.parameters(), strict=True):
                kept.lerp_(now, 1.0 - decay)
            for buffer, current in zip(average.buffers(), network.buffers(), strict=True):
                buffer.copy_(current)


def config_at(target: StyleGAN2Config, resolution: int) -> StyleGAN2Config:
    """The target's architecture cut down to its blocks up to `resolution`."""
    kept = len([r for r in target.block_resolutions if r <= resolution])
    return replace(target, resolution=resolution, channels=tuple(target.block_channels[:kept]))


def trunk_channels(config: StyleGAN2Config) -> list[int]:
    """Channels of encoder and discriminator, coarse to fine.

    As the generator's, but half as many from 32 px on, where most of the time goes. They depend
    on the resolution alone, so that a grown trunk takes over the smaller one's weights.
    """
    sizes = zip(config.block_resolutions, config.block_channels, strict=True)
    return [max(_FEWEST, c // 2) if r >= _HALVED_FROM else c for r, c in sizes]


def _frozen_copy(network: nn.Module, weights_of: nn.Module | None = None) -> nn.Module:
    copied = copy.deepcopy(network)
    if weights_of is not None:
        copied.load_state_dict(weights_of.state_dict(), strict=False)
    return copied.eval().requires_grad_(False)

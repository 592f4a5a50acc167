"""A generator with random weights and an interpreter of it: what labels cost does not depend on
what they mean, only on the sizes of all parts and on how much of a picture is border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dgan_backend.benchmark.clusters import cluster_masks
from dgan_backend.generators.mapping import MappingNetwork
from dgan_backend.generators.native import Generator, GeneratorCard
from dgan_backend.generators.stylegan2 import StyleGAN2Config
from dgan_backend.interpreter import Ensemble, FitSettings, fit_ensemble

CLASSES = 20
PICTURES = 16
_COARSER = 8  # labels are made of the maps of so many times fewer px a side
_TRUNCATION = 0.4  # pictures of random weights have less in common than those of trained ones
_NOISE = 0.1  # strength of the fixed noise, which a trained generator has in all its maps


@dataclass(frozen=True)
class Scene:
    """generator, and the interpreter fitted on pictures of seeds 0 to 15."""

    generator: Generator
    ensemble: Ensemble

    def latent(self, seed: int) -> Tensor:
        """w [1, num_ws, w_dim]."""
        return latent(self.generator, seed)


def make_generator(config: StyleGAN2Config) -> Generator:
    """Random weights, the same each time."""
    card = GeneratorCard(
        f"random-{config.resolution}", config, sha256="0" * 64, truncation=_TRUNCATION
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(card)
        mapping = cast(MappingNetwork, generator.network.mapping)
        with torch.no_grad():
            mapping.w_avg.copy_(mapping.style(torch.randn(2000, config.z_dim)).mean(dim=0))
    for name, value in generator.named_parameters():
        if name.endswith("noise_strength"):
            value.data.fill_(_NOISE)
    return generator.at_rest()


def paper_config(resolution: int) -> StyleGAN2Config:
    """Config F of StyleGAN2, and its smaller sister at 256 px."""
    return StyleGAN2Config(resolution, channel_base=16384 if resolution <= 256 else 32768)


def latent(generator: Generator, seed: int) -> Tensor:
    z = generator.latent_from_seed(seed)
    return generator.mapping(z, truncation=generator.card.truncation)


@torch.inference_mode()
def make_masks(generator: Generator, count: int = PICTURES) -> npt.NDArray[np.uint8]:
    """Masks [N, H, W] of the pictures of seeds 0 to N - 1."""
    side = max(8, generator.resolution // _COARSER)
    coarse = []
    for seed in range(count):
        maps = generator.synthesis(latent(generator, seed)).features
        coarse.append([f for f in maps if f.shape[2] == side][-1])
    return cluster_masks(coarse, CLASSES, generator.resolution)


def fit_masks(
    generator: Generator, masks: npt.NDArray[np.uint8], settings: FitSettings | None = None
) -> Ensemble:
    """Fit on the pictures of seeds 0 to N - 1, labeled by masks [N, H, W]."""

    def maps_of(n: int) -> list[Tensor]:
        with torch.inference_mode():
            return generator.synthesis(latent(generator, n)).features

    return fit_ensemble(maps_of, masks, CLASSES, settings)

"""Picture -> w+: the encoder's guess, then a few steps of L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dgan_backend.generators import Generator
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.lbfgs import minimize
from dgan_backend.inversion.losses import maps_losses, picture_errors, rounded_pixel_losses

_SAMPLES = 64  # that say how far w spreads


@dataclass(frozen=True)
class InversionSettings:
    """steps: of L-BFGS, each a picture made and its gradient, after a first one; 0 = the encoder
    alone.

    stay: weight of the mean squared distance to the encoder's w+, which keeps the latent where
    the interpreter knows its way. perceptual: weight of the distance between the encoder's own
    maps of the picture and of what is made, a perceptual term that nothing is downloaded for.
    """

    steps: int = 30
    stay: float = 0.02
    perceptual: float = 0.0

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> InversionSettings:
        """What a version's card says. One with a rate is from before L-BFGS, where steps were
        worth something else: it gets the defaults of today."""
        return cls() if "rate" in value else cls(**value)


@dataclass(frozen=True)
class Inversion:
    """w [N, num_ws, w_dim], the pictures it gives [N, 3, R, R], and their errors.

    errors [N]: mean absolute difference to the picture, values in [-1, 1] (so 0 to 2).
    """

    w: Tensor
    images: Tensor
    errors: Tensor


def invert(
    generator: Generator,
    encoder: Encoder,
    images: Tensor,
    settings: InversionSettings | None = None,
) -> Inversion:
    """Find the latents of pictures [N, 3, R, R] float32 in [-1, 1], in one batch.

    Pictures do not influence each other: each has its own loss, w and history.
    """
    settings = settings or InversionSettings()
    with torch.no_grad():
        start = encoder(images)
    w = _refine(generator, encoder, images, start, settings) if settings.steps else start
    with torch.no_grad():
        made = generator.synthesis(w).images
    return Inversion(w, made, picture_errors(made, images))


def _refine(
    generator: Generator,
    encoder: Encoder,
    images: Tensor,
    start: Tensor,
    settings: InversionSettings,
) -> Tensor:
    with torch.no_grad():
        wanted = encoder.maps(images) if settings.perceptual else []

    def losses(w: Tensor) -> Tensor:
        made = generator.synthesis(w).images
        found = rounded_pixel_losses(made, images)
        found = found + settings.stay * (w - start).square().mean(dim=(1, 2))
        if settings.perceptual:
            found = found + settings.perceptual * maps_losses(encoder.maps(made), wanted)
        return found

    def function(rows: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            w = rows.detach().reshape(start.shape).requires_grad_(True)
            found = losses(w)
            (gradient,) = torch.autograd.grad(found.sum(), w)
        return found.detach(), gradient.flatten(1)

    with torch.no_grad():
        rows = minimize(function, start.flatten(1), settings.steps, _unit(generator))
    return rows.reshape(start.shape)


def _unit(generator: Generator) -> float:
    """Standard deviation of w, over some samples."""
    z = torch.cat([generator.latent_from_seed(seed) for seed in range(_SAMPLES)])
    return float(generator.mapping(z)[:, 0].std(dim=0).mean())

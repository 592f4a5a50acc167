"""Picture -> w+: the encoder's guess, then a few optimisation steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgan_backend.generators import Generator
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.losses import maps_loss, picture_errors, pixel_loss


@dataclass(frozen=True)
class InversionSettings:
    """steps: of Adam at `rate`, falling as a half cosine; 0 = the encoder alone.

    stay: weight of the mean squared distance to the encoder's w+, which keeps the latent where
    the interpreter knows its way. perceptual: weight of the distance between the encoder's own
    maps of the picture and of what is made, a perceptual term that nothing is downloaded for.
    """

    steps: int = 30
    rate: float = 0.03
    stay: float = 0.02
    perceptual: float = 0.0


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

    Pictures do not influence each other: each has its own loss, w and Adam moments.
    """
    settings = settings or InversionSettings()
    with torch.no_grad():
        start = encoder(images)
    w = _refine(generator, encoder, images, start, settings) if settings.steps else start
    with torch.no_grad():
        made = generator.synthesis(w).images
    return Inversion(w, made, picture_errors(made, images))


@torch.enable_grad()
def _refine(
    generator: Generator,
    encoder: Encoder,
    images: Tensor,
    start: Tensor,
    settings: InversionSettings,
) -> Tensor:
    with torch.no_grad():
        wanted = encoder.maps(images) if settings.perceptual else []
    w = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([w], lr=settings.rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    for _ in range(settings.steps):
        made = generator.synthesis(w).images
        loss = pixel_loss(made, images) + settings.stay * (w - start).square().mean()
        if settings.perceptual:
            loss = loss + settings.perceptual * maps_loss(encoder.maps(made), wanted)
        optimizer.zero_grad(set_to_none=True)
        (loss * len(images)).backward()
        optimizer.step()
        schedule.step()
    return w.detach()

"""Training a backbone without labels: a U-Net learns to read the generator's feature maps off
the picture alone.

Feature maps of a generator know parts (that is why the interpreter needs few labels), but exist
only for its own pictures. A network that predicts them from pixels, whatever their colours and
light, carries that knowledge to any picture, without inversion. Feature distillation after
DreamTeacher (Li et al., ICCV 2023), here from the whole synthesis and for few-label parts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgan_backend.errors import DganError
from dgan_backend.generators import Generator
from dgan_backend.interpreter.features import gather, project, upsample_rows
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.student.augment import AugmentSettings, moved, recolored, warp
from dgan_backend.student.unet import Trunk, UNetConfig, resized
from dgan_backend.training.pictures import PictureFolder

_LEVEL = 1  # the U-Net's level whose map is compared with the generator's
_SAMPLED_PICTURES = 48  # that the directions of largest variance are found on
_POINTS = 400  # pixels of each
_RISE_STEPS, _RISE_SHARE = 100, 0.3
_MOVES = AugmentSettings(rotation=15, scale=1.2, shift=0.08, crop=1)


@dataclass(frozen=True)
class BackboneSettings:
    """pictures: seen in all. minutes: stop after that much time (0 = only `pictures` counts).
    side: px that pictures are shown at. batch: at most, fewer where the generator's pictures are
    large. directions: of the generator's feature space that are
    predicted (all, where it has fewer). swap: share of reconstructions that are replaced by their
    real picture, which looks different but has its parts where they are. turns: pictures have no
    up, and are shown at any angle."""

    pictures: int = 60_000
    minutes: float = 0.0
    side: int = 128
    directions: int = 48
    batch: int = 8
    rate: float = 2e-3
    swap: float = 0.3
    turns: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Projection:
    """Principal directions of the pixel features: weight [D', D], bias [D']."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Sequence[Tensor], side: int) -> Tensor:
        """Maps [N, C_l, H_l, W_l] -> [N, D', side, side], of mean square 1 over samples."""
        pictures = []
        for n in range(len(features[0])):
            maps = project([f[n : n + 1] for f in features], self.weight)
            pictures.append(upsample_rows(maps, (side, side), 0, side))
        return torch.stack(pictures) + self.bias[:, None, None]


@torch.no_grad()
def principal_directions(generator: Generator, directions: int, seed: int = 0) -> Projection:
    """PCA of pixel features of samples, each map weighted alike, its directions half whitened.

    Half whitened: divided by the square root of their deviation, so that the strongest
    directions (colour, mostly) do not drown those that tell parts apart.
    """
    random = torch.Generator().manual_seed(seed)
    rows, widths = [], []
    for _ in range(_SAMPLED_PICTURES):
        z = torch.randn(1, generator.z_dim, generator=random).to(generator.device)
        maps = generator.synthesis(generator.mapping(z)).features
        rows.append(gather(maps, torch.rand(_POINTS, 2, generator=random)))
        widths = [f.shape[1] for f in maps]
    pixels = torch.cat(rows)
    mean, deviation = pixels.mean(dim=0), pixels.std(dim=0) + 1e-3
    equal = torch.cat([torch.full((w,), w**-0.5, device=pixels.device) for w in widths])
    scale = equal / deviation
    _, strengths, axes = torch.linalg.svd((pixels - mean) * scale, full_matrices=False)
    weight = axes[:directions] / strengths[:directions, None].sqrt() * scale
    weight = weight / ((pixels - mean) @ weight.T).square().mean().sqrt()
    return Projection(weight, -(weight @ mean))


class Pictures:
    """Batches of pictures whose feature maps are known: samples, and reconstructions of real
    pictures where there are an encoder and a folder."""

    def __init__(
        self,
        generator: Generator,
        encoder: Encoder | None,
        folder: PictureFolder | None,
        settings: BackboneSettings,
    ) -> None:
        self.generator = generator
        self.encoder = encoder
        self.folder = folder
        self.settings = settings
        self.random = torch.Generator().manual_seed(settings.seed)

    @torch.no_grad()
    def batch(self) -> tuple[Tensor, Sequence[Tensor]]:
        """Pictures [N, 3, side, side] in [-1, 1] and the generator's maps of each."""
        n = self.settings.batch
        z = torch.randn(n, self.generator.z_dim, generator=self.random)
        w = self.generator.mapping(z.to(self.generator.device))
        real: Tensor | None = None
        if self.encoder is not None and self.folder is not None:
            chosen = torch.randint(len(self.folder), (n // 2,), generator=self.random)
            real = self.folder.batch(chosen.numpy()).to(self.generator.device)
            small = resized(real, self.generator.resolution)
            w = torch.cat([self.encoder(small), w[n // 2 :]])
        made = self.generator.synthesis(w)
        images = resized(made.images, self.settings.side).clamp(-1, 1)
        if real is not None:
            swapped = torch.rand(len(real), generator=self.random) < self.settings.swap
            images[: len(real)][swapped] = resized(real, self.settings.side)[swapped]
        return images, made.features


class BackboneTraining:
    """One training; `step` until `done`, then `finish`. Resumed from its checkpoint. loss: the mean
    of the last fifty steps or so.

    encoder, folder: when both are given, half of the pictures are reconstructions of the
    folder's. begin: tensors of a trunk to go on with. checkpoint: the file that `keep` writes;
    None = nothing is kept. Raises DganError when there is one of another training.
    """

    def __init__(
        self,
        generator: Generator,
        settings: BackboneSettings | None = None,
        *,
        encoder: Encoder | None = None,
        folder: PictureFolder | None = None,
        config: UNetConfig | None = None,
        begin: dict[str, Tensor] | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        self.generator, self.checkpoint = generator, checkpoint
        settings = settings or BackboneSettings()
        self.settings = replace(settings, batch=min(settings.batch, generator.at_once))
        self.source = Pictures(generator, encoder, folder, self.settings)
        self.seen, self.seconds, self.loss = 0, 0.0, math.nan
        kept = self._kept()
        self.resumed = kept is not None
        self.projection = (
            Projection(kept["weight"], kept["bias"])
            if kept
            else principal_directions(generator, self.settings.directions, self.settings.seed)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            self.trunk = Trunk(config or UNetConfig()).to(generator.device)
            directions = len(self.projection.bias)
            self.head = nn.Conv2d(self.trunk.config.channels[_LEVEL], directions, 1)
        self.head.to(generator.device)
        if begin is not None:
            self.trunk.load_state_dict(begin)
        parameters = [*self.trunk.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, self.settings.rate, weight_decay=0.01)
        if kept:
            self._resume(kept)
        self._clock = time.monotonic()

    @property
    def total(self) -> int:
        return self.settings.pictures

    @property
    def done(self) -> bool:
        return self.progress >= 1

    @property
    def progress(self) -> float:
        """How much of the pictures, or of the time, is over."""
        minutes = self.settings.minutes
        late = self.seconds / 60 / minutes if minutes else 0.0
        return max(late, self.seen / self.settings.pictures)

    def step(self) -> dict[str, float]:
        """One step; its loss."""
        self._set_rate()
        images, maps = self.source.batch()
        target = self.projection(maps, images.shape[-1] // 2)
        moves = _MOVES.at_any_angle() if self.settings.turns else _MOVES
        x, target = _changed(images, target, moves, self.source.random)
        with torch.enable_grad():
            loss = F.smooth_l1_loss(self.head(self.trunk(x)[_LEVEL]), target)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        self.optimizer.step()
        self.seen += self.settings.batch
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        found = float(loss.detach())
        self.loss = found if math.isnan(self.loss) else self.loss + 0.02 * (found - self.loss)
        return {"loss": self.loss}

    def keep(self) -> None:
        """Write the checkpoint."""
        if self.checkpoint is None:
            return
        value = {
            "generator": self.generator.id,
            "trunk": self.trunk.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "weight": self.projection.weight,
            "bias": self.projection.bias,
            "seen": self.seen,
            "seconds": self.seconds,
            "loss": self.loss,
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(value, partial)
        partial.replace(self.checkpoint)

    def finish(self) -> Trunk:
        """The trunk as it is now."""
        return self.trunk.eval().requires_grad_(False)

    def _set_rate(self) -> None:
        share = rate_at(self.seen // self.settings.batch, self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate * share
            group["betas"] = (0.95 - 0.1 * share, group["betas"][1])

    def _kept(self) -> dict[str, Any] | None:
        if self.checkpoint is None or not self.checkpoint.is_file():
            return None
        try:
            kept = torch.load(
                self.checkpoint, map_location=self.generator.device, weights_only=True
            )
            if kept["generator"] == self.generator.id:
                return dict(kept)
        except (RuntimeError, EOFError, UnpicklingError, KeyError, ValueError) as error:
            raise self._of_another(str(error).splitlines()[0]) from error
        raise self._of_another(f"it is of {kept['generator']}")

    def _resume(self, kept: dict[str, Any]) -> None:
        try:
            self.trunk.load_state_dict(kept["trunk"])
            self.head.load_state_dict(kept["head"])
            self.optimizer.load_state_dict(kept["optimizer"])
            self.seen, self.seconds = int(kept["seen"]), float(kept["seconds"])
            self.loss = float(kept["loss"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise self._of_another(str(error).splitlines()[0]) from error
        self.source.random = torch.Generator().manual_seed(self.settings.seed + self.seen)

    def _of_another(self, why: str) -> DganError:
        return DganError(
            f"{self.checkpoint} is damaged or of another training ({why}); remove it to start anew."
        )


def rate_at(step: int, progress: float) -> float:
    """Share of the largest rate: up over the first 100 steps, or 30 % where there are fewer, then
    down along a cosine (one cycle; Smith & Topin, 2019)."""
    rise = min(1.0, max(step / _RISE_STEPS, progress / _RISE_SHARE))
    begin = 1 / 25 + (1 - 1 / 25) * (0.5 - 0.5 * math.cos(math.pi * rise))
    return begin * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))


def _changed(
    images: Tensor, target: Tensor, moves: AugmentSettings, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Both moved alike; the picture alone is recoloured, blurred or sharpened."""
    affine = warp(len(images), moves, 1.0, random).to(images.device)
    x = moved(_resharpened(images, random), affine, images.shape[-1])
    return recolored(x, 1.0, random), moved(target, affine, target.shape[-1])


def _resharpened(images: Tensor, random: torch.Generator) -> Tensor:
    """Some pictures sharper, some softer, as the generator's own are softer than real ones."""
    soft = F.avg_pool2d(F.pad(images, [1] * 4, mode="replicate"), 3, stride=1)
    amount = torch.rand(len(images), 1, 1, 1, generator=random).to(images.device) * 4 - 1
    amount = torch.where(amount > 2, torch.zeros_like(amount), amount)  # a quarter stays
    return (images + (images - soft) * amount).clamp(-1, 1)

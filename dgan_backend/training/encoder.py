"""Training an encoder for a generator that has none, such as an imported one.

The generator's own samples come with the w+ that the encoder has to find, and with the feature
maps that its guess has to give; unlabeled pictures of the domain, where there are some, teach it
what samples do not show. Samples first and pictures beside them is how EditGAN trains its encoder
(Ling et al., NeurIPS 2021, section 3.1); the maps stand in for its perceptual network, which
would have to be downloaded.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators import Generator
from dgan_backend.inversion.encoder import Encoder, EncoderConfig
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.inversion.losses import maps_loss, pixel_loss
from dgan_backend.inversion.native import InDomainErrors, save_encoder
from dgan_backend.training.calibration import (
    HELD_BACK,
    in_domain_errors,
    inversion_errors,
    measured_count,
    measured_on,
    unseen_pictures,
)
from dgan_backend.training.pictures import PictureFolder, turned

LARGEST = 256  # px that an encoder looks at; larger pictures are shrunk for it
_WIDTHS = {4: 128, 8: 128, 16: 128, 32: 96, 64: 64, 128: 32, 256: 16}
_MEAN_OF = 4096  # samples
CHECKPOINT = "encoder-checkpoint.pt"
_AVERAGED = 2000.0  # pictures in which an old weight loses half of its part in the average
_KEEP_SECONDS = 60.0


@dataclass(frozen=True)
class EncoderLosses:
    """latent: mean squared distance to a sample's w+, in variances of w. pixel: see `pixel_loss`.
    feature: `maps_loss` of a sample's feature maps and those of the guess.
    stay: mean squared distance of a picture's w+ to the mean w, in variances of w."""

    latent: float = 0.5
    pixel: float = 5.0
    feature: float = 1.0
    stay: float = 0.01


@dataclass(frozen=True)
class EncoderPlan:
    """out: where encoder, checkpoint and sheets go. images: folder of unlabeled pictures of the
    domain. pictures: seen in all, samples and real ones. minutes: stop after that much time (0 =
    only `pictures` counts). mirror, turns: pictures are also seen mirrored, and turned by
    quarters. batch: 0 = what the generator's resolution allows for."""

    out: Path
    images: Path | None = None
    pictures: int = 100_000
    minutes: float = 0.0
    batch: int = 0
    rate: float = 2e-3
    mirror: bool = True
    turns: bool = False
    seed: int = 0
    losses: EncoderLosses = field(default_factory=EncoderLosses)
    inversion: InversionSettings = field(default_factory=InversionSettings)


class EncoderTraining:
    """One training; `step` until `done`, then `finish`. Resumed from what lies in `out`."""

    def __init__(self, generator: Generator, plan: EncoderPlan) -> None:
        self.generator, self.plan = generator, plan
        self.random = torch.Generator().manual_seed(plan.seed)
        self.batch = plan.batch or generator.at_once
        self.folder = held_back(generator, plan)
        self.encoder = new_encoder(generator, plan.seed).to(generator.device)
        self.average = copy.deepcopy(self.encoder).eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.encoder.parameters(), plan.rate, betas=(0.9, 0.99))
        self.variance = _w_variance(generator)
        self.seen, self.seconds = 0, 0.0
        self.errors: list[float] = []  # measured so far, of the encoder as it is
        plan.out.mkdir(parents=True, exist_ok=True)
        self.resumed = self._resume()

    @property
    def total(self) -> int:
        return self.plan.pictures

    @property
    def done(self) -> bool:
        return self.progress >= 1

    @property
    def progress(self) -> float:
        """How much of the pictures, or of the time, is over."""
        minutes = self.plan.minutes
        late = self.seconds / 60 / minutes if minutes else 0.0
        return max(late, self.seen / self.plan.pictures)

    def step(self) -> dict[str, float]:
        """One step on samples and, where there are any, as many pictures; losses as numbers.
        Raises DganError when the training diverges."""
        began = time.monotonic()
        self._set_rate()
        with torch.enable_grad():
            losses = self._losses(*self._samples(), self._pictures())
            loss = torch.stack(list(losses.values())).sum()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        self.optimizer.step()
        self.errors = []
        if not math.isfinite(float(loss.detach())):
            raise DganError(
                f"The training of the encoder diverged after {self.seen} pictures; remove "
                f"{self.plan.out / CHECKPOINT} and start again with a smaller --rate."
            )
        self.seen += self.batch
        self._average()
        self.seconds += time.monotonic() - began
        return {name: float(value.detach()) for name, value in losses.items()}

    @property
    def measured_on(self) -> str:
        """What `measured` pictures are."""
        return measured_on(self.folder)

    def measured(self, most: int | None = None) -> Tensor:
        """Pictures that the training has not seen, [N, 3, R, R] in [-1, 1]."""
        count = measured_count(self.generator.resolution)
        return unseen_pictures(self.generator, self.folder, min(most or count, count))

    @torch.no_grad()
    def reconstructed(self, images: Tensor) -> Tensor:
        """What the encoder alone makes of pictures, on the CPU."""
        parts = images.to(self.generator.device).split(self.batch)
        return torch.cat([self.generator.synthesis(self.average(p)).images.cpu() for p in parts])

    def keep(self) -> None:
        """Write the checkpoint; the encoder itself is written when its errors are known."""
        value = {
            "generator": self.generator.card.sha256,
            "encoder": self.encoder.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seen": self.seen,
            "seconds": self.seconds,
            "errors": self.errors,
        }
        partial = self.plan.out / f"{CHECKPOINT}.partial"
        torch.save(value, partial)
        partial.replace(self.plan.out / CHECKPOINT)

    def finish(
        self, progress: Callable[[list[Tensor]], Any] = iter
    ) -> tuple[Encoder, InDomainErrors]:
        """Measure the errors of inversions, refinement included, and write the encoder with them.

        They say which pictures are not of this domain: without pictures they are those of samples,
        and pictures of the domain may seem more foreign than they are. Errors that were measured
        are kept every minute, and when it is interrupted.
        """
        try:
            self._measure(progress)
        finally:
            self.keep()
        known = in_domain_errors(self.errors)
        about = {**self._about(), "errors_of": self.measured_on}
        save_encoder(self.plan.out, self.average, known, training=about)
        return self.average, known

    def _measure(self, progress: Callable[[list[Tensor]], Any]) -> None:
        images, kept = self.measured()[len(self.errors) :], time.monotonic()
        if not len(images):
            return
        for found in inversion_errors(
            self.generator, self.average, images, self.plan.inversion, progress
        ):
            self.errors += found
            if time.monotonic() - kept > _KEEP_SECONDS:
                self.keep()
                kept = time.monotonic()

    def _about(self) -> dict[str, Any]:
        return {
            "generator": self.generator.id,
            "pictures_seen": self.seen,
            "pictures_in_set": len(self.folder) if self.folder else 0,
            "minutes": round(self.seconds / 60, 1),
        }

    @torch.no_grad()
    def _samples(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        """w+, pictures and maps of samples, half of them mixed from two latents at some row."""
        n = self.batch // 2 if self.folder else self.batch
        first, second = (self._mapped(n) for _ in range(2))
        rows = first.shape[1]
        cut = torch.randint(1, 2 * rows, (n, 1, 1), generator=self.random).to(first.device)
        w = torch.where(torch.arange(rows, device=first.device)[:, None] < cut, first, second)
        made = self.generator.synthesis(w)
        return w, made.images.clamp(-1, 1), made.features

    def _mapped(self, count: int) -> Tensor:
        z = torch.randn(count, self.generator.z_dim, generator=self.random)
        return self.generator.mapping(z.to(self.generator.device))

    def _pictures(self) -> Tensor | None:
        if self.folder is None:
            return None
        count = self.batch - self.batch // 2
        chosen = torch.randint(len(self.folder), (count,), generator=self.random)
        real = self.folder.batch(chosen.numpy()).to(self.generator.device)
        share = 0.5 if self.plan.mirror else 0.0
        mirrored = torch.rand(count, generator=self.random) < share
        quarters = torch.randint(4 if self.plan.turns else 1, (count,), generator=self.random)
        return turned(real, mirrored.numpy(), quarters.numpy())

    def _losses(
        self, w: Tensor, images: Tensor, maps: list[Tensor], real: Tensor | None
    ) -> dict[str, Tensor]:
        weights, count = self.plan.losses, len(w)
        shown = images if real is None else torch.cat([images, real])
        found = self.encoder(shown)
        made = self.generator.synthesis(found)
        losses = {
            "latent": weights.latent * (found[:count] - w).square().mean() / self.variance,
            "pixel": weights.pixel * pixel_loss(made.images, shown),
            "feature": weights.feature * maps_loss([m[:count] for m in made.features], maps),
        }
        if real is not None:
            away = (found[count:] - self.encoder.w_avg).square().mean() / self.variance
            losses["stay"] = weights.stay * away
        return losses

    def _set_rate(self) -> None:
        """Half a cosine over the plan's pictures, or over its time where that ends first."""
        done = min(1.0, self.progress)
        rate = self.plan.rate * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * done)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    @torch.no_grad()
    def _average(self) -> None:
        half_life = min(_AVERAGED, 0.1 * self.seen + 1)
        weight = 1.0 - 0.5 ** (self.batch / half_life)
        for kept, now in zip(self.average.parameters(), self.encoder.parameters(), strict=True):
            kept.lerp_(now, weight)

    def _resume(self) -> bool:
        path = self.plan.out / CHECKPOINT
        if not path.is_file():
            return False
        try:
            value = torch.load(path, map_location=self.generator.device, weights_only=True)
            if value.get("generator", self.generator.card.sha256) != self.generator.card.sha256:
                raise ValueError(f"its weights are {value['generator'][:8]}...")
            self.encoder.load_state_dict(value["encoder"])
            self.average.load_state_dict(value["average"])
            self.optimizer.load_state_dict(value["optimizer"])
            self.seen, self.seconds = int(value["seen"]), float(value["seconds"])
            self.errors = [float(error) for error in value.get("errors", [])]
        except (RuntimeError, EOFError, UnpicklingError, KeyError, ValueError) as error:
            raise DganError(
                f"{path} is damaged or of another generator ({str(error).splitlines()[0]}); "
                "remove it to start anew, or choose another --out."
            ) from error
        self.random = torch.Generator().manual_seed(self.plan.seed + self.seen)
        return True


def held_back(generator: Generator, plan: EncoderPlan) -> PictureFolder | None:
    """The plan's pictures, some of which are not trained on; None without any."""
    return PictureFolder(plan.images, generator.resolution, HELD_BACK) if plan.images else None


def new_encoder(generator: Generator, seed: int = 0) -> Encoder:
    """An untrained encoder that fits a generator, whose first guess is near the mean w."""
    side = 2 ** int(math.log2(min(generator.resolution, LARGEST)))
    most = 2 * max(generator.synthesis.feature_channels)
    channels = tuple(min(width, most) for r, width in _WIDTHS.items() if r <= side)
    config = EncoderConfig(
        side, generator.num_ws, generator.w_dim, channels, generator.config.img_channels
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(config)
    encoder.w_avg.copy_(_mapped_samples(generator).mean(dim=0))
    return encoder


@torch.no_grad()
def _mapped_samples(generator: Generator) -> Tensor:
    """The first row of w+ of many samples, [N, w_dim]."""
    random = torch.Generator().manual_seed(0)
    z = torch.randn(_MEAN_OF, generator.z_dim, generator=random).to(generator.device)
    return torch.cat([generator.mapping(part)[:, 0] for part in z.split(256)])


def _w_variance(generator: Generator) -> float:
    return float(_mapped_samples(generator).var(dim=0).mean())

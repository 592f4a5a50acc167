"""One training step: adversarial on samples and on reconstructions, and reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dgan_backend.inversion.losses import pixel_loss
from dgan_backend.training import augment
from dgan_backend.training.networks import Networks

_R1_EVERY = 16
_W_AVERAGE_DECAY = 0.995


@dataclass(frozen=True)
class LossWeights:
    """pixel: L1 at the full and at two coarser sizes. feature: L1 of discriminator maps between
    picture and reconstruction. latent: the encoder finds the w of samples again. r1: gamma of the
    gradient penalty (Mescheder et al., ICML 2018)."""

    pixel: float = 5.0
    feature: float = 1.0
    latent: float = 0.5
    r1: float = 0.3


class Step:
    """Holds optimisers; `__call__` does one step on a batch of real pictures."""

    def __init__(self, networks: Networks, weights: LossWeights, rate: float, bf16: bool) -> None:
        self.networks = networks
        self.weights = weights
        self.bf16 = bf16
        makers = [*networks.generator.parameters(), *networks.encoder.parameters()]
        # Lazy regularisation scales rate and betas by k / (k + 1) (StyleGAN2, appendix B).
        lazy = _R1_EVERY / (_R1_EVERY + 1)
        self.maker = torch.optim.Adam(makers, lr=rate, betas=(0.0, 0.99))
        self.judge = torch.optim.Adam(
            networks.discriminator.parameters(), lr=rate * lazy, betas=(0.0, 0.99**lazy)
        )
        self.augment_p = 0.0

    def __call__(self, real: Tensor, number: int) -> dict[str, float]:
        """real [N, 3, R, R] in [-1, 1]; returns the losses as numbers."""
        n = len(real)
        networks = self.networks
        z = torch.randn(n, networks.target.z_dim, device=real.device)
        with torch.autocast(real.device.type, torch.bfloat16, enabled=self.bf16):
            w_real = networks.encoder(real)
            w_fake = networks.generator.mapping.style(z)
            self._track_w(w_fake)
            rows = networks.generator.config.num_ws
            w = torch.cat([w_real, w_fake[:, None].expand(-1, rows, -1)])
            made = networks.generator.synthesis(w.float()).images
            change = augment.draw(n, self.augment_p, real.device)
            losses, real_maps = self._judge_step(real, made.detach(), change)
            if number % _R1_EVERY == 0:
                losses["r1"] = self._penalty_step(real)
            losses |= self._maker_step(real, made, w_fake, change, real_maps)
        return losses

    def _judge_step(
        self, real: Tensor, made: Tensor, change: augment.Augmentation | None
    ) -> tuple[dict[str, float], dict[int, Tensor]]:
        n = len(real)
        logits, maps = self.networks.discriminator(
            _changed(torch.cat([real, made]), change), sets=3
        )
        loss = F.softplus(-logits[:n]).mean() + F.softplus(logits[n:]).mean()
        self.judge.zero_grad(set_to_none=True)
        loss.backward()
        self.judge.step()
        sign = float(logits[:n].detach().sign().mean())
        return {"judge": float(loss.detach()), "sign": sign}, {
            r: m[:n].detach() for r, m in maps.items()
        }

    def _penalty_step(self, real: Tensor) -> float:
        with torch.autocast(real.device.type, enabled=False):
            watched = real.detach().requires_grad_(True)
            logits, _ = self.networks.discriminator(watched)
            (gradient,) = torch.autograd.grad(logits.sum(), watched, create_graph=True)
            penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
            loss = penalty * (self.weights.r1 / 2 * _R1_EVERY)
        self.judge.zero_grad(set_to_none=True)
        loss.backward()
        self.judge.step()
        return float(penalty.detach())

    def _maker_step(
        self,
        real: Tensor,
        made: Tensor,
        w_fake: Tensor,
        change: augment.Augmentation | None,
        real_maps: dict[int, Tensor],
    ) -> dict[str, float]:
        n = len(real)
        networks, weights = self.networks, self.weights
        networks.discriminator.requires_grad_(False)
        logits, maps = networks.discriminator(_changed(made, change), sets=2)
        adversarial = F.softplus(-logits).mean()
        pixel = pixel_loss(made[:n], real)
        feature = torch.stack([F.l1_loss(maps[r][:n], real_maps[r]) for r in maps]).mean()
        half = max(1, n // 2)
        found = networks.encoder(made[n : n + half].detach())
        known = w_fake[:half, None].detach()
        latent = (found - known).square().mean() / (known.var() + 1e-4)
        loss = adversarial + weights.pixel * pixel + weights.feature * feature
        loss = loss + weights.latent * latent
        self.maker.zero_grad(set_to_none=True)
        loss.backward()
        self.maker.step()
        networks.discriminator.requires_grad_(True)
        named = {"adversarial": adversarial, "pixel": pixel, "feature": feature, "latent": latent}
        return {name: float(value.detach()) for name, value in named.items()}

    @torch.no_grad()
    def _track_w(self, w: Tensor) -> None:
        average = self.networks.generator.mapping.w_avg
        average.lerp_(w.float().mean(dim=0), 1.0 - _W_AVERAGE_DECAY)
        self.networks.encoder.w_avg.copy_(average)


def _changed(images: Tensor, change: augment.Augmentation | None) -> Tensor:
    """Augment N or 2N or 3N pictures; the draw for N is repeated, so pairs stay comparable."""
    if change is None:
        return images
    times = len(images) // len(change.affine)
    return change.repeated(times)(images)

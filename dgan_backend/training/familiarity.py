"""What is familiar to a backbone: samples and pictures of the domain, as people upload them."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dgan_backend.generators import Generator
from dgan_backend.pictures import to_pictures, to_tensor
from dgan_backend.student.augment import AugmentSettings, moved, warp
from dgan_backend.student.familiarity import Familiarity, distances, pooled
from dgan_backend.student.unet import Trunk, resized
from dgan_backend.training.backbone import BackboneSettings, Pictures
from dgan_backend.training.pictures import PictureFolder

_SAMPLES = 800
_PICTURES = 1500
_SHRINKAGE = 0.05  # of the covariance towards its diagonal
_LIMIT = 0.98  # quantile of held-back in-domain pictures, damaged as uploads are
_UPLOADS = AugmentSettings(rotation=5, scale=1.25, shift=0.05, crop=1, color=0)


@torch.no_grad()
def measure_familiarity(
    trunk: Trunk,
    generator: Generator,
    folder: PictureFolder,
    settings: BackboneSettings | None = None,
) -> Familiarity:
    """What is familiar: samples and the folder's pictures, as people upload them.

    Each is moved, made smaller within its frame, compressed, blurred or noisy, as uploads are.
    The pictures that the folder holds back say how far familiar pictures lie out.
    """
    settings = settings or BackboneSettings()
    device = generator.device
    samples = Pictures(generator, None, None, replace(settings, seed=settings.seed + 1))
    random = np.random.RandomState(settings.seed)

    def looked_at(batch: Tensor) -> Tensor:
        uploaded = _as_uploaded(resized(batch.to(device), settings.side), samples.random, random)
        return pooled(trunk, uploaded)

    batches = -(-_SAMPLES // settings.batch)
    made = [looked_at(samples.batch()[0]) for _ in range(batches)]
    chosen = np.arange(0, len(folder), max(1, len(folder) // _PICTURES))
    parts = np.array_split(chosen, -(-len(chosen) // 32))
    real = [looked_at(folder.batch(part)) for part in parts]
    held = [looked_at(part) for part in folder.measuring_set(_PICTURES).split(32)]
    return fitted(torch.cat([*made, *real]), torch.cat(held))


def fitted(known: Tensor, held_back: Tensor) -> Familiarity:
    """From pooled features [N, C] and held-back ones [M, C]."""
    mean = known.mean(dim=0)
    covariance = torch.cov(known.T)
    diagonal = torch.diag(torch.diagonal(covariance) + 1e-6)
    shrunk = torch.lerp(covariance, diagonal, _SHRINKAGE)
    root = torch.linalg.cholesky(shrunk.double())
    identity = torch.eye(len(mean), dtype=torch.float64, device=known.device)
    whitening = torch.linalg.solve_triangular(root, identity, upper=False).float()
    found = distances(held_back, mean, whitening)
    return Familiarity(mean, whitening, float(found.median()), float(torch.quantile(found, _LIMIT)))


def _as_uploaded(
    images: Tensor, generator: torch.Generator, random: np.random.RandomState
) -> Tensor:
    """Pictures [N, 3, S, S] in [-1, 1]: half moved and scaled, then one in three as it is,
    the others JPEG-compressed (quality 40 to 95), noisy (up to 5 of 255) or enlarged from half."""
    affine = warp(len(images), _UPLOADS, 1.0, generator).to(images.device)
    shifted = moved(images, affine, images.shape[-1])
    out = []
    for image, other in zip(images, shifted, strict=True):
        x = (image if random.rand() < 1 / 2 else other)[None]
        kind = random.randint(6)
        if kind in (0, 1):
            x = _compressed(x, int(random.randint(40, 96)))
        elif kind == 2:
            spread = random.rand() * 5 / 127.5
            x = x + torch.from_numpy(random.randn(*x.shape)).float().to(x.device) * spread
        elif kind == 3:
            x = resized(resized(x, x.shape[-1] // 2), x.shape[-1])
        out.append(x.clamp(-1, 1))
    return torch.cat(out)


def _compressed(image: Tensor, quality: int) -> Tensor:
    stored = io.BytesIO()
    Image.fromarray(to_pictures(image)[0]).save(stored, "JPEG", quality=quality)
    return to_tensor(np.stack([np.asarray(Image.open(stored).convert("RGB"))])).to(image.device)

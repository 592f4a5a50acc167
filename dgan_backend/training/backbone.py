"""Training a backbone without labels: a U-Net learns to read the generator's feature maps off
the picture alone.

Feature maps of a generator know parts (that is why the interpreter needs few labels), but exist
only for its own pictures. A network that predicts them from pixels, whatever their colours and
light, carries that knowledge to any picture, without inversion. Feature distillation after
DreamTeacher (Li et al., ICCV 2023), here from the whole synthesis and for few-label parts.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from dgan_backend.generators import Generator
from dgan_backend.interpreter.features import gather, project, upsample_rows
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.pictures import to_pictures, to_tensor
from dgan_backend.student.augment import AugmentSettings, moved, recolored, warp
from dgan_backend.student.familiarity import Familiarity, pooled
from dgan_backend.student.unet import Trunk, UNetConfig, resized
from dgan_backend.training.pictures import PictureFolder

_LEVEL = 1  # the U-Net's level whose map is compared with the generator's
_SAMPLED_PICTURES = 48  # that the directions of largest variance are found on
_POINTS = 400  # pixels of each
_REPORT_SECONDS = 60.0
_FAMILIAR_SAMPLES = 800
_FAMILIAR_PICTURES = 1500
_MOVES = AugmentSettings(rotation=15, scale=1.2, shift=0.08, crop=1)
_UPLOADS = AugmentSettings(rotation=5, scale=1.25, shift=0.05, crop=1, color=0)


@dataclass(frozen=True)
class BackboneSettings:
    """side: px that pictures are shown at. directions: of the generator's feature space that are
    predicted (all, where it has fewer). swap: share of reconstructions that are replaced by their
    real picture, which looks different but has its parts where they are. turns: pictures have no
    up, and are shown at any angle."""

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


def train_backbone(
    generator: Generator,
    encoder: Encoder | None = None,
    folder: PictureFolder | None = None,
    settings: BackboneSettings | None = None,
    *,
    config: UNetConfig | None = None,
    pictures: int = 60_000,
    begin: dict[str, Tensor] | None = None,
    report: Callable[[int, float, Trunk], None] = lambda seen, loss, trunk: None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Trunk:
    """Train a trunk to predict the generator's features; needs no labels.

    encoder, folder: when both are given, half of the pictures are reconstructions of the
    folder's. pictures: seen in all. begin: tensors of a trunk to go on with. report: told now and
    then the pictures seen, the mean loss of the last steps, and the trunk as it is.
    """
    settings = settings or BackboneSettings()
    source = Pictures(generator, encoder, folder, settings)
    moves = _MOVES.at_any_angle() if settings.turns else _MOVES
    projection = principal_directions(generator, settings.directions, settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        trunk = Trunk(config or UNetConfig()).to(generator.device)
        head = nn.Conv2d(trunk.config.channels[_LEVEL], len(projection.bias), 1)
    head.to(generator.device)
    if begin is not None:
        trunk.load_state_dict(begin)
    parameters = [*trunk.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, settings.rate, weight_decay=0.01)
    steps = max(2, pictures // settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=steps, pct_start=min(0.3, 100 / steps)
    )
    total, since, last = 0.0, 0, time.monotonic()
    for step in progress(range(steps)):
        images, maps = source.batch()
        target = projection(maps, images.shape[-1] // 2)
        x, target = _changed(images, target, moves, source.random)
        loss = F.smooth_l1_loss(head(trunk(x)[_LEVEL]), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        total, since = total + float(loss.detach()), since + 1
        if time.monotonic() - last > _REPORT_SECONDS or step == steps - 1:
            report((step + 1) * settings.batch, total / since, trunk)
            total, since, last = 0.0, 0, time.monotonic()
    return trunk.eval().requires_grad_(False)


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

    batches = -(-_FAMILIAR_SAMPLES // settings.batch)
    made = [looked_at(samples.batch()[0]) for _ in range(batches)]
    chosen = np.arange(0, len(folder), max(1, len(folder) // _FAMILIAR_PICTURES))
    parts = np.array_split(chosen, -(-len(chosen) // 32))
    real = [looked_at(folder.batch(part)) for part in parts]
    held = [looked_at(part) for part in folder.measuring_set(_FAMILIAR_PICTURES).split(32)]
    return Familiarity.measured(torch.cat([*made, *real]), torch.cat(held))


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

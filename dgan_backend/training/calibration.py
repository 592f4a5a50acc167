"""How far off inversions of a domain's pictures are: what is further off counts as foreign."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dgan_backend.generators import Generator
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.invert import InversionSettings, invert
from dgan_backend.inversion.native import InDomainErrors
from dgan_backend.training.pictures import PictureFolder

HELD_BACK = 128  # of a folder's pictures, not trained on
_FEWEST = 16
_AT_ONCE = 8
_SEED = 2_000_000_000  # samples that no training has seen begin here


def measured_count(resolution: int) -> int:
    """How many pictures errors are measured on: 128 up to 128 px, then fewer, as each takes
    longer, down to 16."""
    return max(_FEWEST, min(HELD_BACK, HELD_BACK * 128**2 // resolution**2))


def measured_on(pictures: object | None) -> str:
    """What errors are of, where there are pictures or not, in words."""
    return "samples" if pictures is None else "held-back pictures"


def unseen_pictures(generator: Generator, folder: PictureFolder | None, count: int) -> Tensor:
    """Pictures that a training has not seen, [N, 3, R, R] in [-1, 1]: at most `count` that the
    folder holds back, or samples where there is no folder."""
    if folder is not None:
        return folder.measuring_set(count)
    return sampled_pictures(generator, _SEED, count)


def inversion_errors(
    generator: Generator,
    encoder: Encoder,
    images: Tensor,
    settings: InversionSettings | None = None,
    progress: Callable[[list[Tensor]], Any] = iter,
) -> Iterator[list[float]]:
    """Errors of inversions of [N, 3, R, R], refinement included, batch by batch."""
    batches = list(images.split(min(_AT_ONCE, generator.at_once)))
    for batch in progress(batches):
        found = invert(generator, encoder, batch.to(generator.device), settings)
        yield found.errors.tolist()


def in_domain_errors(errors: list[float]) -> InDomainErrors:
    """What an encoder's card tells of them."""
    found = torch.tensor(errors)
    median, limit = (round(float(torch.quantile(found, q)), 5) for q in (0.5, 0.999))
    return InDomainErrors(median, limit)


@torch.no_grad()
def sampled_pictures(generator: Generator, seed: int, count: int) -> Tensor:
    """Samples of consecutive seeds at truncation 1, [N, 3, R, R] in [-1, 1], on the CPU."""
    found = []
    for n in range(seed, seed + count):
        w = generator.mapping(generator.latent_from_seed(n))
        found.append(generator.synthesis(w).images.clamp(-1, 1).cpu())
    return torch.cat(found)

"""The picture alone, at its own fastest settings: what labels are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch

from dgan_backend.benchmark.measuring import timed
from dgan_backend.generators import Generator
from dgan_backend.pictures import to_pictures

BATCHES = (1, 2, 8)
_MOST_PIXELS = 8 * 256**2  # of a batch; more are tried with one picture alone
_TRIALS = 2


@dataclass(frozen=True)
class Setting:
    """channels_last: how weights lie in memory. maps: what is convolved. batch: pictures at
    once."""

    channels_last: bool
    maps: torch.dtype
    batch: int

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "channels first"
        return f"{layout}, {str(self.maps).removeprefix('torch.')}, batch of {self.batch}"


class Alone:
    """A generator in one setting; no feature map outlives the layer that reads it."""

    def __init__(self, generator: Generator, setting: Setting) -> None:
        self.setting = setting
        self._generator = deepcopy(generator)
        layout = torch.channels_last if setting.channels_last else torch.contiguous_format
        self._generator.to(memory_format=layout)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, seeds: Sequence[int]) -> None:
        generator = self._generator
        z = torch.cat([generator.latent_from_seed(seed) for seed in seeds])
        w = generator.mapping(z, truncation=generator.card.truncation)
        to_pictures(generator.synthesis(w, features=False, dtype=self.setting.maps).images)


def settings_for(resolution: int, maps: torch.dtype = torch.float32) -> list[Setting]:
    """All that are tried: float32, and what labels are read from maps of."""
    batches = [b for b in BATCHES if b == 1 or b * resolution**2 <= _MOST_PIXELS]
    return [
        Setting(*one)
        for one in product((True, False), dict.fromkeys((torch.float32, maps)), batches)
    ]


def fastest(
    generator: Generator, first_seed: int, maps: torch.dtype = torch.float32
) -> tuple[Alone, dict[str, float]]:
    """The fastest setting, and seconds a picture of each."""
    found: dict[str, float] = {}
    best: Alone | None = None
    for setting in settings_for(generator.resolution, maps):
        alone = Alone(generator, setting)
        seeds = range(first_seed, first_seed + setting.batch)
        alone(seeds)
        seconds = min(timed(partial(alone, seeds))[0] for _ in range(_TRIALS)) / setting.batch
        if best is None or seconds < min(found.values()):
            best = alone
        found[str(setting)] = seconds
    assert best is not None  # there is always a batch of 1
    return best, found

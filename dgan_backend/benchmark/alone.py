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
from dgan_backend.training.trainer import use_bf16

BATCHES = (1, 2, 8)
_MOST_PIXELS = 8 * 256**2  # of a batch; more are tried with one picture alone
_TRIALS = 2


@dataclass(frozen=True)
class Setting:
    """channels_last: how weights lie in memory. bf16: autocast. batch: pictures at once."""

    channels_last: bool
    bf16: bool
    batch: int

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "channels first"
        return f"{layout}, {'bf16' if self.bf16 else 'float32'}, batch of {self.batch}"


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
        with torch.autocast("cpu", torch.bfloat16, enabled=self.setting.bf16):
            w = generator.mapping(z, truncation=generator.card.truncation)
            to_pictures(generator.synthesis(w, features=False).images)


def settings_for(resolution: int) -> list[Setting]:
    """All that are tried; bf16 where the hardware computes in it."""
    batches = [b for b in BATCHES if b == 1 or b * resolution**2 <= _MOST_PIXELS]
    numbers = (False, True) if use_bf16("auto", "cpu") else (False,)
    return [Setting(*one) for one in product((True, False), numbers, batches)]


def fastest(generator: Generator, first_seed: int) -> tuple[Alone, dict[str, float]]:
    """The fastest setting, and seconds a picture of each."""
    found: dict[str, float] = {}
    best: Alone | None = None
    for setting in settings_for(generator.resolution):
        alone = Alone(generator, setting)
        seeds = range(first_seed, first_seed + setting.batch)
        alone(seeds)
        seconds = min(timed(partial(alone, seeds))[0] for _ in range(_TRIALS)) / setting.batch
        if best is None or seconds < min(found.values()):
            best = alone
        found[str(setting)] = seconds
    assert best is not None  # there is always a batch of 1
    return best, found

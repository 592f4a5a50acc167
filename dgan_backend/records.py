"""The value types that travel between the rooms of the house."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend.errors import DganError
from dgan_backend.partonomy import shipped_partonomies

MAX_PIXELS = 50_000_000  # of a picture from outside, and of a mask of one


def task_number(value: object) -> int | None:
    """A task's id as Label Studio has it; None for all else, such as true, which Python counts
    among the numbers."""
    return value if type(value) is int and 0 <= value < 2**63 else None


@dataclass(frozen=True)
class Segmentation:
    """One picture and its parts.

    image:       [H, W, 3] uint8, RGB
    labels:      [H, W] uint8, class index of the partonomy (0 = background)
    uncertainty: [H, W] float32, Jensen-Shannon divergence of the members in nats; of samples with
                 a second opinion the entropy of both
    score:       in [0, 1]: the mean IoU to be expected, less where the picture is a strange one;
                 the number Label Studio gets
    bound:       the largest uncertainty possible, in nats
    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    uncertainty: npt.NDArray[np.float32]
    score: float
    bound: float


@dataclass(frozen=True)
class SeedLatent:
    """A latent that re-creates a sampled picture exactly: generator id, seed, truncation."""

    generator: str
    seed: int
    truncation: float

    def to_json(self) -> dict[str, Any]:
        return {"generator": self.generator, "seed": self.seed, "truncation": self.truncation}

    @classmethod
    def from_json(cls, value: object) -> SeedLatent:
        """Read what `to_json` wrote; raises DganError that names the key at fault."""
        if not isinstance(value, Mapping):
            raise DganError(f"latent must be an object with generator and seed, not {value!r}.")
        generator, seed = value.get("generator"), value.get("seed")
        truncation = value.get("truncation", 1.0)
        if not isinstance(generator, str) or not generator:
            raise DganError(f"latent.generator must be a generator id, not {generator!r}.")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise DganError(f"latent.seed must be a whole number from 0 to 2^32 - 1, not {seed!r}.")
        if isinstance(truncation, bool) or not isinstance(truncation, (int, float)):
            raise DganError(f"latent.truncation must be a number, not {truncation!r}.")
        if not -2.0 <= truncation <= 2.0:  # false for NaN, too
            raise DganError(f"latent.truncation must be in [-2, 2], not {truncation!r}.")
        return cls(generator, seed, float(truncation))


def version_name(partonomy: str, project: int | None, number: int) -> str:
    """`p<project>-<partonomy>-v<NNNN>`, the name of a project's own version."""
    return f"p{project}-{partonomy}-v{number:04d}"


PENDING = "pending"  # the version of a placeholder: its task was asked for and is not ready yet


def is_own_version(text: str, project: int) -> bool:
    """Whether a prediction with that model version is this backend's, for that project."""
    own = rf"p{project}-.+-v\d{{4,}}|project-{project}-(untrained|unusable)"
    return bool(re.fullmatch(own, text) or text == PENDING or text in _of_shipped_partonomies())


@cache
def _of_shipped_partonomies() -> frozenset[str]:
    states = ("shipped", "untrained")
    return frozenset(f"{name}-{state}" for name in shipped_partonomies() for state in states)

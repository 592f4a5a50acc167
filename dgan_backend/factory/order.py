"""What a data set is to be, and the shards of seeds that it is made in: a pure plan."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.settings import PRECISIONS

FORMATS = ("png", "coco", "webdataset", "parquet")
DROPPED = 0.1  # of all samples, the most uncertain ones (DatasetGAN, section 3.3)
_ALL_SEEDS = 2**32
_PIXEL_ROWS = 8192  # of pictures in a shard: some seconds of work
_LARGEST, _SMALLEST = 256, 4  # pictures in a shard
_FORMAT = 1  # of the shards; another number for another way to write them


@dataclass(frozen=True)
class Order:
    """version: a name that every worker knows. interpreter, generator: SHA-256 of the weights;
    generator_id: name and first digits. count: pictures that remain. drop: share of all that are
    sampled, the most uncertain ones, that is left out. first: the first seed. shard: pictures in
    each shard but the last. exact: the interpreter reads every pixel. side: of pictures and labels,
    px; 0 = the generator's. precision: what they are computed in, where a worker's device
    has it. student: SHA-256 of the one that gives a second opinion; "" = none does."""

    version: str
    interpreter: str
    generator: str
    generator_id: str
    count: int
    drop: float
    truncation: float
    first: int
    shard: int
    format: str = "png"
    exact: bool = False
    side: int = 0
    precision: str = "float32"
    student: str = ""

    def __post_init__(self) -> None:
        if self.count < 1 or self.shard < 1:
            raise DganError(f"A data set has 1 picture or more, not {self.count}.")
        if not 0.0 <= self.drop < 1.0:
            raise DganError(f"--filter is a share from 0 up to, but not, 1; not {self.drop}.")
        if self.precision not in PRECISIONS:
            raise DganError(f"{self.precision!r} is no precision: {', '.join(PRECISIONS)}.")
        if self.format not in FORMATS:
            raise DganError(f"{self.format!r} is no format: {', '.join(FORMATS)}.")
        if not -2.0 <= self.truncation <= 2.0:  # false for NaN, too
            raise DganError(f"--psi is a number in [-2, 2], not {self.truncation}.")
        if not 0 <= self.first < self.first + self.samples <= _ALL_SEEDS:
            raise DganError(
                f"{self.samples} seeds from {self.first} on go beyond 2^32 - 1; begin with a "
                "smaller --seed-start."
            )

    @property
    def samples(self) -> int:
        """How many pictures are sampled so that `count` remain."""
        return samples_for(self.count, self.drop)

    @property
    def shards(self) -> int:
        return math.ceil(self.samples / self.shard)

    def seeds(self, number: int) -> range:
        """Of one shard, 0 to `shards` - 1; together they are all seeds, each once."""
        if not 0 <= number < self.shards:
            raise ValueError(f"shard {number} of {self.shards}")
        start = self.first + number * self.shard
        return range(start, min(start + self.shard, self.first + self.samples))

    @property
    def id(self) -> str:
        """12 hex digits that follow from everything that the pictures and labels follow from."""
        told = json.dumps([_FORMAT, self.to_json()], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        told = asdict(self)
        for name, before in (("side", 0), ("precision", "float32"), ("student", "")):
            if told[name] == before:  # there was no choice, and sets begun then go on
                del told[name]
        return told

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Order:
        """Raises TypeError for keys that it does not know."""
        return cls(**value)


def samples_for(count: int, drop: float) -> int:
    """The smallest N of which exactly `count` remain when floor(N * drop) are dropped."""
    samples = max(count, math.floor((count - 1) / (1.0 - drop)))
    while samples - dropped(samples, drop) < count:
        samples += 1
    return samples


def dropped(samples: int, drop: float) -> int:
    """As `uncertainty.keep_certain` counts."""
    return math.floor(samples * drop + 1e-9)


def shard_size(resolution: int, samples: int) -> int:
    """Pictures in a shard: some seconds of work, and enough shards to share out."""
    fitting = max(_SMALLEST, min(_LARGEST, _PIXEL_ROWS // resolution))
    return max(1, min(fitting, math.ceil(samples / 16)))

"""The name of what one push makes, and the mark by which its tasks are known.

Nothing is kept here: a batch is the tasks in Label Studio that carry its name, so a push that
was killed goes on where it ended, and one that is repeated finds everything there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.corrections import MARK
from dgan_backend.records import SeedLatent

Kind = Literal["synthetic", "for labeling", "seed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SEEDS_A_VERSION = 1_000_000  # so that two versions of a project do not make the same pictures
_ALL_SEEDS = 2**32
_VERSIONS = 4_000  # after so many they begin anew
_NUMBER = re.compile(r"-v(\d+)$")


@dataclass(frozen=True)
class Batch:
    """maker: the version, or for seed tasks the generator's id. count: tasks that it has when it
    is complete. first: the first seed that is tried."""

    kind: Kind
    maker: str
    count: int
    first: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise DganError(f"A batch has 1 task or more, not {self.count}.")
        if not 0 <= self.first < _ALL_SEEDS:
            raise DganError(f"A seed is a whole number from 0 to 2^32 - 1, not {self.first}.")

    @property
    def name(self) -> str:
        """`p7-toonhead-v0003-x50-s3000000`: a push that says the same has the same name."""
        kind = "" if self.kind == "synthetic" else f"-{self.kind.replace(' ', '-')}"
        return f"{self.maker}{kind}-x{self.count}-s{self.first}"


def first_seed(version: str) -> int:
    """Where a version's seeds begin: a million times its number, 0 for shipped ones."""
    found = _NUMBER.search(version)
    return int(found[1]) % _VERSIONS * SEEDS_A_VERSION if found else 0


@dataclass(frozen=True)
class Mark:
    """What a task's data tells of where it comes from.

    version, score: of the labels that it came with; "" and None for seed tasks, which have none.
    annotation: hash of the annotation that it came with; "" for one that came with a prediction.
    """

    kind: Kind
    batch: str
    version: str = ""
    score: float | None = None
    annotation: str = ""

    def to_json(self) -> dict[str, Any]:
        told = {"kind": self.kind, "batch": self.batch, "version": self.version}
        score = {} if self.score is None else {"score": self.score}
        annotation = {"annotation": self.annotation} if self.annotation else {}
        return {**told, **score, **annotation}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Mark | None:
        """Of a task's data; None for a task that no push made."""
        value = data.get(MARK)
        if not isinstance(value, Mapping) or value.get("kind") not in KINDS:
            return None
        score = value.get("score")
        return cls(
            value["kind"],
            str(value.get("batch", "")),
            str(value.get("version", "")),
            float(score) if isinstance(score, (int, float)) else None,
            str(value.get("annotation", "")),
        )


def latent_of(data: Mapping[str, Any]) -> SeedLatent | None:
    """The latent of a sampled picture; None for all others."""
    try:
        return SeedLatent.from_json(data.get("latent"))
    except DganError:
        return None

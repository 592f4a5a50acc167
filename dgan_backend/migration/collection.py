"""What every format is read into: pictures with named regions, one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend.errors import DganError
from dgan_backend.pictures import Picture

IGNORED = "__ignore__"  # the label of pixels that say nothing, as LabelMe spells it

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """A label and where it is: mask [H, W] bool.

    points: [P, 2] float64, x and y in pixels, of a polygon that has exactly these pixels inside;
    None where there is none.
    """

    label: str
    mask: Mask
    points: Points | None = None


@dataclass(frozen=True)
class LabeledPicture:
    """One picture and what people say of it.

    name:     where it comes from, a path inside the source with `/`
    picture:  [H, W, 3] uint8, as a browser shows it
    file:     the picture as a file that browsers show, and its ending (`.jpg`)
    regions:  later ones lie above earlier ones, unless they are what those are a part of
    left_out: what could not be taken over -> how often
    data:     for the task's data, beside the picture
    """

    name: str
    picture: Picture
    file: bytes
    ending: str
    regions: tuple[Region, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A labeled picture that is not read yet; `read` raises DganError that names the file."""

    name: str
    read: Callable[[], LabeledPicture]


@dataclass(frozen=True)
class Collection:
    """A source of labels.

    format: "datasetgan", "labelme" or "masks"
    names: of its class numbers, background first; () where it has labels instead
    partonomy: of its classes where one is known, "" where none is
    without_labels: names of pictures that have none
    notes: what a person should know of how it is read
    """

    format: str
    entries: tuple[Entry, ...]
    names: tuple[str, ...] = ()
    partonomy: str = ""
    without_labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = Counter(entry.name for entry in self.entries)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise DganError(f"{twice[0]} stands for two pictures; rename one of them.")

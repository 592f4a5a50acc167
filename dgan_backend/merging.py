"""Merges: which class of a coarser set each class becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend.errors import DganError

IGNORE = 255  # a mask's value for a pixel that counts nowhere


@dataclass(frozen=True)
class Merge:
    """A coarser set of classes.

    source:  names of the classes that are merged, by index
    classes: names of the new classes, by index
    target:  new index of each source class
    of:      name of the merge whose classes are the source; "" = the partonomy's own classes
    """

    name: str
    source: tuple[str, ...]
    classes: tuple[str, ...]
    target: tuple[int, ...]
    of: str = ""

    @cached_property
    def table(self) -> npt.NDArray[np.uint8]:
        """[256] uint8: `table[mask]` is the merged mask. 255, and any value that is no class,
        becomes 255.
        """
        table = np.full(256, IGNORE, dtype=np.uint8)
        table[: len(self.target)] = self.target
        return table

    def apply(self, mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A mask (any shape, uint8) in the new classes."""
        if mask.dtype != np.uint8:
            raise DganError(f"A mask to merge must be uint8, not {mask.dtype}; convert it first.")
        return self.table[mask]

    def then(self, other: Merge) -> Merge:
        """Both merges in one; `other` merges this one's classes."""
        if other.source != self.classes:
            raise DganError(
                f"Merge {other.name!r} takes the classes {', '.join(other.source)}, but "
                f"{self.name!r} makes {', '.join(self.classes)}."
            )
        target = tuple(other.target[index] for index in self.target)
        return Merge(other.name, self.source, other.classes, target, self.of)

    def to_json(self) -> dict[str, Any]:
        """A flat description that `from_json` reads back."""
        return {
            "name": self.name,
            "of": self.of,
            "source": list(self.source),
            "classes": list(self.classes),
            "target": list(self.target),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Merge:
        source, classes = tuple(value["source"]), tuple(value["classes"])
        return cls(value["name"], source, classes, tuple(value["target"]), value["of"])


def merge_by_name(name: str, source: Sequence[str], become: Sequence[str]) -> Merge:
    """The merge in which each source class takes the name in `become`; names keep their order."""
    classes = tuple(dict.fromkeys(become))
    return Merge(name, tuple(source), classes, tuple(classes.index(new) for new in become))

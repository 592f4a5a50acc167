"""Labels of a source -> classes of a partonomy, and regions -> one label map."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.binding import Binding, bind
from dgan_backend.labelstudio.config import Label, LabelingConfig
from dgan_backend.merging import IGNORE
from dgan_backend.migration.collection import IGNORED, LabeledPicture
from dgan_backend.partonomy import BACKGROUND, Partonomy, normalize_label, shipped_partonomies

LabelMap = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Matching:
    """class_of: label -> class, 255 for `__ignore__`. unmatched: labels that mean no class, and
    why, by label."""

    partonomy: Partonomy
    class_of: Mapping[str, int]
    unmatched: Mapping[str, str]

    def check(self) -> None:
        """Raises DganError that lists the labels that mean no class."""
        if self.unmatched:
            lines = "".join(f"\n  {label}: {why}" for label, why in self.unmatched.items())
            raise DganError(
                f"These labels mean no class of {self.partonomy.name!r}:{lines}\n"
                "Give them names that do (--rename OLD=NEW), or leave them out with "
                f"--skip-unmatched. The classes are: {', '.join(self.partonomy.classes[1:])}."
            )


def match(
    labels: Iterable[str],
    partonomy: Partonomy,
    renames: Mapping[str, str] | None = None,
    binding: Binding | None = None,
) -> Matching:
    """Each label's class by its name or alias, in any case.

    renames: label -> what is meant. binding: of the project that they go to, whose labels are
    known too; a class that has no label there, nor its ancestors, matches nothing.
    """
    class_of: dict[str, int] = {}
    unmatched: dict[str, str] = {}
    folded = None if binding is None else binding.folded()
    for label in sorted(set(labels)):
        meant = (renames or {}).get(label, label)
        if meant == IGNORED:
            class_of[label] = IGNORE
            continue
        index, why = _class(meant, partonomy, binding)
        if index and folded is not None and not folded[index]:
            index, why = None, "the project has no label for it, nor for what it is a part of"
        if index is None:
            unmatched[label] = why
        else:
            class_of[label] = index
    return Matching(partonomy, class_of, unmatched)


def _class(label: str, partonomy: Partonomy, binding: Binding | None) -> tuple[int | None, str]:
    if binding is not None and label in binding.class_of:
        return binding.class_of[label], ""
    if normalize_label(label) == BACKGROUND:
        return 0, ""
    part = partonomy.find(label)
    if part is None:
        return None, "no class has that name or alias"
    if part.index is None:
        below = [p.name for p in partonomy.parts if p.parent == part.name]
        return None, f"it only groups {', '.join(below)}"
    return part.index, ""


def partonomy_of(labels: Iterable[str], name: str) -> Partonomy:
    """A shipped partonomy that all labels fit, by the rule for projects, or else one of their own
    in their order: `parent/child` gives the tree."""
    first: dict[str, str] = {}
    for label in labels:
        if label != IGNORED:
            first.setdefault(normalize_label(label), label)
    config = LabelingConfig(
        "image", "image", "brush", "parts", tuple(Label(label) for label in first.values())
    )
    found = bind(config, None).partonomy
    return found if found.name != "project" else _named(found, name)


def _named(partonomy: Partonomy, name: str) -> Partonomy:
    """name: of a folder, say; what a partonomy must not be called is changed."""
    name = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-._") or "labels"
    if name in shipped_partonomies():
        name = f"my-{name}"
    return Partonomy.from_json({**partonomy.to_json(), "name": name, "title": name})


def paint(picture: LabeledPicture, matching: Matching, least: int = 0) -> LabelMap:
    """[H, W] uint8, class numbers, 255 = ignored.

    Where regions overlap a part lies above what it is a part of, else the later region above the
    earlier one: the rule by which annotations are read (`regions.to_label_map`).
    least: classes with fewer pixels are ignored.
    """
    labels = np.zeros(picture.picture.shape[:2], dtype=np.uint8)
    ignored = np.zeros(labels.shape, dtype=bool)
    for region in picture.regions:
        index = matching.class_of.get(region.label)
        if index is None:
            continue
        if index == IGNORE:
            ignored |= region.mask
            continue
        kept = matching.partonomy.descends[:, index][labels] & ~ignored
        labels[region.mask & ~kept] = index
        ignored &= ~region.mask
    labels[ignored] = IGNORE
    for number, count in enumerate(np.bincount(labels.ravel(), minlength=IGNORE)[:IGNORE]):
        if number > 0 and 0 < count < least:
            labels[labels == number] = IGNORE
    return labels

"""What a source holds, read once before anything is written: counts, and every file at fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from dgan_backend.errors import DganError
from dgan_backend.migration.collection import Collection, Entry, LabeledPicture
from dgan_backend.migration.matching import Matching

_SHOWN = 20  # files at fault, or pictures without labels
Progress = Callable[[str, Iterable[Entry]], Iterable[Entry]]


@dataclass
class Survey:
    """pictures: that have regions. regions, of_pictures, pixels, tiny: by label; `tiny` counts
    pictures in which a label has fewer pixels than were asked for. without: names of pictures
    without any region. left_out: what could not be taken over. faults: one sentence a file."""

    pictures: int = 0
    regions: Counter[str] = field(default_factory=Counter)
    of_pictures: Counter[str] = field(default_factory=Counter)
    pixels: Counter[str] = field(default_factory=Counter)
    tiny: Counter[str] = field(default_factory=Counter)
    without: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        return sorted(self.regions)

    def check(self) -> None:
        """Raises DganError that names the files at fault."""
        if self.faults:
            raise DganError("\n  ".join(["Nothing is imported:", *_few(self.faults)]))
        if not self.pictures:
            raise DganError("No picture has a label, so there is nothing to import.")


def survey(collection: Collection, progress: Progress, least: int = 0) -> Survey:
    """Read all of a source."""
    found = Survey(without=list(collection.without_labels))
    for entry in progress("reading", collection.entries):
        try:
            _count(found, entry.read(), least)
        except DganError as error:
            found.faults.append(str(error))
    return found


def _count(found: Survey, picture: LabeledPicture, least: int) -> None:
    found.left_out.update(picture.left_out)
    if not picture.regions:
        found.without.append(picture.name)
        return
    found.pictures += 1
    pixels = Counter[str]()
    for region in picture.regions:
        found.regions[region.label] += 1
        pixels[region.label] += int(np.count_nonzero(region.mask))
    found.of_pictures.update(set(pixels))
    found.pixels.update(pixels)
    found.tiny.update(label for label, count in pixels.items() if count < least)


def report(found: Survey, matching: Matching, collection: Collection, least: int) -> Iterator[str]:
    """For people, line by line."""
    yield f"{counted(found.pictures, 'picture')} with labels ({collection.format})."
    yield from collection.notes
    width = max((len(label) for label in found.labels), default=5) + 2
    yield f"{'label':<{width}}{'class':<20}{'pictures':>9}{'regions':>9}{'pixels':>12}"
    for label in sorted(found.labels, key=lambda name: (name in matching.unmatched, name)):
        counts = (found.of_pictures[label], found.regions[label], found.pixels[label])
        yield (
            f"{label:<{width}}{_class(matching, label):<20}{counts[0]:>9}{counts[1]:>9}"
            f"{counts[2]:>12}"
        )
    if matching.unmatched:
        yield "Labels that mean no class:"
        yield from (f"  {label}: {why}" for label, why in matching.unmatched.items())
    unused = set(range(1, matching.partonomy.num_classes)) - set(matching.class_of.values())
    if unused:
        names = (matching.partonomy.classes[number] for number in sorted(unused))
        yield f"Classes of {matching.partonomy.name} without a label here: {', '.join(names)}."
    if found.tiny:
        where = ", ".join(f"{label} ({n})" for label, n in sorted(found.tiny.items()))
        yield f"Under {least} pixels and so not imported, in how many pictures: {where}."
    if found.left_out:
        what = ", ".join(f"{count} {kind}" for kind, count in sorted(found.left_out.items()))
        yield f"Shapes without an area, left out: {what}."
    if found.without:
        yield f"{counted(len(found.without), 'picture')} without labels, left out:"
        yield from (f"  {name}" for name in _few(found.without))
    if found.faults:
        yield f"At fault: {counted(len(found.faults), 'file')}."
        yield from (f"  {fault}" for fault in _few(found.faults))


def counted(number: int, noun: str) -> str:
    """`1 picture`, `2 pictures`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _class(matching: Matching, label: str) -> str:
    if label in matching.unmatched:
        return "-"
    index = matching.class_of[label]
    classes = matching.partonomy.classes
    return classes[index] if index < len(classes) else "(ignored)"


def _few(lines: list[str]) -> list[str]:
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [*lines[:_SHOWN], *more]

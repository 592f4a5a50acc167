"""Labels into a project of Label Studio: a task with a submitted annotation for each picture.

A task's data says under `dgan` where it comes from, so the same import again makes only what is
missing. Nothing there marks the annotation as this backend's own work: it is a person's, and is
learned from like one that was drawn in Label Studio.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.binding import Binding
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.corrections import MARK
from dgan_backend.labelstudio.project import Project
from dgan_backend.labelstudio.regions import polygon_region, to_label_map, to_regions
from dgan_backend.merging import IGNORE
from dgan_backend.migration.collection import Entry, LabeledPicture
from dgan_backend.migration.matching import LabelMap, Matching, paint
from dgan_backend.synthesis.importing import import_drafts

KIND = "imported"
CHUNK = 5  # pictures of people are large
_LONGEST_STEM = 40


@dataclass
class Imported:
    """created: tasks. there: pictures that were there before; changed: those of them whose labels
    differ now, which stay as they are in Label Studio. bare: names of pictures without a pixel of
    a class of the project. unsaid: created ones with ignored pixels, which become bare ones."""

    created: int = 0
    there: int = 0
    changed: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    unsaid: int = 0


@dataclass(frozen=True)
class _Draft:
    read: LabeledPicture
    file_name: str
    mark: Mapping[str, Any]
    about: Mapping[str, Any]

    def file(self) -> bytes:
        return self.read.file

    def told(self) -> Mapping[str, Any]:
        return {**self.read.data, MARK: self.mark}


def import_entries(
    site: LabelStudioClient,
    project: Project,
    entries: Iterable[Entry],
    matching: Matching,
    format: str,
    least: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Imported:
    """Make the tasks that are not there yet. matching: with the project's partonomy. least: see
    `paint`. check: called before anything is written; raises when this process has to stop."""
    if project.binding is None or project.number is None:
        raise DganError(project.problem or "A project without a number gets no tasks.")
    binding, number = project.binding, project.number
    known = _known(site, number)
    done = Imported()

    def drafts() -> Iterator[_Draft]:
        for entry in entries:
            read = entry.read()
            labels = shown_labels(paint(read, matching, least), binding)
            if not ((labels != 0) & (labels != IGNORE)).any():
                done.bare.append(entry.name)
                continue
            mark = _mark(read, format)
            if (there := known.get(_key(mark))) is not None:
                done.there += 1
                if there != mark["labels"]:
                    done.changed.append(entry.name)
                continue
            done.unsaid += bool((labels == IGNORE).any())
            regions = annotation_of(read, labels, matching, binding)
            # Label Studio takes imported annotations for the ground truth if they do not say no
            about = {"annotations": [{"result": regions, "ground_truth": False}]}
            yield _Draft(read, _file_name(read), mark, about)

    key = binding.config.image_key
    done.created = import_drafts(site, number, key, drafts(), check, CHUNK)
    return done


def shown_labels(labels: LabelMap, binding: Binding) -> LabelMap:
    """With classes that the project has no label for as their ancestors; 255 stays."""
    table = np.full(IGNORE + 1, IGNORE, dtype=np.uint8)
    folded = binding.folded()
    table[: len(folded)] = folded
    return np.asarray(table[labels], dtype=np.uint8)


def _known(site: LabelStudioClient, project: int) -> dict[tuple[str, str], str]:
    """What earlier imports made: source and picture -> labels."""
    found = {}
    for task in site.summaries(project):
        mark = task.data.get(MARK)
        if isinstance(mark, Mapping) and mark.get("kind") == KIND:
            found[_key(mark)] = str(mark.get("labels", ""))
    return found


def _key(mark: Mapping[str, Any]) -> tuple[str, str]:
    return str(mark.get("source", "")), str(mark.get("picture", ""))


def _mark(read: LabeledPicture, format: str) -> dict[str, Any]:
    """What a task's data tells of where it comes from; no `annotation`, which would say that this
    backend had labeled it."""
    return {
        "kind": KIND,
        "format": format,
        "source": read.name,
        "picture": _hash([f"{read.picture.shape}".encode(), read.picture.tobytes()]),
        "labels": _hash(
            part for r in read.regions for part in (r.label.encode(), np.packbits(r.mask).tobytes())
        ),
    }


def _hash(parts: Iterable[bytes]) -> str:
    code = hashlib.sha256()
    for part in parts:
        code.update(part)
    return code.hexdigest()[:16]


def _file_name(read: LabeledPicture) -> str:
    """`image-3-9f86d081884c7d65.jpg`: a name that says which file it is."""
    stem = re.sub(r"[^A-Za-z0-9.-]+", "-", PurePosixPath(read.name).stem)[-_LONGEST_STEM:]
    code = hashlib.sha256(read.file).hexdigest()[:16]
    return f"{stem.strip('-.') or 'picture'}-{code}{read.ending}"


def annotation_of(
    read: LabeledPicture, labels: LabelMap, matching: Matching, binding: Binding
) -> list[dict[str, Any]]:
    """Regions that are read back as `labels`, 255 as bare pixels."""
    regions = _polygons(read, labels, matching, binding)
    if regions is not None:
        return regions
    # To the pixel, since a person drew it.
    return to_regions(np.where(labels == IGNORE, 0, labels), None, binding, tolerance=0.0)


def _polygons(
    read: LabeledPicture, labels: LabelMap, matching: Matching, binding: Binding
) -> list[dict[str, Any]] | None:
    """The polygons as they were drawn, which are easier to change than outlines of pixels; None
    where they would not say the same."""
    if binding.config.kind != "polygon" or (labels == IGNORE).any():
        return None
    regions = []
    for region in read.regions:
        index = matching.class_of.get(region.label)
        if index is None:
            continue
        if region.points is None or index not in binding.label_of:
            return None
        regions.append(polygon_region(region.points, index, labels.shape, binding))
    height, width = labels.shape
    same = np.array_equal(to_label_map(regions, binding, height, width), labels)
    return regions if same else None

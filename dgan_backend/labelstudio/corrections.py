"""A task's annotations -> one mask, by stated rules.

Which annotations count: submitted ones that were not cancelled, the newest of each annotator; where
one is marked as ground truth, only those. Where several annotators differ, the label that most of
them gave a pixel; a tie is ignored. Bare pixels are background, or ignored where the project says
`{"unlabeled": "ignore"}`. What nothing covers but regions of labels that the config has lost is
ignored, and told. An annotation that this backend wrote itself does not count until a person
changed it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend.labelstudio.binding import Binding
from dgan_backend.labelstudio.regions import to_label_map
from dgan_backend.merging import IGNORE

MARK = "dgan"  # key of a task's data that tells what this backend made it for

Annotation = Mapping[str, Any]
LabelMap = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Correction:
    """What people say of one task.

    data: the task's. annotations: those that count. ignore_bare: bare pixels are ignored, not
    background.
    """

    task: int
    data: Mapping[str, Any]
    annotations: tuple[Annotation, ...]
    ignore_bare: bool = False

    @property
    def key(self) -> str:
        """Two corrections are the same when their keys are: of the task, its picture, the
        annotations' regions, and what bare pixels mean."""
        told = [self.task, self.data, [(a["id"], a["result"]) for a in self.annotations]]
        told += [True] if self.ignore_bare else []
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def size(self) -> tuple[int, int] | None:
        """(height, width) of the picture as the regions have it; None without any region."""
        for annotation in self.annotations:
            for region in annotation["result"]:
                if not isinstance(region, Mapping):
                    continue
                height, width = region.get("original_height"), region.get("original_width")
                if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
                    return height, width
        return None

    def mask(self, binding: Binding, height: int, width: int) -> LabelMap:
        """[H, W] uint8, class indices of the binding's partonomy, 255 = ignored.

        Raises DganError that names the region at fault.
        """
        fill = IGNORE if self.ignore_bare else 0
        maps = [_map(a["result"], binding, height, width, fill) for a in self.annotations]
        return maps[0] if len(maps) == 1 else _agreed(maps, binding.partonomy.num_classes)

    def unknown_labels(self, binding: Binding) -> list[str]:
        """Labels of regions that the config no longer has, sorted."""
        found = {
            label
            for a in self.annotations
            for region in a["result"]
            for label in _labels(region)
            if label not in binding.class_of
        }
        return sorted(found)


def correction_of(task: Mapping[str, Any]) -> Correction | None:
    """Of a task as Label Studio's API gives it, whole; None when no annotation counts."""
    counting = [
        a
        for a in task.get("annotations", ())
        if not a.get("was_cancelled")
        and isinstance(a.get("result"), list)
        and not is_ours(a, task["data"])
    ]
    truth = [a for a in counting if a.get("ground_truth")]
    newest: dict[Any, Annotation] = {}
    for a in sorted(truth or counting, key=lambda a: (str(a.get("updated_at")), a["id"])):
        newest[_annotator(a)] = a
    chosen = tuple(sorted(newest.values(), key=lambda a: int(a["id"])))
    return Correction(int(task["id"]), task["data"], chosen) if chosen else None


def regions_hash(regions: Iterable[Mapping[str, Any]]) -> str:
    """Of what regions show, whatever ids Label Studio gives them."""
    told = [
        [r.get("type"), r.get("from_name"), r.get("value")] if isinstance(r, Mapping) else r
        for r in regions
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def is_ours(annotation: Annotation, data: Mapping[str, Any]) -> bool:
    """Whether it is as this backend wrote it, together with the task."""
    mark = data.get(MARK)
    written = mark.get("annotation") if isinstance(mark, Mapping) else None
    return bool(written) and written == regions_hash(annotation["result"])


def _annotator(annotation: Annotation) -> Any:
    by = annotation.get("completed_by")
    return by.get("id") if isinstance(by, Mapping) else by


def _map(
    regions: Sequence[Mapping[str, Any]], binding: Binding, height: int, width: int, fill: int
) -> LabelMap:
    """One annotation's labels; what only a label covers that the config no longer has is 255."""
    labels = to_label_map(_known(regions, binding), binding, height, width, fill)
    if gone := _gone(regions, binding):
        covered = to_label_map(gone, binding, height, width, 0) != 0
        bare = to_label_map(_known(regions, binding), binding, height, width, IGNORE) == IGNORE
        labels = np.where(covered & bare, IGNORE, labels).astype(np.uint8)
    return labels


def _gone(regions: Sequence[Mapping[str, Any]], binding: Binding) -> list[Mapping[str, Any]]:
    """Regions of none but labels that the config no longer has, as if they were of another one."""
    other = next((label for label, k in binding.class_of.items() if k != 0), None)
    return [
        {**region, "value": {**region["value"], region["type"]: [other]}}
        for region in regions
        if other and (labels := _labels(region)) and not set(labels) & set(binding.class_of)
    ]


def _known(regions: Sequence[Mapping[str, Any]], binding: Binding) -> list[Mapping[str, Any]]:
    """Without the labels that the config no longer has, and the regions that have no other."""
    found = []
    for region in regions:
        labels = _labels(region)
        known = [label for label in labels if label in binding.class_of]
        if labels and known != labels:
            region = {**region, "value": {**region["value"], region["type"]: known}}
        if known or not labels:
            found.append(region)
    return found


def _labels(region: object) -> list[str]:
    """Of a brush, bitmask or polygon region; none of any other."""
    if not isinstance(region, Mapping):
        return []
    kind = str(region.get("type", ""))
    value = region.get("value")
    if kind not in ("brushlabels", "bitmasklabels", "polygonlabels"):
        return []
    labels = value.get(kind) if isinstance(value, Mapping) else None
    return [x for x in labels if isinstance(x, str)] if isinstance(labels, list) else []


def _agreed(maps: Sequence[LabelMap], classes: int) -> LabelMap:
    """The label that most annotators gave each pixel; a tie is ignored, as is one of no votes."""
    every = np.stack(maps)
    votes = np.stack([(every == k).sum(axis=0, dtype=np.uint8) for k in range(classes)])
    most = votes.max(axis=0)
    agreed = votes.argmax(axis=0).astype(np.uint8)
    agreed[(votes == most).sum(axis=0) > 1] = IGNORE
    return agreed

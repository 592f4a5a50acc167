"""What became of all that was submitted: lost corrections, doubled predictions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgan_backend.labelstudio.corrections import correction_of, regions_hash

_CARD = "version.json"
Task = Mapping[str, Any]


@dataclass(frozen=True)
class Learned:
    """What a version's card tells. keys: of the corrections that it learned from or left out, with
    a reason, for good. left_out: why, by task."""

    version: str
    keys: frozenset[str]
    left_out: Mapping[int, str]

    @classmethod
    def last(cls, models: Path, project: int) -> Learned:
        """Of a project's last version in a MODEL_DIR; no keys before there is one."""
        cards = sorted(models.glob(f"p{project}-*-v[0-9]*/{_CARD}"))
        if not cards:
            return cls("", frozenset(), {})
        told = json.loads(cards[-1].read_text(encoding="utf-8"))["training"]
        left = {int(entry["task"]): str(entry["reason"]) for entry in told.get("left_out", ())}
        return cls(cards[-1].parent.name, frozenset(told.get("corrections", ())), left)


def count_versions(models: Path, project: int) -> int:
    return len(list(models.glob(f"p{project}-*-v[0-9]*/{_CARD}")))


def missing(submitted: Mapping[int, tuple[int, str]], tasks: Iterable[Task]) -> list[int]:
    """Submitted annotations that Label Studio does not have as they were acknowledged. tasks:
    whole ones, as its API gives them. submitted: see `Tally`."""
    there = {
        int(annotation["id"]): regions_hash(annotation["result"])
        for task in tasks
        for annotation in task["annotations"]
    }
    return sorted(n for n, (_, told) in submitted.items() if there.get(n) != told)


def lost(
    submitted: Mapping[int, tuple[int, str]], tasks: Iterable[Task], learned: Learned
) -> list[int]:
    """Submitted annotations whose tasks, as they are now, the version does not account for."""
    found = (correction_of(task) for task in tasks)
    known = {c.task for c in found if c is not None and c.key in learned.keys}
    return sorted(n for n, (task, _) in submitted.items() if task not in known)


def doubled(predictions: Mapping[int, Sequence[Task]]) -> dict[int, list[str]]:
    """Tasks that have several predictions of one version, with those versions. predictions: of
    each task."""
    found: dict[int, list[str]] = {}
    for task, own in predictions.items():
        counts = Counter(str(prediction["model_version"]) for prediction in own)
        if several := sorted(version for version, count in counts.items() if count > 1):
            found[task] = several
    return found

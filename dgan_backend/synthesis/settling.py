"""What Label Studio has stored of tasks that were sent: each once, and with all that it came with.

While its SQLite is locked, Label Studio makes a call again (DatabaseIsLockedRetryMiddleware, and
retry_database_locked around the making of tasks), whatever of it is stored already. So tasks are
there several times, of which the answer tells the last ones; and these may be bare, since the try
before has taken annotations and predictions out of what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.corrections import regions_hash

_RESULTS = ("annotations", "predictions")
_LOOKED_AT = 100  # tasks at a time


def settle(
    site: LabelStudioClient,
    project: int,
    sent: Sequence[Mapping[str, Any]],
    ids: Sequence[int],
) -> list[Mapping[str, Any]]:
    """Of the tasks `ids`, among them those of `sent`, keep each of `sent` once and whole; delete
    what else there is of them, but for what a person has begun with. Returns those of `sent` that
    are not there."""
    there = [
        task
        for start in range(0, len(ids), _LOOKED_AT)
        for task in site.tasks(project, ids[start : start + _LOOKED_AT])
    ]
    lacking, spare = list[Mapping[str, Any]](), list[int]()
    for alike in _by_data(sent):
        found = [task for task in there if task["data"] == alike[0]["data"]]
        begun = [task for task in found if _begun(task, alike[0])]
        whole = [task for task in found if task not in begun and _whole(task, alike[0])]
        chosen = [*begun, *sorted(whole, key=lambda task: int(task["id"]))][: len(alike)]
        lacking += alike[len(chosen) :]
        spare += [int(task["id"]) for task in found if task not in chosen and task not in begun]
    site.delete_tasks(project, spare)
    return lacking


def _by_data(sent: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Those of the same data together, in order."""
    groups = list[list[Mapping[str, Any]]]()
    for task in sent:
        same = [group for group in groups if group[0]["data"] == task["data"]]
        if same:
            same[0].append(task)
        else:
            groups.append([task])
    return groups


def _whole(task: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    return all(len(task.get(key) or ()) >= len(sent.get(key) or ()) for key in _RESULTS)


def _begun(task: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """Whether it has something of a person: a draft, a skip, or an annotation that was not sent."""
    came = [regions_hash(annotation["result"]) for annotation in sent.get("annotations") or ()]
    there = [regions_hash(annotation["result"]) for annotation in task.get("annotations") or ()]
    drawn = len(there) > len(came) or any(one not in came for one in there)
    return drawn or any(task.get(k) for k in ("drafts", "draft_exists", "cancelled_annotations"))

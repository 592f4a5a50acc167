"""Taking a batch back: what nobody touched is deleted, the rest stays."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient, TaskSummary
from dgan_backend.labelstudio.corrections import is_ours
from dgan_backend.synthesis.batch import Mark
from dgan_backend.synthesis.inventory import Inventory, Made

_CHUNK = 50  # tasks that are looked at once more and deleted together


@dataclass(frozen=True)
class Stayed:
    """A task that a person has begun with, and how."""

    project: int
    task: int
    why: str


@dataclass(frozen=True)
class Undone:
    removed: int
    stayed: tuple[Stayed, ...]


def undo(
    site: LabelStudioClient,
    projects: Sequence[int],
    batch: str,
    check: Callable[[], None] = lambda: None,
) -> Undone:
    """Delete the tasks of a batch in these projects that nobody touched, with their pictures
    unless another task shows them too.

    Raises DganError that names the batches that are there when this one is not.
    """
    inventories = {project: Inventory.of(site, project) for project in projects}
    if not any(inventory.batch(batch) for inventory in inventories.values()):
        names = sorted({name for inventory in inventories.values() for name in inventory.names()})
        raise DganError(
            f"There is no task of the batch {batch!r} in project "
            f"{' or '.join(str(project) for project in projects)}; there are: "
            f"{', '.join(names) or 'none'}."
        )
    gone, stayed = set[int](), list[Stayed]()
    for project, inventory in inventories.items():
        if not (made := inventory.batch(batch)):
            continue
        uploads = {place: upload for upload, place in site.uploads(project).values()}
        users = _users(site, projects, uploads)
        for start in range(0, len(made), _CHUNK):
            free, begun = _parted(site, project, made[start : start + _CHUNK])
            check()
            site.delete_tasks(project, [task.id for task in free])
            gone |= {task.id for task in free}
            unused = [place for place, tasks in users.items() if tasks <= gone]
            site.delete_uploads(project, [uploads[place] for place in unused])
            stayed += begun
            for place in unused:
                del users[place]
    return Undone(len(gone), tuple(stayed))


def _users(
    site: LabelStudioClient, projects: Sequence[int], places: Container[str]
) -> dict[str, set[int]]:
    """The tasks that show each of these uploads."""
    users: dict[str, set[int]] = {}
    for project in projects:
        for task in site.summaries(project):
            for value in task.data.values():
                if isinstance(value, str) and value in places:
                    users.setdefault(value, set()).add(task.id)
    return users


def _parted(
    site: LabelStudioClient, project: int, made: Sequence[Made]
) -> tuple[list[TaskSummary], list[Stayed]]:
    """Tasks that nobody touched, as they are now, and the others."""
    now = list(site.summaries(project, tasks=[m.task.id for m in made]))
    reasons = {task.id: _touched(site, task) for task in now}
    begun = [Stayed(project, number, why) for number, why in reasons.items() if why]
    return [task for task in now if not reasons[task.id]], begun


def _touched(site: LabelStudioClient, task: TaskSummary) -> str:
    """What a person did with a task; "" when nothing."""
    if task.draft:
        return "somebody has begun with it"
    if task.skipped:
        return "somebody skipped it"
    if not task.annotations:
        return ""
    mark = Mark.of(task.data)
    if mark is None or not mark.annotation:
        return "it is annotated"
    found = site.annotations(task.id)
    alone = len(found) == 1 and task.annotations == 1
    return "" if alone and is_ours(found[0], task.data) else "its annotation was changed"

"""Tasks of pictures into Label Studio, a few at a time, no picture uploaded twice."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from PIL import Image

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.pictures import Picture
from dgan_backend.records import SeedLatent

CHUNK = 20  # tasks that are uploaded and created together
_LONGEST_NAME = 40  # of a generator, in a file's name
_TRIES = 15  # of one call, which Label Studio begins anew with while its SQLite is locked


class TaskDraft(Protocol):
    """A task to be made."""

    @property
    def file_name(self) -> str:
        """Of its picture, the same for the same picture alone; letters, digits, dots, dashes."""

    def file(self) -> bytes:
        """Its picture."""

    def told(self) -> Mapping[str, Any]:
        """Its data, beside the picture."""

    @property
    def about(self) -> Mapping[str, Any]:
        """`predictions`, `annotations`."""


@dataclass(frozen=True)
class Draft:
    """A task of a sampled picture. data: beside picture and latent."""

    latent: SeedLatent
    picture: Picture
    data: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return file_name(self.latent)

    def file(self) -> bytes:
        return _png(self.picture)

    def told(self) -> Mapping[str, Any]:
        return {"latent": self.latent.to_json(), **self.data}


def import_drafts(
    site: LabelStudioClient,
    project: int,
    image_key: str,
    drafts: Iterable[TaskDraft],
    check: Callable[[], None] = lambda: None,
    chunk: int = CHUNK,
) -> int:
    """Create a task of each; how many. image_key: under which a task's data has its picture.

    Killed between upload and import it leaves files behind, which the next run uses.
    check: called before anything is written; raises when this process has to stop. chunk: tasks
    that are uploaded and created together.
    """
    made, there = list[int](), None
    for some in _chunks(drafts, chunk):
        if there is None:
            there = {name: place for name, (_, place) in site.uploads(project).items()}
        named = {draft.file_name: draft for draft in some}
        missing = {name: draft.file() for name, draft in named.items() if name not in there}
        check()
        if missing:
            there |= site.upload_pictures(project, missing)
        check()
        tasks = [
            {"data": {image_key: there[draft.file_name], **draft.told()}, **draft.about}
            for draft in some
        ]
        new = site.import_tasks(project, tasks)
        if len(new) != len(tasks):
            raise DganError(
                f"Label Studio made {len(new)} of {len(tasks)} tasks in project {project}; look "
                "into it, then repeat this: it makes what is missing."
            )
        site.delete_tasks(project, _left_over(site, project, tasks, new, made))
        made += new
    return len(made)


def _left_over(
    site: LabelStudioClient,
    project: int,
    tasks: Sequence[Mapping[str, Any]],
    new: Sequence[int],
    made: Sequence[int],
) -> list[int]:
    """Tasks that earlier tries of the call have made, which Label Studio does not tell: its
    DatabaseIsLockedRetryMiddleware begins anew with a call also after its tasks were stored. They
    come just before the new ones and have their very data. made: by earlier calls."""
    first = min(new)
    before = set(range(max(1, first - _TRIES * len(new)), first)) - set(made)
    sent = [task["data"] for task in tasks]
    found = site.summaries(project, tasks=sorted(before)) if before else ()
    return [task.id for task in found if task.data in sent and not (task.draft or task.skipped)]


def file_name(latent: SeedLatent) -> str:
    """`toonhead-d7eba7d2-0.7-3000017.png`: a name that says which picture it is."""
    generator = re.sub(r"[^A-Za-z0-9.-]", "-", latent.generator)[-_LONGEST_NAME:].strip("-.")
    return f"{generator}-{latent.truncation:g}-{latent.seed}.png"


def _png(picture: Picture) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def _chunks(drafts: Iterable[TaskDraft], size: int) -> Iterator[Sequence[TaskDraft]]:
    iterator = iter(drafts)
    while chunk := list(islice(iterator, size)):
        yield chunk

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
from dgan_backend.labelstudio.client import LabelStudioClient, MadeTasks
from dgan_backend.pictures import Picture
from dgan_backend.records import SeedLatent
from dgan_backend.synthesis.settling import settle

CHUNK = 20  # tasks that are uploaded and created together
_LONGEST_NAME = 40  # of a generator, in a file's name
_RESULTS = ("annotations", "predictions")
_TRIES = 3  # to have tasks made with all that they come with


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
    done, there, newest = 0, None, 0
    for some in _chunks(drafts, chunk):
        if there is None:
            there = {name: place for name, (_, place) in site.uploads(project).items()}
            newest = site.newest_task(project)
        named = {draft.file_name: draft for draft in some}
        missing = {name: draft.file() for name, draft in named.items() if name not in there}
        check()
        if missing:
            there |= site.upload_pictures(project, missing)
        tasks = [
            {"data": {image_key: there[draft.file_name], **draft.told()}, **draft.about}
            for draft in some
        ]
        newest = _make(site, project, tasks, newest, check)
        done += len(tasks)
    return done


def _make(
    site: LabelStudioClient,
    project: int,
    tasks: Sequence[Mapping[str, Any]],
    newest: int,
    check: Callable[[], None],
) -> int:
    """Make tasks, each once and with all that it comes with. newest: the highest id there was in
    the project; returns the highest there is."""
    lacking = tasks
    for _ in range(_TRIES):
        check()
        made = site.import_tasks(project, lacking)
        there = made.ids
        if len(there) != len(lacking) or min(there) > newest + 1:  # of earlier tries, perhaps
            there = [task.id for task in site.summaries(project, after=newest)]
        if len(there) == len(lacking) and _with_all(made, lacking):
            return max(there)
        check()
        lacking = settle(site, project, lacking, there)
        newest = site.newest_task(project)  # ids of deleted ones are given again
        if not lacking:
            return newest
    raise DganError(
        f"Label Studio did not make {len(lacking)} of {len(tasks)} tasks in project {project} as "
        "they were sent; see whether the labeling config has changed, then repeat this: it makes "
        "what is missing."
    )


def _with_all(made: MadeTasks, sent: Sequence[Mapping[str, Any]]) -> bool:
    wanted = {key: sum(len(task.get(key, ())) for task in sent) for key in _RESULTS}
    return made.annotations >= wanted["annotations"] and made.predictions >= wanted["predictions"]


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

"""Tasks of sampled pictures into Label Studio, a few at a time, none of them twice."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from PIL import Image

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.pictures import Picture
from dgan_backend.records import SeedLatent

CHUNK = 20  # tasks that are uploaded and created together
_LONGEST_NAME = 40  # of a generator, in a file's name


@dataclass(frozen=True)
class Draft:
    """A task to be made. data: beside picture and latent. about: `predictions`, `annotations`."""

    latent: SeedLatent
    picture: Picture
    data: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)


def import_drafts(
    site: LabelStudioClient,
    project: int,
    image_key: str,
    drafts: Iterable[Draft],
    check: Callable[[], None] = lambda: None,
) -> int:
    """Create a task of each; how many. image_key: under which a task's data has its picture.

    Killed between upload and import it leaves files behind, which the next run uses.
    check: called before anything is written; raises when this process has to stop.
    """
    done, there = 0, None
    for chunk in _chunks(drafts):
        if there is None:
            there = {name: place for name, (_, place) in site.uploads(project).items()}
        named = {file_name(draft.latent): draft for draft in chunk}
        missing = {name: _png(draft.picture) for name, draft in named.items() if name not in there}
        check()
        if missing:
            there |= site.upload_pictures(project, missing)
        check()
        tasks = [_task(draft, image_key, there[name]) for name, draft in named.items()]
        made = site.import_tasks(project, tasks)
        if len(made) != len(tasks):
            raise DganError(
                f"Label Studio made {len(made)} of {len(tasks)} tasks in project {project}; look "
                "into it, then repeat the push: it makes what is missing."
            )
        done += len(made)
    return done


def file_name(latent: SeedLatent) -> str:
    """`toonhead-d7eba7d2-0.7-3000017.png`: a name that says which picture it is."""
    generator = re.sub(r"[^A-Za-z0-9.-]", "-", latent.generator)[-_LONGEST_NAME:].strip("-.")
    return f"{generator}-{latent.truncation:g}-{latent.seed}.png"


def _task(draft: Draft, image_key: str, place: str) -> dict[str, Any]:
    data = {image_key: place, "latent": draft.latent.to_json(), **draft.data}
    return {"data": data, **draft.about}


def _png(picture: Picture) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def _chunks(drafts: Iterable[Draft]) -> Iterator[Sequence[Draft]]:
    iterator = iter(drafts)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk

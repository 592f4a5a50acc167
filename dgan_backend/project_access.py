"""How commands reach a project: its Label Studio, what its labels mean, and nobody else at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError
from dgan_backend.labelstudio.project import Project
from dgan_backend.settings import Settings


def label_studio(settings: Settings) -> LabelStudioClient:
    """A client with patience; raises DganError that says what to set."""
    if not (settings.label_studio_url and settings.label_studio_api_key):
        raise DganError("Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, as for the backend.")
    return LabelStudioClient(
        settings.label_studio_url, settings.label_studio_api_key, timeout=120.0
    )


def open_project_of(site: LabelStudioClient, number: int, usable: bool = True) -> Project:
    """Raises DganError where there is none, or where it has to be usable and is not."""
    from dgan_backend.loop.connection import Connection

    try:
        project = Connection.found(site, number).open()
    except LabelStudioError as error:
        if error.status not in (403, 404):
            raise
        raise DganError(
            f"There is no project {number} that the owner of LABEL_STUDIO_API_KEY may see at "
            f"{site.url}; take the number from the project's URL."
        ) from error
    if usable and project.binding is None:
        raise DganError(f"Project {number}: {project.problem}")
    return project


@contextmanager
def alone(settings: Settings, project: Project, state: Path | None) -> Iterator[Callable[[], None]]:
    """Without others that make tasks of the project at the same time, as far as the backend's
    Redis tells of them."""
    from dgan_backend import jobs
    from dgan_backend.loop.board import Board

    try:
        client = jobs.reach(settings, state)
    except DganError:
        if settings.redis_url or state:
            raise
        client = None  # `start` is not running: its jobs make nothing
    if client is None:
        yield lambda: None
        return
    with client, Board(client).lease(project.uid, "make") as lease:
        if lease is None:
            raise DganError(
                f"Tasks of project {project.number} are being made right now; try again when that "
                "is done."
            )
        yield lease.check

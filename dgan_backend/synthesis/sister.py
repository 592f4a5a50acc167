"""The project beside a project that synthetic tasks go to, so that nobody's queue is flooded.

It is known by a line of its description, so that no memory of ours is needed; its title may be
changed. No backend is connected to it: predictions come with its tasks and stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError

_LONGEST_TITLE = 50  # that Label Studio takes
_SUFFIX = " (synthetic)"


def find(site: LabelStudioClient, parent: int) -> dict[str, Any] | None:
    """The sister of a project, the oldest if there are several."""
    line = _line(parent)
    found = [p for p in site.projects() if line in str(p.get("description") or "").splitlines()]
    return min(found, key=lambda project: int(project["id"]), default=None)


def ensure(site: LabelStudioClient, parent: Mapping[str, Any]) -> int:
    """The number of a project's sister, made if there is none, with the labels that the project
    has now. parent: as the API describes it."""
    number, config = int(parent["id"]), str(parent["label_config"])
    sister = find(site, number)
    if sister is None:
        title = str(parent.get("title") or f"Project {number}")
        made = site.create_project(
            title[: _LONGEST_TITLE - len(_SUFFIX)].rstrip() + _SUFFIX,
            config,
            description=_description(number),
            show_collab_predictions=True,
        )
        sister = find(site, number) or made  # Label Studio with a locked SQLite may make two
    elif sister.get("label_config") != config:
        _relabel(site, int(sister["id"]), number, config)
    return int(sister["id"])


def show(site: LabelStudioClient, sister: int, versions: Collection[str]) -> None:
    """Have a sister show the predictions of its tasks.

    While all are of one version, that is chosen: labels also show in the label stream, and scores
    in the list. With several, none is: Label Studio would hide those of all others.
    """
    chosen = next(iter(versions)) if len(versions) == 1 else ""
    if (site.project(sister).get("model_version") or "") != chosen:
        site.update_project(sister, model_version=chosen)


def _relabel(site: LabelStudioClient, sister: int, parent: int, config: str) -> None:
    try:
        site.update_project(sister, label_config=config)
    except LabelStudioError as error:
        if error.status != 400:
            raise
        raise DganError(
            f"Project {sister} has the synthetic tasks of project {parent}, whose labels have "
            f"changed, and cannot take the new ones ({error}). Change the annotations there that "
            f"use the old labels, or take the line {_line(parent)!r} out of its description, and a "
            "new project is made."
        ) from error


def _line(parent: int) -> str:
    return f"dgan-backend: synthetic tasks of project {parent}"


def _description(parent: int) -> str:
    return (
        "Sampled pictures with their labels. Annotations here are not learned from; correct "
        "pictures in the project itself.\n" + _line(parent)
    )

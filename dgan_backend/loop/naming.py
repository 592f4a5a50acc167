"""Telling Label Studio which version serves a project.

It calls a backend by its title, but shows and sorts scores only of predictions whose version is
the project's choice. So the backend's title is the version's name, and the project chooses that.
"""

from __future__ import annotations

import logging

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.project import Project
from dgan_backend.records import is_own_version

log = logging.getLogger(__name__)


def announce(site: LabelStudioClient, project: Project, version: str) -> None:
    """Title the project's backend with a version, and have the project show it.

    A title or a choice that a person made (no version of ours) stays. Nothing is raised: without
    this, predictions are there all the same.
    """
    assert project.number is not None
    try:
        chosen = str(site.project(project.number).get("model_version") or "")
        titles = []
        for backend in site.backends(project.number)[:1]:  # Label Studio asks the first one only
            titles.append(str(backend["title"]))
            if is_own_version(titles[0], project.number) and titles[0] != version:
                site.update_backend(backend, title=version)
                titles.append(version)
        ours = not chosen or is_own_version(chosen, project.number)
        if version in titles and ours and chosen != version:
            site.update_project(project.number, model_version=version)
    except DganError as error:
        log.warning("%s: its version could not be told to Label Studio: %s", project.name, error)

"""Which version Label Studio is told serves a project."""

from __future__ import annotations

from typing import Any

import pytest

from dgan_backend.labelstudio.client import LabelStudioError
from dgan_backend.labelstudio.project import open_project
from dgan_backend.loop.naming import announce
from tests.labeling import CONFIG

PROJECT = open_project("7.1795491060", CONFIG)
OLD, NEW = "p7-toonhead-v0001", "p7-toonhead-v0002"


class Site:
    """A project's choice, and the titles of its backends."""

    def __init__(self, chosen: str | None, *titles: str) -> None:
        self.chosen, self.titles = chosen, list(titles)
        self.told: list[str] = []
        self.broken = ""

    def project(self, project: int) -> dict[str, Any]:
        self._fail("project")
        return {"id": project, "model_version": self.chosen}

    def backends(self, project: int) -> list[dict[str, Any]]:
        self._fail("backends")
        return [{"id": n, "project": project, "title": t} for n, t in enumerate(self.titles)]

    def update_backend(self, backend: dict[str, Any], **fields: Any) -> None:
        self._fail("update_backend")
        self.told.append("title")
        self.titles[backend["id"]] = fields["title"]

    def update_project(self, project: int, **fields: Any) -> None:
        self._fail("update_project")
        self.told.append("choice")
        assert self.titles[0] == fields["model_version"], "a choice of no backend is none"
        self.chosen = fields["model_version"]

    def _fail(self, call: str) -> None:
        if self.broken == call:
            raise LabelStudioError("Label Studio answered 500", 500)


def told(site: Site, version: str = NEW) -> tuple[str | None, ...]:
    announce(site, PROJECT, version)  # type: ignore[arg-type]
    return site.chosen, *site.titles


@pytest.mark.parametrize("chosen", [None, "", OLD, "toonhead-shipped", "toonhead-untrained"])
@pytest.mark.parametrize("title", [OLD, "toonhead-shipped", "toonhead-untrained"])
def test_title_and_choice_are_the_version_that_serves(chosen: str | None, title: str) -> None:
    assert told(Site(chosen, title)) == (NEW, NEW)


def test_what_is_right_is_not_told_again() -> None:
    site = Site(NEW, NEW)
    assert told(site) == (NEW, NEW) and site.told == []
    half = Site(OLD, NEW)
    assert told(half) == (NEW, NEW) and half.told == ["choice"]


def test_a_title_that_a_person_made_stays_and_so_does_the_choice() -> None:
    """Label Studio would show no prediction for a choice that is no backend's title."""
    site = Site(OLD, "Ann's model")
    assert told(site) == (OLD, "Ann's model") and site.told == []


@pytest.mark.parametrize("chosen", ["Ann's model", "p8-toonhead-v0001"])
def test_a_choice_that_a_person_made_stays(chosen: str) -> None:
    assert told(Site(chosen, OLD)) == (chosen, NEW)


def test_only_the_first_backend_is_asked_by_label_studio_and_titled() -> None:
    assert told(Site("", OLD, OLD)) == (NEW, NEW, OLD)
    assert told(Site("", "Ann's model", OLD)) == ("", "Ann's model", OLD)


def test_a_project_without_a_backend_is_left_alone() -> None:
    assert told(Site("")) == ("",)


@pytest.mark.parametrize("call", ["project", "backends", "update_backend", "update_project"])
def test_a_label_studio_that_refuses_is_only_told_of(
    call: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site("", OLD)
    site.broken = call
    announce(site, PROJECT, NEW)  # type: ignore[arg-type]
    assert "project-7: its version could not be told to Label Studio" in caplog.text

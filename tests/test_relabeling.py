"""The job `label`, with a real Redis and a double of Label Studio's client."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import redis

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.project import Project
from dgan_backend.labelstudio.regions import to_regions
from dgan_backend.loop import labeling, stopping
from dgan_backend.loop import work as work_module
from dgan_backend.loop.bench import Bench
from dgan_backend.loop.board import SPELLED, Board
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.work import do
from tests.labeling import CONFIG
from tests.test_labeling_job import CHUNK, NEW, Studio

RENAMED = CONFIG.replace('value="rear_hair"', 'value="rear_hair" alias="Haare"')
UID, CREATED = "7.1795491060", "2026-11-24T03:31:00Z"
OTHER = "8.1795491061"


class Site(Studio):
    """A project with that labeling config."""

    url, config = "http://ls:8080", CONFIG

    def project(self, number: int) -> dict[str, Any]:
        return {"id": number, "created_at": CREATED, "label_config": self.config}

    def count_without(self, number: int, version: str) -> int:
        return sum(version not in self.versions(task) for task in self.tasks)


class Place:
    """A project whose predictions are made by its labeling config, and the job `label` on it."""

    def __init__(self, server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        server.flushdb()
        self.board, self.site = Board(server), Site(tasks=2 * CHUNK)
        self.board.remember(Connection(UID, CONFIG))
        self.out_of_reach: set[int] = set()
        predictor = SimpleNamespace(
            version=lambda _: NEW, trained=lambda _: True, predict=self._predict
        )
        sites = SimpleNamespace(get=lambda _: self.site)
        self.bench = Bench(*cast(Any, (None, self.board, None, predictor, sites, None)))
        monkeypatch.setattr(work_module, "announce", lambda *_: None)

    def _predict(self, project: Project, version: str, task: Mapping[str, Any]) -> dict[str, Any]:
        assert project.binding is not None
        if task["id"] in self.out_of_reach:
            return {"score": 0.0, "model_version": version, "reason": "out of reach"}
        mask = np.ones((4, 4), np.uint8)
        found = to_regions(mask, None, project.binding)
        return {"result": found, "score": 0.5, "model_version": version}

    def label(self) -> list[int]:
        """Which tasks' predictions were changed."""
        self.site.calls.clear()
        self.board.mark(UID, "label")
        do(self.bench, UID, "label")
        return sorted(self.site.stored[n]["task"] for n in self.site.writes("update_prediction"))

    def labels(self) -> set[str]:
        """That stand in predictions."""
        every = [r for p in self.site.stored.values() for r in p["result"]]
        return {label for region in every for label in region["value"]["brushlabels"]}


@pytest.fixture
def place(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(server, monkeypatch)


def test_a_label_that_is_renamed_is_renamed_in_predictions(place: Place) -> None:
    place.label()
    assert place.labels() == {"rear_hair"} and place.label() == []
    place.site.config = RENAMED
    assert place.label() == list(place.site.tasks)
    assert place.labels() == {"Haare"} and place.label() == []


def test_a_label_that_is_added_changes_no_prediction(place: Place) -> None:
    place.label()
    place.site.config = CONFIG.replace(
        '<Label value="hair"', '<Label value="neck" /><Label value="hair"'
    )
    assert place.label() == []


def test_a_renaming_that_was_cut_short_and_taken_back_leaves_no_other_names(place: Place) -> None:
    place.label()
    place.site.config = RENAMED
    place.site.before["update_prediction"] = [lambda: None] * 5 + [_die]
    place.label()
    assert place.labels() == {"rear_hair", "Haare"}
    place.site.before.clear()
    place.site.config = CONFIG
    assert 0 < len(place.label()) < len(place.site.tasks)
    assert place.labels() == {"rear_hair"}


def test_a_first_labeling_that_was_cut_short_before_a_renaming_is_made_good(place: Place) -> None:
    place.site.before["import_predictions"] = [lambda: None, _die]
    place.label()
    place.site.before.clear()
    place.site.config = RENAMED
    place.label()
    assert place.labels() == {"Haare"}


def test_a_picture_that_was_out_of_reach_at_the_renaming_is_renamed_later(place: Place) -> None:
    place.label()
    place.site.config, place.out_of_reach = RENAMED, {3}
    assert 3 not in place.label()
    assert place.labels() == {"rear_hair", "Haare"}
    place.out_of_reach = set()
    assert place.label() == [3]
    assert place.labels() == {"Haare"}


def test_predictions_from_before_a_redis_was_emptied_are_renamed(place: Place) -> None:
    place.label()
    place.board.note(UID, SPELLED, "")
    place.site.config = RENAMED
    assert place.label() == list(place.site.tasks)


# Trainings come first


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after half a minute of labeling."""
    monkeypatch.setattr(work_module, "_LABEL_SECONDS", 0.0)
    monkeypatch.setattr(stopping, "_TELL_SECONDS", 0.0)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("whose", [UID, OTHER])
def test_a_long_labeling_makes_way_for_a_training(place: Place, whose: str) -> None:
    place.board.remember(Connection(OTHER, CONFIG))
    place.board.mark(whose, "train")
    place.label()
    assert not place.site.stored and place.board.unsettled(UID, "label")
    assert not place.board.complaints(UID), "nothing is wrong"
    place.board.settle(whose, "train", place.board.marks(whose, "train"))
    place.label()
    assert all(place.site.versions(task) == [NEW] for task in place.site.tasks)
    assert not place.board.unsettled(UID, "label")


def test_a_short_labeling_comes_to_its_end(place: Place) -> None:
    place.board.mark(UID, "train")
    place.label()
    assert not place.board.unsettled(UID, "label")


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("why", ["another worker trains", "it failed just now", "paused"])
def test_it_does_not_for_one_that_cannot_begin(place: Place, why: str) -> None:
    place.board.remember(Connection(OTHER, CONFIG))
    place.board.mark(OTHER, "train")
    if why == "paused":
        place.board.pause(OTHER, True)
    if why == "it failed just now":
        place.board.failed(OTHER, "train")
    with place.board.lease(OTHER, "train") if why == "another worker trains" else nullcontext():
        place.label()
    assert not place.board.unsettled(UID, "label")


def test_waiting_for_label_studio_makes_way_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be half a minute that nothing is done in."""
    monkeypatch.setattr(labeling.time, "sleep", lambda _: pytest.fail("it waited"))
    place.board.serving(UID, [1])
    place.board.mark(UID, "train")
    place.label()
    assert [t for t in place.site.tasks if not place.site.versions(t)] == [1]
    assert place.board.unsettled(UID, "label")


def _die() -> None:
    raise DganError("killed")

"""The job `train`, with a real Redis and a double of Label Studio's client."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis

from dgan_backend.labelstudio.config import labeling_config
from dgan_backend.loop import work as work_module
from dgan_backend.loop.bench import Bench
from dgan_backend.loop.board import Board, Lost
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.training import Training
from dgan_backend.loop.work import do
from dgan_backend.partonomy import from_labels
from dgan_backend.predictor import Predictor
from dgan_backend.settings import Settings
from tests.test_loop_training import UID, Workshop

CREATED = "2026-11-24T03:31:00Z"  # as UID tells
FIRST, SECOND = "p3-project-3-v0001", "p3-project-3-v0002"


class World:
    """A workshop's project in Label Studio. told: versions that Label Studio was told of."""

    def __init__(self, folder: Path, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workshop, self.board = Workshop(folder), Board(client)
        self.corrections: list[Any] = []
        self.told: list[str] = []
        self.created = CREATED
        self.config = labeling_config(from_labels("own", self.workshop.labels))
        params = {"partonomy": "own", "generator": str(self.workshop.generator)}
        self.connection = Connection(UID, self.config, extra_params=params)
        self.board.remember(self.connection)
        settings = Settings(model_dir=self.workshop.models)
        predictor = Predictor(settings, self.workshop.registry)
        sites = SimpleNamespace(get=lambda _: self)
        self.bench = Bench(
            settings,
            self.board,
            self.workshop.registry,
            predictor,
            cast(Any, sites),
            self.workshop.twins,
        )
        monkeypatch.setattr(work_module, "QUIET_SECONDS", 0.0)
        monkeypatch.setattr(work_module, "read_corrections", lambda *_: list(self.corrections))
        monkeypatch.setattr(work_module, "Training", self._training)
        monkeypatch.setattr(work_module, "announce", lambda site, p, v: self.told.append(v))
        monkeypatch.setattr(work_module, "_label", lambda *_: None)

    def _training(self, registry: Any, twins: Any, project: Any, fetch: Any, **_: Any) -> Training:
        return self.workshop.training()

    def train(self) -> None:
        self.board.mark(UID, "train")
        do(self.bench, UID, "train")

    # Label Studio's client

    url = "http://ls:8080"

    def project(self, number: int) -> dict[str, Any]:
        return {"id": number, "created_at": self.created, "label_config": self.config}

    def fingerprint(self, number: int) -> str:
        return str(len(self.corrections))


@pytest.fixture
def world(server: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    server.flushdb()
    return World(tmp_path, server, monkeypatch)


def test_a_new_version_is_told_of_once(world: World) -> None:
    world.corrections = [world.workshop.annotated(5)]
    world.train()
    assert world.told == [FIRST]
    assert not world.board.unsettled(UID, "train") and world.board.unsettled(UID, "label")
    world.train()
    assert world.told == [FIRST]


def test_a_job_killed_after_publishing_leaves_nothing_undone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.corrections = [world.workshop.annotated(5)]

    def killed(*_: Any) -> None:
        raise Lost

    with monkeypatch.context() as moment:
        moment.setattr(work_module, "announce", killed)
        with pytest.raises(Lost):
            world.train()
    assert world.board.unsettled(UID, "train")
    do(world.bench, UID, "train")
    assert world.told == [FIRST] and world.board.unsettled(UID, "label")
    assert not world.board.unsettled(UID, "train")


def test_a_version_that_was_chosen_by_hand_is_told_of(world: World) -> None:
    for task in (5, 6):
        world.corrections.append(world.workshop.annotated(task))
        world.train()
    world.workshop.registry.use(FIRST)
    world.train()
    assert world.told == [FIRST, SECOND, FIRST]


def test_twins_that_a_hurried_job_left_out_grow_in_the_next(world: World) -> None:
    world.corrections = [world.workshop.annotated(task) for task in range(5, 9)]
    marks = iter([True])
    unsettled = world.board.unsettled

    def hurried(uid: str, work: Any) -> bool:
        busy = bool(world.told) and work == "train" and next(marks, False)
        return busy or unsettled(uid, work)

    world.board.unsettled = hurried  # type: ignore[method-assign]
    world.train()
    version = world.workshop.registry.segmenter(FIRST)
    assert [world.workshop.twins.of(version, fold) for fold in (0, 1)] == [None, None]
    world.train()  # nothing is new
    assert all(world.workshop.twins.of(version, fold) for fold in (0, 1))


def test_a_project_that_has_the_number_of_another_is_none_of_ours(world: World) -> None:
    """Label Studio was set up again, or another one is at that address."""
    world.corrections = [world.workshop.annotated(5)]
    world.created = "2026-12-01T00:00:00Z"
    world.train()
    assert world.workshop.registry.versions() == []
    assert world.board.connection(UID) is None


def test_labels_that_a_webhook_told_of_are_read_from_label_studio(world: World) -> None:
    """And remembered, so that a look does not find them again, nor the next event."""
    other = labeling_config(from_labels("own", [*world.workshop.labels, "hat"]))
    world.config = other
    world.train()
    known = world.board.connection(UID)
    assert known is not None and known.schema == other
    assert known.extra_params == world.connection.extra_params

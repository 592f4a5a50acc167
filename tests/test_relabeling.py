"""The job `label`, with a real Redis and a double of Label Studio's client."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis

from dgan_backend.loop import work as work_module
from dgan_backend.loop.bench import Bench
from dgan_backend.loop.board import Board
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.work import do
from tests.labeling import CONFIG
from tests.test_labeling_job import NEW, Studio, predict

UID, CREATED = "7.1795491060", "2026-11-24T03:31:00Z"


class Site(Studio):
    """A project with that labeling config."""

    url, config = "http://ls:8080", CONFIG

    def project(self, number: int) -> dict[str, Any]:
        return {"id": number, "created_at": CREATED, "label_config": self.config}

    def count_without(self, number: int, version: str) -> int:
        return sum(version not in self.versions(task) for task in self.tasks)


def test_a_label_that_is_renamed_is_renamed_in_predictions(
    server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.flushdb()
    board, site = Board(server), Site(tasks=3)
    board.remember(Connection(UID, CONFIG))
    predictor = SimpleNamespace(
        version=lambda _: NEW, trained=lambda _: True, predict=lambda _, __, task: predict(task)
    )
    sites = SimpleNamespace(get=lambda _: site)
    bench = Bench(*cast(Any, (None, board, None, predictor, sites, None)))
    monkeypatch.setattr(work_module, "announce", lambda *_: None)

    def label() -> list[int]:
        site.calls.clear()
        board.mark(UID, "label")
        do(bench, UID, "label")
        assert not board.unsettled(UID, "label")
        return sorted(site.stored[n]["task"] for n in site.writes("update_prediction"))

    label()
    assert [site.versions(task) for task in site.tasks] == [[NEW]] * 3
    assert label() == []
    site.config = CONFIG.replace('value="hair"', 'value="mane" alias="hair"')
    assert label() == []  # regions have the alias where there is one
    site.config = CONFIG.replace('value="hair"', 'value="hair" alias="Haare"')
    assert label() == [1, 2, 3]
    assert label() == []

"""The check that comes with /setup: what is not well is mended where it can be, and noted."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis

from dgan_backend.labelstudio.doctor import Finding
from dgan_backend.loop import work as work_module
from dgan_backend.loop.bench import Bench
from dgan_backend.loop.board import Board
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.outcome import FINDINGS
from dgan_backend.loop.work import do
from dgan_backend.settings import Settings

UID = "17.1795491060"


@pytest.mark.parametrize("config", ["<View/>", "no XML"], ids=["no labels", "broken"])
def test_also_a_project_that_cannot_be_used_is_checked(
    server: redis.Redis, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    server.flushdb()
    board, asked = Board(server), []

    def examine(site: str, project: int, **options: Any) -> list[Finding]:
        asked.append((site, project, options))
        return [
            Finding("token", "ok", "It is accepted."),
            Finding("webhook", "wrong", "There is none.", "Make one."),
        ]

    monkeypatch.setattr(work_module, "examine", examine)
    board.remember(Connection(UID, config))
    board.mark(UID, "check")
    settings, sites = Settings(), SimpleNamespace(get=lambda project: f"site of {project.number}")
    nothing = cast(Any, None)
    do(Bench(settings, board, nothing, nothing, cast(Any, sites), nothing), UID, "check")
    assert asked == [("site of 17", 17, {"settings": settings, "mend": True})]
    found = json.loads(board.noted(UID, FINDINGS))
    assert found == [
        {"check": "webhook", "state": "wrong", "text": "There is none.", "remedy": "Make one."}
    ]
    assert not board.unsettled(UID, "check") and not board.complaints(UID)

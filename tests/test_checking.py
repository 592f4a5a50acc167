"""The check that comes with /setup: what is not well is mended where it can be, and noted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis

from dgan_backend.labelstudio.doctor import SECRET, Finding, State
from dgan_backend.labelstudio.project import project_uid
from dgan_backend.labelstudio.sites import Sites
from dgan_backend.loop import work as work_module
from dgan_backend.loop.bench import Bench
from dgan_backend.loop.board import ARMED, Board
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.outcome import FINDINGS
from dgan_backend.loop.work import do
from dgan_backend.settings import Settings
from dgan_backend.vault import Vault, fingerprint
from tests.sites import Answer, serving
from tests.test_doctor import BASIC, SECURED, Studio

UID = "17.1795491060"


@pytest.mark.parametrize("config", ["<View/>", "no XML"], ids=["no labels", "broken"])
def test_also_a_project_that_cannot_be_used_is_checked(
    server: redis.Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: str
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
    settings = Settings(model_dir=tmp_path)
    secret = Vault(settings.models).webhook_secret(UID)
    sites = SimpleNamespace(get=lambda project: f"site of {project.number}")
    nothing = cast(Any, None)
    do(Bench(settings, board, nothing, nothing, cast(Any, sites), nothing), UID, "check")
    assert asked == [("site of 17", 17, {"settings": settings, "mend": True, "secret": secret})]
    found = json.loads(board.noted(UID, FINDINGS))
    assert found == [
        {"check": "webhook", "state": "wrong", "text": "There is none.", "remedy": "Make one."}
    ]
    assert not board.unsettled(UID, "check") and not board.complaints(UID)


@pytest.mark.parametrize(
    ("state", "armed"), [("ok", True), ("fixed", True), ("wrong", False), ("unknown", False)]
)
def test_a_webhook_is_believed_by_its_secret_once_it_surely_carries_it(
    server: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    state: State,
    armed: bool,
) -> None:
    server.flushdb()
    board, settings = Board(server), Settings(model_dir=tmp_path)
    monkeypatch.setattr(
        work_module, "examine", lambda *_, **__: [Finding(SECRET, state, "How it is.")]
    )
    board.remember(Connection(UID, "<View/>"))
    board.note(UID, ARMED, "of another secret")
    board.mark(UID, "check")
    sites, nothing = SimpleNamespace(get=lambda _: None), cast(Any, None)
    do(Bench(settings, board, nothing, nothing, cast(Any, sites), nothing), UID, "check")
    secret = Vault(settings.models).known_webhook_secret(UID)
    assert board.noted(UID, ARMED) == (fingerprint(secret) if armed else "")
    told = json.loads(board.noted(UID, FINDINGS))
    assert [finding["state"] for finding in told] == ([] if armed else [state])


def test_where_no_secret_can_be_kept_that_is_told_and_all_else_looked_at(
    server: redis.Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.flushdb()
    board, asked = Board(server), []
    (tmp_path / "models").write_text("a file, where the folder should be")

    def examine(*_: object, **options: Any) -> list[Finding]:
        asked.append(options["secret"])
        return []

    monkeypatch.setattr(work_module, "examine", examine)
    board.remember(Connection(UID, "<View/>"))
    board.mark(UID, "check")
    settings = Settings(model_dir=tmp_path / "models")
    sites, nothing = SimpleNamespace(get=lambda _: None), cast(Any, None)
    do(Bench(settings, board, nothing, nothing, cast(Any, sites), nothing), UID, "check")
    assert asked == [""] and not board.unsettled(UID, "check")
    (complaint,) = board.complaints(UID)
    assert complaint["text"].startswith("Webhooks are believed without a secret: ")


def test_the_check_that_nobody_watches_sends_no_secret_to_an_address_of_people(
    server: redis.Redis, tmp_path: Path
) -> None:
    """All of it over HTTP: a backend's row that leads elsewhere, and a Label Studio that has it."""
    server.flushdb()
    board, studio = Board(server), Studio()
    with (
        serving(lambda _: Answer({"status": "UP"})) as elsewhere,
        serving(studio.answer) as site,
    ):
        studio.begin(site.url)
        studio.backends = [studio.backend(1, elsewhere.url, auth_method="BASIC_AUTH")]
        studio.webhooks = []
        uid = project_uid(studio.project)
        board.remember(Connection(uid, "<View/>", site.url))
        board.mark(uid, "check")
        settings = replace(
            SECURED, model_dir=tmp_path, label_studio_url=site.url, label_studio_api_key="key"
        )
        nothing = cast(Any, None)
        do(Bench(settings, board, nothing, nothing, Sites(settings), nothing), uid, "check")
    assert not board.unsettled(uid, "check") and studio.webhooks[0]["headers"] == {}
    secret = Vault(settings.models).webhook_secret(uid)
    sent = b"".join(studio.told)
    assert BASIC.encode() not in sent and secret.encode() not in sent
    assert elsewhere.seen == [] and board.noted(uid, ARMED) == ""
    found = {f["check"]: f for f in json.loads(board.noted(uid, FINDINGS))}
    assert f"BACKEND_URL={elsewhere.url}" in found[SECRET]["remedy"]

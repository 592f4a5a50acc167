"""Which webhooks are believed, and what is never written anywhere."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from dgan_backend.loop import ears as ears_module
from dgan_backend.loop.board import ARMED, Board
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.ears import Ears
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage
from dgan_backend.vault import HEADER, Vault, fingerprint
from tests.labeling import CONFIG
from tests.test_ears import UID, event, marked, settle, setup
from tests.test_status_routes import serving

MARKER = "planted-5ecret-0123456789"


@pytest.fixture
def board(server: redis.Redis) -> Board:
    server.flushdb()
    return Board(server)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(Storage(tmp_path))


@pytest.fixture
def ears(board: Board, vault: Vault) -> Ears:
    ears = Ears(board, lambda: None, vault)
    ears.connected(setup())
    settle(board)
    return ears


def arm(board: Board, vault: Vault) -> str:
    """As the check does once the webhook carries it."""
    secret = vault.webhook_secret(UID)
    board.note(UID, ARMED, fingerprint(secret))
    return secret


def test_before_a_secret_is_surely_on_the_webhook_all_are_believed(
    ears: Ears, board: Board, vault: Vault
) -> None:
    for made in (False, True):
        if made:
            vault.webhook_secret(UID)
        assert not ears.refuses(event("ANNOTATION_CREATED"), "")
        ears.heard(event("ANNOTATION_CREATED"), "")
        assert marked(board) == ("train",)
        settle(board)


def test_then_only_with_it(ears: Ears, board: Board, vault: Vault) -> None:
    secret = arm(board, vault)
    for given in ("", "wrong", vault.webhook_secret("18.1795491060")):
        assert ears.refuses(event("ANNOTATION_CREATED"), given)
        ears.heard(event("ANNOTATION_CREATED"), given)
    assert "train" not in marked(board)
    assert not ears.refuses(event("ANNOTATION_CREATED"), secret)
    ears.heard(event("ANNOTATION_CREATED"), secret)
    assert "train" in marked(board)


def test_start_training_comes_without_and_is_believed(
    ears: Ears, board: Board, vault: Vault
) -> None:
    """Label Studio posts it by itself, with the password of the backend if there is one."""
    arm(board, vault)
    assert not ears.refuses(event("START_TRAINING"), "")
    ears.heard(event("START_TRAINING"), "")
    assert marked(board) == ("train",)


def test_a_labeling_config_of_somebody_else_is_not_taken(
    ears: Ears, board: Board, vault: Vault
) -> None:
    arm(board, vault)
    forged = event("PROJECT_UPDATED")
    forged["project"]["label_config"] = "<View><Text/></View>"
    ears.heard(forged, "")
    known = board.connection(UID)
    assert known is not None and known.schema == "<View/>"


def test_a_refused_event_has_the_webhook_checked_now_and_then(
    ears: Ears,
    board: Board,
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It may be Label Studio's, on a webhook that was made anew."""
    secret = arm(board, vault)
    ears.heard(event("ANNOTATION_CREATED"), "wrong-5ecret")
    assert "check" not in marked(board)  # there was one a moment ago
    monkeypatch.setattr(ears_module, "_REFUSED_SECONDS", -1.0)
    ears.heard(event("ANNOTATION_CREATED"), "wrong-5ecret")
    assert marked(board) == ("check",)
    assert "project 17 was refused" in caplog.text and HEADER in caplog.text
    assert secret not in caplog.text and "wrong-5ecret" not in caplog.text


def test_another_key_is_seen_at_once(
    ears: Ears, board: Board, vault: Vault, tmp_path: Path
) -> None:
    arm(board, vault)
    assert ears.refuses(event("ANNOTATION_CREATED"), "")
    (tmp_path / "secrets" / "webhook.key").unlink()
    other = Vault(Storage(tmp_path))
    assert not ears.refuses(event("ANNOTATION_CREATED"), "")  # no check has set that one yet
    secret = arm(board, other)
    assert not ears.refuses(event("ANNOTATION_CREATED"), secret)
    assert ears.refuses(event("ANNOTATION_CREATED"), "")


def test_a_key_that_cannot_be_read_loses_nothing(
    ears: Ears, board: Board, vault: Vault, tmp_path: Path
) -> None:
    arm(board, vault)
    (tmp_path / "secrets" / "webhook.key").write_bytes(b"x")
    ears.heard(event("ANNOTATION_CREATED"), "")
    assert marked(board) == ("train",)


def test_events_of_nobody_are_not_refused_but_passed_over(ears: Ears, board: Board) -> None:
    for odd in (event("ANNOTATION_CREATED", 99), {"action": 7}, {"project": 17}, {}):
        assert not ears.refuses(odd, "")
        ears.heard(odd, "")
    assert not marked(board)


# Over HTTP


def waited(board: Board, work: str) -> bool:
    until = time.monotonic() + 5
    while work not in marked(board) and time.monotonic() < until:
        time.sleep(0.02)
    return work in marked(board)


def test_a_refusal_over_http(tmp_path: Path, board: Board, server: redis.Redis) -> None:
    vault = Vault(Storage(tmp_path))
    with serving(tmp_path, server) as client:
        board.remember(connection())
        settle(board)
        secret = arm(board, vault)
        refused = client.post("/webhook", json=event("ANNOTATION_CREATED"))
        assert refused.status_code == 403 and HEADER in refused.json()["detail"]
        assert secret not in refused.text
        known = {HEADER: secret}
        assert client.post("/webhook", json=event("ANNOTATION_CREATED"), headers=known).json() == {
            "status": "ok"
        }
        assert waited(board, "train")


def test_a_known_project_keeps_its_label_studio_until_that_is_forgotten(
    tmp_path: Path, board: Board, server: redis.Redis
) -> None:
    """Also in a web process that has not heard of it yet."""
    foreign = setup(schema=CONFIG, hostname="http://127.0.0.1:9", access_token="another")
    board.remember(connection())
    known = board.connection(UID)
    with serving(tmp_path, server) as client:
        refused = client.post("/setup", json=foreign)
        assert refused.status_code == 400 and "LABEL_STUDIO_URL" in refused.text
        assert board.connection(UID) == known
        assert Vault(Storage(tmp_path)).token(UID, "http://127.0.0.1:9") == ""
        board.forget(UID)
        assert client.post("/setup", json=foreign).status_code == 200
        assert board.connection(UID) == Connection.of(foreign).without_token()


def connection() -> Connection:
    return Connection.of(setup()).without_token()


# What is never written


@pytest.fixture
def everything(tmp_path: Path, server: redis.Redis) -> Iterator[Any]:
    """Every key and value on Redis, as text."""

    def read() -> str:
        found = []
        for key in server.keys("*"):
            kind = server.type(key).decode()
            get = {
                "string": server.get,
                "hash": server.hgetall,
                "list": lambda k: server.lrange(k, 0, -1),
                "set": server.smembers,
                "zset": lambda k: server.zrange(k, 0, -1),
            }[kind]
            found.append(f"{key!r} {get(key)!r}")
        return "\n".join(found)

    yield read


def test_secrets_are_written_into_no_other_place_than_the_vault(
    tmp_path: Path,
    board: Board,
    server: redis.Redis,
    everything: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Tokens, passwords and the webhook's secret, each planted with a marker, through all that the
    web process does with them; then all that was written is searched."""
    caplog.set_level(logging.DEBUG)
    models, answers = tmp_path / "models", []
    secrets = {kind: f"{MARKER}-{kind}" for kind in ("token", "key", "password", "given")}
    settings = {
        "label_studio_api_key": secrets["key"],
        "label_studio_url": "http://127.0.0.1:9",
        "basic_auth_user": "team",
        "basic_auth_pass": secrets["password"],
    }
    with serving(models, server, **settings) as client:
        client.auth = ("team", secrets["password"])
        body = setup(access_token=secrets["token"], hostname="http://127.0.0.1:9")
        answers.append(client.post("/setup", json=body))
        task = {"id": 1, "data": {"image": "/data/upload/1/a.png"}}
        answers.append(client.post("/predict", json={"tasks": [task], "project": UID}))
        secret = arm(board, Vault(Storage(models)))
        board.remember(connection())
        for given in (secrets["given"], secret):
            told = client.post(
                "/webhook", json=event("ANNOTATION_CREATED"), headers={HEADER: given}
            )
            answers.append(told)
        answers.append(client.get("/health", auth=("team", f"{MARKER}-wrong")))
        answers.append(client.get("/status?format=json"))
        answers.append(client.get("/status", headers={"Accept": "text/html"}))
        time.sleep(0.3)  # what happens after an answer
    written = [everything(), caplog.text, *(f"{a.headers} {a.text}" for a in answers)]
    for text in written:
        assert MARKER not in text
        assert secret not in text
    vault = models / "secrets"
    outside = [
        Path(folder) / name
        for folder, _, names in os.walk(tmp_path)
        for name in names
        if Path(folder) != vault
    ]
    assert not [path for path in outside if MARKER.encode() in path.read_bytes()]


def test_settings_do_not_show_secrets() -> None:
    settings = Settings(
        label_studio_api_key=MARKER, basic_auth_pass=MARKER, redis_url=f"redis://:{MARKER}@h/0"
    )
    assert MARKER not in repr(settings)

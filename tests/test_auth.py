"""Wrong passwords: told, and answered a little later."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator

import httpx
import pytest

from dgan_backend.serving.auth import WRONG_SECONDS
from tests.test_status_routes import serving

WRONG = ("team", "guessed-password")


@pytest.fixture
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("auth")
    with serving(folder, None, basic_auth_user="team", basic_auth_pass="word") as client:
        client.timeout = httpx.Timeout(60)
        yield client


def test_wrong_ones_are_told_once_and_never_repeated(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert client.get("/status", auth=WRONG).status_code == 401
    (line,) = [r for r in caplog.records if "User or password was wrong" in r.getMessage()]
    assert "127.0.0.1" in line.getMessage() and "/status" in line.getMessage()
    code = base64.b64encode(":".join(WRONG).encode()).decode()
    assert WRONG[1] not in caplog.text and code not in caplog.text


def test_wrong_ones_wait_and_right_ones_and_none_do_not(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label Studio gives /health and webhooks 1 s."""
    assert WRONG_SECONDS < 1.0
    monkeypatch.setattr("dgan_backend.serving.auth.WRONG_SECONDS", 3.0)
    assert seconds(client, WRONG) >= 3.0
    assert seconds(client, ("team", "word")) < 3.0
    assert seconds(client, None) < 3.0


def seconds(client: httpx.Client, auth: tuple[str, str] | None) -> float:
    began = time.monotonic()
    client.get("/health", auth=auth)
    return time.monotonic() - began


def test_connections_are_not_kept_without_bound(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgan_backend.serving.auth.WRONG_SECONDS", 3.0)
    monkeypatch.setattr("dgan_backend.serving.auth._MOST_WAITING", 0)
    assert seconds(client, WRONG) < 3.0

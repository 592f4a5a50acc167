"""What is logged, in both formats."""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import time
from collections import deque
from pathlib import Path

import pytest

from dgan_backend.logs import (
    REQUEST,
    JsonFormatter,
    Sparing,
    TextFormatter,
    _secrets,
    hide,
    job_id,
    request_id,
    set_up,
)
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage
from dgan_backend.vault import Vault


def record(message: str, *args: object, exc_info: object = None) -> logging.LogRecord:
    return logging.LogRecord("a.b", logging.WARNING, "f", 1, message, args, exc_info)  # type: ignore[arg-type]


def test_a_line_of_json_says_of_which_request_and_job_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = REQUEST.set("request-1")
    monkeypatch.setenv("RQ_JOB_ID", "job-1")
    try:
        line = JsonFormatter().format(record("Task %d:\nbroken", 7))
    finally:
        REQUEST.reset(token)
    told = json.loads(line)
    assert "\n" not in line
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "WARNING",
        "logger": "a.b",
        "message": "Task 7:\nbroken",
        "request_id": "request-1",
        "job_id": "job-1",
    }


def test_what_there_is_none_of_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RQ_JOB_ID", raising=False)
    assert job_id() == ""
    assert set(json.loads(JsonFormatter().format(record("x")))) == {
        "time",
        "level",
        "logger",
        "message",
    }


@pytest.mark.parametrize("kind", [TextFormatter, JsonFormatter])
def test_secrets_are_never_written(kind: type[TextFormatter]) -> None:
    """Neither in a message nor in a traceback."""
    try:
        raise ValueError("the key is 5ecret-key")
    except ValueError:
        line = kind(["5ecret-key"]).format(record("sent %s", "5ecret-key", exc_info=sys.exc_info()))
    assert "5ecret-key" not in line
    assert line.count("***") == 3 and "ValueError" in line


def test_the_passwords_of_the_settings_are_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(
        label_studio_api_key="the-api-key",
        basic_auth_pass="the-password",
        redis_url="redis://:the-redis-password@host:6379/0",
        log_format="json",
    )
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        set_up(settings, quiet=("some.chatty",))
        logging.getLogger("x").warning("the-api-key the-password the-redis-password host")
        logging.getLogger("some.chatty").info("no")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "*** *** *** host"


@pytest.mark.parametrize("given", ["a1", "A.b:c_d-e", "9" * 64])
def test_a_request_keeps_its_id(given: str) -> None:
    assert request_id(given) == given


@pytest.mark.parametrize("given", ["", "a b", "x\ny", "9" * 65, "é", '"', "<b>"])
def test_what_is_no_id_is_replaced(given: str) -> None:
    made = request_id(given)
    assert len(made) == 16 and made != request_id(given)


# What others sent


FORGED = "x\n2026-01-01 00:00:00,000 CRITICAL root: forged \x1b[31m\x9b1m\r\u2028\u202e"


def test_what_others_sent_makes_no_line_of_its_own() -> None:
    line = TextFormatter().format(record("Event %s", FORGED))
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u202e]", line)
    assert r"x\n2026-01-01" in line and r"\x1b[31m" in line


def test_nor_does_it_in_a_traceback() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        line = TextFormatter().format(record("failed", exc_info=sys.exc_info()))
    first, *others = line.split("\n")
    assert first.endswith("failed") and len(others) > 3
    assert all(other.startswith("    ") for other in others)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", line)


@pytest.mark.parametrize("kind", [TextFormatter, JsonFormatter])
def test_a_long_message_is_cut_after_its_secrets_were_hidden(kind: type[TextFormatter]) -> None:
    line = kind(["5ecret-key"]).format(record("%s", "a" * 1995 + "5ecret-key" + "b" * 2_000_000))
    assert len(line) < 3000
    assert "5ecre" not in line and "characters)" in line


def test_tokens_and_the_keys_of_storage_are_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-aws-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-aws-session")
    monkeypatch.setattr("dgan_backend.logs._tokens", deque(maxlen=2))
    settings = Settings(basic_auth_user="team", basic_auth_pass="the-password")
    login = base64.b64encode(b"team:the-password").decode()
    formatter = TextFormatter(_secrets(settings))
    for token in ("INFO", "a" * 40, "b" * 40, "b" * 40, "c" * 40):
        hide(token)
    text = f"the-aws-secret the-aws-session {login} {'b' * 40} {'c' * 40} INFO"
    line = formatter.format(record("%s", text))
    assert line.endswith("a.b: *** *** *** *** *** INFO")


def test_the_token_of_setup_is_hidden(tmp_path: Path) -> None:
    vault = Vault(Storage(tmp_path))
    vault.keep_token("5.1", "http://ls", "0123456789abcdef-setup")
    assert TextFormatter().format(record("0123456789abcdef-setup")).endswith(": ***")


def test_lines_that_others_can_cause_are_few() -> None:
    told: list[str] = []
    spare = Sparing(most=2, seconds=0.5)
    for number in range(10):
        spare(lambda text, *args: told.append(text % args), "line %d", number)
    assert told == ["line 0", "line 1"]
    time.sleep(0.6)
    spare(lambda text, *args: told.append(text % args), "line %d", 10)
    assert told[2:] == ["8 lines like the next one were left out.", "line 10"]

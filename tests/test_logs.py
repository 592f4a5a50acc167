"""What is logged, in both formats."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from dgan_backend.logs import (
    REQUEST,
    JsonFormatter,
    TextFormatter,
    job_id,
    request_id,
    set_up,
)
from dgan_backend.settings import Settings


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

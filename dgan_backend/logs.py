"""Logs: lines for people or JSON for machines, each with the request and the job that it belongs
to, and none with a password, or with what somebody else made look like another line.

A request's id is the one that it came with (X-Request-ID) or a new one. It goes on to the jobs
that the request asks for.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO
from urllib.parse import unquote, urlsplit

from dgan_backend.settings import Settings

REQUEST: ContextVar[str] = ContextVar("request", default="")
_JOB = "RQ_JOB_ID"  # in the environment of a job's process
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_SHORTEST = 4  # characters; hiding less would hide half of the text
_SHORTEST_TOKEN = 16  # of those that others send: short ones would hide what is no secret
_LONGEST = 2000  # characters of a message
_LONGEST_TRACE = 20_000  # of a traceback
# What ends a line or moves a terminal's cursor, colours or reading direction.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_IN_ENVIRONMENT = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_tokens: deque[str] = deque(maxlen=1000)  # see `hide`
_CHATTY = ("httpx", "httpcore")  # they log whole URLs, with their signatures


def set_up(settings: Settings, quiet: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """How this process logs, by LOG_LEVEL and LOG_FORMAT. quiet: loggers of which only warnings
    are wanted. stream: standard error where none is given."""
    handler = logging.StreamHandler(stream or sys.stderr)
    kind = JsonFormatter if settings.log_format == "json" else TextFormatter
    handler.setFormatter(kind(_secrets(settings)))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    for name in (*_CHATTY, *quiet):
        logging.getLogger(name).setLevel(logging.WARNING)


def hide(token: str) -> None:
    """A token that this process learned of is not written either; the last 1,000 are known."""
    if len(token) >= _SHORTEST_TOKEN and token not in _tokens:
        _tokens.append(token)


def request_id(given: str = "") -> str:
    """The id of a request: the one that came with it, if it is one."""
    return given if _ID.fullmatch(given) else secrets.token_hex(8)


def job_id() -> str:
    """Of the job that this process runs; "" in all others."""
    return os.environ.get(_JOB, "")


class TextFormatter(logging.Formatter):
    """secrets: texts that are never written, whoever logs them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        head = f"{self.formatTime(record)} {record.levelname} {record.name}: "
        told = head + _CONTROL.sub(_escaped, self._message(record))
        # What somebody else sent stands in tracebacks, too: indented it is no line of its own.
        trace = _shortened(self._hidden(self._trace(record)), _LONGEST_TRACE)
        lines = (_CONTROL.sub(_escaped, line) for line in trace.split("\n") if line)
        return "".join([told, *(f"\n    {line}" for line in lines)])

    def _message(self, record: logging.LogRecord) -> str:
        return _shortened(self._hidden(record.getMessage()), _LONGEST)

    def _trace(self, record: logging.LogRecord) -> str:
        told = [self.formatException(record.exc_info)] if record.exc_info else []
        return "\n".join([*told, *([record.stack_info] if record.stack_info else [])])

    def _hidden(self, text: str) -> str:
        for secret in (*self._secrets, *_tokens):
            text = text.replace(secret, "***")
        return text


class JsonFormatter(TextFormatter):
    """One object a line: time, level, logger, message; request_id, job_id, exception where there
    are any."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self._message(record),
            "request_id": REQUEST.get(),
            "job_id": job_id(),
            "exception": _shortened(self._hidden(self._trace(record)), _LONGEST_TRACE),
        }
        return json.dumps({key: text for key, text in told.items() if text})


class Sparing:
    """So many lines in so many seconds; how many were left out is said with the next one. For what
    others can cause at will. Safe to use from many threads."""

    def __init__(self, most: int = 50, seconds: float = 10.0) -> None:
        self._most, self._seconds = most, seconds
        self._lock = threading.Lock()
        self._began, self._told, self._left_out = float("-inf"), 0, 0

    def __call__(self, tell: Callable[..., None], text: str, *args: object) -> None:
        """tell: a logger's method."""
        with self._lock:
            if time.monotonic() - self._began > self._seconds:
                self._began, self._told = time.monotonic(), 0
            if self._told >= self._most:
                self._left_out += 1
                return
            self._told += 1
            left_out, self._left_out = self._left_out, 0
        if left_out:
            tell("%d lines like the next one were left out.", left_out)
        tell(text, *args)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} ... ({len(text):,} characters)"


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _secrets(settings: Settings) -> list[str]:
    try:
        redis_password = urlsplit(settings.redis_url).password or ""
    except ValueError:
        redis_password = ""
    login = f"{settings.basic_auth_user}:{settings.basic_auth_pass}"
    known = (
        settings.label_studio_api_key,
        settings.basic_auth_pass,
        base64.b64encode(login.encode()).decode() if settings.basic_auth_pass else "",
        redis_password,
        unquote(redis_password),
        *(os.environ.get(name, "") for name in _IN_ENVIRONMENT),
    )
    return [secret for secret in known if len(secret) >= _SHORTEST]

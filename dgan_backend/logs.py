"""Logs: lines for people or JSON for machines, each with the request and the job that it belongs
to, and none with a password.

A request's id is the one that it came with (X-Request-ID) or a new one. It goes on to the jobs
that the request asks for.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO
from urllib.parse import urlsplit

from dgan_backend.settings import Settings

REQUEST: ContextVar[str] = ContextVar("request", default="")
_JOB = "RQ_JOB_ID"  # in the environment of a job's process
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_SHORTEST = 4  # characters; hiding less would hide half of the text
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
        return self._hidden(super().format(record))

    def _hidden(self, text: str) -> str:
        for secret in self._secrets:
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
            "message": record.getMessage(),
            "request_id": REQUEST.get(),
            "job_id": job_id(),
            "exception": self.formatException(record.exc_info) if record.exc_info else "",
        }
        texts = {key: self._hidden(text) for key, text in told.items() if text}
        return json.dumps(texts)


def _secrets(settings: Settings) -> list[str]:
    try:
        redis_password = urlsplit(settings.redis_url).password or ""
    except ValueError:
        redis_password = ""
    known = (settings.label_studio_api_key, settings.basic_auth_pass, redis_password)
    return [secret for secret in known if len(secret) >= _SHORTEST]

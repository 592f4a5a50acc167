"""Around all routes: each request has an id, is counted, and its time is taken."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dgan_backend.logs import REQUEST, request_id

log = logging.getLogger(__name__)

HEADER = b"x-request-id"
Seen = Callable[[str, int, float], None]


class Watch:
    """seen: called with the path, the status and the seconds until the answer was sent. What is
    done after the answer (see /webhook) has the same id, but its time does not count."""

    def __init__(self, app: ASGIApp, seen: Seen) -> None:
        self._app, self._seen = app, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(HEADER, b"").decode("latin-1")
        token = REQUEST.set(request_id(given))
        answer = _Answer(send, REQUEST.get())
        try:
            await self._app(scope, receive, answer.send)
        finally:
            self._seen(scope["path"], answer.status, answer.seconds)
            log.debug("%s %s: %d", scope["method"], scope["path"], answer.status)
            REQUEST.reset(token)


class _Answer:
    """What was answered, and how long that took so far."""

    def __init__(self, send: Send, number: str) -> None:
        self._send, self._id = send, number.encode("latin-1")
        self._began = time.perf_counter()
        self._ended: float | None = None
        self.status = 500  # where the app failed before it said anything

    @property
    def seconds(self) -> float:
        return (self._ended or time.perf_counter()) - self._began

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (HEADER, self._id)]
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._ended = time.perf_counter()

"""HTTP Basic authentication, in front of all routes."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from dgan_backend.serving.reason import error_response

log = logging.getLogger(__name__)

WRONG_SECONDS = 0.5  # that a wrong password waits for its answer
_MOST_WAITING = 50  # connections that are kept for that; others are answered at once
_TOLD_SECONDS = 10.0  # between two lines about wrong passwords


class BasicAuth:
    """Asks for user and password on every route, /health too, as Label Studio sends them there.

    It does not send them with webhooks: add an Authorization header to the project's webhook.
    Wrong ones are logged (from where, never what) and answered a little later. Who sends none is
    answered at once: browsers ask so first, and Label Studio waits 1 s.
    """

    def __init__(self, app: ASGIApp, user: str, password: str) -> None:
        self._app = app
        self._expected = b"Basic " + base64.b64encode(f"{user}:{password}".encode())
        self._waiting = 0
        self._untold, self._told = 0, float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
            return
        if given:
            self._tell(scope)
            await self._wait()
        elif scope["path"] == "/webhook":
            log.warning(
                "A webhook came without user and password; add the header `Authorization: "
                "Basic ...` to it in Label Studio (Settings > Webhooks)."
            )
        headers = {"WWW-Authenticate": 'Basic realm="dgan-backend"'}
        text = "User or password is missing or wrong; see BASIC_AUTH_USER of the backend."
        await error_response(401, text, headers)(scope, receive, send)

    def _tell(self, scope: Scope) -> None:
        self._untold += 1
        if time.monotonic() - self._told < _TOLD_SECONDS:
            return
        client = (scope.get("client") or ("an unknown address",))[0]
        log.warning(
            "User or password was wrong in %d requests, the last from %s for %s.",
            self._untold,
            client,
            scope["path"],
        )
        self._untold, self._told = 0, time.monotonic()

    async def _wait(self) -> None:
        if self._waiting >= _MOST_WAITING:
            return
        self._waiting += 1
        try:
            await asyncio.sleep(WRONG_SECONDS)
        finally:
            self._waiting -= 1

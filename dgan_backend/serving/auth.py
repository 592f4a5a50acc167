"""HTTP Basic authentication, in front of all routes."""

from __future__ import annotations

import base64
import hmac
import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from dgan_backend.serving.reason import error_response

log = logging.getLogger(__name__)


class BasicAuth:
    """Asks for user and password on every route, /health too, as Label Studio sends them there.

    It does not send them with webhooks: add an Authorization header to the project's webhook.
    """

    def __init__(self, app: ASGIApp, user: str, password: str) -> None:
        self._app = app
        self._expected = b"Basic " + base64.b64encode(f"{user}:{password}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._may_pass(scope):
            if scope["path"] == "/webhook":
                log.warning(
                    "A webhook came without user and password; add the header `Authorization: "
                    "Basic ...` to it in Label Studio (Settings > Webhooks)."
                )
            headers = {"WWW-Authenticate": 'Basic realm="dgan-backend"'}
            text = "User or password is missing or wrong; see BASIC_AUTH_USER of the backend."
            await error_response(401, text, headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, self._expected)

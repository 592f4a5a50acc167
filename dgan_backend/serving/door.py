"""Who may come in: what every request is asked before its password.

A page of somebody else, open in the browser of a person inside, reaches every backend that the
person reaches: by a form or a script of its own, or by a name that it lets point here (DNS
rebinding). It cannot hide the name that it used, nor that it is a page.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from dgan_backend.serving.reason import error_response

LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Of names that nobody can register: those of networks at home, of Docker and of Kubernetes.
_PRIVATE = (".local", ".localhost", ".internal", ".lan", ".intranet", ".home.arpa", ".test")


@dataclass(frozen=True)
class Hosts:
    """The names that this backend is reached by.

    named: by the admin (ALLOWED_HOSTS); `.example.com` is all below it, `*` any. bound: what it
    listens at. guarded: whether it asks for a password, which no page of others knows.
    """

    named: Sequence[str] = ()
    bound: str = "127.0.0.1"
    guarded: bool = False

    def know(self, host: str) -> bool:
        """Whether a Host header is one of these. Addresses always are: no name points there."""
        name = _name(host)
        if name is None:
            return False
        if _is_address(name) or name in (*LOOPBACK, self.bound, socket.gethostname().lower()):
            return True
        if self.named:
            return any(_matches(name, pattern) for pattern in self.named)
        return self.guarded or (self.bound not in LOOPBACK and _is_private(name))


class Door:
    """Refuses requests by names that are not known, those that pages of others make, and those
    whose end is told in two ways (RFC 9112, section 6.1), which smuggle another one behind them."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
            return
        await error_response(*problem, {"Connection": "close"})(scope, receive, send)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers and "content-length" in headers:
            return 400, "A request has either Content-Length or Transfer-Encoding."
        host = headers.get("host", "")
        if not self._hosts.know(host):
            text = f"{host[:100]!r} is no name of this backend; add it to ALLOWED_HOSTS there."
            return 400, text
        if scope["method"] not in ("GET", "HEAD") and not is_own(headers):
            return 403, "This request comes from a page of somebody else."
        return None


def is_own(headers: Headers) -> bool:
    """Whether a request comes from our own page, or from no page at all.

    Browsers that do not say so (a page without TLS) tell the page's origin.
    """
    told = headers.get("sec-fetch-site")
    if told is not None:
        return told in ("same-origin", "none")
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host")
    except ValueError:
        return False  # it is no URL


def _name(host: str) -> str | None:
    """Without port and brackets, in small letters; None when it is no host. In brackets stands an
    IPv6 address, or nobody could make a URL of it, which is done further in."""
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+))(?::(\d{1,5}))?", host, re.ASCII)
    if found is None or int(found[3] or 0) > 65535:
        return None
    if found[1] and not (":" in found[1] and _is_address(found[1])):
        return None
    return (found[1] or found[2]).lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_private(name: str) -> bool:
    return "." not in name or name.endswith(_PRIVATE)


def _matches(name: str, pattern: str) -> bool:
    return pattern == "*" or name == pattern or (pattern[0] == "." and name.endswith(pattern))

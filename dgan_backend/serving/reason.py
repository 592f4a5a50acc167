"""Error texts in the HTTP status line, where Label Studio finds them.

When an ML backend answers 4xx, Label Studio 1.23 shows `str(requests.HTTPError)`, which is made of
the status line and the URL; the body is dropped. So an error's text travels as reason phrase
(RFC 9112, section 4: any text), beside the body for everybody else. ASGI has no field for it: the
app sets a header, and the protocol class here puts it into the status line.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import JSONResponse
from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER = "X-Reason"
_MAX_LENGTH = 1500
_PATTERN = re.compile(rb"\r\n" + HEADER.encode() + rb": ([^\r\n]+)", re.IGNORECASE)


def reason_header(text: str) -> dict[str, str]:
    """The header that asks for `text` as reason phrase, in one line of Latin-1."""
    line = " ".join(text.split())[:_MAX_LENGTH]
    return {HEADER: line.encode("latin-1", "replace").decode("latin-1")}


def error_response(
    status: int,
    text: str,
    headers: dict[str, str] | None = None,
    background: BackgroundTask | None = None,
) -> JSONResponse:
    """`{"detail": text}`, and the text as reason phrase. background: what is done then."""
    told = {**(headers or {}), **reason_header(text)}
    return JSONResponse({"detail": text}, status, headers=told, background=background)


def with_reason(data: bytes) -> bytes:
    """The head of a 4xx response with the header's text in its status line; all else as it is."""
    if not data.startswith(b"HTTP/1.1 4"):
        return data
    head, separator, body = data.partition(b"\r\n\r\n")
    found = _PATTERN.search(head)
    if found is None:
        return data
    status, _, rest = head.partition(b"\r\n")
    return status[: len("HTTP/1.1 400 ")] + found[1] + b"\r\n" + rest + separator + body


class _Transport:
    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._transport.write(with_reason(data))


class ReasonProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP protocol with reason phrases."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Transport(transport))

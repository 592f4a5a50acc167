"""A proxy in front of the real Label Studio, which can be told to behave badly.

One request a connection: what was kept open before a fault would not meet it.
"""

from __future__ import annotations

import random
import socket
import socketserver
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LATER = {"Retry-After": "1"}
PAGE = b"<html><body><h1>404 Not Found</h1>nginx</body></html>"
STALL_SECONDS = 120.0  # more than anybody waits

REFUSALS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "401": (401, b'{"detail": "Invalid token."}', {}),
    "404 of a proxy": (404, PAGE, {"Content-Type": "text/html"}),
    "429": (429, b'{"detail": "Request was throttled."}', LATER),
    "500": (500, b"<h1>Server Error (500)</h1>", {"Content-Type": "text/html"}),
    "JSON of something else": (200, b'{"status": "ok"}', {"Content-Type": "application/json"}),
}
"""What each mood answers, but for those that `Misbehaving` knows itself: "garbage" (bytes that are
no HTTP), "nothing" (hangs up), "stalled" (takes the request and says nothing), "answers lost"
(Label Studio does what is asked for, and half of the answers never arrive)."""


class Misbehaving(socketserver.ThreadingTCPServer):
    """mood: "" = all goes through; requests: how many met a mood."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.target = target
        self.mood = ""
        self.requests = 0
        self.dice = random.Random(7)

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.server_address)

    @contextmanager
    def in_mood(self, mood: str) -> Iterator[None]:
        self.mood, self.requests = mood, 0
        try:
            yield
        finally:
            self.mood = ""


class _Request(socketserver.BaseRequestHandler):
    server: Misbehaving

    def handle(self) -> None:
        with suppress(OSError):
            asked = _read(self.request)
            if asked:
                self._answer(asked, self.server.mood)

    def _answer(self, asked: bytes, mood: str) -> None:
        self.server.requests += bool(mood)
        if not mood:
            self._pass_on(asked)
        elif mood in REFUSALS:
            status, body, headers = REFUSALS[mood]
            self.request.sendall(_response(status, body, headers))
        elif mood == "garbage":
            self.request.sendall(random.Random(1).randbytes(4096))
        elif mood == "stalled":
            until = time.monotonic() + STALL_SECONDS
            while self.server.mood == mood and time.monotonic() < until:
                time.sleep(0.2)
        elif mood == "answers lost":
            self._pass_on(asked, lost=self.server.dice.random() < 0.5)
        else:
            assert mood == "nothing", mood

    def _pass_on(self, asked: bytes, lost: bool = False) -> None:
        with socket.create_connection(self.server.target) as there:
            there.sendall(asked)
            answer = b""
            while data := there.recv(65536):
                answer += data
            if not lost:
                first, end, rest = answer.partition(b"\r\n")
                self.request.sendall(first + end + b"Connection: close" + end + rest)


def _read(source: socket.socket) -> bytes:
    """One whole request, which asks for the connection's end."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := source.recv(65536)):
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    lengths = [int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")]
    while len(body) < sum(lengths):
        if not (more := source.recv(65536)):
            return b""
        body += more
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body


def _response(status: int, body: bytes, headers: dict[str, str]) -> bytes:
    told = {"Content-Type": "application/json", **headers, "Connection": "close"}
    told["Content-Length"] = str(len(body))
    lines = [f"HTTP/1.1 {status} {'OK' if status == 200 else 'No'}"]
    lines += [f"{name}: {value}" for name, value in told.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

"""Small real HTTP servers on 127.0.0.1 for tests."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Seen:
    """A request that a site got; `headers` have lower-case names."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What a site says. `body` may be bytes, chunks of bytes, or anything that goes into JSON."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def redirect(to: str, status: int = 302) -> Answer:
    return Answer(status=status, headers={"Location": to})


class Site:
    """A running server: `url`, and the requests it got in `seen`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[Seen] = []

    def paths(self) -> list[str]:
        return [seen.path for seen in self.seen]


@contextmanager
def dripping(said: bytes, every: float = 0.1, first: bytes = b"") -> Iterator[Site]:
    """A server that answers everybody with `first` at once, and then `said` a byte at a time."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(first)
            for byte in said:
                if ended.wait(every):
                    return
                connection.sendall(bytes([byte]))

    def accept() -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                threading.Thread(target=drip, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield Site(f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        ended.set()
        thread.join()
        listener.close()


@contextmanager
def serving(answer: Callable[[Seen], Answer]) -> Iterator[Site]:
    """A server that answers each request with what `answer` returns for it."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(
                self.command, parts.path, parse_qs(parts.query), headers, self.rfile.read(length)
            )
            site.seen.append(seen)
            self._send(answer(seen))

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any

        def _send(self, answer: Answer) -> None:
            chunks = answer.body
            if isinstance(chunks, bytes):
                chunks = [chunks]
            elif not isinstance(chunks, Iterator):
                chunks = [json.dumps(chunks).encode()]
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for chunk in chunks:
                    self.wfile.write(chunk)
            except OSError:  # the client had enough
                pass

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

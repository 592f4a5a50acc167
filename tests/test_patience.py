"""Connections whose client does not read, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from dgan_backend.serving import patience
from dgan_backend.serving.patience import PatientProtocol

ASKED = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE, SPEED = 16 << 20, 4e6  # bytes, of which both sides' kernels keep a part; bytes a second


@contextmanager
def served(app: ASGIApp, takes: int = 4096) -> Iterator[tuple[uvicorn.Server, socket.socket]]:
    """A server of the app, and a client's connection to it. takes: bytes that its kernel keeps."""
    config = uvicorn.Config(app, http=PatientProtocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, takes)
        client.settimeout(60)
        client.connect(listener.getsockname())
        try:
            yield server, client
        finally:
            server.should_exit = True
            server.force_exit = True
            thread.join(timeout=20)


def answering(size: int) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * size})

    return app


def until(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def connected(server: uvicorn.Server) -> int:
    return len(server.server_state.connections)


def test_whoever_pipelines_and_never_reads_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "READING_SECONDS", 0.5)
    with served(answering(1 << 16)) as (server, client):
        client.sendall(ASKED * 1000)
        assert until(lambda: connected(server) == 1)
        assert until(lambda: connected(server) == 0)


def test_whoever_reads_slowly_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer takes several times as long as nothing of it may be read."""
    monkeypatch.setattr(patience, "READING_SECONDS", 1.0)
    with served(answering(LARGE), takes=1 << 16) as (_, client):
        client.sendall(ASKED)
        began, read = time.monotonic(), 0
        while read < LARGE:
            piece = client.recv(1 << 16)
            assert piece, f"hung up on after {read} bytes"
            read += len(piece)
            time.sleep(max(0.0, began + read / SPEED - time.monotonic()))
        assert time.monotonic() - began > 4.0


def test_a_connection_that_is_closed_does_not_wait_for_its_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Little enough is unread that nothing was paused."""
    monkeypatch.setattr(patience, "READING_SECONDS", 0.5)
    left = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        (protocol,) = server.server_state.connections
        headers = [(b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while not (unread := protocol.transport.get_write_buffer_size()):
            await send({"type": "http.response.body", "body": b"x" * 16384, "more_body": True})
            await asyncio.sleep(0)
        left.append(unread)
        await send({"type": "http.response.body"})

    with served(app) as (server, client):
        client.sendall(ASKED)
        assert until(lambda: bool(left))
        assert 0 < left[0] < 65536
        assert until(lambda: connected(server) == 0)

"""What other servers answer, within bounds that they cannot move.

httpx waits so long for each read: who sends a byte now and then is never late. And it unpacks what
an answer says is packed, however large that gets. So here all reads share one deadline, and
nothing is unpacked.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

PLAIN = {"Accept-Encoding": "identity"}  # of each request
_DEADLINE: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class TooLarge(httpx.TransportError):
    """An answer has more bytes than it may."""


class Packed(httpx.TransportError):
    """An answer is packed although that was not asked for."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What clients made by `patient` do in this thread ends in that time, or raises
    httpx.TimeoutException; only the look-up of one name may come on top. Nested, the first counts.
    """
    token = _DEADLINE.set(min(_DEADLINE.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def patient(client: httpx.Client) -> httpx.Client:
    """The same client, whose reads, writes and connections keep to `within`; its proxies, too."""
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            pool: Any = transport._pool  # httpx has no other way to it
            pool._network_backend = _Network(pool._network_backend)
    return client


def read(response: httpx.Response, most: int) -> bytes:
    """The body of an answer as it came; raises TooLarge over `most` bytes, and Packed."""
    packed = response.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("", "identity"):
        raise Packed(f"its answer is packed: {packed[:40]}")
    data = bytearray()
    for chunk in response.iter_raw():
        data += chunk
        if len(data) > most:
            raise TooLarge(f"its answer is over {most // 2**20} MiB")
    return bytes(data)


def _left(timeout: float | None, late: type[httpcore.TimeoutException]) -> float | None:
    """Of a timeout, what the deadline leaves."""
    left = _DEADLINE.get() - time.monotonic()
    if left <= 0:
        raise late("timed out")
    if left == float("inf"):
        return timeout
    return left if timeout is None else min(timeout, left)


class _Network(httpcore.NetworkBackend):
    def __init__(self, network: httpcore.NetworkBackend) -> None:
        self._network = network

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        timeout = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(
            self._network.connect_tcp(host, port, timeout, local_address, socket_options)
        )

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        timeout = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._network.connect_unix_socket(path, timeout, socket_options))

    def sleep(self, seconds: float) -> None:
        self._network.sleep(_left(seconds, httpcore.ConnectTimeout) or 0.0)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

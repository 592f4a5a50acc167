"""How long a client may take to say what it wants, and to read what it is told.

uvicorn waits for ever for the rest of a request's head, and for whoever does not read its answer,
so whoever opens connections and says or reads little takes all that there are. For bodies see
bodies.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dgan_backend.serving.reason import ReasonProtocol

HEAD_SECONDS = 10.0
READING_SECONDS = 30.0  # in which a client that keeps us waiting has to read _READ
_READ = 64 * 1024  # bytes; with what the kernel keeps it comes to 1.5 MB at most, 0.4 Mbit/s


class PatientProtocol(ReasonProtocol):
    """Hangs up when a request's head does not arrive in time, or an answer is not read in time."""

    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Transport(transport, self._await_reader))
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_answering():
            self._stop()
        elif self._timer is None:  # another request on a connection that was kept
            self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_awaiting_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._stop_awaiting_reader()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hang_up(self) -> None:
        self._timer = None
        if not self._is_answering() and not self.transport.is_closing():
            self.transport.close()

    def _await_reader(self) -> None:
        if self._unread is None:
            left = self.transport.get_write_buffer_size()
            self._unread = self.loop.call_later(READING_SECONDS, self._look_for_reader, left)

    def _look_for_reader(self, before: int) -> None:
        """Nothing is written meanwhile: what is left of `before` bytes tells what was read."""
        self._unread = None
        if before - self.transport.get_write_buffer_size() < _READ:
            self.transport.abort()
        else:
            self._await_reader()

    def _stop_awaiting_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class _Transport:
    """closing: called when it is closed, which ends it only after all that was written is read."""

    def __init__(self, transport: Any, closing: Callable[[], None]) -> None:
        self._transport, self._closing = transport, closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        self._closing()
        self._transport.close()

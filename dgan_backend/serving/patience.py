"""How long a client may take to say what it wants.

uvicorn waits for ever for the rest of a request's head, so whoever opens connections and says
little takes all that there are. For bodies see bodies.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

from dgan_backend.serving.reason import ReasonProtocol

HEAD_SECONDS = 10.0


class PatientProtocol(ReasonProtocol):
    """Hangs up when a request's head does not arrive in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_answering():
            self._stop()
        elif self._timer is None:  # another request on a connection that was kept
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
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

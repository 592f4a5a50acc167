"""When a job has to stop: it lost its lease, its project was paused or forgotten, or there is
something more urgent."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import redis

from dgan_backend.errors import DganError
from dgan_backend.loop.bench import Bench
from dgan_backend.loop.board import Lease, Work

_TELL_SECONDS = 1.0


class Gone(DganError):
    """The project was deleted."""


class Paused(DganError):
    """The project was paused; its marks wait until it goes on."""


class Outdated(DganError):
    """A newer version is current; the marks that it came with are still there."""


class MakesWay(DganError):
    """There is something more urgent; what is not made yet is made afterwards."""


STOPS = (Gone, Paused, Outdated, MakesWay)


class Due:
    """Whether it is time to say or to ask something once more."""

    def __init__(self) -> None:
        self._last = 0.0

    def due(self) -> bool:
        if time.monotonic() - self._last < _TELL_SECONDS:
            return False
        self._last = time.monotonic()
        return True


def checking(bench: Bench, uid: str, lease: Lease) -> Callable[[], None]:
    """Raises when this process has to stop: the lease is lost or, asked for once a second, the
    project was paused or forgotten."""
    asked = Due()

    def check() -> None:
        lease.check()
        if not asked.due():
            return
        try:
            known, paused = bench.board.connection(uid), bench.board.paused(uid)
        except redis.RedisError:
            return  # the lease is lost soon, or Redis is there again
        if known is None:
            raise Gone("It was forgotten.")
        if paused:
            raise Paused("It was paused.")

    return check


def giving_way(bench: Bench, uid: str, lease: Lease) -> Callable[[], None]:
    """As `checking`, but it also raises when some project waits to be trained or labeled: making
    tasks may take long, and nobody waits for them."""
    board, looked, stop = bench.board, Due(), checking(bench, uid, lease)

    def waits(uid: str, work: Work) -> bool:
        free = not board.busy(uid, work) and not board.waits(uid, work) and not board.paused(uid)
        return free and board.unsettled(uid, work)

    def check() -> None:
        stop()
        if not looked.due():
            return
        with suppress(redis.RedisError):  # the lease is lost soon, or Redis is there again
            for connection in board.connections():
                if waits(connection.uid, "train") or waits(connection.uid, "label"):
                    raise MakesWay(f"Tasks wait until project {connection.number} is served.")

    return check

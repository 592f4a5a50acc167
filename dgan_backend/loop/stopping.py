"""When a job has to stop: it lost its lease, its project was paused or forgotten, or there is
something more urgent."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import redis

from dgan_backend.errors import DganError
from dgan_backend.loop.bench import Bench
from dgan_backend.loop.board import Board, Lease, Work

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
    looked, stop = Due(), checking(bench, uid, lease)

    def check() -> None:
        stop()
        if looked.due() and (number := awaited(bench.board, "train", "label")) is not None:
            raise MakesWay(f"Tasks wait until project {number} is served.")

    return check


def giving_way_to(training: Callable[[], bool]) -> Callable[[], None]:
    """Raises MakesWay when, asked for once a second, a training waits."""
    asked = Due()

    def check() -> None:
        if asked.due() and training():
            raise MakesWay("There are new corrections; the rest is labeled afterwards.")

    return check


def awaited(board: Board, *works: Work) -> int | None:
    """Number of a project for which a job of one of these kinds could begin now; None when there
    is none, or Redis cannot be asked (then the lease is lost soon, or it is there again)."""

    def waits(uid: str, work: Work) -> bool:
        free = not board.busy(uid, work) and not board.waits(uid, work) and not board.paused(uid)
        return free and board.unsettled(uid, work)

    with suppress(redis.RedisError):
        for connection in board.connections():
            if any(waits(connection.uid, work) for work in works):
                return connection.number
    return None

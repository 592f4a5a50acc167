"""Jobs of projects that were paused or forgotten, on a real Redis."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

import pytest
import redis

from dgan_backend.errors import DganError
from dgan_backend.loop import stopping
from dgan_backend.loop import work as work_module
from dgan_backend.loop.bench import Bench
from dgan_backend.loop.board import WORKS, Board, Lost, Work
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.stopping import Gone, Paused
from dgan_backend.loop.work import do

UID = "17.1795491060"


class Lease:
    """One that is held until it is not."""

    lost = False

    def check(self) -> None:
        if self.lost:
            raise Lost


@pytest.fixture
def board(server: redis.Redis) -> Board:
    server.flushdb()
    board = Board(server)
    board.remember(Connection(UID, "<View/>"))
    return board


@pytest.fixture
def bench(board: Board) -> Bench:
    nothing = cast(Any, None)
    return Bench(nothing, board, nothing, nothing, nothing, nothing)


@pytest.mark.parametrize("work", WORKS)
def test_a_queued_job_of_a_paused_project_does_nothing_and_what_waits_is_done_later(
    bench: Bench, board: Board, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def body(*_: object) -> None:
        done.append(work)
        board.settle(UID, work, board.marks(UID, work))

    monkeypatch.setattr(work_module, f"_{work}", body)
    board.mark(UID, work)
    board.claim(UID, work, None, "job")
    board.pause(UID, True)
    do(bench, UID, work)
    assert done == [] and board.unsettled(UID, work)
    assert board.job(UID, work) is None  # so that the sweeper enqueues another
    board.pause(UID, False)
    do(bench, UID, work)
    assert done == [work] and not board.unsettled(UID, work)


def test_a_job_that_runs_ends_when_its_project_is_paused(
    bench: Bench, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "_TELL_SECONDS", 0.0)
    check = stopping.checking(bench, UID, cast(Any, Lease()))
    check()
    board.pause(UID, True)
    with pytest.raises(Paused):
        check()
    board.pause(UID, False)
    board.forget(UID)
    with pytest.raises(Gone):
        check()


def test_it_is_asked_for_once_a_second_but_the_lease_always(bench: Bench, board: Board) -> None:
    lease = Lease()
    check = stopping.checking(bench, UID, cast(Any, lease))
    check()
    board.pause(UID, True)
    check()
    lease.lost = True
    with pytest.raises(Lost):
        check()


def test_pausing_is_no_failure(bench: Bench, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    def body(*_: object) -> None:
        raise Paused("It was paused.")

    monkeypatch.setattr(work_module, "_train", body)
    board.mark(UID, "train")
    do(bench, UID, "train")
    assert board.complaints(UID) == [] and not board.waits(UID, "train")
    assert board.unsettled(UID, "train")


@pytest.mark.parametrize("error", [None, DganError("it cannot"), Paused("paused"), ValueError()])
def test_a_job_that_ends_tells_that_it_did(
    bench: Bench, board: Board, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    begun = []

    def body(*_: object) -> None:
        begun.append(board.begun(UID, "train"))
        if error is not None:
            raise error

    monkeypatch.setattr(work_module, "_train", body)
    board.mark(UID, "train")
    with suppress(ValueError):
        do(bench, UID, "train", "one")
    assert begun == [{"one"}] and board.begun(UID, "train") == set()

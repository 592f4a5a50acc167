"""What processes tell each other about projects, on a real Redis."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import redis

from dgan_backend.loop import board as board_module
from dgan_backend.loop.board import WORKS, Board, Lost, Progress
from dgan_backend.loop.connection import Connection
from tests.boards import embedded_redis

UID, OTHER = "17.1795491060", "17.1700000000"


@pytest.fixture
def client(server: redis.Redis) -> redis.Redis:
    server.flushdb()
    return server


@pytest.fixture
def board(client: redis.Redis) -> Board:
    return Board(client)


def wait_until_lost(lease: board_module.Lease) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        lease.check()
        time.sleep(0.01)
    raise AssertionError("the lease was never lost")


# Projects


def test_a_project_is_remembered_as_it_was_told(board: Board) -> None:
    first = Connection(UID, "<View/>", "http://ls:8080", "secret", {"partonomy": "toonhead"})
    second = Connection(OTHER, "<View/>")
    assert board.connection(UID) is None
    board.remember(first)
    board.remember(second)
    assert board.connection(UID) == first.without_token()
    assert board.connections() == [second, first.without_token()]
    board.remember(first.with_schema("<View></View>"))
    assert [c.schema for c in board.connections()] == ["<View/>", "<View></View>"]
    assert "secret" not in repr(first)


def test_a_token_never_gets_to_redis(board: Board, client: redis.Redis) -> None:
    board.remember(Connection(UID, "<View/>", "http://ls:8080", "secret"))
    assert b"secret" not in client.hget("dgan:projects", UID)


def test_a_project_that_an_older_release_remembered_is_known(
    board: Board, client: redis.Redis
) -> None:
    told = {"uid": UID, "schema": "<View/>", "hostname": "h", "access_token": "secret"}
    client.hset("dgan:projects", UID, json.dumps({**told, "extra_params": None}))
    assert board.connection(UID) == Connection(UID, "<View/>", "h", "secret")


def test_a_forgotten_project_leaves_no_key_behind(board: Board, client: redis.Redis) -> None:
    def everything(uid: str) -> None:
        board.remember(Connection(uid, "<View/>"))
        board.pause(uid, True)
        board.serving(uid, [1, 2])
        board.note(uid, "annotations", "3")
        board.complain(uid, "It failed.", 3)
        board.explain(uid, {3: "It is broken."})
        for work in WORKS:
            board.mark(uid, work)
            board.settle(uid, work, 1)
            board.failed(uid, work)
            assert board.claim(uid, work, None, "job")
            board.tell(uid, work, Progress("fitting", 1, 2, 3.0))
            with board.lease(uid, work) as lease:
                assert lease is not None

    def told(uid: str) -> dict[bytes, list[object]]:
        found: dict[bytes, list[object]] = {}
        for key in client.scan_iter():
            kind = client.type(key)
            if uid.encode() in key:
                found[key] = [kind]
            elif kind == b"hash" and client.hexists(key, uid):
                found[key] = [client.hget(key, uid)]
            elif kind == b"set" and client.sismember(key, uid):
                found[key] = [True]
        return found

    everything(UID)
    everything(OTHER)
    before = told(OTHER)
    assert len(before) == 31
    board.forget(UID)
    assert told(UID) == {}
    assert told(OTHER) == before


def test_a_paused_project_is_paused_until_it_goes_on(board: Board) -> None:
    assert not board.paused(UID)
    board.pause(UID, True)
    assert board.paused(UID) and not board.paused(OTHER)
    board.pause(UID, False)
    assert not board.paused(UID)


# Marks


def test_many_marks_are_one_job(board: Board) -> None:
    assert not board.unsettled(UID, "train")
    for _ in range(3):
        board.mark(UID, "train")
    assert board.unsettled(UID, "train")
    assert not board.unsettled(UID, "label") and not board.unsettled(OTHER, "train")
    board.settle(UID, "train", board.marks(UID, "train"))
    assert not board.unsettled(UID, "train")


def test_a_mark_that_comes_while_a_job_runs_is_not_lost(board: Board) -> None:
    board.mark(UID, "train")
    seen = board.marks(UID, "train")
    board.mark(UID, "train")
    board.settle(UID, "train", seen)
    assert board.unsettled(UID, "train")
    board.settle(UID, "train", board.marks(UID, "train"))
    assert not board.unsettled(UID, "train")


# Leases and jobs


def test_a_lease_is_for_one_process_project_and_kind_of_work(board: Board) -> None:
    with board.lease(UID, "train") as mine:
        assert mine is not None and board.busy(UID, "train")
        mine.check()
        with board.lease(UID, "train") as theirs:
            assert theirs is None
        assert board.busy(UID, "train"), "who did not get it has not ended it"
        with board.lease(UID, "label") as label, board.lease(OTHER, "train") as other:
            assert label is not None and other is not None
    assert not board.busy(UID, "train")
    with board.lease(UID, "train") as again:
        assert again is not None


def test_a_lease_ends_also_when_its_work_fails(board: Board) -> None:
    with pytest.raises(ZeroDivisionError), board.lease(UID, "train"):
        raise ZeroDivisionError
    assert not board.busy(UID, "train")


def test_a_lease_is_renewed_while_it_is_held(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "LEASE_SECONDS", 0.4)
    with board.lease(UID, "train") as lease:
        assert lease is not None
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            lease.check()
            assert board.busy(UID, "train")
            time.sleep(0.02)


@pytest.mark.parametrize("taken", [False, True], ids=["gone", "another's"])
def test_a_lease_that_was_taken_away_is_lost(
    board: Board, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    monkeypatch.setattr(board_module, "LEASE_SECONDS", 20.0)
    monkeypatch.setattr(board_module, "_RENEWALS", 400)
    key = f"dgan:lease:train:{UID}"
    with pytest.raises(Lost), board.lease(UID, "train") as lease:
        assert lease is not None
        client.delete(key)
        if taken:
            client.set(key, "another's")
        wait_until_lost(lease)
    assert client.get(key) == (b"another's" if taken else None), "only its own is given back"


def test_a_lease_is_lost_when_redis_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "LEASE_SECONDS", 0.4)
    with (
        embedded_redis(tmp_path) as client,
        pytest.raises(Lost),
        Board(client).lease(UID, "train") as lease,
    ):
        assert lease is not None
        client.shutdown(nosave=True)
        wait_until_lost(lease)


def test_a_process_that_slept_longer_than_its_lease_has_lost_it(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of its threads wakes up first."""
    monkeypatch.setattr(board_module, "LEASE_SECONDS", 0.2)
    monkeypatch.setattr(board_module, "_RENEWALS", 0.01)  # the renewing thread sleeps on
    with board.lease(UID, "train") as lease:
        assert lease is not None
        lease.check()
        time.sleep(0.25)
        with pytest.raises(Lost):
            lease.check()


def test_what_is_lost_passes_through_handlers_of_errors() -> None:
    assert not issubclass(Lost, Exception)


def test_one_of_many_claims_a_job(board: Board) -> None:
    assert board.job(UID, "train") is None
    assert board.claim(UID, "train", None, "first")
    assert not board.claim(UID, "train", None, "second"), "another was faster"
    assert board.job(UID, "train") == "first"
    assert board.claim(UID, "train", "first", "second")
    assert not board.claim(UID, "train", "first", "third")
    assert board.job(UID, "train") == "second"
    assert board.job(UID, "label") is None
    board.clear(UID, "train")
    assert board.job(UID, "train") is None


def test_of_many_threads_one_claims(board: Board) -> None:
    claimed: list[str] = []

    def claim(name: str) -> None:
        if board.claim(UID, "label", None, name):
            claimed.append(name)

    threads = [threading.Thread(target=claim, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert claimed == [board.job(UID, "label")]


def test_each_failure_waits_twice_as_long_up_to_ten_minutes(
    board: Board, client: redis.Redis
) -> None:
    waits = []
    for _ in range(9):
        board.failed(UID, "train")
        waits.append(client.pttl(f"dgan:wait:train:{UID}") / 1000)
    for wait, least in zip(waits, [5, 10, 20, 40, 80, 160, 320, 600, 600], strict=True):
        assert least - 0.5 < wait <= 1.2 * least
    assert board.waits(UID, "train") and not board.waits(UID, "label")


def test_a_mark_ends_the_wait_and_a_success_the_count(board: Board, client: redis.Redis) -> None:
    for _ in range(3):
        board.failed(UID, "train")
    board.mark(UID, "label")
    assert board.waits(UID, "train")
    board.mark(UID, "train")
    assert not board.waits(UID, "train")
    board.failed(UID, "train")
    assert client.ttl(f"dgan:wait:train:{UID}") >= 39
    board.succeeded(UID, "train")
    assert not board.waits(UID, "train")
    board.failed(UID, "train")
    assert client.ttl(f"dgan:wait:train:{UID}") <= 6


def test_projects_that_failed_together_are_not_tried_together(
    board: Board, client: redis.Redis
) -> None:
    uids = [f"{number}.1" for number in range(20)]
    for uid in uids:
        board.failed(uid, "train")
    assert len({client.pttl(f"dgan:wait:train:{uid}") // 20 for uid in uids}) > 5


def test_what_is_hurried_does_not_wait(board: Board) -> None:
    board.failed(UID, "train")
    board.hurry(UID, "train")
    assert not board.waits(UID, "train")


def test_an_emptied_redis_has_another_board(board: Board, client: redis.Redis) -> None:
    birth = board.birth()
    assert birth and board.birth() == birth
    client.flushall()
    assert board.birth() not in ("", birth)


def test_only_one_does_what_many_could(board: Board) -> None:
    with board.only_one("sweeper", 5.0) as mine:
        with board.only_one("sweeper", 5.0) as theirs:
            assert (mine, theirs) == (True, False)
        with board.only_one("sweeper", 5.0) as theirs:
            assert not theirs, "who was not the one has not ended it"
    with board.only_one("sweeper", 5.0) as again:
        assert again


# What is told


def test_served_tasks_are_so_for_a_while(board: Board) -> None:
    board.serving(UID, [])
    board.serving(UID, [1, 2], 60.0)
    board.serving(UID, [3], 0.05)
    assert board.served(UID) == {1, 2, 3}
    board.serving(UID, [2], 0.05)
    time.sleep(0.06)
    assert board.served(UID) == {1}
    assert board.served(OTHER) == set()


def test_notes_are_kept(board: Board) -> None:
    assert board.noted(UID, "annotations") == ""
    board.note(UID, "annotations", "2 3 é")
    assert board.noted(UID, "annotations") == "2 3 é"
    assert board.noted(UID, "unlabeled") == "" == board.noted(OTHER, "annotations")


def test_progress_is_told_until_the_job_ends(board: Board) -> None:
    began = time.time() - 10
    board.tell(UID, "train", Progress("fitting", 1, 3, began))
    told = board.progress(UID, "train")
    assert told == Progress("fitting", 1, 3, began)
    assert told.seconds_left == pytest.approx(20, abs=0.5)
    assert Progress("fitting", 0, 3, began).seconds_left is None
    assert board.progress(UID, "label") is None
    board.tell(UID, "train", None)
    assert board.progress(UID, "train") is None


def test_the_last_complaints_are_kept_the_newest_first(board: Board) -> None:
    for n in range(25):
        board.complain(UID, f"number {n}", task=n)
    board.complain(UID, "of no task")
    told = board.complaints(UID)
    assert [c["text"] for c in told] == ["of no task", *(f"number {n}" for n in range(24, 5, -1))]
    assert [c["task"] for c in told[:2]] == [None, 24]
    assert time.time() - told[0]["time"] < 5


def test_what_is_said_again_crowds_out_nothing_else(board: Board) -> None:
    board.complain(UID, "It is broken.", task=2)
    for _ in range(30):
        board.complain(UID, "It is broken.", task=1)
        board.complain(UID, "Label Studio is gone.")
    told = [(told["task"], told["text"], told["times"]) for told in board.complaints(UID)]
    assert told == [
        (None, "Label Studio is gone.", 30),
        (1, "It is broken.", 30),
        (2, "It is broken.", 1),
    ]


def test_reasons_of_empty_tasks_are_kept_until_they_have_regions(board: Board) -> None:
    board.explain(UID, {3: "Broken.", 4: "Gone.", 5: ""})
    assert {task: told["reason"] for task, told in board.explained(UID).items()} == {
        3: "Broken.", 4: "Gone.",
    }  # fmt: skip
    board.explain(UID, {3: "", 4: "Broken."})
    assert [(t, told["reason"]) for t, told in board.explained(UID).items()] == [(4, "Broken.")]
    board.explain(UID, {})
    assert board.explained(OTHER) == {}


def test_how_long_a_failed_job_waits_is_told(board: Board) -> None:
    assert board.retry_seconds(UID, "train") is None
    board.failed(UID, "train")
    left = board.retry_seconds(UID, "train")
    assert left is not None and 4 < left <= 6
    board.mark(UID, "train")
    assert board.retry_seconds(UID, "train") is None


def test_one_stores_the_prediction_of_a_task(board: Board, client: redis.Redis) -> None:
    assert board.store(UID, "v1", [1, 2]) == {1, 2}
    assert board.store(UID, "v1", [2, 3]) == {3}
    assert board.store(UID, "v2", [2]) == {2} and board.store(OTHER, "v1", [2]) == {2}
    assert board.store(UID, "v1", []) == set()
    assert 0 < client.ttl(f"dgan:store:{UID}:v1:2") <= 20

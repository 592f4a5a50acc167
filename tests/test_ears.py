"""What the web process tells the loop, on a real Redis."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from dgan_backend.loop import ears as ears_module
from dgan_backend.loop.board import TITLE, WORKS, Board
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.ears import WORK_OF, Ears
from dgan_backend.records import PENDING
from dgan_backend.server import essence
from dgan_backend.storage import Storage
from dgan_backend.vault import Vault
from tests.boards import redis_that_is_gone

CREATED = 1795491060
UID, ELSEWHERE = f"17.{CREATED}", "17.1700000000"


@pytest.fixture
def board(server: redis.Redis) -> Board:
    server.flushdb()
    return Board(server)


@pytest.fixture
def kicks() -> list[int]:
    return []


@pytest.fixture
def ears(board: Board, kicks: list[int]) -> Ears:
    return Ears(board, lambda: kicks.append(1))


def setup(uid: str = UID, **fields: Any) -> dict[str, Any]:
    return {
        "project": uid,
        "schema": "<View/>",
        "hostname": "http://ls:8080",
        "access_token": "secret",
        "extra_params": {"partonomy": "toonhead"},
        **fields,
    }


def event(action: object, number: int = 17, created: int = CREATED) -> dict[str, Any]:
    """As Label Studio's webhook tells it."""
    time = datetime.fromtimestamp(created, UTC).isoformat()
    return {
        "action": action,
        "project": {"id": number, "created_at": time.replace("+00:00", ".25Z")},
    }


def marked(board: Board, uid: str = UID) -> tuple[str, ...]:
    return tuple(work for work in WORKS if board.unsettled(uid, work))


def settle(board: Board, uid: str = UID) -> None:
    for work in WORKS:
        board.settle(uid, work, board.marks(uid, work))


# Projects


def test_a_new_project_is_looked_at_from_scratch(
    ears: Ears, board: Board, kicks: list[int]
) -> None:
    ears.connected(setup())
    assert board.connection(UID) == Connection.of(setup()).without_token()
    assert marked(board) == WORKS
    assert kicks


def test_a_project_that_is_set_up_again_is_no_news(
    ears: Ears, board: Board, kicks: list[int]
) -> None:
    ears.connected(setup())
    settle(board)
    kicks.clear()
    ears.connected(setup())
    assert not marked(board) and not kicks


def test_the_connection_of_a_known_project_is_checked_now_and_then(
    ears: Ears, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    ears.connected(setup())
    settle(board)
    monkeypatch.setattr(ears_module, "_CHECKED_SECONDS", -1.0)
    ears.connected(setup())
    assert marked(board) == ("check",)


@pytest.mark.parametrize(
    ("changed", "works"),
    [
        ({"schema": "<View></View>"}, WORKS),
        ({"extra_params": {"partonomy": "own"}}, WORKS),
        ({"access_token": "another"}, ()),
        ({"hostname": "http://other:8080"}, ()),
    ],
    ids=["config", "extra params", "token", "address"],
)
def test_what_changes_labels_is_looked_at_and_all_else_remembered(
    ears: Ears, board: Board, changed: dict[str, Any], works: tuple[str, ...]
) -> None:
    ears.connected(setup())
    settle(board)
    ears.connected(setup(**changed))
    assert marked(board) == works
    assert board.connection(UID) == Connection.of(setup(**changed)).without_token()


@pytest.mark.parametrize("project", [None, "", "x", {}])
def test_a_setup_without_a_project_connects_nothing(
    ears: Ears, board: Board, kicks: list[int], project: Any
) -> None:
    ears.connected({**setup(), "project": project})
    assert board.connections() == [] and not kicks


# Events


def test_a_changed_project_is_news_when_its_labels_are(ears: Ears, board: Board) -> None:
    """Label Studio tells of every change, also of the backend's own."""
    ears.connected(setup())
    settle(board)
    told = event("PROJECT_UPDATED")
    told["project"]["label_config"] = setup()["schema"]
    ears.heard(told)
    assert not marked(board)
    told["project"]["label_config"] = "<View><Image/></View>"
    ears.heard(told)
    assert marked(board) == ("train", "label")


def test_of_an_event_nothing_is_kept(ears: Ears, board: Board, server: redis.Redis) -> None:
    """Anybody may send one; what it tells of is read from Label Studio."""
    ears.connected(setup())
    known = board.connection(UID)
    told = event("PROJECT_UPDATED")
    told["project"]["label_config"] = "<View>" + "x" * 2**22
    ears.heard(essence(told))
    assert board.connection(UID) == known and marked(board) == WORKS
    assert all((server.memory_usage(key) or 0) < 10_000 for key in server.keys("*"))


def test_an_event_of_a_project_that_is_not_known_leaves_nothing(
    ears: Ears, board: Board, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one of a project that is forgotten while it is handled."""
    told = event("PROJECT_UPDATED")
    told["project"]["label_config"] = "<View/>"
    ears.heard(told)
    monkeypatch.setattr(ears, "_uids", lambda _: [UID])
    ears.heard(told)
    ears.heard(event("ANNOTATION_CREATED"))
    assert server.keys("*") == []


@pytest.mark.parametrize(
    ("action", "works"),
    [
        ("ANNOTATION_CREATED", ("train",)),
        ("ANNOTATION_UPDATED", ("train",)),
        ("ANNOTATIONS_CREATED", ("train",)),
        ("ANNOTATIONS_DELETED", ("train", "label")),
        ("START_TRAINING", ("train",)),
        ("PROJECT_UPDATED", ("train", "label")),
        ("TASKS_CREATED", ("label",)),
        ("TASKS_DELETED", ("train",)),
        ("LABEL_LINK_CREATED", ()),
        ("", ()),
        (None, ()),
        (["ANNOTATION_CREATED"], ()),
    ],
)
def test_an_event_asks_for_its_work(
    ears: Ears, board: Board, kicks: list[int], action: object, works: tuple[str, ...]
) -> None:
    board.remember(Connection(UID, "<View/>"))
    ears.heard(event(action))
    assert marked(board) == works
    assert bool(kicks) == bool(works)


def test_every_action_is_tested(request: pytest.FixtureRequest) -> None:
    (rows,) = (
        mark.args[1]
        for mark in test_an_event_asks_for_its_work.pytestmark  # type: ignore[attr-defined]
    )
    assert {row[0] for row in rows if row[1]} == set(WORK_OF)


def test_two_projects_of_the_same_number_are_told_apart_by_their_creation(
    ears: Ears, board: Board
) -> None:
    for uid in (UID, ELSEWHERE, f"18.{CREATED}"):
        board.remember(Connection(uid, "<View/>"))
    ears.heard(event("ANNOTATION_CREATED"))
    assert (marked(board, UID), marked(board, ELSEWHERE)) == (("train",), ())
    settle(board)
    ears.heard(event("ANNOTATION_CREATED", created=1700000000))
    assert (marked(board, UID), marked(board, ELSEWHERE)) == ((), ("train",))
    assert marked(board, f"18.{CREATED}") == ()


@pytest.mark.parametrize("created", [None, "yesterday", "0001-01-01T00:00:00", 7, []])
def test_where_the_creation_is_not_told_all_of_that_number_are_looked_at(
    ears: Ears, board: Board, created: object
) -> None:
    for uid in (UID, ELSEWHERE, f"18.{CREATED}"):
        board.remember(Connection(uid, "<View/>"))
    ears.heard({"action": "TASKS_CREATED", "project": {"id": 17, "created_at": created}})
    assert marked(board, UID) == marked(board, ELSEWHERE) == ("label",)
    assert marked(board, f"18.{CREATED}") == ()


@pytest.mark.parametrize("project", [None, 17, "17", [], {}, {"id": "17"}, {"id": [17]}])
def test_an_event_of_no_known_project_is_passed_over(
    ears: Ears, board: Board, project: object
) -> None:
    board.remember(Connection(UID, "<View/>"))
    ears.heard({"action": "ANNOTATION_CREATED", "project": project})
    ears.heard({"action": "ANNOTATION_CREATED"})
    ears.heard(event("ANNOTATION_CREATED", number=99))
    assert marked(board) == ()


# What /predict is at


def test_tasks_are_served_while_predict_computes_and_until_they_are_stored(
    ears: Ears, board: Board, server: redis.Redis
) -> None:
    board.remember(Connection(UID, "<View/>"))
    key = f"dgan:served:{UID}"
    tasks = [{"id": 1}, {"id": 2}, {"id": "3"}, "junk", {}]
    with ears.serving(UID, tasks, seconds=85.0):
        assert board.served(UID) == {1, 2}
        left = server.zscore(key, "1") - server.time()[0]
        assert 85 + 15 <= left <= 85 + 21, "as long as it may compute, and Label Studio store"
    assert board.served(UID) == {1, 2}
    assert 15 <= server.zscore(key, "1") - server.time()[0] <= 21


def test_placeholders_ask_for_a_job(ears: Ears, board: Board, kicks: list[int]) -> None:
    board.remember(Connection.of(setup()))
    ears.postponed(UID)
    assert marked(board) == ("label",) and kicks


def test_what_somebody_else_is_storing_is_known(ears: Ears, board: Board) -> None:
    tasks: list[Any] = [{"id": 1}, {"id": 2}, "junk", {"id": 3}, {"id": 4}]
    versions = ("v1", "v1", "v1", "v2", PENDING)
    entries = [{"model_version": version} for version in versions]
    board.store(UID, "v1", [2, 3])  # a job
    assert ears.stored_by_others(UID, tasks, entries) == {1}
    assert ears.stored_by_others(UID, tasks, entries) == {0, 1, 3}, "Label Studio stores them"


# Without Redis


def test_without_redis_nothing_is_raised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ears = Ears(Board(redis_that_is_gone(tmp_path)), lambda: None)
    ears.connected(setup())
    ears.heard(event("ANNOTATION_CREATED"))
    ears.postponed(UID)
    served = []
    with ears.serving(UID, [{"id": 1}], 1.0):
        served.append(1)
    assert served
    assert ears.stored_by_others(UID, [{"id": 1}], [{"model_version": "v1"}]) == set()
    assert caplog.text.count("Redis cannot be reached") == 6


def test_what_predict_said_of_each_task_is_remembered(ears: Ears, board: Board) -> None:
    board.remember(Connection.of(setup()))
    tasks = [{"id": 1}, {"id": 2}, {"id": 3}, {"id": 4}, "no task", {"id": "x"}]
    entry = {"result": [], "score": 0.0, "model_version": "v"}
    entries = [
        {**entry, "result": ["a region"]},
        {**entry, "reason": "Task 2: broken."},
        entry,
        {**entry, "model_version": PENDING, "reason": "It is labeled in a moment."},
        entry,
        entry,
    ]
    ears.answered(UID, tasks, entries)
    found = {task: told["reason"] for task, told in board.explained(UID).items()}
    assert found == {
        2: "Task 2: broken.",
        3: "No part was found in its picture; is it of the domain?",
    }


# What anybody may send


@pytest.mark.parametrize(
    "odd", [True, False, -1, 2**63, 10**400, 1.0, "1", None, [1]], ids=lambda odd: str(odd)[:20]
)
def test_only_what_label_studio_numbers_tasks_with_is_a_number(
    ears: Ears, board: Board, odd: object
) -> None:
    """`true` is 1 to Python, but "True" on Redis, where nobody could read it any more."""
    board.remember(Connection.of(setup()))
    tasks = [{"id": odd}, {"id": 7}]
    with ears.serving(UID, tasks, 1.0):
        assert board.served(UID) == {7}
    entry = {"result": [], "score": 0.0, "model_version": "v", "reason": "broken"}
    ears.answered(UID, tasks, [entry, entry])
    assert set(board.explained(UID)) == {7}


def test_what_an_older_release_noted_is_passed_over(board: Board, server: redis.Redis) -> None:
    server.zadd(f"dgan:served:{UID}", {"True": 2e9, "7": 2e9})
    server.hset(f"dgan:empty:{UID}", mapping={"True": "{}", "7": "{}"})
    assert board.served(UID) == {7} and set(board.explained(UID)) == {7}


def test_projects_that_no_label_studio_has_told_of_are_few(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ears_module, "_UNCONFIRMED", 3)
    vault = Vault(Storage(tmp_path))
    ears = Ears(board, lambda: None, vault)
    ears.connected(setup())
    board.note(UID, TITLE, "Heads")  # Label Studio has told of it
    for number in range(100, 110):
        ears.connected(setup(f"{number}.1"))
    assert ears.connected_uids() == {UID, "107.1", "108.1", "109.1"}
    assert vault.token(UID, "http://ls:8080") and vault.token("109.1", "http://ls:8080")
    assert len(list((tmp_path / "secrets").glob("token-*"))) == 4


def test_projects_have_a_limit(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ears_module, "_MOST", 2)
    ears = Ears(board, lambda: None)
    for number in range(5):
        ears.connected(setup(f"{number}.1"))
        board.note(f"{number}.1", TITLE, "")
    assert ears.connected_uids() == {"0.1", "1.1"}
    ears.connected(setup("1.1", schema="<View></View>"))
    assert board.connection("1.1").schema == "<View></View>"  # type: ignore[union-attr]


def test_asking_for_a_project_that_there_is_none_of_leaves_nothing(
    ears: Ears, server: redis.Redis
) -> None:
    entry = {"result": [], "score": 0.0, "model_version": "v", "reason": "broken"}
    with ears.serving(UID, [{"id": 1}], 1.0):
        ears.answered(UID, [{"id": 1}], [entry])
    ears.postponed(UID)
    assert server.keys("*") == []

"""What /status tells, from a real Redis and cards on disk."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from dgan_backend.loop.board import WORKS, Board, Progress
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.outcome import NOTE
from dgan_backend.loop.overview import VERSIONS, Jobs
from dgan_backend.loop.status import Status
from dgan_backend.predictor import Predictor
from dgan_backend.registry import Registry
from dgan_backend.settings import Settings
from tests.boards import redis_that_is_gone
from tests.labeling import CONFIG, OTHER_CONFIG
from tests.statuses import (
    EFFORT,
    UID,
    add_sources,
    add_version,
    busy_project,
    compared,
    connect,
    status,
)

ELSEWHERE = "17.1700000000"


@pytest.fixture
def board(server: redis.Redis) -> Board:
    server.flushdb()
    return Board(server)


def only_project(folder: Path, board: Board) -> dict[str, Any]:
    (project,) = status(folder, board).report()["projects"]
    return dict(project)


def job(folder: Path, board: Board, work: str, state: str = "queued") -> dict[str, Any]:
    jobs = Jobs(lambda _: (state, 1.0), lambda: 1)
    (project,) = status(folder, board, jobs).report()["projects"]
    (found,) = [job for job in project["jobs"] if job["work"] == work]
    return dict(found)


def test_before_any_project_there_is_nothing_wrong(tmp_path: Path, board: Board) -> None:
    report = status(tmp_path, board).report()
    assert (report["projects"], report["problems"], report["active"]) == ([], [], False)


def test_a_project_of_the_shipped_parts_is_served_from_the_start(
    tmp_path: Path, board: Board
) -> None:
    connect(board)
    board.note(UID, "title", "Heads")
    project = only_project(tmp_path, board)
    assert (project["project"], project["uid"], project["title"]) == (17, UID, "Heads")
    assert (project["version"], project["trained"]) == ("toonhead-shipped", True)
    assert project["url"] == "http://ls:8080/projects/17/data"
    assert (project["problem"], project["versions"], project["effort"]) == ("", [], None)
    assert [j["state"] for j in project["jobs"]] == ["idle"] * len(WORKS)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schema": OTHER_CONFIG}, "not trained yet; submit a few annotations"),
        ({"schema": "<View/>"}, "has no BrushLabels, BitmaskLabels, PolygonLabels"),
        ({"schema": OTHER_CONFIG, "extra_params": {"partonomy": "toonhead"}}, "do not fit"),
    ],
)
def test_what_keeps_a_project_from_being_served_is_said(
    tmp_path: Path, board: Board, fields: dict[str, Any], said: str
) -> None:
    connect(board, **fields)
    project = only_project(tmp_path, board)
    assert not project["trained"]
    assert said in project["problem"]
    (answer,) = status(tmp_path, board).task(3)["answers"]
    assert answer["state"] in ("untrained", "unusable")
    assert answer["reason"] == project["problem"]


def test_no_token_is_told(tmp_path: Path, board: Board) -> None:
    busy_project(tmp_path, board)
    told = json.dumps([status(tmp_path, board).report(), status(tmp_path, board).task(3)])
    assert "secret-token" not in told and "http://ls:8080" in told


# Versions


def test_versions_are_told_with_what_their_cards_say(tmp_path: Path, board: Board) -> None:
    connect(board)
    corrected = {"pictures": 2, "pixels": 0.1, "classes": {"hair": 0.25}}
    first = add_version(tmp_path, 1, validation=None, new=[4])
    second = add_version(
        tmp_path, 2, validation=compared(0.7, 0.1), corrected=corrected, new=[5, 6], time=9.0
    )
    third = add_version(tmp_path, 3, validation=compared(0.8, -0.1), held_back="It is worse.")
    project = only_project(tmp_path, board)
    assert project["version"] == second
    told = project["versions"]
    assert [v["name"] for v in told] == [first, second, third]
    assert [v["serves"] for v in told] == [False, True, False]
    assert [v["held_back"] for v in told] == ["", "", "It is worse."]
    assert told[1] | {"classes": []} == {
        "name": second,
        "number": 2,
        "serves": True,
        "held_back": "",
        "time": 9.0,
        "seconds": 40.0,
        "pictures": 18,
        "corrections": 2,
        "new": [5, 6],
        "classes": [],
        "validation": compared(0.7, 0.1),
        "corrected": corrected,
    }


def test_a_version_fitted_by_hand_tells_little_and_harms_nothing(
    tmp_path: Path, board: Board
) -> None:
    connect(board)
    folder = tmp_path / "p17-toonhead-v0001"
    folder.mkdir()
    (folder / "version.json").write_text('{"training": {"pictures": 16}}')
    (told,) = only_project(tmp_path, board)["versions"]
    assert told["serves"] and told["pictures"] == 16
    assert (told["time"], told["validation"], told["corrected"]) == (None, None, None)


def test_only_the_last_versions_are_told(tmp_path: Path, board: Board) -> None:
    connect(board)
    for number in range(1, VERSIONS + 3):
        add_version(tmp_path, number)
    told = only_project(tmp_path, board)["versions"]
    assert [v["number"] for v in told] == list(range(3, VERSIONS + 3))


def test_projects_of_one_number_in_two_label_studios_are_two(tmp_path: Path, board: Board) -> None:
    connect(board)
    connect(board, ELSEWHERE)
    ours = add_version(tmp_path, 1)
    add_version(tmp_path, 2, ELSEWHERE)
    projects = status(tmp_path, board).report()["projects"]
    assert [p["uid"] for p in projects] == [ELSEWHERE, UID]
    assert [v["name"] for v in projects[1]["versions"]] == [ours]


def test_versions_of_a_project_that_is_not_connected_are_shown(
    tmp_path: Path, board: Board
) -> None:
    name = add_version(tmp_path, 1)
    project = only_project(tmp_path, board)
    assert (project["connected"], project["uid"], project["version"]) == (False, UID, name)
    assert "Label Studio has not told of it" in project["problem"]


# Jobs


def test_jobs_are_queued_running_failed_or_idle(tmp_path: Path, board: Board) -> None:
    connect(board)
    assert job(tmp_path, board, "train")["state"] == "idle"
    board.mark(UID, "train")
    assert job(tmp_path, board, "train")["state"] == "queued"
    board.claim(UID, "train", None, "job")
    assert job(tmp_path, board, "train", "queued")["state"] == "queued"
    assert job(tmp_path, board, "train", "started")["state"] == "running"
    with board.lease(UID, "train"):
        assert job(tmp_path, board, "train")["state"] == "running"
        assert job(tmp_path, board, "label")["state"] == "idle"
    board.failed(UID, "train")
    failed = job(tmp_path, board, "train")
    assert failed["state"] == "failed" and 3 < failed["retry_seconds"] <= 6
    assert status(tmp_path, board).report()["active"]
    board.settle(UID, "train", 1)
    assert job(tmp_path, board, "train")["state"] == "idle"


def test_a_running_job_tells_how_far_it_is(tmp_path: Path, board: Board) -> None:
    connect(board)
    board.mark(UID, "label")
    board.tell(UID, "label", Progress("pre-labeling", 40, 300, time.time() - 20))
    assert "what" not in job(tmp_path, board, "label")  # nothing holds the lease any more
    with board.lease(UID, "label"):
        told = job(tmp_path, board, "label")
    assert (told["what"], told["done"], told["total"]) == ("pre-labeling", 40, 300)
    assert told["seconds_left"] == pytest.approx(130, abs=5)


def test_a_missing_worker_is_said(tmp_path: Path, board: Board) -> None:
    jobs = Jobs(lambda _: ("", 0.0), lambda: 0)
    (problem,) = status(tmp_path, board, jobs).report()["problems"]
    assert "No worker is running" in problem and "dgan-backend worker" in problem


def test_a_paused_project_is_not_active(tmp_path: Path, board: Board) -> None:
    connect(board)
    board.mark(UID, "train")
    it = status(tmp_path, board)
    assert it.report()["active"]
    assert it.pause(UID, True)
    report = it.report()
    assert report["projects"][0]["paused"] and not report["active"]
    assert it.pause(UID, False) and it.report()["active"]
    assert not it.pause("99.1", True)


# What was learned


def test_what_is_left_out_removed_or_saved_is_told(tmp_path: Path, board: Board) -> None:
    busy_project(tmp_path, board)
    project = only_project(tmp_path, board)
    assert [(left["task"], left["again"]) for left in project["left_out"]] == [
        (31, False), (32, True),
    ]  # fmt: skip
    (part,) = project["learned_in_part"]
    assert part["task"] == 33 and "cannot re-create it" in part["reason"]
    assert project["removed_labels"] == {"hat": 3}
    assert project["effort"] == EFFORT
    assert project["last_training"]["said"] == "It is worse."
    assert project["corrections"] == 9


def test_a_training_that_made_no_version_says_what_it_left_out(
    tmp_path: Path, board: Board
) -> None:
    connect(board)
    left = {"task": 5, "key": "k", "reason": "Task 5: broken.", "again": False}
    told = {"time": 1.0, "version": "", "said": "None.", "corrections": 1, "left_out": [left]}
    board.note(UID, NOTE, json.dumps(told))
    assert only_project(tmp_path, board)["left_out"] == [left]


def test_what_was_complained_of_twice_stands_there_once(tmp_path: Path, board: Board) -> None:
    connect(board)
    for task in (1, 2, 1, 1):
        board.complain(UID, "It is broken.", task)
    board.complain(UID, "Label Studio is gone.")
    errors = only_project(tmp_path, board)["errors"]
    assert [(e["task"], e["times"]) for e in errors] == [(None, 1), (1, 3), (2, 1)]


# Tasks


def answer(folder: Path, board: Board, task: int, project: str = "") -> dict[str, Any]:
    (found,) = status(folder, board).task(task, project)["answers"]
    return dict(found)


def test_why_a_task_is_empty(tmp_path: Path, board: Board) -> None:
    connect(board)
    fine = answer(tmp_path, board, 3)
    assert fine["state"] == "unknown" and "toonhead-shipped serves" in fine["reason"]
    assert "doctor --project 17" in fine["reason"]
    board.mark(UID, "label")
    pending = answer(tmp_path, board, 3)
    assert pending["state"] == "pending" and "is queued" in pending["reason"]
    board.pause(UID, True)
    assert answer(tmp_path, board, 3)["state"] == "paused"
    board.explain(UID, {3: "Task 3: its picture cannot be fetched.", 4: "Task 4: broken."})
    empty = answer(tmp_path, board, 3)
    assert (empty["state"], empty["reason"]) == ("empty", "Task 3: its picture cannot be fetched.")
    assert "paused" in empty["more"][0]
    board.pause(UID, False)
    board.settle(UID, "label", 1)
    board.explain(UID, {3: ""})
    assert answer(tmp_path, board, 3)["state"] == "unknown"
    board.serving(UID, [3])
    assert answer(tmp_path, board, 3)["state"] == "pending"


def test_what_became_of_a_correction(tmp_path: Path, board: Board) -> None:
    connect(board)
    left = {"task": 5, "key": "k", "reason": "Task 5 has no labeled pixel.", "again": False}
    add_version(tmp_path, 1, new=[3])
    last = add_version(tmp_path, 2, new=[3, 4], left_out=[left])
    add_sources(tmp_path, last, {"task": 4, "factor": 0.0, "reason": "Not re-created."})
    assert answer(tmp_path, board, 3)["reason"] == f"Its annotation was new to version {last}."
    assert answer(tmp_path, board, 5)["reason"] == (
        "Nothing is learned from its annotation: Task 5 has no labeled pixel."
    )
    assert "in part: Not re-created." in answer(tmp_path, board, 4)["more"][0]


def test_a_task_is_looked_for_in_all_projects(tmp_path: Path, board: Board) -> None:
    connect(board)
    connect(board, "18.1")
    board.explain("18.1", {3: "Task 3: broken."})
    it = status(tmp_path, board)
    assert [a["uid"] for a in it.task(3)["answers"]] == ["18.1"]
    assert [a["uid"] for a in it.task(4)["answers"]] == [UID, "18.1"]
    assert [a["uid"] for a in it.task(4, "17")["answers"]] == [UID]
    assert [a["uid"] for a in it.task(4, "18.1")["answers"]] == ["18.1"]
    nowhere = it.task(4, "99")
    assert nowhere["answers"] == [] and "connected project 99" in nowhere["problems"][0]


def test_reasons_are_kept_for_so_many_tasks(board: Board) -> None:
    for first in range(0, 700, 50):
        board.explain(UID, {task: "Broken." for task in range(first, first + 50)})
    kept = board.explained(UID)
    assert 500 <= len(kept) <= 600 and {600, 699} <= set(kept) and 0 not in kept


# Without Redis


def test_without_redis_the_disk_is_told_at_once(tmp_path: Path) -> None:
    name = add_version(tmp_path, 1)
    gone = Board(redis_that_is_gone(tmp_path))
    registry = Registry(tmp_path)
    predictor = Predictor(Settings(), registry)
    jobs = Jobs(lambda _: ("", 0.0), lambda: 0)
    known = [Connection(UID, CONFIG)]
    it = Status(registry, predictor, lambda: known, gone, jobs)
    began = time.monotonic()
    report, task = it.report(), it.task(3)
    assert time.monotonic() - began < 1.0
    (problem,) = report["problems"]
    assert problem.startswith("Redis cannot be reached")
    (project,) = report["projects"]
    assert (project["version"], project["connected"]) == (name, True)
    assert {job["state"] for job in project["jobs"]} == {"unknown"}
    assert task["problems"] == [problem] and task["answers"][0]["state"] == "unknown"


def test_without_a_worker_failures_of_this_process_are_told(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    predictor = Predictor(Settings(), registry)
    connection = Connection(UID, CONFIG)
    predictor.predict(connection.open(), "toonhead-shipped", {"id": 3, "data": {}})
    it = Status(registry, predictor, lambda: [connection])
    assert "REDIS_URL is not set" in it.report()["problems"][0]
    assert "no picture" in it.task(3)["answers"][0]["reason"]
    assert it.pause(UID, True) is False


def test_it_does_not_need_torch() -> None:
    code = "import sys, dgan_backend.loop.status; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_it_answers_fast(tmp_path: Path, board: Board) -> None:
    for number in range(5):
        for version in range(1, 31):
            add_version(tmp_path, version, f"{number}.1")
        connect(board, f"{number}.1")
    it = status(tmp_path, board)
    it.report()  # reads the cards
    times = []
    for _ in range(3):
        began = time.monotonic()
        it.report()
        times.append(time.monotonic() - began)
    assert min(times) < 0.2

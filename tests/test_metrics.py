"""/metrics and the ids of requests, over real HTTP."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from dgan_backend import __version__, jobs
from dgan_backend.loop.board import Board
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.outcome import NOTE
from tests.boards import redis_that_is_gone
from tests.labeling import CONFIG
from tests.test_ears import event
from tests.test_status_routes import UID, serving


@pytest.fixture
def board(server: redis.Redis) -> Board:
    server.flushdb()
    board = Board(server)
    board.remember(Connection(UID, CONFIG))
    return board


@pytest.fixture
def client(tmp_path: Path, board: Board, server: redis.Redis) -> Iterator[httpx.Client]:
    with serving(tmp_path, server) as client:
        yield client


def figures(client: httpx.Client) -> dict[str, float]:
    """`name{labels}` -> value."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_requests_are_counted_by_route_and_status(client: httpx.Client) -> None:
    for path in ("/health", "/health", "/nowhere", "/nowhere/else", "/predict"):
        client.get(path)
    told = figures(client)
    assert told['dgan_requests_total{route="/health",status="200"}'] == 2
    assert told['dgan_requests_total{route="other",status="404"}'] == 2
    assert told['dgan_requests_total{route="/predict",status="405"}'] == 1
    assert told['dgan_request_seconds_count{route="/health"}'] == 2
    assert told['dgan_request_seconds_bucket{le="+Inf",route="/health"}'] == 2
    assert not [name for name in told if "nowhere" in name]


def test_the_release_and_what_serves_a_project(client: httpx.Client) -> None:
    told = figures(client)
    assert told[f'dgan_build_info{{version="{__version__}"}}'] == 1
    assert told["dgan_projects"] == 1
    version = f'dgan_project_version_info{{project="{UID}",version="toonhead-shipped"}}'
    assert told[version] == 1
    assert not [name for name in told if name.startswith("dgan_last_training")]


def test_projects_beyond_the_first_are_in_the_count_alone(
    client: httpx.Client, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgan_backend.serving.metrics._MOST", 2)
    for number in range(20, 25):
        board.remember(Connection(f"{number}.1", CONFIG))
    told = figures(client)
    assert told["dgan_projects"] == 6
    assert sum(name.startswith("dgan_project_version_info") for name in told) == 2


def test_queues_workers_and_outcomes(
    client: httpx.Client, board: Board, server: redis.Redis
) -> None:
    jobs.enqueue(server, UID, "train", "job-1")
    for outcome in ("done", "done", "failed"):
        board.count("label", outcome)
    board.note(UID, NOTE, json.dumps({"time": time.time() - 100}))
    told = figures(client)
    assert told['dgan_queue_jobs{queue="train"}'] == 1
    assert told['dgan_queue_jobs{queue="label"}'] == 0
    assert told['dgan_jobs_total{outcome="done",work="label"}'] == 2
    assert told['dgan_jobs_total{outcome="failed",work="label"}'] == 1
    assert told["dgan_workers"] == 0 and told["dgan_redis_up"] == 1
    assert 99 < told[f'dgan_last_training_age_seconds{{project="{UID}"}}'] < 200


@pytest.mark.parametrize("there", [True, False], ids=["gone", "none"])
def test_without_redis(tmp_path: Path, there: bool) -> None:
    with serving(tmp_path, redis_that_is_gone(tmp_path) if there else None) as client:
        told = figures(client)
    assert told.get("dgan_redis_up") == (0 if there else None)
    assert told["dgan_projects"] == 0 and "dgan_workers" not in told


def test_metrics_want_the_password(tmp_path: Path, board: Board, server: redis.Redis) -> None:
    with serving(tmp_path, server, basic_auth_user="team", basic_auth_pass="word") as client:
        assert client.get("/metrics").status_code == 401
        client.auth = ("team", "word")
        assert figures(client)['dgan_requests_total{route="/metrics",status="401"}'] == 1


# Ids


def test_a_request_keeps_its_id_and_others_get_one(client: httpx.Client) -> None:
    told = client.get("/health", headers={"X-Request-ID": "mine-1"})
    assert told.headers["x-request-id"] == "mine-1"
    made = client.get("/health", headers={"X-Request-ID": "no id"}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", made)
    assert client.get("/nowhere").headers["x-request-id"] not in ("", made)


def test_the_id_goes_on_to_the_job(client: httpx.Client, board: Board) -> None:
    told = event("ANNOTATION_CREATED")
    client.post("/webhook", json=told, headers={"X-Request-ID": "mine-2"})
    until = time.monotonic() + 5
    while not board.unsettled(UID, "train") and time.monotonic() < until:
        time.sleep(0.02)
    assert board.asked_by(UID, "train") == "mine-2"
    assert board.asked_by(UID, "label") == ""

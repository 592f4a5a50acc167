"""/status over HTTP: JSON for programs, a page for browsers, pause and resume for ourselves."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import uvicorn

from dgan_backend.loop.board import Board
from dgan_backend.loop.connection import Connection
from dgan_backend.registry import Registry
from dgan_backend.server import create_app
from dgan_backend.serving.status_routes import prefers_html
from dgan_backend.settings import Settings
from tests.boards import redis_that_is_gone
from tests.labeling import CONFIG

UID = "17.1795491060"
OWN = "our own"  # origin
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.fixture
def board(server: redis.Redis) -> Board:
    server.flushdb()
    board = Board(server)
    board.remember(Connection(UID, CONFIG, "http://ls:8080", "secret-token"))
    return board


@contextmanager
def serving(folder: Path, client: redis.Redis | None, **fields: Any) -> Iterator[httpx.Client]:
    """The app over HTTP, without its threads: nothing sweeps, nothing loads."""
    app = create_app(Settings(model_dir=folder, **fields), Registry(folder), client=client)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=60) as http:
            yield http
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()


@pytest.fixture
def client(tmp_path: Path, board: Board, server: redis.Redis) -> Iterator[httpx.Client]:
    with serving(tmp_path, server) as client:
        yield client


def test_programs_get_json(client: httpx.Client) -> None:
    answer = client.get("/status")
    (project,) = answer.json()["projects"]
    assert (project["uid"], project["version"]) == (UID, "toonhead-shipped")
    assert answer.headers["cache-control"] == "no-store"
    assert "secret-token" not in answer.text
    assert "No worker is running" in answer.json()["problems"][0]
    browsed = client.get("/status?format=json", headers={"Accept": BROWSER})
    assert browsed.json()["projects"] == answer.json()["projects"]


def test_browsers_get_a_page_that_can_do_nothing_but_show_itself(client: httpx.Client) -> None:
    first, second = (client.get("/status", headers={"Accept": BROWSER}) for _ in range(2))
    assert first.headers["content-type"].startswith("text/html")
    assert "Project 17" in first.text and "secret-token" not in first.text
    policy = first.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    (nonce,) = set(re.findall(r"nonce-([^']+)'", policy))
    assert first.text.count(f'nonce="{nonce}"') == 2
    assert nonce not in second.text
    assert not re.search(r'\sstyle="|\son\w+="', first.text)  # which the policy forbids


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("application/json, text/html;q=0.9", False),
        ("application/json;q=0.5, text/html;q=0.9", True),
        ("text/html;q=x", False),
    ],
)
def test_who_wants_the_page(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html


def test_a_task_is_asked_for(client: httpx.Client, board: Board) -> None:
    board.explain(UID, {3: "Task 3: broken."})
    (answer,) = client.get("/status?task=3").json()["answers"]
    assert (answer["state"], answer["reason"]) == ("empty", "Task 3: broken.")
    assert client.get("/status?task=3&project=99").json()["answers"] == []
    page = client.get("/status?task=3", headers={"Accept": BROWSER}).text
    assert "Task 3: broken." in page
    for bad in ("x", "-1", "1.5", "9" * 30):
        refused = client.get("/status", params={"task": bad})
        assert refused.status_code == 400 and "no task ID" in refused.json()["detail"]


def test_what_predict_says_of_a_task_is_remembered(client: httpx.Client, board: Board) -> None:
    body = {"tasks": [{"id": 5, "data": {}}], "project": UID, "label_config": CONFIG}
    client.post("/predict", json=body)
    (answer,) = client.get("/status?task=5").json()["answers"]
    assert "Task 5 has no picture" in " ".join([answer["reason"], *answer["more"]])


# Pause and resume


def test_the_page_pauses_and_resumes(client: httpx.Client, board: Board) -> None:
    board.mark(UID, "train")
    answer = client.post("/status/pause", data={"project": UID})
    assert (answer.status_code, answer.headers["location"]) == (303, "../status")
    assert board.paused(UID) and client.get("/status").json()["projects"][0]["paused"]
    assert client.post("/status/resume", data={"project": UID}).status_code == 303
    assert not board.paused(UID) and board.unsettled(UID, "train")


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Origin": OWN}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://elsewhere"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": OWN}, False),
    ],
)
@pytest.mark.parametrize("action", ["pause", "resume"])
def test_pages_of_others_cannot(
    client: httpx.Client, board: Board, headers: dict[str, str], passes: bool, action: str
) -> None:
    own = f"http://127.0.0.1:{client.base_url.port}"
    headers = {name: value.replace(OWN, own) for name, value in headers.items()}
    before = action == "resume"
    board.pause(UID, before)
    answer = client.post(f"/status/{action}", data={"project": UID}, headers=headers)
    assert (answer.status_code == 303) is passes
    assert (board.paused(UID) != before) is passes


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"project=", 400), (b"project=99.1", 404), (b"project=" + b"9" * 2000, 413),
     (b"project=1&project=2", 400), (b"\xff\xfe", 400)],
)  # fmt: skip
def test_forms_that_name_no_project(client: httpx.Client, body: bytes, status: int) -> None:
    assert client.post("/status/pause", content=body).status_code == status


def test_all_of_it_asks_for_the_password(tmp_path: Path, board: Board, server: redis.Redis) -> None:
    with serving(tmp_path, server, basic_auth_user="team", basic_auth_pass="word") as client:
        for method, path in (("GET", ""), ("POST", "/pause"), ("POST", "/resume"), ("GET", "?x")):
            assert client.request(method, f"/status{path}").status_code == 401
        assert client.get("/status", auth=("team", "word")).status_code == 200
    assert not board.paused(UID)


# Without Redis


def test_without_redis_that_is_said(tmp_path: Path) -> None:
    with serving(tmp_path, redis_that_is_gone(tmp_path)) as client:
        setup = {"project": UID, "schema": CONFIG, "access_token": "secret-token"}
        client.post("/setup", json=setup)
        report = client.get("/status")
        assert report.json()["problems"][0].startswith("Redis cannot be reached")
        assert report.json()["projects"][0]["uid"] == UID and "secret-token" not in report.text
        assert client.get("/status?task=3").json()["answers"][0]["state"] == "unknown"
        refused = client.post("/status/pause", data={"project": UID})
        assert refused.status_code == 503 and "Redis" in refused.json()["detail"]
        page = client.get("/status", headers={"Accept": BROWSER})
        assert "Redis cannot be reached" in page.text


def test_a_password_of_redis_is_not_shown(tmp_path: Path) -> None:
    gone = redis.Redis.from_url("redis://:hidden-word@127.0.0.1:1/0")
    with serving(tmp_path, gone) as client:
        told = json.dumps(client.get("/status").json())
    assert "Redis cannot be reached" in told and "hidden-word" not in told


def test_where_there_never_was_one_nothing_can_be_paused(tmp_path: Path) -> None:
    with serving(tmp_path, None) as client:
        assert "REDIS_URL is not set" in client.get("/status").json()["problems"][0]
        assert client.post("/status/pause", data={"project": UID}).status_code == 404


# What a request leaves behind


@pytest.mark.parametrize("task", ["true", "-1", "1e400", '"x"', "9223372036854775808", "[]"])
@pytest.mark.parametrize("there", [True, False], ids=["redis", "none"])
def test_no_task_id_spoils_the_page(
    tmp_path: Path, board: Board, server: redis.Redis, task: str, there: bool
) -> None:
    with serving(tmp_path, server if there else None) as client:
        setup = {"project": UID, "schema": CONFIG, "hostname": "http://ls:8080"}
        assert client.post("/setup", json=setup).status_code == 200
        body = f'{{"tasks": [{{"id": {task}, "data": {{}}}}], "project": "{UID}"}}'
        headers = {"Content-Type": "application/json"}
        assert client.post("/predict", content=body, headers=headers).status_code == 200
        for accept in (BROWSER, "application/json"):
            assert client.get("/status", headers={"Accept": accept}).status_code == 200
        assert client.get("/metrics").status_code == 200


def test_a_form_that_does_not_come_is_not_waited_for(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgan_backend.serving.bodies.SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), 60) as connection:
        connection.sendall(_HALF_A_FORM)
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_form_that_breaks_off_is_no_fault_of_ours(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), 60) as connection:
        connection.sendall(_HALF_A_FORM)
    counted = 'dgan_requests_total{route="/status/pause",status="400"} 1.0'
    until = time.monotonic() + 60
    while counted not in client.get("/metrics").text and time.monotonic() < until:
        time.sleep(0.1)
    assert counted in client.get("/metrics").text
    assert not [record for record in caplog.records if record.exc_info]


_HALF_A_FORM = b"POST /status/pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\nproj"

"""The client of Label Studio's API, against a small server that answers like it."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dgan_backend.labelstudio import client as client_module
from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError
from tests.sites import Answer, Seen, Site, dripping, redirect, serving

LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(kind: str, expires_in: float, **more: object) -> str:
    claims = {"token_type": kind, "exp": time.time() + expires_in, **more}
    parts = ({"alg": "HS256"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().strip("=") for p in parts]
    return ".".join([*encoded, "signature"])


PAT = jwt("refresh", 1e9)


class Studio:
    """Label Studio's rules for tokens, and canned answers by (method, path)."""

    def __init__(self) -> None:
        self.lifetime = 300.0
        self.valid: set[str] = {f"Token {LEGACY}"}
        self.pages: dict[tuple[str, str], Callable[[Seen], Answer]] = {
            ("GET", "/api/projects/1/"): lambda _: Answer({"id": 1})
        }
        self.site = Site("")

    def answer(self, seen: Seen) -> Answer:
        if seen.path == "/api/token/refresh":
            return self._refresh(seen)
        if seen.headers.get("authorization") not in self.valid:
            return Answer({"detail": "Invalid token."}, 401)
        return self.pages[seen.method, seen.path](seen)

    def _refresh(self, seen: Seen) -> Answer:
        if seen.json() != {"refresh": PAT}:
            return Answer({"detail": "Token is invalid"}, 401)
        access = jwt("access", self.lifetime, number=len(self.site.seen))
        self.valid.add(f"Bearer {access}")
        return Answer({"access": access})

    def page(self, method: str, path: str, body: Any, status: int = 200) -> None:
        self.pages[method, path] = lambda _: Answer(body, status)


@pytest.fixture
def studio() -> Iterator[Studio]:
    rules = Studio()
    with serving(rules.answer) as site:
        rules.site = site
        yield rules


@pytest.fixture
def client(studio: Studio) -> Iterator[LabelStudioClient]:
    with LabelStudioClient(studio.site.url, LEGACY) as client:
        yield client


# Tokens


def test_a_legacy_token_is_sent_as_it_is(studio: Studio, client: LabelStudioClient) -> None:
    assert client.project(1) == {"id": 1}
    assert studio.site.seen[0].headers["authorization"] == f"Token {LEGACY}"


def test_a_personal_access_token_is_exchanged_once(studio: Studio) -> None:
    with LabelStudioClient(studio.site.url, PAT) as client:
        client.project(1)
        client.project(1)
    assert studio.site.paths() == ["/api/token/refresh", "/api/projects/1/", "/api/projects/1/"]
    assert studio.site.seen[0].headers.get("authorization") is None


def test_it_is_exchanged_again_before_it_expires(studio: Studio) -> None:
    studio.lifetime = 20.0
    with LabelStudioClient(studio.site.url, PAT) as client:
        client.project(1)
        client.project(1)
    assert studio.site.paths().count("/api/token/refresh") == 2


def test_it_is_exchanged_again_when_label_studio_forgot_it(studio: Studio) -> None:
    with LabelStudioClient(studio.site.url, PAT) as client:
        client.project(1)
        studio.valid.clear()
        assert client.project(1) == {"id": 1}
        studio.valid.clear()
        with client.stream(f"{studio.site.url}/api/projects/1/") as response:
            assert response.read() == b'{"id": 1}'
    assert studio.site.paths().count("/api/token/refresh") == 3


def test_threads_share_one_exchange(studio: Studio) -> None:
    with LabelStudioClient(studio.site.url, PAT) as client:
        threads = [threading.Thread(target=client.project, args=(1,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert studio.site.paths().count("/api/token/refresh") == 1
    assert studio.site.paths().count("/api/projects/1/") == 8


def test_an_access_token_works_until_it_expires(studio: Studio) -> None:
    access = jwt("access", 300)
    studio.valid.add(f"Bearer {access}")
    with LabelStudioClient(studio.site.url, access) as client:
        client.project(1)
    assert studio.site.paths() == ["/api/projects/1/"]


@pytest.mark.parametrize(
    "token",
    ["wrong", "", jwt("refresh", 99, user=2), jwt("access", 99)],
    ids=["wrong", "none", "unknown refresh", "unknown access"],
)
def test_a_refused_token_is_explained(studio: Studio, token: str) -> None:
    with (
        LabelStudioClient(studio.site.url, token) as client,
        pytest.raises(LabelStudioError, match=r"personal access token.*legacy token") as caught,
    ):
        client.project(1)
    assert caught.value.status == 401
    assert not token or token not in str(caught.value)


# Errors


def test_an_unreachable_label_studio_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with (
        LabelStudioClient(url, LEGACY) as client,
        pytest.raises(LabelStudioError, match=f"{url} cannot be reached"),
    ):
        client.project(1)


def test_a_slow_label_studio_is_not_waited_for(studio: Studio) -> None:
    def slow(_: Seen) -> Answer:
        time.sleep(1)
        return Answer({})

    studio.pages["GET", "/api/projects/1/"] = slow
    with (
        LabelStudioClient(studio.site.url, LEGACY, timeout=0.2) as client,
        pytest.raises(LabelStudioError, match="cannot be reached"),
    ):
        client.project(1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer({"validation_errors": {"title": ["too short"]}}, 400), "400 .*too short"),
        (Answer({"detail": "Not found."}, 404), "404 to GET /api/projects/1/: Not found"),
        (Answer(["odd"], 409), "409 .*odd"),
        (Answer(b"<html>Bad gateway</html>", 502), "502 .*Bad gateway"),
        (Answer(b"<html>Welcome</html>"), "without JSON"),
        (Answer([1]), "no object"),
        (Answer({"status": "ok"}), "another project than asked for"),
        (redirect("https://ls.example/"), "redirects .* to https://ls.example/"),
    ],
)
def test_what_label_studio_says_is_passed_on(
    studio: Studio, client: LabelStudioClient, answer: Answer, said: str
) -> None:
    studio.pages["GET", "/api/projects/1/"] = lambda _: answer
    with pytest.raises(LabelStudioError, match=said):
        client.project(1)


@pytest.mark.parametrize(
    ("answer", "gone"),
    [
        (Answer({"status_code": 404, "detail": "No Project matches the given query."}, 404), True),
        (Answer({"status_code": 403, "detail": "No."}, 403), False),
        (Answer({"message": "no Route matched with those values"}, 404), False),
        (Answer(b"404 page not found", 404), False),
        (Answer(b"<html>404 Not Found</html>", 404), False),
    ],
    ids=["Label Studio", "forbidden", "a gateway", "Traefik", "nginx"],
)
def test_only_label_studio_itself_says_that_something_is_gone(
    studio: Studio, client: LabelStudioClient, answer: Answer, gone: bool
) -> None:
    studio.pages["GET", "/api/projects/1/"] = lambda _: answer
    with pytest.raises(LabelStudioError) as caught:
        client.project(1)
    assert caught.value.gone is gone


@pytest.mark.parametrize("body", [{}, {"status": "ok"}, {"tasks": None, "total": 0}, {"tasks": []}])
def test_what_is_no_list_of_tasks_is_not_an_empty_one(
    studio: Studio, client: LabelStudioClient, body: object
) -> None:
    """Or all corrections would be forgotten."""
    studio.page("GET", "/api/tasks/", body)
    for ask in (lambda: list(client.annotated_tasks(1)), lambda: client.fingerprint(1)):
        with pytest.raises(LabelStudioError, match="no list of tasks; is LABEL_STUDIO_URL right"):
            ask()


@pytest.mark.parametrize("body", [{"detail": "x"}, ["x"], "x"])
def test_what_is_no_list_of_predictions_is_said(
    studio: Studio, client: LabelStudioClient, body: object
) -> None:
    studio.page("GET", "/api/predictions/", body)
    with pytest.raises(LabelStudioError, match="no list"):
        client.predictions(1)


def _busy(studio: Studio, method: str, path: str, *answers: Answer) -> None:
    """Answers one after the other, and then that all is well."""
    left = list(answers)
    studio.pages[method, path] = lambda _: left.pop(0) if left else Answer({"id": 1})


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client would have slept."""
    slept: list[float] = []
    monkeypatch.setattr("dgan_backend.labelstudio.client.time.sleep", slept.append)
    return slept


def test_a_label_studio_with_too_much_to_do_is_asked_again(
    studio: Studio, client: LabelStudioClient, pauses: list[float]
) -> None:
    asked = Answer({}, 429, {"Retry-After": "2"})
    _busy(studio, "GET", "/api/projects/1/", asked, Answer({}, 503))
    assert client.project(1) == {"id": 1}
    assert 2 <= pauses[0] <= 3 and 1 <= pauses[1] <= 1.5


@pytest.mark.parametrize(
    ("method", "answer", "tries"),
    [
        ("GET", Answer({}, 429), 3),
        ("PATCH", Answer({}, 429), 3),
        ("PATCH", Answer({}, 503), 1),  # it may have been done
        ("GET", Answer({}, 500), 1),
        ("GET", Answer({}, 429, {"Retry-After": "3600"}), 1),  # jobs wait, not calls
    ],
)
def test_a_call_is_not_made_again_for_ever(
    studio: Studio,
    client: LabelStudioClient,
    pauses: list[float],
    method: str,
    answer: Answer,
    tries: int,
) -> None:
    studio.pages[method, "/api/projects/1/"] = lambda _: answer
    with pytest.raises(LabelStudioError, match=str(answer.status)):
        client.request(method, "/api/projects/1/", **({"json": {}} if method == "PATCH" else {}))
    assert len(studio.site.seen) == tries


def test_an_answer_that_trickles_is_not_waited_for_for_ever(
    studio: Studio, client: LabelStudioClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgan_backend.labelstudio.client._ANSWER_SECONDS", 0.3)

    def drops() -> Iterator[bytes]:
        for _ in range(50):
            time.sleep(0.1)
            yield b" "

    studio.pages["GET", "/api/projects/1/"] = lambda _: Answer(drops())
    began = time.monotonic()
    with pytest.raises(LabelStudioError, match=r"cannot be reached \(timed out\)"):
        client.project(1)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("answer", [Answer(b"<html>"), Answer({}), Answer([1]), Answer({}, 502)])
def test_a_token_that_is_exchanged_for_nothing_is_said(answer: Answer) -> None:
    with serving(lambda _: answer) as site, LabelStudioClient(site.url, PAT) as client:
        with pytest.raises(LabelStudioError, match=r"token|502") as caught:
            client.project(1)
        assert "refused the token" not in str(caught.value)


# Calls


def test_projects(studio: Studio, client: LabelStudioClient) -> None:
    studio.page("POST", "/api/projects/", {"id": 7}, 201)
    studio.page("PATCH", "/api/projects/7/", {"id": 7})
    assert client.create_project("T", "<View/>", description="d")["id"] == 7
    client.update_project(7, model_version="v1")
    assert [seen.json() for seen in studio.site.seen] == [
        {"title": "T", "label_config": "<View/>", "description": "d"},
        {"model_version": "v1"},
    ]


def test_tasks_come_page_by_page(studio: Studio, client: LabelStudioClient) -> None:
    def page(seen: Seen) -> Answer:
        start = 100 * (int(seen.query["page"][0]) - 1)
        assert seen.query["fields"] == ["all"] and seen.query["project"] == ["1"]
        ids = range(start, min(start + 100, 250))
        return Answer({"tasks": [{"id": n} for n in ids], "total": 250})

    studio.pages["GET", "/api/tasks/"] = page
    assert [task["id"] for task in client.tasks(1)] == list(range(250))
    assert len(studio.site.seen) == 3
    studio.page("GET", "/api/tasks/", {"tasks": [], "total": 3})  # deleted meanwhile
    assert list(client.tasks(1)) == []


def test_imports(studio: Studio, client: LabelStudioClient, tmp_path: Path) -> None:
    studio.page("POST", "/api/projects/1/import", {"task_ids": [4, 5]}, 201)
    studio.page("POST", "/api/projects/1/import/predictions", {"created": 1}, 201)
    assert client.import_tasks(1, [{"data": {"image": "x"}}]).ids == [4, 5]
    assert studio.site.seen[0].query == {"return_task_ids": ["true"]}
    assert client.import_predictions(1, [{"task": 4, "result": []}]) == 1
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    assert client.upload_files(1, sorted(tmp_path.iterdir())) == [4, 5]
    body = studio.site.seen[-1].body
    assert b'name="a.png"; filename="a.png"' in body and b'name="b.png"' in body


def test_pictures_are_uploaded_as_what_they_are(studio: Studio, client: LabelStudioClient) -> None:
    stored = [{"id": 3, "file": "upload/1/0a1b2c3d-a.png"}, {"id": 4, "file": "upload/1/0-b.jpg"}]
    studio.page("POST", "/api/projects/1/import", {"file_upload_ids": [3, 4]})
    studio.page("GET", "/api/projects/1/file-uploads", stored)
    assert client.upload_pictures(1, {"a.png": b"one", "b.jpg": b"two"}) == {
        "a.png": "/data/upload/1/0a1b2c3d-a.png",
        "b.jpg": "/data/upload/1/0-b.jpg",
    }
    (sent,) = [seen for seen in studio.site.seen if seen.method == "POST"]
    types = re.findall(rb"Content-Type: (\S+)", sent.body)
    assert types == [b"image/png", b"image/jpeg"]


def test_backends_and_webhooks(studio: Studio, client: LabelStudioClient) -> None:
    row = {"id": 3, "url": "http://b:9090"}
    studio.page("POST", "/api/ml/", row, 201)
    studio.page("GET", "/api/ml/", [row])
    studio.page("GET", "/api/webhooks/", [{"id": 9}])
    client.connect_backend(1, "http://b:9090", extra_params={"a": 1}, basic_auth=("u", "p"))
    (sent,) = [seen for seen in studio.site.seen if seen.method == "POST"]
    assert sent.json() == {
        "project": 1,
        "url": "http://b:9090",
        "title": "dgan-backend",
        "is_interactive": False,
        "extra_params": {"a": 1},
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": "u",
        "basic_auth_pass": "p",
    }
    assert client.backends(1) == [row]
    assert client.webhooks(1) == [{"id": 9}]
    assert studio.site.seen[-1].query == {"project": ["1"]}


def test_of_what_the_tries_of_connecting_left_the_first_stays(
    studio: Studio, client: LabelStudioClient
) -> None:
    """Nothing else goes: neither another address nor what was there before."""
    url, chosen = "http://b:9090", "toonhead-shipped"
    before = {"title": chosen, "created_at": "2026-11-24T17:14:34.336421Z"}
    rows = [{"id": 1, "url": url, **before}, {"id": 2, "url": "http://sam:9090", **before}]
    project = {"id": 1, "model_version": chosen}

    def connect(_: Seen) -> Answer:
        for number in (3, 4, 5):
            made = f"2026-11-29T05:0{number}:00.5Z"
            rows.append({"id": number, "url": url, "title": chosen, "created_at": made})
        return Answer(rows[-1], 201)

    def delete(seen: Seen) -> Answer:
        rows[:] = [row for row in rows if not seen.path.endswith(f"/{row['id']}")]
        project["model_version"] = ""
        return Answer(b"", 204)

    def change(seen: Seen) -> Answer:
        project.update(seen.json())
        return Answer(project)

    studio.pages["POST", "/api/ml/"] = connect
    studio.pages["GET", "/api/ml/"] = lambda _: Answer(rows)
    studio.pages["DELETE", "/api/ml/4"] = delete
    gone = {"status_code": 404, "detail": "Not found."}  # somebody else was first
    studio.page("DELETE", "/api/ml/5", gone, 404)
    studio.pages["GET", "/api/projects/1/"] = lambda _: Answer(project)
    studio.pages["PATCH", "/api/projects/1/"] = change
    assert client.connect_backend(1, url, chosen)["id"] == 3
    assert [row["id"] for row in rows] == [1, 2, 3, 5]
    assert project["model_version"] == chosen


def test_media_and_empty_answers(studio: Studio, client: LabelStudioClient) -> None:
    studio.page("GET", "/data/upload/1/a.png", b"\x89PNG")
    assert client.get_bytes("/data/upload/1/a.png") == b"\x89PNG"
    studio.pages["POST", "/x"] = lambda _: Answer(b"", 204)
    assert client.request("POST", "/x") is None


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://ls.example/data/upload/1/x", True),
        ("http://LS.example:80/data/upload/1/x", True),
        ("https://ls.example/data/upload/1/x", False),
        ("http://ls.example:8080/data/upload/1/x", False),
        ("http://ls.example.evil/data/upload/1/x", False),
        ("http://ls.example@evil/data/upload/1/x", False),
        ("http://ls.example/data/upload/", False),
        ("http://ls.example/api/projects/1/", False),
    ],
)
def test_which_urls_are_label_studios_pictures(url: str, kept: bool) -> None:
    with LabelStudioClient("http://ls.example/", LEGACY) as client:
        assert client.keeps(url) is kept


# What an answer may cost


def test_an_answer_that_is_packed_or_too_long_is_not_taken(
    studio: Studio, client: LabelStudioClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = Answer(gzip.compress(b'{"id": 1}'), headers={"Content-Encoding": "gzip"})
    studio.pages["GET", "/api/projects/1/"] = lambda _: packed
    with pytest.raises(LabelStudioError, match="its answer is packed: gzip"):
        client.project(1)
    assert studio.site.seen[0].headers["accept-encoding"] == "identity"
    monkeypatch.setattr(client_module, "_MOST_BYTES", 2**20)
    studio.pages["GET", "/api/projects/1/"] = lambda _: Answer(itertools.repeat(b" " * 65536))
    with pytest.raises(LabelStudioError, match="its answer is over 1 MiB"):
        client.project(1)
    studio.page("GET", "/api/projects/1/", {"id": 1})
    assert client.project(1) == {"id": 1}


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["head", "body"])
def test_an_answer_that_never_ends_is_not_waited_for(
    first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_ANSWER_SECONDS", 1.3)
    with (
        dripping(b"HTTP/1.1 200 OK\r\n" + b"x" * 50, first=first) as site,
        LabelStudioClient(site.url, LEGACY, timeout=0.15) as client,
    ):
        began = time.monotonic()
        with pytest.raises(LabelStudioError, match=r"cannot be reached \(timed out\)"):
            client.project(1)
        assert 1.2 < time.monotonic() - began < 3


def test_proxies_keep_to_the_deadline_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_ANSWER_SECONDS", 1.3)
    with dripping(b"HTTP/1.1 200 OK\r\n" + b"x" * 50) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with LabelStudioClient("http://ls.invalid", LEGACY, timeout=0.15) as client:
            began = time.monotonic()
            with pytest.raises(LabelStudioError, match="timed out"):
                client.project(1)
        assert 1.2 < time.monotonic() - began < 3

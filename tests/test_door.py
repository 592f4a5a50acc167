"""Who may come in: names, pages of others, and requests that end in two ways."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dgan_backend.serving.door import Hosts
from tests.labeling import CONFIG
from tests.test_status_routes import serving

SETUP = {"project": "5.1795491060", "schema": CONFIG}
EVIL = "evil.example"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(tmp_path_factory.mktemp("door"), None) as client:
        yield client


# Names


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:9090", True),
        ("127.1.2.3", True),
        ("[::1]:9090", True),
        ("LOCALHOST:9090", True),
        ("localhost.", True),
        ("10.0.0.7:9090", True),  # a page cannot let an address point here
        (EVIL, False),
        ("localhost.evil.example", False),
        ("backend.dgan.local", False),
        ("", False),
        ("a b", False),
        ("127.0.0.1@evil.example", False),
        ("127.0.0.1:9090/x", False),
    ],
)
def test_on_loopback_only_loopbacks_names_are_known(host: str, known: bool) -> None:
    assert Hosts().know(host) is known


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("backend:9090", True),
        ("backend.dgan.local:9090", True),
        ("host.docker.internal", True),
        ("backend.tools.svc.cluster.local", True),
        ("192.168.1.5:9090", True),
        ("ml.company.com", False),
        (EVIL, False),
    ],
)
def test_in_a_network_names_that_anybody_can_register_are_not(host: str, known: bool) -> None:
    assert Hosts(bound="0.0.0.0").know(host) is known
    assert Hosts(bound="0.0.0.0", guarded=True).know(host), "no page knows the password"


@pytest.mark.parametrize("host", ["[::::]", "[1]", "[1.2.3.4]", "backend:99999", "[", "[::1", "]"])
def test_what_no_url_can_be_made_of_is_no_host(host: str) -> None:
    for hosts in (Hosts(bound="0.0.0.0"), Hosts(guarded=True), Hosts(("*",))):
        assert not hosts.know(host)


def test_an_admin_names_others() -> None:
    hosts = Hosts(("ml.company.com", ".lab.company.com"), "0.0.0.0", guarded=True)
    for host in ("ml.company.com:9090", "a.lab.company.com", "localhost", "127.0.0.1"):
        assert hosts.know(host)
    for host in ("company.com", "xlab.company.com", EVIL, "backend"):
        assert not hosts.know(host)
    assert Hosts(("*",)).know(EVIL)
    assert Hosts(bound="ml.company.com").know("ml.company.com")
    assert Hosts().know(socket.gethostname())


@pytest.mark.parametrize("path", ["/health", "/status", "/metrics", "/nowhere"])
def test_a_foreign_name_is_refused_in_words(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"Host": EVIL})
    assert answer.status_code == 400
    assert EVIL in answer.json()["detail"] and "ALLOWED_HOSTS" in answer.json()["detail"]


def test_settings_reach_the_door(tmp_path: Path) -> None:
    with serving(tmp_path, None, allowed_hosts=("ml.company.com",)) as client:
        assert client.get("/health", headers={"Host": "ml.company.com"}).status_code == 200
        assert client.get("/health", headers={"Host": EVIL}).status_code == 400


# Pages


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook", "/versions", "/status/pause"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": f"https://{EVIL}"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://[::::]:x"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_others_post_nothing(
    client: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    assert client.post(path, json={**SETUP, "tasks": []}, headers=headers).status_code == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook", "/versions"])
def test_what_a_page_may_send_without_asking_is_no_json(
    client: httpx.Client, path: str, kind: str
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = client.post(path, content=b'{"tasks": []}', headers=headers)
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


def test_label_studio_itself_comes_in(client: httpx.Client) -> None:
    for kind in ("application/json", "application/json; charset=utf-8"):
        headers = {"Content-Type": kind, "User-Agent": "heartex/1.23.2"}
        assert client.post("/webhook", content=b"{}", headers=headers).status_code == 200


# Ends


def test_a_request_that_ends_in_two_ways_is_refused_with_what_is_behind_it(
    client: httpx.Client,
) -> None:
    body = b"0\r\n\r\n"
    first = (
        b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    )
    behind = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    address = (client.base_url.host, client.base_url.port or 0)
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(first + behind)
        told = b""
        while piece := connection.recv(65536):
            told += piece
    assert told.count(b"HTTP/1.1 ") == 1, told
    assert told.startswith(b"HTTP/1.1 400 ")

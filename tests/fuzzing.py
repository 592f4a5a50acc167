"""Requests as Label Studio sends them, and what somebody else would make of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import strategies as st

from tests.drawing import click
from tests.labeling import CONFIG, data_uri, task

UID = "5.1795491060"
PROJECT = {"id": 5, "title": "Heads", "created_at": "2026-11-24T17:31:00Z", "label_config": CONFIG}
_ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATIONS_DELETED",
    "PROJECT_UPDATED",
    "START_TRAINING",
    "TASKS_CREATED",
    "TASKS_DELETED",
)


@dataclass(frozen=True)
class Sent:
    """A request. body: JSON-able, or bytes. headers: beside its type."""

    method: str
    path: str
    body: Any
    headers: Mapping[str, bytes] = field(default_factory=dict)

    def to(self, client: httpx.Client) -> httpx.Response:
        headers: dict[str, str | bytes] = dict(self.headers)
        if self.body is None:
            return client.request(self.method, self.path, headers=headers)
        content = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers["Content-Type"] = "application/json"
        return client.request(self.method, self.path, content=content, headers=headers)


def real_requests() -> list[Sent]:
    """Every kind that Label Studio sends."""
    picture = task(1, data_uri(12, 10))
    setup = {"project": UID, "schema": CONFIG, "hostname": "http://127.0.0.1:1"}
    setup |= {"access_token": "theirs", "extra_params": {"unlabeled": "ignore"}}
    asked = {"project": UID, "label_config": CONFIG, "params": {"context": None}}
    drawn = {"context": {"result": [click(3, 3, (12, 10))]}}
    region = {"type": "brushlabels", "from_name": "parts", "to_name": "image", "id": "r"}
    region |= {"original_width": 10, "original_height": 12, "image_rotation": 0}
    region |= {"value": {"format": "rle", "rle": [0, 0, 1, 224, 57], "brushlabels": ["face"]}}
    annotation = {"id": 9, "result": [region], "was_cancelled": False}
    events = [
        {"action": action, "project": PROJECT, "task": picture, "annotation": annotation}
        for action in _ACTIONS
    ]
    return [
        Sent("POST", "/setup", setup),
        Sent("POST", "/predict", {"tasks": [picture], **asked}),
        Sent("POST", "/predict", {"tasks": [picture, task(2, "/data/upload/1/a.png")], **asked}),
        Sent("POST", "/predict", {"tasks": [picture], **asked, "params": drawn}),
        Sent(
            "POST",
            "/predict",
            {"tasks": [picture], **asked, "params": {"context": {"result": [region]}}},
        ),
        Sent("POST", "/versions", {"project": UID}),
        *(Sent("POST", "/webhook", told) for told in events),
    ]


def junk(forbidden: str) -> st.SearchStrategy[Any]:
    """What stands where something else should. forbidden: an address that nobody may ask."""
    port = forbidden.rpartition(":")[2]
    hosts = ("127.0.0.1", "localhost", "[::1]", "0x7f000001", "2130706433", "127.1", "0.0.0.0")
    urls = [f"http://{host}:{port}/secret.png" for host in (*hosts, "[::ffff:127.0.0.1]")]
    urls += ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "gopher://x/1"]
    texts = [
        "../../../../etc/passwd",
        "a\0b",
        "<script>alert(1)</script>",
        "x" * 100_000,
        "\ud83d\ude00",
    ]
    texts += [
        "<!DOCTYPE a [<!ENTITY b 'c'>]><View>&b;</View>",
        "<View>" * 3000,
        "%s%n{0}",
        "\r\nX: y",
    ]
    numbers = [0, -1, 2**31, 2**63, 10**400, 1e308, float("nan"), float("inf"), True]
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    odd = [None, {}, [], deep, {"": {}}, [None] * 1000, {"result": [{}]}]
    return st.sampled_from([*urls, *texts, *numbers, *odd]) | st.text(max_size=30) | st.integers()


def odd_headers() -> st.SearchStrategy[dict[str, bytes]]:
    """What a page or somebody with a socket says of itself."""
    hosts = [
        "127.0.0.1",
        "localhost:9090",
        "[::1]:1",
        "[::::]",
        "[",
        "evil.example",
        "a b",
        "@",
        "",
    ]
    hosts += ["localhost:99999", "x" * 5000, "[fe80::1%25lo]", "1.2.3.4.5", ".."]
    urls = [f"http://{host}" for host in hosts] + ["null", "http://[", "//", "a:b", "data:,"]
    known = {
        "Host": hosts,
        "Origin": urls,
        "Accept": ["text/html", "*/*", "application/json;q=x", ",;,", "text/" * 1000],
        "X-Request-ID": ["a b", "%s", "x" * 5000, "<b>", "1"],
        "Sec-Fetch-Site": ["same-origin", "none", "cross-site", "?", ""],
    }
    noise = st.binary(max_size=20).map(lambda raw: bytes(b for b in raw if b > 31 and b != 127))
    values = {
        name: st.sampled_from(texts).map(str.encode) | noise.map(bytes.strip)
        for name, texts in known.items()
    }
    return st.fixed_dictionaries({}, optional=values)


def mutated(forbidden: str) -> st.SearchStrategy[Sent]:
    """Real requests with one to four places of them changed; every other with odd headers."""
    change = st.tuples(
        st.integers(0, 10_000), st.sampled_from(["put", "drop", "double"]), junk(forbidden)
    )
    changes = st.lists(change, min_size=1, max_size=4)
    headers = st.just({}) | odd_headers()
    return st.builds(_changed, st.sampled_from(real_requests()), changes, headers)


def _changed(sent: Sent, changes: list[tuple[int, str, Any]], headers: Mapping[str, bytes]) -> Sent:
    body = {"": copy.deepcopy(sent.body)}
    for number, how, value in changes:
        places = list(_places(body))
        holder, key = places[number % len(places)]
        if how == "drop" and holder is not body:
            del holder[key]
        elif how == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(value)
    return Sent(sent.method, sent.path, body[""], headers)


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Everything that a container holds, at any depth, as (container, key)."""
    waiting = [node]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(min(len(holder), 50))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], (dict, list)):
                waiting.append(holder[key])

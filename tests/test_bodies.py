"""Bodies of requests: their size, their parts and their time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from fastapi import HTTPException, Request

from dgan_backend.serving import bodies
from dgan_backend.serving.bodies import json_body, parse

Receive = Callable[[], Awaitable[dict]]


def request(*messages: dict) -> Request:
    """A POST whose body comes in these pieces."""
    waiting = iter(messages)

    async def receive() -> dict:
        return next(waiting)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    return Request(scope, receive)


def piece(data: bytes, more: bool = False) -> dict:
    return {"type": "http.request", "body": data, "more_body": more}


async def read(asked: Request, most: int = 10_000) -> dict:
    async with json_body(asked, most) as body:
        return body


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_json_has_no_numbers_for_is_refused(constant: str) -> None:
    with pytest.raises(HTTPException, match=f"{constant} is no number of JSON"):
        asyncio.run(read(request(piece(f'{{"tasks": [{{"id": {constant}}}]}}'.encode()))))


@pytest.mark.parametrize("one", [b"[],", b'{"a":1},'])
def test_containers_are_counted_before_they_are_made(one: bytes) -> None:
    body = b'{"tasks":[' + one * (bodies.MOST_CONTAINERS + 1) + b"0]}"
    with pytest.raises(HTTPException) as caught:
        parse(body)
    assert caught.value.status_code == 413
    assert len(parse(b'{"tasks":[' + one * 1000 + b"0]}")["tasks"]) == 1001


def test_values_are_counted_and_masks_of_megabytes_are_not_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mask = {"annotation": {"result": [{"value": {"rle": [255] * 1_000_000}}]}}
    assert parse(json.dumps(mask).encode()) == mask
    monkeypatch.setattr(bodies, "MOST_VALUES", 999_998)
    with pytest.raises(HTTPException) as caught:
        parse(json.dumps(mask).encode())
    assert caught.value.status_code == 413


def test_a_body_counts_until_its_request_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_AT_ONCE", 100)

    async def both() -> None:
        async with json_body(request(piece(b'{"a": 1' + b" " * 60 + b"}"))) as first:
            assert first == {"a": 1}
            with pytest.raises(HTTPException) as caught:
                await read(request(piece(b'{"b": 1' + b" " * 60 + b"}")))
            assert caught.value.status_code == 503
        assert await read(request(piece(b'{"b": 1' + b" " * 60 + b"}"))) == {"b": 1}

    asyncio.run(both())


def test_a_client_that_hangs_up_is_no_fault_of_ours() -> None:
    with pytest.raises(HTTPException) as caught:
        asyncio.run(read(request(piece(b"{", more=True), {"type": "http.disconnect"})))
    assert caught.value.status_code == 400

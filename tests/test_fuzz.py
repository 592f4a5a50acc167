"""The HTTP contract under fire: no 500, no hang, nobody asked who may not be, no growth."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import SkipTest

import httpx
import pytest
import redis
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as rules
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from dgan_backend.serving.contract import contract
from dgan_backend.settings import Settings
from tests.fuzzing import Sent, mutated, odd_headers, real_requests
from tests.labeling import TinyRegistry
from tests.sites import Answer, Site, serving
from tests.test_server import backend

QUICK, MANY = 100, 5_000  # requests of each of the two kinds
TEN_THOUSAND = 2 * MANY
LOOK_EVERY = 10  # requests; what one of them left behind shows to everybody who looks
PATIENCE = 120.0  # seconds; no answer takes a hundredth of it on a machine with nothing else to do
_RULES = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(scope="module")
def forbidden() -> Iterator[Site]:
    """A site at a private address."""
    with serving(lambda seen: Answer(b"secret")) as site:
        yield site


@pytest.fixture(scope="module")
def client(registry: TinyRegistry, server: redis.Redis) -> Iterator[httpx.Client]:
    """A backend that trains nothing, but has a Redis to note in."""
    server.flushdb()
    # An admin has said where Label Studio is; else /setup may name a private address.
    settings = Settings(
        model_dir=Path(registry._model_dir),
        label_studio_url="http://127.0.0.1:1",
        sweep_seconds=3600,
    )
    with backend(registry, settings, client=server) as client:
        client.timeout = httpx.Timeout(PATIENCE)
        yield client


def check(sent: Sent, answer: httpx.Response) -> None:
    """What holds for every answer."""
    about = f"{sent.method} {sent.path} {sent.headers} {str(sent.body)[:500]}: {answer.status_code}"
    assert answer.status_code < 500, about
    if answer.status_code >= 400:
        assert answer.json()["detail"], about
    elif sent.path == "/predict":
        tasks = sent.body["tasks"]
        entries = answer.json()["results"]
        assert len(entries) == len(tasks), about
        assert all("model_version" in entry and 0 <= entry["score"] <= 1 for entry in entries)


def look(client: httpx.Client, sent: object) -> None:
    """What people and Prometheus see after it; no request may spoil that for them."""
    for path, accept in (
        ("/status", "text/html"),
        ("/status", "application/json"),
        ("/status?task=1", "text/html"),
        ("/metrics", "*/*"),
    ):
        answer = client.get(path, headers={"Accept": accept})
        assert answer.status_code == 200, f"{path} as {accept}, after {str(sent)[:500]}"


def test_real_requests_are_answered(client: httpx.Client) -> None:
    for sent in real_requests():
        assert sent.to(client).status_code == 200, sent.path


def fire_mutations(client: httpx.Client, forbidden: Site, count: int, derandomize: bool) -> int:
    """How many were fired."""
    asked, fired = len(forbidden.seen), 0

    @rules(max_examples=count, derandomize=derandomize, **_RULES)  # type: ignore[arg-type]
    @given(mutated(forbidden.url))
    def fire(sent: Sent) -> None:
        nonlocal fired
        check(sent, sent.to(client))
        fired += 1
        if fired % LOOK_EVERY == 0:
            look(client, sent)

    fire()
    look(client, "all of them")
    assert len(forbidden.seen) == asked
    assert client.get("/health").status_code == 200
    return fired


def fire_contract(client: httpx.Client, count: int, derandomize: bool) -> int:
    """By the OpenAPI document, and against it; how many were fired. Of operations that leave
    little to vary there are few requests; the others get their share."""
    found = schemathesis.openapi.from_dict(contract())
    strategies = [
        (result.ok().path, result.ok().as_strategy(generation_mode=mode))
        for result in found.get_all_operations()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    ]
    fired = 0
    while strategies and fired < count:
        each, going_on = -(-(count - fired) // len(strategies)), []
        for path, strategy in strategies:
            some = fire_some(client, strategy, each, derandomize)
            fired += some
            if some >= each:
                going_on.append((path, strategy))
            look(client, path)
        strategies = going_on
    assert client.get("/health").status_code == 200
    return fired


def fire_some(client: httpx.Client, strategy: Any, count: int, derandomize: bool) -> int:
    """How many there were, of so many; 0 where the contract cannot be violated."""
    fired = 0

    @rules(max_examples=count, derandomize=derandomize, **_RULES)  # type: ignore[arg-type]
    @given(strategy, st.just({}) | odd_headers())  # half of them pass the door
    def fire(case: Any, headers: dict[str, bytes]) -> None:
        nonlocal fired
        url = str(client.base_url)
        answer = case.call(base_url=url, timeout=PATIENCE, headers=headers)
        assert answer.status_code < 500, (case, headers)
        fired += 1

    with suppress(Unsatisfiable, SkipTest):
        fire()
    return fired


def fire_noise(client: httpx.Client, count: int) -> None:
    """Bodies that are no JSON, or no object."""

    @rules(max_examples=count, derandomize=True, **_RULES)  # type: ignore[arg-type]
    @given(
        st.sampled_from(["/setup", "/predict", "/webhook", "/versions", "/status/pause"]),
        st.binary(max_size=200) | st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5000]),
    )
    def fire(path: str, body: bytes) -> None:
        assert Sent("POST", path, body).to(client).status_code < 500

    fire()
    look(client, "noise")


def test_mutated_requests(client: httpx.Client, forbidden: Site) -> None:
    assert fire_mutations(client, forbidden, QUICK, derandomize=True) >= QUICK


def test_the_contract(client: httpx.Client) -> None:
    assert fire_contract(client, QUICK, derandomize=True) >= QUICK


def test_noise(client: httpx.Client) -> None:
    fire_noise(client, 30)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_ten_thousand_requests(client: httpx.Client, forbidden: Site) -> None:
    """And memory is what it was after the first thousand."""
    fire_mutations(client, forbidden, 1000, derandomize=False)
    before, began = memory(), time.monotonic()
    fired = fire_mutations(client, forbidden, MANY, derandomize=False)
    fired += fire_contract(client, TEN_THOUSAND - fired, derandomize=False)
    grown = memory() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{fired:,} requests in {time.monotonic() - began:.0f} s, "
        f"{time.process_time():.0f} s of CPU: "
        f"{before / 1e6:.0f} MB before, {grown / 1e6:+.0f} MB after, {peak / 1e6:.0f} MB at most"
    )
    assert fired >= TEN_THOUSAND
    assert grown < 200e6


def memory() -> int:
    """Bytes that this process, and so the server in it, has in memory."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in x)
    return int(line.split()[1]) * 1024

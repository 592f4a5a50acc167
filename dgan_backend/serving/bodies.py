"""Bodies of requests: each within its size and its time, all together within a budget.

A body counts until its request is answered, since what was parsed of it takes memory until then.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

MIB = 2**20
LARGE = 128 * MIB  # bytes of tasks with their pictures in them
MIDDLE = 32 * MIB  # of an event with whole tasks, annotations and their masks
SMALL = 4 * MIB  # of a project, and of all else
MOST_AT_ONCE = 2 * LARGE  # of all that are read, parsed or answered
MOST_CONTAINERS = 300_000  # lists and objects of one; each takes up to 250 bytes, and time
MOST_VALUES = 8_000_000  # numbers, texts and so on of one; masks are lists of small numbers
SECONDS = 60.0  # for one to arrive
# Half of a pair, such as "\\ud800" alone: JSON has it, but no text that could be answered.
_HALF = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
Json = dict[str, Any]


class _Held:
    """A body that grows, and what it counts for."""

    def __init__(self, budget: _Budget, most: int) -> None:
        self.data = bytearray()
        self.size = 0
        self._budget, self._most = budget, most

    def add(self, chunk: bytes) -> None:
        """Raises HTTPException 413 or 503."""
        if self.size + len(chunk) > self._most:
            text = f"The body is over {self._most / MIB:g} MiB; send less at once."
            raise HTTPException(413, text)
        self._budget.take(len(chunk))
        self.size += len(chunk)
        self.data += chunk


class _Budget:
    """Bytes in memory, of one process; used in its event loop alone."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, count: int) -> None:
        if self._taken + count > MOST_AT_ONCE:
            raise HTTPException(503, "Too many large requests at once; send it again later.")
        self._taken += count

    @contextmanager
    def body(self, most: int) -> Iterator[_Held]:
        """Given back when the block is left."""
        held = _Held(self, most)
        try:
            yield held
        finally:
            self._taken -= held.size


_budget = _Budget()


@asynccontextmanager
async def json_body(
    request: Request, most: int = SMALL, may_be_empty: bool = False
) -> AsyncIterator[Json]:
    """The JSON object of a request, to be used within the block; most: bytes.

    Raises HTTPException 400, 408, 413, 415 or 503."""
    with _budget.body(most) as held:
        await receive(request, held.add)
        yield {} if may_be_empty and not held.data else await _parsed(request, held)


async def receive(request: Request, add: Callable[[bytes], object]) -> None:
    """Hand the body to `add`, piece by piece; raises HTTPException 400 or 408."""
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                add(chunk)
    except TimeoutError as error:
        text = f"The body did not arrive within {SECONDS:g} s; send it again."
        raise HTTPException(408, text) from error
    except ClientDisconnect as error:  # nobody reads this, but it is counted
        raise HTTPException(400, "The connection ended before the body did.") from error


async def _parsed(request: Request, held: _Held) -> Json:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # all others a page of somebody else may send, too
        raise HTTPException(415, f"Send Content-Type: application/json, not {kind[:40]!r}.")
    try:
        body = await run_in_threadpool(parse, held.data)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"The body is not valid JSON: {error}.") from error
    held.data = bytearray()
    if not isinstance(body, dict):
        raise HTTPException(400, "The body must be a JSON object.")
    return body


def parse(data: bytes | bytearray) -> Any:
    """JSON without NaN and Infinity, which it has not; raises ValueError or RecursionError, and
    HTTPException 413 for what would take too much memory and time."""
    _check_count(data)
    text = data.decode(json.detect_encoding(data))
    body = json.loads(text, parse_constant=_refuse)
    if "\\u" in text and _HALF.search(text):
        json.dumps(body, ensure_ascii=False).encode()  # a UnicodeEncodeError, if it really is one
    return body


def _check_count(data: bytes | bytearray) -> None:
    """What stands in texts counts, too: that takes no parser."""
    if data.count(b"[") + data.count(b"{") > MOST_CONTAINERS:
        text = f"The body has over {MOST_CONTAINERS:,} lists and objects; send less at once."
        raise HTTPException(413, text)
    if data.count(b",") > MOST_VALUES:
        raise HTTPException(413, f"The body has over {MOST_VALUES:,} values; send less at once.")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")

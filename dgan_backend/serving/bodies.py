"""Bodies of requests: each within its size and its time, all together within a budget."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool

MOST = 256 * 2**20  # bytes of one body
MOST_AT_ONCE = 2 * MOST  # bytes of all that are read or parsed
SECONDS = 60.0  # for one to arrive
# Half of a pair, such as "\\ud800" alone: JSON has it, but no text that could be answered.
_HALF = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


class _Budget:
    """Bytes in memory, of one process; used in its event loop alone."""

    def __init__(self) -> None:
        self._held = 0

    @contextmanager
    def body(self) -> Iterator[bytearray]:
        """A body that grows by `add`; given back when the block is left."""
        data = bytearray()
        try:
            yield data
        finally:
            self._held -= len(data)

    def add(self, data: bytearray, chunk: bytes) -> None:
        if len(data) + len(chunk) > MOST:
            raise HTTPException(413, f"The body is over {MOST // 2**20} MiB; send fewer tasks.")
        if self._held + len(chunk) > MOST_AT_ONCE:
            raise HTTPException(503, "Too many large requests at once; send it again later.")
        data += chunk
        self._held += len(chunk)


_budget = _Budget()


async def read_body(request: Request, may_be_empty: bool = False) -> dict[str, Any]:
    """The JSON object of a request; raises HTTPException 400, 408, 413 or 503."""
    with _budget.body() as data:
        try:
            async with asyncio.timeout(SECONDS):
                async for chunk in request.stream():
                    _budget.add(data, chunk)
        except TimeoutError as error:
            text = f"The body did not arrive within {SECONDS:g} s; send it again."
            raise HTTPException(408, text) from error
        if may_be_empty and not data:
            return {}
        try:
            body = await run_in_threadpool(parse, bytes(data))
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, f"The body is not valid JSON: {error}.") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "The body must be a JSON object.")
    return body


def parse(data: bytes) -> Any:
    """JSON; raises ValueError or RecursionError."""
    text = data.decode(json.detect_encoding(data))
    body = json.loads(text)
    if "\\u" in text and _HALF.search(text):
        json.dumps(body, ensure_ascii=False).encode()  # a UnicodeEncodeError, if it really is one
    return body

"""What stands between Label Studio and the backend, and takes the time of each request:
python -m dgan_backend.loadtest.recorder PORT BACKEND FILE

A process of its own, so that what the simulated people compute does not count. It also asks for
/health again and again. Each answer is a line of JSON in FILE: [time, route, status, seconds].
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dgan_backend.loadtest.answers import Answer

HOST = "127.0.0.1"
HEALTH = "/health"
READY = "/recorder"  # a path of its own: it is up
_EVERY = 0.2  # seconds between two /health
_MOST_SECONDS = 120.0  # Label Studio gives up after 100
_BETWEEN_TWO = ("host", "content-length", "transfer-encoding", "connection")


class Recorder:
    """backend: its URL. path: of the file."""

    def __init__(self, backend: str, path: Path) -> None:
        self._path = path
        self._client = httpx.AsyncClient(
            base_url=backend,
            timeout=_MOST_SECONDS,
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )

    def app(self) -> Starlette:
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        routes = [
            Route(READY, lambda _: PlainTextResponse("up")),
            Route("/{path:path}", self._pass_on, methods=methods),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        asking = asyncio.create_task(self._ask())
        yield
        asking.cancel()
        await self._client.aclose()

    async def _pass_on(self, request: Request) -> Response:
        headers = {k: v for k, v in request.headers.items() if k not in _BETWEEN_TWO}
        url = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        found = await self._timed(request.method, url, await request.body(), headers)
        if found is None:
            return PlainTextResponse("The backend did not answer.", 502)
        kept = {k: v for k, v in found.headers.items() if k in ("content-type", "x-request-id")}
        return Response(found.content, found.status_code, kept)

    async def _ask(self) -> None:
        while True:
            await self._timed("GET", HEALTH)
            await asyncio.sleep(_EVERY)

    async def _timed(
        self, method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response | None:
        """None, and status 0, when there was no answer."""
        at, began, found = time.time(), time.perf_counter(), None
        with suppress(httpx.HTTPError):
            found = await self._client.request(method, url, content=body, headers=headers)
        seconds, status = time.perf_counter() - began, found.status_code if found else 0
        line: list[Any] = [round(at, 4), url.partition("?")[0], status, round(seconds, 5)]
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return found


def recorded(path: Path) -> Iterator[Answer]:
    """What is in a file; a last line that is not whole is left out."""
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            at, route, status, seconds = json.loads(line)
        except ValueError:
            continue
        yield Answer(at, route, seconds, 200 <= status < 300)


def main(port: int, backend: str, path: Path) -> None:
    app = Recorder(backend, path).app()
    uvicorn.run(app, host=HOST, port=port, ws="none", log_level="warning", access_log=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

"""GET /status, POST /status/pause and /status/resume."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from urllib.parse import parse_qs

import redis
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from dgan_backend.loop.status import Status
from dgan_backend.serving.bodies import receive
from dgan_backend.serving.status_page import page

_LARGEST = 1000  # bytes of a form
# Nothing but what the page itself brings, and no page of others around it.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'nonce-{0}'; script-src 'nonce-{0}'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def add_status_routes(app: FastAPI, status: Status, kick: Callable[[], None]) -> None:
    """kick: called when a project goes on."""

    @app.get("/status")
    async def report(
        request: Request, task: str = "", project: str = "", format: str = ""
    ) -> Response:
        answer = None
        if task:
            answer = await run_in_threadpool(status.task, _number(task), project)
        if format == "json" or not prefers_html(request.headers.get("accept", "")):
            told = answer or await run_in_threadpool(status.report)
            return JSONResponse(told, headers=_HEADERS)
        told, nonce = await run_in_threadpool(status.report), secrets.token_urlsafe(16)
        address = f"{request.url.scheme}://{request.url.netloc}"
        html = page(told, nonce=nonce, address=address, answer=answer)
        policy = {"Content-Security-Policy": _POLICY.format(nonce)}
        return HTMLResponse(html, headers={**_HEADERS, **policy})

    @app.post("/status/pause")
    async def pause(request: Request) -> Response:
        return await _change(request, True)

    @app.post("/status/resume")
    async def resume(request: Request) -> Response:
        answer = await _change(request, False)
        kick()
        return answer

    async def _change(request: Request, paused: bool) -> Response:
        uid = await _project(request)
        try:
            found = await run_in_threadpool(status.pause, uid, paused)
        except redis.RedisError as error:
            raise HTTPException(503, f"Redis cannot be reached ({error}).") from error
        if not found:
            raise HTTPException(404, f"No project {uid!r} is connected; /status lists their uids.")
        return RedirectResponse("../status", 303)


_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "same-origin"}


def _number(task: str) -> int:
    if not (task.isdecimal() and len(task) < 19):
        raise HTTPException(400, f"task={task!r:.40} is no task ID; give the number it has.")
    return int(task)


async def _project(request: Request) -> str:
    """The `project` of a form."""
    data = bytearray()

    def add(chunk: bytes) -> None:
        if len(data) + len(chunk) > _LARGEST:
            raise HTTPException(413, "The form is too large; send project=UID.")
        data.extend(chunk)

    await receive(request, add)
    named = parse_qs(data.decode("utf-8", "replace")).get("project", [])
    if len(named) != 1:
        raise HTTPException(400, "Say which project: project=UID, as /status has it.")
    return named[0]


def prefers_html(accept: str) -> bool:
    """Whether an Accept header rather wants text/html than application/json, as browsers do."""
    wanted = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.split(","):
        kind, *params = (text.strip().lower() for text in part.split(";"))
        if kind in wanted:
            wanted[kind] = max(wanted[kind], _weight(params))
    return wanted["text/html"] > wanted["application/json"]


def _weight(params: list[str]) -> float:
    for param in params:
        if param.startswith("q="):
            try:
                return float(param[2:])
            except ValueError:
                return 0.0
    return 1.0

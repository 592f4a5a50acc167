"""The HTTP contract of Label Studio's ML backends.

Label Studio waits 1 s for /health, 3 s for /setup, 1 s for /webhook and 100 s for /predict, and
drops pre-labels without a word when that is missed. So weights load in the background, and tasks
are computed in a bounded pool with a deadline.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any

import redis
import uvicorn
from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException

from dgan_backend import jobs, logs
from dgan_backend.errors import DganError
from dgan_backend.labelstudio.sites import Sites
from dgan_backend.loop.board import Board
from dgan_backend.loop.connection import bounded
from dgan_backend.loop.ears import Ears
from dgan_backend.loop.overview import Jobs
from dgan_backend.loop.status import Status
from dgan_backend.loop.sweeper import Sweeper
from dgan_backend.model import DganModel
from dgan_backend.predictor import Predictor
from dgan_backend.registry import Registry
from dgan_backend.serving.auth import BasicAuth
from dgan_backend.serving.backend import Backend, preload
from dgan_backend.serving.bodies import LARGE, MIDDLE, json_body
from dgan_backend.serving.contract import add_contract_route
from dgan_backend.serving.door import LOOPBACK, Door, Hosts
from dgan_backend.serving.metrics import Backlog, Metrics, add_metrics_route
from dgan_backend.serving.patience import PatientProtocol
from dgan_backend.serving.reason import error_response
from dgan_backend.serving.status_routes import add_status_routes
from dgan_backend.serving.watch import Watch
from dgan_backend.settings import Settings
from dgan_backend.supervision.compute import share
from dgan_backend.vault import HEADER, Vault

log = logging.getLogger(__name__)

PREDICT_DEADLINE = 85.0  # seconds; Label Studio gives up after 100
_CONNECTIONS = 500  # at once; more get 503 at once, before the files run out that may be open
_REFUSAL_SECONDS = 0.3  # Label Studio waits 1 s for /webhook, and an annotator with it
_LABEL_STUDIO = "heartex/"  # how it names itself where it stores what is answered
_ABOUT = ("id", "created_at", "label_config")  # of an event's project
Event = dict[str, Any]
Listener = Callable[[Event, str], None]


def log_event(event: Event) -> None:
    """What happens with a webhook's event where there is no Redis, and so no training."""
    project = event.get("project")
    number = project.get("id") if isinstance(project, dict) else None
    log.info("Project %s: event %s", number, event.get("action"))


def create_app(
    settings: Settings,
    registry: Registry | None = None,
    on_event: Callable[[Event], None] | None = None,
    deadline: float = PREDICT_DEADLINE,
    client: redis.Redis | None = None,
    host: str = "127.0.0.1",
) -> FastAPI:
    """The ASGI app. on_event runs after a webhook was answered; deadline is /predict's, in s.
    client: a Redis, which it takes to train and to label without being asked. host: what it
    listens at."""
    registry = registry or Registry.of(settings)
    predictor = Predictor(settings, registry)
    sweeper, ears = None, None
    if client is not None:
        sweeper = _sweeper(settings, predictor, client)
        ears = Ears(Board(client), sweeper.kick, Vault(settings.models))
    backend = Backend(predictor, deadline, ears)
    heard = _listener(on_event, ears)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        backend.begin()
        threading.Thread(target=preload, args=(registry,), name="preload", daemon=True).start()
        if sweeper is not None:
            sweeper.start()
        yield
        if sweeper is not None:
            sweeper.stop()
        backend.close()

    app = FastAPI(title="dgan-backend", lifespan=lifespan, openapi_url=None)
    app.add_exception_handler(DganError, _answer_dgan_error)
    app.add_exception_handler(StarletteHTTPException, _answer_http_error)
    _add_routes(app, backend)
    _add_webhook(app, heard, ears)
    status = _status(settings, registry, predictor, backend, client)
    add_status_routes(app, status, sweeper.kick if sweeper is not None else lambda: None)
    if settings.basic_auth_user or settings.basic_auth_pass:
        if not (settings.basic_auth_user and settings.basic_auth_pass):
            raise DganError("Set both BASIC_AUTH_USER and BASIC_AUTH_PASS, or neither.")
        app.add_middleware(
            BasicAuth, user=settings.basic_auth_user, password=settings.basic_auth_pass
        )
    add_contract_route(app)
    guarded = bool(settings.basic_auth_pass)
    app.add_middleware(Door, hosts=Hosts(settings.allowed_hosts, host.lower(), guarded))
    metrics = Metrics(status, _backlog(client))
    add_metrics_route(app, metrics)
    app.add_middleware(Watch, seen=metrics.seen)  # the outermost: it sees what was refused, too
    app.state.leave = backend.leave
    return app


def _sweeper(settings: Settings, predictor: Predictor, client: redis.Redis) -> Sweeper:
    sites = Sites(settings)
    return Sweeper(
        Board(client),
        enqueue=partial(jobs.enqueue, client),
        state_of=partial(jobs.state_of, client),
        site=sites.find,
        version=lambda p: predictor.version(p) if predictor.trained(p) else "",
        look_seconds=settings.sweep_seconds,
        forgotten=Vault(settings.models).forget,
        damaged=predictor.damaged,
    )


def _status(
    settings: Settings,
    registry: Registry,
    predictor: Predictor,
    backend: Backend,
    client: redis.Redis | None,
) -> Status:
    board, known = None, None
    if client is not None:
        board = Board(client)
        known = Jobs(partial(jobs.state_of, client), partial(jobs.workers, client))
    url = settings.label_studio_url
    return Status(registry, predictor, backend.connections, board, known, url)


def _backlog(client: redis.Redis | None) -> Backlog | None:
    if client is None:
        return None
    return Backlog(
        queues=partial(jobs.waiting, client),
        outcomes=Board(client).outcomes,
        workers=partial(jobs.workers, client),
    )


class _Server(uvicorn.Server):
    """Requests that are under way are told of a signal at once: uvicorn ends them 5 s later."""

    def __init__(self, config: uvicorn.Config, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._leave = leave

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._leave()
        super().handle_exit(sig, frame)


def serve(settings: Settings, host: str = "127.0.0.1") -> None:
    """Serve until SIGINT or SIGTERM; raises DganError when the port is in use."""
    import torch

    logs.set_up(settings)
    torch.set_num_threads(share(1 + settings.workers, settings.threads))
    listener = listen(host, settings.port)
    client = jobs.connect(settings, hurried=True) if settings.redis_url else None
    if client is None:
        log.warning("REDIS_URL is not set: pictures are labeled on request, nothing is trained.")
    app = create_app(settings, client=client, host=host)
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        limit_concurrency=_CONNECTIONS,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    if host not in LOOPBACK and not (settings.basic_auth_user and settings.label_studio_url):
        log.warning(
            "Others can reach this backend. Set LABEL_STUDIO_URL, so that pictures are fetched "
            "from that Label Studio only, and BASIC_AUTH_USER and BASIC_AUTH_PASS."
        )
    log.info("Serving on http://%s:%d", host, settings.port)
    _Server(config, app.state.leave).run(sockets=[listener])


def _listener(on_event: Callable[[Event], None] | None, ears: Ears | None) -> Listener:
    """What happens with an event and the secret that came with it."""
    if on_event is None and ears is not None:
        return ears.heard
    take = on_event or log_event
    return lambda event, _: take(event)


def _add_routes(app: FastAPI, backend: Backend) -> None:
    @app.get("/")
    @app.get("/health")
    async def health() -> Event:
        return {"status": "UP", "model_class": DganModel.__name__}

    @app.post("/setup")
    async def setup(request: Request) -> Event:
        async with json_body(request) as body:
            return {"model_version": await run_in_threadpool(backend.setup, body)}

    @app.post("/predict")
    async def predict(request: Request) -> Event:
        stored = request.headers.get("user-agent", "").startswith(_LABEL_STUDIO)
        async with json_body(request, LARGE) as body:
            return {"results": await backend.predict(body, stored)}

    @app.get("/versions")
    @app.post("/versions")
    async def versions(request: Request) -> Event:
        async with json_body(request, may_be_empty=True) as body:
            return {"versions": await run_in_threadpool(backend.versions, body)}


def _add_webhook(app: FastAPI, heard: Listener, ears: Ears | None) -> None:
    @app.post("/webhook")
    async def webhook(request: Request, later: BackgroundTasks) -> Response:
        given = request.headers.get(HEADER, "")
        async with json_body(request, MIDDLE) as body:
            event = essence(body)
        later.add_task(_handle, heard, event, given)
        if ears is not None and await _refuses(ears, event, given):
            text = f"The header {HEADER} of this project's webhook is missing or wrong."
            return error_response(403, text, background=later)
        return JSONResponse({"status": "ok"}, background=later)


def essence(body: Event) -> Event:
    """What an event tells us. Its tasks, annotations and masks are read from Label Studio, so
    that they need not be kept until it is handled."""
    project = body.get("project")
    about = {key: project.get(key) for key in _ABOUT} if isinstance(project, dict) else None
    if about and isinstance(about["label_config"], str):
        about["label_config"] = bounded(about["label_config"])
    return {"action": body.get("action"), "project": about}


async def _refuses(ears: Ears, event: Event, given: str) -> bool:
    """Whether it is sure in time; `heard` decides all the same."""
    asked = asyncio.get_running_loop().run_in_executor(None, _surely_refuses, ears, event, given)
    done, _ = await asyncio.wait([asked], timeout=_REFUSAL_SECONDS)
    return bool(done) and asked.result()


def _surely_refuses(ears: Ears, event: Event, given: str) -> bool:
    try:
        return ears.refuses(event, given)
    except (redis.RedisError, DganError):
        return False  # nothing can be marked either


def _handle(heard: Listener, event: Event, given: str) -> None:
    try:
        heard(event, given)
    except Exception:
        log.exception("Event %s was not handled", event.get("action"))


async def _answer_dgan_error(request: Request, error: Exception) -> JSONResponse:
    log.warning("%s: %s", request.url.path, error)
    return error_response(400, str(error))


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    return error_response(error.status_code, str(error.detail))


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=256)
        # asyncio sees to it for its own sockets only; without it each answer takes 40 ms more
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise DganError(
            f"Port {port} of {host} cannot be used ({error.strerror}); stop what uses it, "
            "or set PORT."
        ) from error

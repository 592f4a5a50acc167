"""What the routes do: versions and predictions of the projects that /setup described."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from fastapi import HTTPException
from fastapi.concurrency import contextmanager_in_threadpool
from starlette.concurrency import run_in_threadpool

from dgan_backend import logs
from dgan_backend.errors import DganError
from dgan_backend.labelstudio import brush
from dgan_backend.labelstudio.project import site_url
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.ears import Ears
from dgan_backend.model import DganModel
from dgan_backend.predictor import Predictor
from dgan_backend.records import PENDING
from dgan_backend.registry import Registry
from dgan_backend.segmenter import shipped_versions

log = logging.getLogger(__name__)

_FETCHERS = 4  # tasks of all requests in work at a time; only one of them computes
_SMART_TOOLS = 2  # answers to people who wait for them; they come before all tasks
_MAX_TASKS = 10_000  # of a request: "Retrieve predictions" sends all that are chosen in one
_MAX_PROJECTS = 1000
_MAX_KEPT = 64 * 2**20  # characters of all projects
_STORING_SECONDS = 1.0  # that Label Studio mostly takes to store an answer
_LAST_SECONDS = 3.0  # for what is computed when the process is to end
Body = dict[str, Any]


def _uid(body: Body) -> str:
    """`17.1795491060`, number and time of creation, which tells installations apart."""
    return str(body.get("project"))


def _context(body: Body) -> Any:
    """What a person drew with a smart tool; None in a request for ordinary predictions."""
    params = body.get("params")
    return params.get("context") if isinstance(params, dict) else None


def _size(about: Body) -> int:
    """Characters of a project's labeling config and extra params, which make it large."""
    return sum(len(str(about[key] or "")) for key in ("schema", "extra_params"))


def preload(registry: Registry) -> None:
    """Load the shipped versions and what writes masks, so that the first task, or the first
    person with a smart tool, does not wait for them.
    """
    for version in sorted(shipped_versions()):
        try:
            registry.segmenter(version)
            log.info("Version %s is loaded", version)
        except Exception:
            log.exception("Version %s cannot be loaded", version)
    brush.encode(np.ones((1, 1), dtype=bool))


class Backend:
    """What the routes do: projects as /setup described them, and a bounded pool for tasks."""

    def __init__(self, predictor: Predictor, deadline: float, ears: Ears | None = None) -> None:
        self._ears = ears
        self._predictor = predictor
        self._deadline = deadline
        self._known: dict[str, Body] = {}  # the last /setup of each project, newest last
        self._pool = ThreadPoolExecutor(_FETCHERS, thread_name_prefix="predict")
        self._smart_pool = ThreadPoolExecutor(_SMART_TOOLS, thread_name_prefix="smart")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving = asyncio.Event()

    def begin(self) -> None:
        """Called in the event loop that requests are answered in."""
        self._loop = asyncio.get_running_loop()

    def leave(self) -> None:
        """The process is to end: tasks that are not computed in a moment are handed back, to a
        job or to Label Studio, which asks for them again. Any thread may call this."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._leaving.set)

    def close(self) -> None:
        for pool in (self._pool, self._smart_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    def connections(self) -> list[Connection]:
        """The projects that /setup described to this process."""
        found = (Connection.of(body) for body in list(self._known.values()))
        return [connection for connection in found if connection.number is not None]

    def setup(self, body: Body) -> str:
        """Remember a project; returns its version, raises DganError when it cannot be used."""
        model = self._model(body, body.get("schema"), body)
        if model.problem:
            raise DganError(model.problem)
        about = Connection.told(body)
        uid, now = _uid(about), site_url(about["hostname"])
        self._predictor.sites.check_home(uid, now, self._home(uid))
        logs.hide(str(about["access_token"] or ""))
        self._keep(uid, about)
        if self._ears is not None:
            self._ears.connected(about)
        return model.model_version

    def _home(self, uid: str) -> str:
        """The address that a known project was connected from; "" where it is not known."""
        home = self._ears.home(uid) if self._ears is not None else None
        return site_url(self._known.get(uid, {}).get("hostname")) if home is None else home

    def _keep(self, uid: str, about: Body) -> None:
        """The newest projects, as many as there is room for."""
        self._known.pop(uid, None)
        self._known[uid] = about
        while len(self._known) > 1 and (
            len(self._known) > _MAX_PROJECTS or sum(map(_size, self._known.values())) > _MAX_KEPT
        ):
            del self._known[next(iter(self._known))]

    def versions(self, body: Body) -> list[str]:
        """The version that serves the project in `body`. Label Studio names none: then those that
        are shipped, and the only project's where there is but one; no project sees another's.
        """
        uid = _uid(body)
        if uid in self._known:
            return [self._serving(self._known[uid])]
        connected = {*self._known, *(self._ears.connected_uids() if self._ears else ())}
        alone = self._known.values() if len(connected) == 1 else ()
        return sorted({*map(self._serving, alone), *shipped_versions()})

    def _serving(self, about: Body) -> str:
        return self._model(about, about.get("schema"), about).model_version

    async def predict(self, body: Body, stored: bool = False) -> list[Body | list[Body]]:
        """One entry a task, in order, before the deadline. With a context, which comes with one
        task, the parts that a person points at with a smart tool.

        stored: whether who asks stores what is answered, as Label Studio does. Then [] is the
        entry of a task whose prediction somebody else is storing right now: it would have two.
        """
        tasks = body.get("tasks")
        if not isinstance(tasks, list):
            raise HTTPException(400, "The body needs `tasks`, a list.")
        if len(tasks) > _MAX_TASKS:
            text = f"{len(tasks)} tasks are more than {_MAX_TASKS:,}; choose fewer at once."
            raise HTTPException(413, text)
        known = self._known.get(_uid(body), {})
        config = body.get("label_config") or known.get("schema")
        model = await run_in_threadpool(self._model, body, config, known)
        context = _context(body)
        if context and len(tasks) == 1:
            return [await self._answer(model, tasks[0], context)]
        if self._ears is None:
            return [*await self._predict(model, tasks)]
        served = self._ears.serving(_uid(body), tasks, self._deadline)
        async with contextmanager_in_threadpool(served):
            entries = await self._predict(model, tasks)
        await run_in_threadpool(self._ears.answered, _uid(body), tasks, entries)
        if any(entry["model_version"] == PENDING for entry in entries):
            await run_in_threadpool(self._ears.postponed, _uid(body))
        if not stored:
            return [*entries]
        others = await run_in_threadpool(self._ears.stored_by_others, _uid(body), tasks, entries)
        if others:  # who opened the task is shown what is there when this is answered
            await asyncio.sleep(_STORING_SECONDS)
        return [[] if place in others else entry for place, entry in enumerate(entries)]

    async def _predict(self, model: DganModel, tasks: list[Any]) -> list[Body]:
        entries: list[Body | None] = [None] * len(tasks)
        waiting = iter(enumerate(tasks))

        async def answer() -> None:
            loop = asyncio.get_running_loop()
            for index, task in waiting:
                context = contextvars.copy_context()  # what is logged says of which request
                entries[index] = await loop.run_in_executor(
                    self._pool, context.run, model.predict_task, task
                )

        # A request has at most as many tasks in the pool as the pool has threads, so a large
        # request does not keep the next one waiting for all of its tasks.
        jobs = [asyncio.ensure_future(answer()) for _ in range(min(_FETCHERS, len(tasks)))]
        if jobs:
            await self._until_done_or_late(asyncio.gather(*jobs, return_exceptions=True))
        return [
            model.postponed(task, self._ears is not None) if entry is None else entry
            for task, entry in zip(tasks, entries, strict=True)
        ]

    async def _answer(self, model: DganModel, task: Any, context: Any) -> Body:
        loop = asyncio.get_running_loop()
        answering = loop.run_in_executor(self._smart_pool, model.answer_task, task, context)
        await self._until_done_or_late(answering)
        return model.unanswered(task) if answering.cancelled() else answering.result()

    async def _until_done_or_late(self, computing: asyncio.Future[Any]) -> None:
        """Late: after the deadline, or a moment after `leave`. What is late is cancelled."""
        leaving = asyncio.ensure_future(self._leaving.wait())
        try:
            done, _ = await asyncio.wait(
                (computing, leaving), timeout=self._deadline, return_when=asyncio.FIRST_COMPLETED
            )
            if leaving in done and computing not in done:
                await asyncio.wait([computing], timeout=_LAST_SECONDS)
        finally:
            leaving.cancel()
            computing.cancel()

    def _model(self, body: Body, config: Any, known: Body) -> DganModel:
        return DganModel(
            body.get("project"),
            config,
            predictor=self._predictor,
            extra_params=known.get("extra_params"),
            hostname=known.get("hostname", ""),
            access_token=known.get("access_token", ""),
        )

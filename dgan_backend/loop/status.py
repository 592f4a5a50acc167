"""What /status tells: all projects, or one task, as plain JSON-able values.

Label Studio is not asked, nothing is computed, and nobody's token is in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import redis

from dgan_backend import __version__
from dgan_backend.loop.answers import answers
from dgan_backend.loop.board import Board
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.overview import ACTIVE, Jobs, Json, Overview

if TYPE_CHECKING:
    from dgan_backend.predictor import Predictor
    from dgan_backend.registry import Registry

T = TypeVar("T")
_NO_WORKER = (
    "No worker is running: nothing is trained, and pictures are labeled on request only. Start "
    "one with `dgan-backend worker`."
)
_NO_REDIS = "REDIS_URL is not set: nothing is trained, and pictures are labeled on request only."


@dataclass(frozen=True)
class Brief:
    """A connected project in a line. trained_at: when its last training ended (Unix s), 0 = there
    was none."""

    uid: str
    version: str
    trained_at: float


class Status:
    """known: projects as /setup described them to this process, for when there is no Redis.
    board, jobs: None without Redis. label_studio_url: where links lead."""

    def __init__(
        self,
        registry: Registry,
        predictor: Predictor,
        known: Callable[[], list[Connection]],
        board: Board | None = None,
        jobs: Jobs | None = None,
        label_studio_url: str = "",
    ) -> None:
        self._registry, self._predictor, self._known = registry, predictor, known
        self._board, self._jobs, self._url = board, jobs, label_studio_url

    def report(self) -> Json:
        """problems: of the whole backend, in plain words. active: whether it is another report in
        a moment. projects: see `Overview`."""
        projects, problems = self._look(lambda overview: overview.projects())
        active = any(j["state"] in ACTIVE for p in projects if not p["paused"] for j in p["jobs"])
        return {
            "backend": __version__,
            "time": time.time(),
            "problems": problems,
            "active": active,
            "projects": projects,
        }

    def task(self, task: int, project: str = "") -> Json:
        """Why a task is empty, or what is known of it, see `answers`."""
        found, problems = self._look(lambda overview: answers(overview, task, project))
        if not found:
            which = f"project {project}" if project else "a project"
            problems.append(f"No Label Studio has connected {which} to this backend.")
        return {"task": task, "problems": problems, "answers": found}

    def brief(self) -> list[Brief]:
        """All connected projects."""

        def look(overview: Overview) -> list[Brief]:
            return [
                Brief(
                    connection.uid,
                    self._predictor.version(connection.open()),
                    float(overview.outcome(connection.uid).get("time") or 0.0),
                )
                for connection in overview.connections
            ]

        return self._look(look)[0]

    def pause(self, uid: str, paused: bool) -> bool:
        """False when there is no such project. Raises redis.RedisError."""
        if self._board is None or self._board.connection(uid) is None:
            return False
        self._board.pause(uid, paused)
        return True

    def _look(self, at: Callable[[Overview], T]) -> tuple[T, list[str]]:
        """What is seen, and problems; without Redis, what can be seen without it."""
        problem = _NO_REDIS
        if self._board is not None and self._jobs is not None:
            try:
                found = at(self._overview(self._board.connections(), self._board, self._jobs))
                return found, [] if self._jobs.workers() else [_NO_WORKER]
            except redis.RedisError as error:
                problem = (
                    f"Redis cannot be reached ({error}): nothing is trained, and pictures are "
                    "labeled on request only. What is shown of projects is what is on disk."
                )
        return at(self._overview(self._known())), [problem]

    def _overview(
        self,
        connections: list[Connection],
        board: Board | None = None,
        jobs: Jobs | None = None,
    ) -> Overview:
        return Overview(self._registry, self._predictor, connections, board, jobs, self._url)

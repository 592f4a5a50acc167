"""GET /metrics, as Prometheus asks for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis
from fastapi import FastAPI
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool

from dgan_backend import __version__
from dgan_backend.loop.status import Status

log = logging.getLogger(__name__)

# Up to what Label Studio waits for: 1 s for /health and /webhook, 3 for /setup, 100 for /predict.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0)
_MOST = 200  # projects
Family = CounterMetricFamily | GaugeMetricFamily


@dataclass(frozen=True)
class Backlog:
    """What Redis knows of jobs. queues: how many wait in each. outcomes: (kind of work, how it
    ended) -> how often. workers: how many there are. All raise redis.RedisError."""

    queues: Callable[[], dict[str, int]]
    outcomes: Callable[[], dict[tuple[str, str], int]]
    workers: Callable[[], int]


class Metrics:
    """Of one app. paths: the routes that are told apart; all others are "other", so that nobody
    makes labels by asking for paths."""

    def __init__(self, status: Status, backlog: Backlog | None = None) -> None:
        self.paths: frozenset[str] = frozenset()
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "dgan_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "dgan_request_seconds",
            "Seconds until a request was answered.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        build = Gauge(
            "dgan_build_info", "The release, always 1.", ["version"], registry=self._registry
        )
        build.labels(__version__).set(1)
        self._registry.register(_Loop(status, backlog))

    def seen(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        route = path if path in self.paths else "other"
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Loop(Collector):
    """What is looked up when somebody asks."""

    def __init__(self, status: Status, backlog: Backlog | None) -> None:
        self._status, self._backlog = status, backlog

    def describe(self) -> list[Any]:
        return []  # so that nothing is looked up before

    def collect(self) -> Iterator[Family]:
        up = GaugeMetricFamily("dgan_redis_up", "Whether Redis answers.")
        if self._backlog is not None:
            try:
                yield from _jobs(self._backlog)
                up.add_metric([], 1)
            except redis.RedisError as error:
                log.warning("Redis cannot be reached (%s); /metrics tells less.", error)
                up.add_metric([], 0)
        yield up
        yield from _projects(self._status)


def _jobs(backlog: Backlog) -> list[Family]:
    waiting = GaugeMetricFamily("dgan_queue_jobs", "Jobs that wait.", labels=["queue"])
    for name, count in backlog.queues().items():
        waiting.add_metric([name], count)
    ended = CounterMetricFamily("dgan_jobs", "Jobs by outcome.", labels=["work", "outcome"])
    for (work, outcome), count in backlog.outcomes().items():
        ended.add_metric([work, outcome], count)
    return [waiting, ended, _gauge("dgan_workers", "Workers that run.", backlog.workers())]


def _projects(status: Status) -> list[Family]:
    """Projects beyond the first _MOST are in the count alone: each is a series of its own, which
    Prometheus keeps for long."""
    serving = GaugeMetricFamily(
        "dgan_project_version_info", "What serves a project, 1.", labels=["project", "version"]
    )
    trained = GaugeMetricFamily(
        "dgan_last_training_age_seconds", "Since the last training.", labels=["project"]
    )
    projects, now = status.brief(), time.time()
    for project in projects[:_MOST]:
        serving.add_metric([project.uid, project.version], 1)
        if project.trained_at:
            trained.add_metric([project.uid], max(0.0, now - project.trained_at))
    return [_gauge("dgan_projects", "Connected projects.", len(projects)), serving, trained]


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def add_metrics_route(app: FastAPI, metrics: Metrics) -> None:
    """After all other routes: these are told apart."""

    @app.get("/metrics")
    async def report() -> Response:
        text = await run_in_threadpool(metrics.text)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    metrics.paths = frozenset(getattr(route, "path", "") for route in app.routes)

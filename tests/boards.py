"""A board on a real Redis of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dgan_backend.settings import Settings
from dgan_backend.supervision import services
from dgan_backend.supervision.launcher import Launcher


@contextmanager
def embedded_redis(folder: Path) -> Iterator[redis.Redis]:
    """A client of an embedded Redis whose state lies in `folder`."""
    with Launcher(folder) as launcher:
        child, settings = services.embedded_redis(Settings(), launcher.state)
        launcher.start(child)
        with redis.Redis.from_url(settings.redis_url) as client:
            yield client


def redis_that_is_gone(folder: Path) -> redis.Redis:
    """A client that nobody answers."""
    never = Retry(NoBackoff(), 0)
    return redis.Redis(unix_socket_path=str(folder / "nobody.sock"), retry=never)

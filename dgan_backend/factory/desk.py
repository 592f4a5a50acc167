"""What workers and the command that ordered a data set tell each other, on Redis.

Nothing here is the only copy of anything: a shard is done when it lies on storage, and a job that
got lost is asked for again by whoever waits for the data set.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import AbstractContextManager, suppress

import redis
from rq.job import Job

from dgan_backend import jobs
from dgan_backend.factory.order import Order
from dgan_backend.loop.board import Lease, leased

_PREFIX = "dgan:factory:"
_EXPIRES = 24 * 3600  # seconds after the last word about a data set
_TIMEOUT = 6 * 3600  # of a job, seconds
_PEEKED = 50  # jobs at the head of the queue among which the next shard is looked for


def key_of(url: str, order: Order) -> str:
    """Of one data set at one place."""
    return hashlib.sha256(f"{order.id} {url}".encode()).hexdigest()[:12]


class Desk:
    def __init__(self, client: redis.Redis, key: str) -> None:
        self._redis, self.key = client, key
        self._queue = jobs.queue(client, "synthesize")
        self._jobs = f"factory-{key}-"

    # Jobs

    def enqueue(self, url: str, number: int) -> None:
        self._queue.enqueue(
            "dgan_backend.jobs.make_shards",
            url,
            self.key,
            number,
            job_id=f"{self._jobs}{number}-{secrets.token_hex(3)}",
            job_timeout=_TIMEOUT,
            result_ttl=0,
            failure_ttl=60,
        )

    def queued(self) -> set[int]:
        """Numbers of the shards whose jobs wait."""
        return {self._number(i) for i in self._queue.get_job_ids() if i.startswith(self._jobs)}

    def take(self, peeked: int = _PEEKED) -> int | None:
        """The next shard, out of the queue, for a worker that has just made one of the same data
        set; None when none waits among the first `peeked` jobs (-1: all)."""
        for job in self._queue.get_job_ids(0, peeked):
            if job.startswith(self._jobs) and self._redis.lrem(self._queue.key, 1, job):
                self._redis.delete(Job.key_for(job))
                return self._number(job)
        return None

    def withdraw(self) -> None:
        """Nobody waits any more: jobs that were not begun are gone."""
        while self.take(-1) is not None:
            pass
        self._redis.delete(self._made, self._troubles)

    def others_wait(self) -> bool:
        """Whether a worker has more urgent work."""
        return any(len(jobs.queue(self._redis, w)) for w in jobs.QUEUES if w != "synthesize")

    def _number(self, job: str) -> int:
        return int(job.removeprefix(self._jobs).partition("-")[0])

    # Who is at what

    def lease(self, number: int) -> AbstractContextManager[Lease | None]:
        """One process at a time makes a shard; None when another does."""
        return leased(self._redis, self._lease(number))

    def held(self, numbers: list[int]) -> set[int]:
        """Those that some process is at."""
        pipeline = self._redis.pipeline(transaction=False)
        for number in numbers:
            pipeline.exists(self._lease(number))
        return {n for n, there in zip(numbers, pipeline.execute(), strict=True) if there}

    def tell(self, number: int, pictures: int) -> None:
        """How many pictures of a shard are made."""
        self._redis.hset(self._made, str(number), pictures)
        self._redis.expire(self._made, _EXPIRES)

    def told(self) -> dict[int, int]:
        return {int(n): int(pictures) for n, pictures in self._redis.hgetall(self._made).items()}

    def complain(self, number: int, text: str) -> None:
        with suppress(redis.RedisError):
            self._redis.hset(self._troubles, str(number), text)
            self._redis.expire(self._troubles, _EXPIRES)

    def complaints(self) -> dict[int, str]:
        """New ones, by shard: why it could not be made."""
        found = self._redis.hgetall(self._troubles)
        if found:
            self._redis.hdel(self._troubles, *found)
        return {int(number): _text(text) for number, text in found.items()}

    def _lease(self, number: int) -> str:
        return f"{_PREFIX}{self.key}:lease:{number}"

    @property
    def _made(self) -> str:
        return f"{_PREFIX}{self.key}:made"

    @property
    def _troubles(self) -> str:
        return f"{_PREFIX}{self.key}:troubles"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value

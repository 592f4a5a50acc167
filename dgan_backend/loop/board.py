"""What web and worker processes tell each other about projects, on Redis.

Nothing here is the only copy of anything: corrections are Label Studio's, versions are on disk,
and connections come again with the next /setup. Work is asked for by marks: a project's mark for
a kind of work counts up, and the job that did the work settles the count that it saw when it
began. So a mark that comes while a job runs is not lost, many marks are one job, and a job that
was killed has settled nothing.
"""

from __future__ import annotations

import json
import random
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

import redis
from redis.exceptions import LockError

from dgan_backend.logs import REQUEST
from dgan_backend.loop.connection import Connection

Work = Literal["train", "label", "check", "make"]
WORKS: tuple[Work, ...] = ("train", "label", "check", "make")  # the first is the most urgent
TITLE = "title"  # note of a project's title, which Label Studio has told
SPELLED = "spelled"  # note of what all predictions are written with; "" while that is not sure
ARMED = "armed"  # note of the secret, by its fingerprint, that a webhook surely carries; or ""
LEASE_SECONDS = 10.0
_RENEWALS = 4  # in a lease's time
_ERRORS = 20  # kept for each project
_EMPTY = 500  # tasks of a project whose reasons are kept; a hundred more now and then
_SERVED_SECONDS = 20.0  # after /predict was answered, until Label Studio has surely stored it
_STORED_SECONDS = 20  # that a prediction may take from its computation into Label Studio
_FIRST_WAIT, _LONGEST_WAIT = 5, 600  # seconds after a failure
_REMEMBERED = 86400  # seconds that it is known how often in a row a job failed
_JITTER = 0.2  # of a wait, at most: projects that failed together are not tried together
_KINDS = ("job", "wait", "failures", "begun", "deaths")  # of what is known of a project's jobs
_PREFIX = "dgan:"


class Lost(BaseException):
    """The lease is gone: another process may be at this work now. Passes through all handlers."""


@dataclass(frozen=True)
class Progress:
    """done of total steps of what a job is at; began: Unix time."""

    what: str
    done: int
    total: int
    began: float

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before the first step is done."""
        if not self.done:
            return None
        return (time.time() - self.began) / self.done * (self.total - self.done)


class Lease:
    """The right to do something that one process at a time does, while it is renewed."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._renewed = time.monotonic()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises Lost when another process may have the lease. Before every step that others
        would see."""
        held = time.monotonic() - self._renewed < LEASE_SECONDS  # false when this process slept
        if self._lost.is_set() or not held:
            raise Lost

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(LockError, redis.RedisError):  # it was lost, or ends by itself
            self._lock.release()

    def _renew(self) -> None:
        while not self._ended.wait(LEASE_SECONDS / _RENEWALS):
            now = time.monotonic()
            try:
                self._lock.reacquire()
                self._renewed = now
            except LockError:
                self._lost.set()
                return
            except redis.RedisError:
                continue  # `check` says when that has been for too long


@contextmanager
def leased(client: redis.Redis, name: str) -> Iterator[Lease | None]:
    """A lease of that name, which one process at a time can have; None when another has it."""
    lock = client.lock(name, timeout=LEASE_SECONDS, thread_local=False)
    if not lock.acquire(blocking=False):
        yield None
        return
    lease = Lease(lock)
    try:
        yield lease
    finally:
        lease.end()


class Board:
    """Everything on Redis that is not a queue."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def birth(self) -> str:
        """What tells this board from the one after Redis was emptied."""
        self._redis.set(_PREFIX + "birth", secrets.token_hex(8), nx=True)
        found = self._redis.get(_PREFIX + "birth")
        return "" if found is None else _text(found)

    # Projects

    def remember(self, connection: Connection) -> None:
        self._redis.hset(_PREFIX + "projects", connection.uid, connection.to_json())

    def update(self, connection: Connection) -> None:
        """What is known of a project now, unless it was forgotten meanwhile."""
        swap = self._redis.register_script(_UPDATE)
        swap(keys=[_PREFIX + "projects"], args=[connection.uid, connection.to_json()])

    def connection(self, uid: str) -> Connection | None:
        found = self._redis.hget(_PREFIX + "projects", uid)
        return None if found is None else Connection.from_json(found)

    def knows(self, uid: str) -> bool:
        return bool(self._redis.hexists(_PREFIX + "projects", uid))

    def connections(self) -> list[Connection]:
        found = self._redis.hvals(_PREFIX + "projects")
        return sorted((Connection.from_json(text) for text in found), key=lambda c: c.uid)

    def unconfirmed(self) -> list[str]:
        """Uids of projects that no Label Studio has told of so far, the newest first."""
        uids = {_text(uid) for uid in self._redis.hkeys(_PREFIX + "projects")}
        found = [uid for uid in uids if not self._redis.hexists(f"{_PREFIX}notes:{uid}", TITLE)]
        return sorted(found, key=lambda uid: self.marked_ago(uid, "check"))

    def forget(self, uid: str) -> None:
        """All about a project."""
        hashes = [
            "projects",
            *(f"{kind}:{work}" for work in WORKS for kind in ("marks", "done", "marked", "asked")),
        ]
        for name in hashes:
            self._redis.hdel(_PREFIX + name, uid)
        self._redis.srem(_PREFIX + "paused", uid)
        keys = [f"{name}:{uid}" for name in ("errors", "progress", "served", "notes", "empty")]
        keys += [f"{kind}:{work}:{uid}" for work in WORKS for kind in _KINDS]
        self._redis.delete(*(_PREFIX + key for key in keys))

    def pause(self, uid: str, paused: bool) -> None:
        """A paused project is pre-labeled on request only; its marks wait."""
        change = self._redis.sadd if paused else self._redis.srem
        change(_PREFIX + "paused", uid)

    def paused(self, uid: str) -> bool:
        return bool(self._redis.sismember(_PREFIX + "paused", uid))

    # Marks

    def mark(self, uid: str, work: Work) -> None:
        """There is work of that kind; failures before it do not keep it waiting."""
        self._redis.hset(f"{_PREFIX}marked:{work}", uid, str(time.time()))
        if request := REQUEST.get():
            self._redis.hset(f"{_PREFIX}asked:{work}", uid, request)
        self._redis.hincrby(f"{_PREFIX}marks:{work}", uid, 1)
        self._redis.delete(f"{_PREFIX}wait:{work}:{uid}")

    def asked_by(self, uid: str, work: Work) -> str:
        """The id of the last request that a mark came of; "" = of none."""
        found = self._redis.hget(f"{_PREFIX}asked:{work}", uid)
        return "" if found is None else _text(found)

    def marks(self, uid: str, work: Work) -> int:
        return int(self._redis.hget(f"{_PREFIX}marks:{work}", uid) or 0)

    def marked_ago(self, uid: str, work: Work) -> float:
        """Seconds since the last mark; the clocks of two machines may differ a little."""
        found = self._redis.hget(f"{_PREFIX}marked:{work}", uid)
        return max(0.0, time.time() - float(found)) if found is not None else float("inf")

    def settle(self, uid: str, work: Work, marks: int) -> None:
        """All that was asked for up to that count is done, and so is a row of failures, however the
        job ends that does it."""
        self._redis.hset(f"{_PREFIX}done:{work}", uid, marks)
        self.succeeded(uid, work)

    def unsettled(self, uid: str, work: Work) -> bool:
        return self.marks(uid, work) > int(self._redis.hget(f"{_PREFIX}done:{work}", uid) or 0)

    # Leases and jobs

    def lease(self, uid: str, work: Work) -> AbstractContextManager[Lease | None]:
        """One process at a time does one kind of work for one project; None when another does."""
        return leased(self._redis, f"{_PREFIX}lease:{work}:{uid}")

    def busy(self, uid: str, work: Work) -> bool:
        """Whether some process has that lease."""
        return bool(self._redis.exists(f"{_PREFIX}lease:{work}:{uid}"))

    def job(self, uid: str, work: Work) -> str | None:
        """The job that was last enqueued for that work."""
        found = self._redis.get(f"{_PREFIX}job:{work}:{uid}")
        return None if found is None else _text(found)

    def claim(self, uid: str, work: Work, before: str | None, job: str) -> bool:
        """Put `job` in the place of `before`; False when another process was faster."""
        swap = self._redis.register_script(_SWAP)
        key = f"{_PREFIX}job:{work}:{uid}"
        return bool(swap(keys=[key], args=[before or "", job]))

    def clear(self, uid: str, work: Work) -> None:
        """No job is enqueued for that work any more."""
        self._redis.delete(f"{_PREFIX}job:{work}:{uid}")

    def begin(self, uid: str, work: Work, job: str) -> None:
        """A job is at work, under the lease for it, until it has told that it ended."""
        key = f"{_PREFIX}begun:{work}:{uid}"
        self._redis.sadd(key, job)
        self._redis.expire(key, _REMEMBERED)

    def ended(self, uid: str, work: Work, job: str) -> None:
        """A job ended, well or not, in words or because it was told to."""
        if self._redis.srem(f"{_PREFIX}begun:{work}:{uid}", job):
            self._redis.delete(f"{_PREFIX}deaths:{work}:{uid}")

    def begun(self, uid: str, work: Work) -> set[str]:
        """Jobs that have not told that they ended."""
        return {_text(job) for job in self._redis.smembers(f"{_PREFIX}begun:{work}:{uid}")}

    def died(self, uid: str, work: Work, jobs: set[str]) -> bool:
        """Whether any of these, which were at work and have no lease any more, never told; asked
        again, no."""
        return bool(jobs and self._redis.srem(f"{_PREFIX}begun:{work}:{uid}", *jobs))

    def count_death(self, uid: str, work: Work) -> int:
        """How many jobs in a row have died, with this one."""
        key = f"{_PREFIX}deaths:{work}:{uid}"
        deaths = int(self._redis.incr(key))
        self._redis.expire(key, _REMEMBERED)
        return deaths

    def failed(self, uid: str, work: Work) -> None:
        """A job failed: the next one waits, each time twice as long."""
        key = f"{_PREFIX}failures:{work}:{uid}"
        failures = int(self._redis.incr(key))
        self._redis.expire(key, _REMEMBERED)
        seconds = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(failures - 1, 10))
        seconds *= 1 + random.uniform(0, _JITTER)
        self._redis.set(f"{_PREFIX}wait:{work}:{uid}", b"1", px=int(1000 * seconds))

    def succeeded(self, uid: str, work: Work) -> None:
        rows = ("failures", "deaths", "wait")
        self._redis.delete(*(f"{_PREFIX}{row}:{work}:{uid}" for row in rows))

    def hurry(self, uid: str, work: Work) -> None:
        """What made a job fail is over, so that the next one need not wait."""
        self._redis.delete(f"{_PREFIX}wait:{work}:{uid}")

    def waits(self, uid: str, work: Work) -> bool:
        """Whether a job failed a moment ago."""
        return bool(self._redis.exists(f"{_PREFIX}wait:{work}:{uid}"))

    def retry_seconds(self, uid: str, work: Work) -> float | None:
        """Until the next job may begin after one that failed; None when nothing waits."""
        left = int(self._redis.pttl(f"{_PREFIX}wait:{work}:{uid}"))
        return None if left < 0 else left / 1000

    @contextmanager
    def only_one(self, name: str, seconds: float) -> Iterator[bool]:
        """Whether this process is the one that does something that many could do."""
        lock = self._redis.lock(f"{_PREFIX}one:{name}", timeout=seconds, thread_local=False)
        mine = bool(lock.acquire(blocking=False))
        try:
            yield mine
        finally:
            if mine:
                with suppress(LockError):
                    lock.release()

    # What /predict is at

    def serving(self, uid: str, tasks: Sequence[int], seconds: float = _SERVED_SECONDS) -> None:
        """Label Studio may store a prediction of its own for these tasks within `seconds`."""
        if tasks:
            until = time.time() + seconds
            key = f"{_PREFIX}served:{uid}"
            self._redis.zadd(key, {str(task): until for task in tasks})
            self._redis.expire(key, 600)

    def served(self, uid: str) -> set[int]:
        """Tasks that Label Studio may be storing a prediction for."""
        key = f"{_PREFIX}served:{uid}"
        self._redis.zremrangebyscore(key, 0, time.time())
        return {int(task) for task in map(_text, self._redis.zrange(key, 0, -1)) if _is_task(task)}

    def store(self, uid: str, version: str, tasks: Sequence[int]) -> set[int]:
        """Those of the tasks whose prediction of a version nobody else is storing: the caller is
        the one to do it, within some seconds."""
        if not tasks:
            return set()
        with self._redis.pipeline(transaction=False) as pipeline:
            for task in tasks:
                key = f"{_PREFIX}store:{uid}:{version}:{task}"
                pipeline.set(key, b"1", nx=True, ex=_STORED_SECONDS)
            return {task for task, mine in zip(tasks, pipeline.execute(), strict=True) if mine}

    # What the sweep has seen

    def note(self, uid: str, key: str, value: str) -> None:
        self._redis.hset(f"{_PREFIX}notes:{uid}", key, value)

    def noted(self, uid: str, key: str) -> str:
        found = self._redis.hget(f"{_PREFIX}notes:{uid}", key)
        return "" if found is None else _text(found)

    # How jobs end

    def count(self, work: Work, outcome: str) -> None:
        """A job of any project has ended so."""
        self._redis.hincrby(_PREFIX + "outcomes", f"{work}:{outcome}", 1)

    def outcomes(self) -> dict[tuple[str, str], int]:
        """(kind of work, outcome) -> how often."""
        found = self._redis.hgetall(_PREFIX + "outcomes")
        return {_pair(_text(key)): int(count) for key, count in found.items()}

    # What people are told

    def tell(self, uid: str, work: Work, progress: Progress | None) -> None:
        """How far a job is; None when it has ended."""
        key = f"{_PREFIX}progress:{uid}"
        if progress is None:
            self._redis.hdel(key, work)
        else:
            self._redis.hset(key, work, json.dumps(asdict(progress)))

    def progress(self, uid: str, work: Work) -> Progress | None:
        found = self._redis.hget(f"{_PREFIX}progress:{uid}", work)
        return None if found is None else Progress(**json.loads(found))

    def complain(self, uid: str, text: str, task: int | None = None) -> None:
        """Something went wrong that people should read of; said again, it is told once."""
        key, times = f"{_PREFIX}errors:{uid}", 1
        for before in self._redis.lrange(key, 0, -1):
            told = json.loads(before)
            if (told["task"], told["text"]) == (task, text):
                self._redis.lrem(key, 0, _text(before))
                times += told.get("times", 1)
        entry = {"time": time.time(), "text": text, "task": task, "times": times}
        self._redis.lpush(key, json.dumps(entry))
        self._redis.ltrim(key, 0, _ERRORS - 1)

    def complaints(self, uid: str) -> list[dict[str, Any]]:
        """The last ones, the newest first: time (Unix s), text, task, times (how often)."""
        found = self._redis.lrange(f"{_PREFIX}errors:{uid}", 0, -1)
        return [{"times": 1, **json.loads(told)} for told in found]

    def explain(self, uid: str, reasons: Mapping[int, str]) -> None:
        """Why tasks have no regions; "" = they have some by now."""
        key = f"{_PREFIX}empty:{uid}"
        told: dict[Any, Any] = {
            str(task): json.dumps({"time": time.time(), "reason": reason})
            for task, reason in reasons.items()
            if reason
        }
        if labeled := [str(task) for task, reason in reasons.items() if not reason]:
            self._redis.hdel(key, *labeled)
        if told:
            self._redis.hset(key, mapping=told)
            if int(self._redis.hlen(key)) > _EMPTY + 100:
                known = self.explained(uid)
                oldest = sorted(known, key=lambda task: known[task]["time"])[:-_EMPTY]
                self._redis.hdel(key, *map(str, oldest))

    def explained(self, uid: str) -> dict[int, dict[str, Any]]:
        """Tasks without regions that are known: time (Unix s), reason."""
        found = self._redis.hgetall(f"{_PREFIX}empty:{uid}")
        known = {_text(task): told for task, told in found.items()}
        return {int(task): json.loads(told) for task, told in known.items() if _is_task(task)}


_UPDATE = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""

_SWAP = """
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', 86400)
return 1
"""


def _is_task(text: str) -> bool:
    """What older releases noted of a task whose id was no number is passed over."""
    return text.isdecimal()


def _pair(text: str) -> tuple[str, str]:
    work, _, outcome = text.partition(":")
    return work, outcome


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

"""Until all shards of a data set are there: ask for what is missing, again where it got lost."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

import redis

from dgan_backend.errors import DganError
from dgan_backend.factory.desk import Desk
from dgan_backend.factory.shards import Shards

WINDOW = 200  # shards that wait in the queue
LOST_SECONDS = 10.0  # after which a shard that nobody is at is asked for again
_PAUSE = 0.3
_SILENCE_SECONDS = 60.0  # of Redis or of storage, before all is given up
_LOOK_SECONDS, _LOOK_SHARE = 1.0, 0.05  # between looks at storage; of the time, at most
_FAILURES, _TRIES = 3, 20  # of one shard, before all is given up

Tell = Callable[[int], None]


class Waiting:
    """tend: called a few times a second; may raise to end it all. tell: how many pictures are
    made."""

    def __init__(
        self,
        desk: Desk,
        shards: Shards,
        url: str,
        tend: Callable[[], None] = lambda: None,
        tell: Tell = lambda pictures: None,
    ) -> None:
        self._desk, self._shards, self._url = desk, shards, url
        self._tend, self._tell = tend, tell
        self._missing = set(range(shards.order.shards))
        self._seen: dict[int, float] = {}  # when a shard was last known to be in good hands
        self._tries: Counter[int] = Counter()
        self._failures: Counter[int] = Counter()
        self._next_look = 0.0
        self._answered = self._listed = time.monotonic()

    def run(self) -> None:
        """Raises DganError when a shard cannot be made."""
        with suppress(redis.RedisError):
            self._desk.complaints()  # of an earlier command
        while self._look():
            self._tend()
            try:
                self._hear()
                self._ask()
                self._tell(self._made())
                self._answered = time.monotonic()
            except redis.RedisError as error:
                self._be_patient(self._answered, f"Redis has not answered ({error})", error)
            time.sleep(_PAUSE)
        self._tell(self._shards.order.samples)

    def end(self) -> None:
        """Nobody waits any more."""
        with suppress(redis.RedisError):
            self._desk.withdraw()

    def _look(self) -> bool:
        """Whether something is missing."""
        if (began := time.monotonic()) >= self._next_look:
            try:
                self._missing -= self._shards.done()
                self._listed = time.monotonic()
            except DganError as error:
                self._be_patient(self._listed, str(error), error)
            took = time.monotonic() - began
            self._next_look = time.monotonic() + max(_LOOK_SECONDS, took / _LOOK_SHARE)
        return bool(self._missing)

    @staticmethod
    def _be_patient(since: float, what: str, error: Exception) -> None:
        """Raises DganError once something has been silent for too long."""
        if time.monotonic() - since > _SILENCE_SECONDS:
            raise DganError(
                f"{what}, for {_SILENCE_SECONDS:.0f} s; when that is over, say the same again."
            ) from error

    def _hear(self) -> None:
        """What went wrong."""
        for number, text in self._desk.complaints().items():
            self._failures[number] += 1
            self._seen.pop(number, None)
            if self._failures[number] >= _FAILURES:
                raise DganError(f"Shard {number} could not be made {_FAILURES} times. {text}")

    def _ask(self) -> None:
        now, queued = time.monotonic(), self._desk.queued()
        for number in queued:
            self._seen[number] = now
        begun = [n for n in self._missing if n in self._seen and n not in queued]
        for number in self._desk.held(begun):
            self._seen[number] = now
        late = now - LOST_SECONDS
        lost = (n for n in sorted(self._missing) if self._seen.get(n, -math.inf) < late)
        for number in islice(lost, max(0, WINDOW - len(queued))):
            if number in self._seen and self._shards.has(number):
                self._missing.remove(number)  # it came after the last look
                continue
            self._tries[number] += 1
            if self._tries[number] > _TRIES:
                raise DganError(
                    f"Shard {number} was begun {_TRIES} times and never finished; look into the "
                    "logs of the workers (is there enough memory?), then say the same again."
                )
            self._desk.enqueue(self._url, number)
            self._seen[number] = now

    def _made(self) -> int:
        """Pictures."""
        order, told = self._shards.order, self._desk.told()
        missing = sum(len(order.seeds(number)) for number in self._missing)
        begun = (min(told.get(n, 0), len(order.seeds(n))) for n in self._missing if n in told)
        return order.samples - missing + sum(begun)

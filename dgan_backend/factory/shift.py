"""What a worker does for a data set: one shard after the other, while nothing else waits."""

from __future__ import annotations

import logging
import time

import redis

from dgan_backend.errors import DganError
from dgan_backend.factory import making
from dgan_backend.factory.desk import Desk, key_of
from dgan_backend.factory.shards import Shards
from dgan_backend.loop.board import Lost
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage

_WORD_SECONDS = 0.5  # between two words on how many pictures are made
_UNSEEN = (
    "A worker does not see the order in {url}: workers on other machines need storage that all "
    "of them reach, such as s3://bucket/folder."
)
SECONDS = 900.0  # after which the process ends, and the worker looks into its queues

log = logging.getLogger(__name__)


def work(settings: Settings, client: redis.Redis, url: str, key: str, number: int) -> None:
    """Make a shard, then others of the same data set as long as they wait, in this one process:
    its imports and its weights took seconds."""
    desk, until = Desk(client, key), time.monotonic() + SECONDS
    shift: Shift | None = None
    found: int | None = number
    while found is not None:
        try:
            shift = shift or Shift.begin(settings, desk, url)
            if shift is None:
                if is_empty(Storage(url)):
                    desk.complain(found, _UNSEEN.format(url=url))
                    log.warning("Shard %s: %s", found, _UNSEEN.format(url=url))
                return  # else the data set is finished, or was ordered anew
            shift.make(found)
        except Lost:
            log.info("Another process makes shard %s of %s.", found, url)
        except DganError as error:
            desk.complain(found, str(error))
            log.warning("Shard %s of %s: %s", found, url, error)
            return
        except Exception as error:
            desk.complain(found, f"A worker failed ({error!r}); its log says where.")
            raise
        found = None if time.monotonic() > until or desk.others_wait() else desk.take()


def is_empty(folder: Storage) -> bool:
    return not (folder.names() or folder.folders())


class Shift:
    def __init__(self, desk: Desk, shards: Shards, segmenter: Segmenter) -> None:
        self._desk, self._shards, self._segmenter = desk, shards, segmenter
        self._next_word = 0.0

    @classmethod
    def begin(cls, settings: Settings, desk: Desk, url: str) -> Shift | None:
        shards = Shards.found(Storage(url))
        if shards is None or key_of(url, shards.order) != desk.key:
            return None
        return cls(desk, shards, making.version_of(shards.order, settings))

    def make(self, number: int) -> None:
        """One shard, unless it is there or another process is at it."""
        with self._desk.lease(number) as lease:
            if lease is None or self._shards.has(number):
                return

            def tick(pictures: int) -> None:
                lease.check()
                if (now := time.monotonic()) >= self._next_word:
                    self._desk.tell(number, pictures)
                    self._next_word = now + _WORD_SECONDS

            order = self._shards.order
            made = making.items(self._segmenter, order, number, tick)
            self._shards.write(number, made, lease.check)
            log.info("A shard is made: %s of %s.", number, order.id)

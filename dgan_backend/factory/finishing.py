"""The last step: from shards to a data set, one picture at a time, none of them decoded again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.factory.card import SEEDS, Subject, Tally, write_card
from dgan_backend.factory.choosing import Ranking
from dgan_backend.factory.formats import writer
from dgan_backend.factory.shards import Entry, Shards
from dgan_backend.storage import Storage

Tick = Callable[[int], None]


def finish(
    folder: Storage, shards: Shards, subject: Subject, tick: Tick = lambda pictures: None
) -> Tally:
    """Write the data set of shards that are all there, its card last, and delete the shards.

    Safe to be killed and run again. tick: is told how many more pictures were looked at. Raises
    DganError for a damaged shard.
    """
    order = shards.order
    with tempfile.TemporaryDirectory(prefix="dgan-finish-") as name:
        limit = _limit(shards)
        scratch = Path(name)
        tally = Tally(subject.partonomy, order, limit)
        with (
            closing(writer(folder, order, subject.partonomy, scratch)) as made,
            (scratch / SEEDS).open("w", encoding="utf-8") as seeds,
        ):
            seeds.write("seed,uncertainty,score,kept\n")
            for number in range(order.shards):
                entries = shards.entries(number)
                kept = {entry.seed for entry in entries if _remains(entry, limit)}
                seeds.writelines(_line(entry, entry.seed in kept) for entry in entries)
                for item in shards.items(number, kept):
                    made.add(item)
                    tally.add(item)
                tick(len(entries))
            made.finish()
        folder.put(scratch / SEEDS, SEEDS)
    if tally.pictures != order.count:  # a worker was so late that it wrote over a shard
        raise DganError(f"Shards of {folder} changed meanwhile; say the same command again.")
    write_card(folder, subject, tally)
    shards.delete()
    return tally


def _limit(shards: Shards) -> tuple[float, int]:
    """Uncertainty and seed of the last picture that remains."""
    with closing(Ranking()) as ranking:
        for number in range(shards.order.shards):
            entries = shards.entries(number)
            ranking.add([e.uncertainty for e in entries], [e.seed for e in entries])
        return ranking.last(shards.order.count)


def _remains(entry: Entry, limit: tuple[float, int]) -> bool:
    return (entry.uncertainty, entry.seed) <= limit


def _line(entry: Entry, kept: bool) -> str:
    return f"{entry.seed},{entry.uncertainty:.6f},{entry.score:.6f},{int(kept)}\n"

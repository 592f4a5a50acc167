"""The plan of a data set, its shards, the filter over all of them and the last step."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dgan_backend.errors import DganError
from dgan_backend.factory.card import read_order
from dgan_backend.factory.choosing import Ranking
from dgan_backend.factory.finishing import finish
from dgan_backend.factory.order import Order, samples_for, shard_size
from dgan_backend.factory.shards import Item, Shards
from dgan_backend.interpreter.uncertainty import keep_certain
from dgan_backend.storage import Storage
from tests import factories
from tests.factories import SUBJECT


class Killed(BaseException):
    """What happens to a worker."""


# The plan


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(0, 2**32 - 100_000))
def test_shards_are_all_seeds_each_once(count: int, shard: int, first: int) -> None:
    order = factories.order(count=count, shard=shard, first=first)
    seeds = [seed for number in range(order.shards) for seed in order.seeds(number)]
    assert seeds == list(range(first, first + order.samples))
    assert all(len(order.seeds(number)) <= shard for number in range(order.shards))


@given(st.integers(1, 3000), st.floats(0.0, 0.95))
def test_the_filter_leaves_what_was_ordered_and_no_sample_is_too_many(
    count: int, drop: float
) -> None:
    samples = samples_for(count, drop)
    assert len(keep_certain(np.zeros(samples), drop)) == count
    assert samples == 1 or len(keep_certain(np.zeros(samples - 1), drop)) < count


def test_a_tenth_of_ten_thousand() -> None:
    assert samples_for(10_000, 0.1) == 11_111


@pytest.mark.parametrize(
    ("resolution", "samples", "size"), [(64, 11_111, 128), (1024, 11_111, 8), (64, 20, 2)]
)
def test_a_shard_is_some_seconds_of_work(resolution: int, samples: int, size: int) -> None:
    assert shard_size(resolution, samples) == size


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"drop": 1.0}, "--filter"),
        ({"format": "gif"}, "'gif' is no format"),
        ({"truncation": float("nan")}, "--psi"),
        ({"first": 2**32 - 5}, "--seed-start"),
    ],
)
def test_orders_that_cannot_be_are_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(DganError, match=told):
        factories.order(**changes)


# The filter


@given(
    st.lists(st.sampled_from([0.0, -0.0, 0.1, 0.25, 1e-300, 3.0]) | st.floats(0, 3), min_size=1),
    st.data(),
)
def test_the_last_that_remains_is_the_one_that_sorting_finds(
    uncertainties: list[float], data: st.DataObject
) -> None:
    seeds = data.draw(st.permutations(range(7, 7 + len(uncertainties))))
    kept = data.draw(st.integers(1, len(uncertainties)))
    with closing(Ranking()) as ranking:
        ranking.add(uncertainties, seeds)
        expected = sorted(zip(uncertainties, seeds, strict=True))[kept - 1]
        assert ranking.last(kept) == expected


def test_the_filter_reads_what_does_not_fit_a_block() -> None:
    values = np.random.RandomState(0).rand(150_000).round(3)
    kept = keep_certain(values, 0.1)
    last = max((values[n], n) for n in kept)
    with closing(Ranking()) as ranking:
        for part in np.split(np.arange(150_000), 10):
            ranking.add(values[part].tolist(), part.tolist())
        assert ranking.last(len(kept)) == last


def test_an_uncertainty_that_is_none_is_refused() -> None:
    with closing(Ranking()) as ranking, pytest.raises(ValueError, match="no number"):
        ranking.add([float("nan")], [1])


# Shards and the last step


def _killed(items: Iterator[Item], after: int) -> Iterator[Item]:
    for n, item in enumerate(items):
        if n == after:
            raise Killed
        yield item


class Failing(Storage):
    """A place whose next writes end in a crash, before or after the file is there."""

    crash_in: int = -1

    def _tick(self) -> None:
        self.crash_in -= 1
        if self.crash_in == 0:
            raise Killed

    def write(self, name: str, data: bytes) -> None:
        self._tick()
        super().write(name, data)
        self._tick()

    def put(self, path: Path, name: str) -> None:
        self._tick()
        super().put(path, name)
        self._tick()


Kill = tuple[int, int, int]  # of which shard, after how many items, at which write


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 7),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 8), st.integers(1, 4)), max_size=12),
    st.lists(st.integers(1, 10), max_size=3),
)
def test_no_seed_is_lost_or_doubled_whatever_is_killed_when(
    count: int, shard: int, kills: list[Kill], finishes: list[int]
) -> None:
    """Workers die in the middle of a shard or of a write, two make the same one, the last step is
    killed: in the end each seed that remains is there once."""
    order = factories.order(count=count, shard=shard)
    with tempfile.TemporaryDirectory() as name:
        place = Failing(Path(name) / "out")
        shards = Shards(place, order)
        shards._place = Failing(Path(name) / "out" / "shards")  # type: ignore[attr-defined]
        shards.begin()
        for number, after, at in kills:
            number %= order.shards
            shards._place.crash_in = at
            with suppress(Killed):
                shards.write(number, _killed(factories.items(order, number), after))
        shards._place.crash_in = -1
        for number in set(range(order.shards)) - shards.done():
            shards.write(number, factories.items(order, number))
        for at in finishes:
            place.crash_in = at
            try:
                finish(place, shards, SUBJECT)
            except Killed:
                continue
            break
        else:
            place.crash_in = -1
            finish(place, shards, SUBJECT)
        _check(place, order)


def _check(place: Storage, order: Order) -> None:
    expected = factories.surest(order)
    lines = place.read("manifest.jsonl").decode().splitlines()
    assert [json.loads(line)["seed"] for line in lines] == expected
    files = [f"{seed:010d}.png" for seed in expected]
    assert (place / "images").names() == files and (place / "masks").names() == files
    rows = list(csv.DictReader(io.StringIO(place.read("seeds.csv").decode())))
    seeds = range(order.first, order.first + order.samples)
    assert [int(row["seed"]) for row in rows] == list(seeds)
    assert [int(row["seed"]) for row in rows if row["kept"] == "1"] == expected
    assert place.folders() == ["images", "masks"]


@pytest.fixture
def place(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "out")


def made(place: Storage, order: Order) -> Shards:
    """All shards of an order."""
    shards = Shards(place, order)
    shards.begin()
    for number in range(order.shards):
        shards.write(number, factories.items(order, number))
    return shards


@pytest.mark.parametrize("url", ["memory://bucket/set", ""])
def test_a_data_set_goes_anywhere(url: str, tmp_path: Path) -> None:
    place = Storage(url or tmp_path / "out")
    finish(place, made(place, factories.order()), SUBJECT)
    _check(place, factories.order())
    place.delete_all()


def test_masks_hold_class_indices(place: Storage) -> None:
    finish(place, made(place, factories.order()), SUBJECT)
    for seed in factories.surest(factories.order()):
        image = Image.open(io.BytesIO(place.read(f"images/{seed:010d}.png")))
        mask = Image.open(io.BytesIO(place.read(f"masks/{seed:010d}.png")))
        assert (np.asarray(image) == factories.picture(seed)).all()
        assert mask.mode == "P" and (np.asarray(mask) == factories.labels(seed)).all()


def test_the_card_tells_what_it_is(place: Storage) -> None:
    order = factories.order()
    finish(place, made(place, order), SUBJECT)
    card = json.loads(place.read("card.json"))
    kept = np.stack([factories.labels(seed) for seed in factories.surest(order)])
    assert [c["pixels"] for c in card["classes"]] == np.bincount(
        kept.ravel(), minlength=16
    ).tolist()
    assert [c["pictures"] for c in card["classes"]] == [
        int((kept == k).any(axis=(1, 2)).sum()) for k in range(16)
    ]
    assert (card["pictures"], card["sampled"], card["left_out"]) == (9, 11, 2)
    assert card["seeds"] == {"first": 100, "last": 110}
    assert card["version"] == {"name": "v", "interpreter_sha256": "a" * 64}
    assert card["licence"] == "CC BY 4.0"
    text = place.read("README.md").decode()
    assert "Licence of the generator's pictures: CC BY 4.0." in text and "| 15 | " in text
    sheet = Image.open(io.BytesIO(place.read("sheet.png")))
    assert sheet.width > 500
    assert read_order(place) == order


def test_a_licence_that_says_non_commercial_stands_on_the_card(place: Storage) -> None:
    nc = replace(SUBJECT, generator=replace(SUBJECT.generator, licence="NVIDIA, non-commercial"))
    finish(place, made(place, factories.order()), nc)
    text = place.read("README.md").decode()
    assert "**Mind: pictures of the generator tiny come under its licence" in text


def test_a_damaged_shard_is_told_and_made_anew(place: Storage) -> None:
    shards = made(place, factories.order())
    index = json.loads(place.read("shards/000001.json"))
    del index["entries"][1]
    place.write("shards/000001.json", json.dumps(index).encode())
    with pytest.raises(DganError, match=r"Shard 1 of .* is damaged; say the same command again"):
        finish(place, shards, SUBJECT)
    assert shards.done() == {0, 2}
    assert not place.has("card.json")


@pytest.mark.parametrize("how", ["gone", "cut", "of another shard"])
def test_a_damaged_tar_is_told_and_made_anew(place: Storage, how: str) -> None:
    shards = made(place, factories.order())
    (name,) = (n for n in (place / "shards").names() if n.startswith("000001-"))
    (other,) = (n for n in (place / "shards").names() if n.startswith("000000-"))
    data = place.read(f"shards/{name}")
    (place / "shards").delete(name)
    if how != "gone":
        place.write(
            f"shards/{name}", data[:2000] if how == "cut" else place.read(f"shards/{other}")
        )
    with pytest.raises(DganError, match=r"Shard 1 of .* is damaged; say the same command again"):
        finish(place, shards, SUBJECT)
    assert shards.done() == {0, 2} and not place.has("card.json")


def test_who_lost_his_lease_writes_nothing(place: Storage) -> None:
    shards = Shards(place, factories.order())

    def lost() -> None:
        raise DganError("lost")

    with pytest.raises(DganError, match="lost"):
        shards.write(0, factories.items(shards.order, 0), lost)
    assert (place / "shards").names() == []


def test_an_order_of_another_release_is_told(place: Storage) -> None:
    place.write("shards/order.json", b'{"pictures": 5}')
    with pytest.raises(DganError, match="another release"):
        Shards.found(place)

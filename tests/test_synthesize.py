"""synthesize on the command line, and its jobs on a real Redis."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from dgan_backend import jobs
from dgan_backend.cli import main
from dgan_backend.errors import DganError
from dgan_backend.factory import making, shift, waiting
from dgan_backend.factory.desk import Desk, key_of
from dgan_backend.factory.order import Order
from dgan_backend.factory.shards import Shards
from dgan_backend.factory.waiting import Waiting
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage
from dgan_backend.supervision import compute
from tests.builders import tiny_models

VERSION = "p7-toonhead-v0003"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODEL_DIR with a tiny version."""
    return tiny_models(tmp_path_factory.mktemp("models"), VERSION)


@pytest.fixture
def settings(models: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for key, value in compute.environment(1).items():
        if key not in os.environ:  # or the process would start anew
            monkeypatch.setenv(key, value)
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("MODEL_DIR", str(models))
    return Settings.from_env()


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["synthesize", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err


# The command


def test_one_process_alone_makes_it_all(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    words = ("--count", 9, "--out", out, "--version", VERSION, "--jobs", 0, "--filter", 0.25)
    status, said, bars = run(capsys, *words)
    assert "11 were sampled now" in said
    assert status == 0 and f"{out}: 9 labeled pictures (png); of 11 that were sampled, 2" in said
    assert "sampling and labeling" in bars and "writing" in bars
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "card.json", "images", "manifest.jsonl", "masks", "seeds.csv", "sheet.png",
    ]  # fmt: skip
    card = json.loads((out / "card.json").read_text())
    assert card["seeds"] == {"first": 3_000_000, "last": 3_000_010}
    assert card["version"]["name"] == VERSION
    assert run(capsys, *words)[:2] == (0, f"{out} is there already: 9 labeled pictures.\n")
    status, _, error = run(capsys, *words, "--exact")
    assert status == 2 and "exact False instead of True" in error
    status, _, error = run(capsys, *words, "--psi", 0.5)
    assert status == 2 and "holds another data set (truncation 0.7 instead of 0.5)" in error


def test_what_is_there_already_is_not_made_again(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a folder in which another data set was begun is not touched."""
    place = Storage(tmp_path / "set")
    shards, segmenter = begun(place, settings)
    for number in range(shards.order.shards - 1):
        shards.write(number, making.items(segmenter, shards.order, number))
    first = (tmp_path / "set/shards").glob("*.tar")
    before = {path: path.stat().st_mtime_ns for path in first}
    words = ("--out", place, "--version", VERSION, "--jobs", 0, "--seed-start", 5)
    status, _, error = run(capsys, *words, "--count", 7)
    assert status == 2 and "count 6 instead of 7" in error
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert run(capsys, *words, "--count", 6)[0] == 0
    assert len(list((tmp_path / "set/images").iterdir())) == 6


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--version", "p7-toonhead-v0009"), "There is no version 'p7-toonhead-v0009'"),
        (("--filter", "1"), "--filter is a share from 0"),
        (("--redis",), "--redis needs REDIS_URL"),
        (("--out", "nowhere://a"), "nowhere://a is no address of storage"),
        (("--out", "."), "has other things in it"),
        (("--second-opinion",), "has no student to give a second opinion"),
    ],
)
def test_what_cannot_be_done_is_told(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    told: str,
) -> None:
    (tmp_path / "thing").touch()
    monkeypatch.chdir(tmp_path)
    alone = () if "--redis" in words else ("--jobs", "0")
    default = ("--count", "4", "--out", "set", "--version", VERSION, *alone)
    status, _, error = run(capsys, *default, *words)
    assert status == 2 and told in error
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_a_second_opinion_is_in_the_order_and_the_card(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words = ("--out", tmp_path / "set", "--count", 2, "--jobs", 0, "--seed-start", 5)
    assert run(capsys, *words, "--second-opinion")[0] == 0
    card = json.loads((tmp_path / "set/card.json").read_text())
    found = making.find_version("toonhead", settings)
    assert card["order"]["student"] == found.student and len(found.student) == 64
    assert "together with the version's U-Nets" in (tmp_path / "set/README.md").read_text()
    masks = {path.name: path.read_bytes() for path in (tmp_path / "set/masks").iterdir()}
    status, _, error = run(capsys, *words)
    assert status == 2 and "instead of None" in error
    alone = ("--out", tmp_path / "alone", *words[2:])
    assert run(capsys, *alone)[0] == 0
    other = {path.name: path.read_bytes() for path in (tmp_path / "alone/masks").iterdir()}
    assert masks.keys() == other.keys() and masks != other

    order = Order.from_json({**card["order"], "student": "0" * 64})
    with pytest.raises(DganError, match="has another student than the one"):
        making.version_of(order, settings)


# Jobs


def begun(place: Storage, settings: Settings) -> tuple[Shards, Segmenter]:
    """A data set of 6 pictures, 2 in a shard, none of which is made."""
    found = making.find_version(VERSION, settings)
    generator = found.segmenter.generator
    order = Order(VERSION, found.sha256, generator.card.sha256, generator.id, 6, 0.1, 0.7, 5, 1)
    shards = Shards(place, order)
    shards.begin()
    return shards, found.segmenter


@pytest.fixture
def client(server: redis.Redis) -> redis.Redis:
    server.flushdb()
    return server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing takes seconds to be found lost."""
    monkeypatch.setattr(waiting, "LOST_SECONDS", 0.5)
    monkeypatch.setattr(waiting, "_LOOK_SECONDS", 0.0)


class Desks:
    """A data set, who waits for it, and how a worker is made to take a job."""

    def __init__(self, settings: Settings, client: redis.Redis, folder: Path) -> None:
        self.settings, self.client = settings, client
        self.place = Storage(folder / "set")
        self.shards, _ = begun(self.place, settings)
        self.key = key_of(self.place.url, self.shards.order)
        self.desk = Desk(client, self.key)
        self.told: list[int] = []

    def wait(self, tend: object = lambda: None) -> Waiting:
        return Waiting(self.desk, self.shards, self.place.url, tend, self.told.append)  # type: ignore[arg-type]

    def work(self) -> None:
        """A worker takes the first job that waits."""
        number = self.desk.take()
        if number is not None:
            shift.work(self.settings, self.client, self.place.url, self.key, number)


@pytest.fixture
def desks(settings: Settings, client: redis.Redis, tmp_path: Path) -> Desks:
    return Desks(settings, client, tmp_path)


def test_one_job_goes_on_with_all_shards_that_wait(desks: Desks, quick: None) -> None:
    desks.wait(desks.work).run()
    assert desks.shards.done() == set(range(6))
    assert desks.told[-1] == 6 and desks.told == sorted(desks.told)
    assert desks.desk.queued() == set()


def test_a_lost_job_is_asked_for_again(desks: Desks, quick: None) -> None:
    rounds = iter(range(1000))

    def tend() -> None:
        if next(rounds) < 2:
            desks.desk.take()  # by a worker that dies
        else:
            desks.work()

    desks.wait(tend).run()
    assert desks.shards.done() == set(range(6))


def test_a_shard_that_somebody_is_at_is_left_to_him(desks: Desks, quick: None) -> None:
    """For longer than it takes to be found lost; then he has made it."""
    threads: list[threading.Thread] = []

    def slow(number: int) -> None:
        with desks.desk.lease(number):
            time.sleep(2.0)
            segmenter = making.version_of(desks.shards.order, desks.settings)
            desks.shards.write(number, making.items(segmenter, desks.shards.order, number))

    def tend() -> None:
        if not threads and (number := desks.desk.take()) is not None:
            threads.append(threading.Thread(target=slow, args=(number,)))
            threads[0].start()
        elif threads:
            desks.work()

    waits = desks.wait(tend)
    waits.run()
    threads[0].join()
    assert set(waits._tries.values()) == {1}  # nobody was asked twice


def test_a_shard_is_made_by_one_process_at_a_time(desks: Desks) -> None:
    with desks.desk.lease(3) as lease:
        assert lease is not None
        shift.work(desks.settings, desks.client, desks.place.url, desks.key, 3)
    assert desks.shards.done() == set()


def test_what_fails_again_and_again_is_told(desks: Desks, quick: None, models: Path) -> None:
    """A worker has other weights under that name."""
    other = Order.from_json({**desks.shards.order.to_json(), "interpreter": "c" * 64})
    desks.shards = Shards(desks.place, other)
    desks.shards.begin()
    desks.key = key_of(desks.place.url, other)
    desks.desk = Desk(desks.client, desks.key)
    waits = desks.wait(desks.work)
    with pytest.raises(DganError, match=r"could not be made 3 times. The version p7-.* has other"):
        waits.run()
    waits.end()
    assert desks.desk.queued() == set()


def test_a_job_for_what_is_finished_or_ordered_anew_does_nothing(desks: Desks) -> None:
    Shards(desks.place, replace(desks.shards.order, count=5)).begin()
    shift.work(desks.settings, desks.client, desks.place.url, desks.key, 0)
    desks.shards.delete()
    desks.place.write("card.json", b"{}")
    shift.work(desks.settings, desks.client, desks.place.url, desks.key, 0)
    assert desks.place.folders() == []
    assert desks.desk.complaints() == {}


def test_a_worker_that_does_not_see_the_folder_says_so(desks: Desks) -> None:
    desks.shards.delete()
    shift.work(desks.settings, desks.client, desks.place.url, desks.key, 2)
    (told,) = desks.desk.complaints().items()
    assert told[0] == 2 and "does not see the order" in told[1] and "s3://" in told[1]


def test_more_urgent_work_ends_a_shift(desks: Desks) -> None:
    for number in range(3):
        desks.desk.enqueue(desks.place.url, number)
    jobs.queue(desks.client, "label").enqueue(jobs.echo, 1)
    desks.work()
    assert desks.shards.done() == {0}
    assert desks.desk.queued() == {1, 2}


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    yield
    assert not [t for t in threading.enumerate() if t.name == "lease"]

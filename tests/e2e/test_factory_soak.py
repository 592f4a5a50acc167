"""Data sets by many workers: killed at random, on machines apart, and how fast.

FACTORY_PICTURES   how many are made by each test [200]
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np
import pytest
import redis
from PIL import Image

from dgan_backend.factory import making
from dgan_backend.factory.desk import Desk, key_of
from dgan_backend.factory.order import Order, samples_for, shard_size
from dgan_backend.factory.shards import Shards
from dgan_backend.factory.waiting import Waiting
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage
from dgan_backend.supervision import compute, services
from tests.e2e.apart import Cluster, Host, cluster, kill

pytestmark = pytest.mark.soak

PICTURES = int(os.environ.get("FACTORY_PICTURES", "200"))
BUCKET = "dgan-test"
KILLS = 10
PATIENCE = 1800.0 + PICTURES  # seconds
SCALING = 0.9  # of what the image alone shows


@pytest.fixture
def entered(tmp_path: Path) -> Path:
    """A folder that other users may enter."""
    for path in (tmp_path, *tmp_path.parents[:3]):
        if path.owner() == tmp_path.owner() and path != Path("/tmp"):
            path.chmod(0o755)
    return tmp_path


@pytest.fixture
def apart(entered: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    pytest.importorskip("moto")
    with cluster(entered, BUCKET) as made:
        for name, value in made.env.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # of another test's server
        yield made


def check(place: Storage, count: int, first: int = 0) -> None:
    """Every seed was sampled once, the most uncertain tenth is left out, every file is whole."""
    rows = list(csv.DictReader(io.StringIO(place.read("seeds.csv").decode())))
    samples = samples_for(count, 0.1)
    assert [int(row["seed"]) for row in rows] == list(range(first, first + samples))
    kept = [int(row["seed"]) for row in rows if row["kept"] == "1"]
    lines = [json.loads(line) for line in place.read("manifest.jsonl").decode().splitlines()]
    assert [line["seed"] for line in lines] == kept and len(kept) == count
    most = max(float(row["uncertainty"]) for row in rows if row["kept"] == "1")
    assert all(float(row["uncertainty"]) >= most for row in rows if row["kept"] == "0")
    assert set((place / "images").names()) == {f"{seed:010d}.png" for seed in kept}
    assert set((place / "masks").names()) == {f"{seed:010d}.png" for seed in kept}
    for line in lines:
        mask = np.asarray(Image.open(io.BytesIO(place.read(line["mask"]))))
        assert mask.shape == (line["height"], line["width"]) and mask.max() < 16
        Image.open(io.BytesIO(place.read(line["image"]))).load()
    assert place.folders() == ["images", "masks"]  # no shards are left


def end(process: subprocess.Popen[bytes], host: Host) -> None:
    """Wait for a command that is to succeed."""
    assert process.wait(PATIENCE) == 0, host.log()


def test_workers_apart_make_one_data_set(apart: Cluster) -> None:
    """Each has learned nothing of the other but what goes through Redis and S3: not even the
    version, which is published by one and fetched by both."""
    name = "p7-toonhead-v0001"
    _publish(name)
    one, other = apart.hosts
    workers = [one.start("worker"), other.start("worker")]
    url = f"s3://{BUCKET}/heads"
    words = ("--redis", "--version", name, "--seed-start", "0")
    began = time.monotonic()
    try:
        command = one.start("synthesize", "--count", str(PICTURES), "--out", url, *words)
        end(command, one)
    finally:
        for worker in workers:
            kill(worker)
    seconds = time.monotonic() - began
    print(f"\n{PICTURES} pictures by {apart.how} on S3 in {seconds:.0f} s, start included")
    check(Storage(url), PICTURES)
    for host in apart.hosts:
        made = host.log(everything=True).count("A shard is made: ")
        print(f"{host.name}: {made} shards")
        assert made, f"{host.name} has made nothing:\n{host.log()}"


def test_killed_workers_lose_and_double_no_seed(apart: Cluster) -> None:
    """SIGKILL at random moments of their work, to workers and once to the command that waits."""
    dice, url = random.Random(7), f"s3://{BUCKET}/heads"
    words = ("synthesize", "--redis", "--count", str(PICTURES), "--out", url)
    one, other = apart.hosts
    workers = [host.start("worker") for host in (one, other)]
    command, kills = one.start(*words), 0
    client = redis.Redis.from_url(apart.redis_url)
    while command.poll() is None:
        time.sleep(dice.uniform(0.0, 3.0))
        if kills == KILLS or not list(client.scan_iter("dgan:factory:*:lease:*")):
            continue  # nobody works: processes are starting, or it is being written
        victim = dice.randrange(2)
        kill(workers[victim])
        workers[victim] = apart.hosts[victim].start("worker")
        kills += 1
        if kills == 3:
            kill(command)
            command = one.start(*words)
    for worker in workers:
        kill(worker)
    assert command.returncode == 0, one.log()
    print(f"\n{kills} workers and one command killed; {PICTURES} pictures, each seed once")
    assert kills >= 3
    check(Storage(url), PICTURES)


def test_ctrl_c_and_the_same_command_again(entered: Path) -> None:
    """On one machine, with the workers and the Redis that the command brings."""
    out = entered / "heads"
    words = services.dgan_backend("synthesize", "--count", str(PICTURES), "--out", str(out))
    env = {k: v for k, v in os.environ.items() if k not in ("REDIS_URL", "MODEL_DIR")}
    first = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE
    while not list(out.glob("shards/*-*.tar")):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    first.send_signal(signal.SIGINT)
    told = first.communicate(timeout=30)[1]
    assert first.returncode == 130 and "the same command goes on" in told
    before = set(out.glob("shards/*-*.tar"))
    again = subprocess.Popen(words, env=env)
    seen = set[Path]()
    while again.poll() is None:
        seen |= set(out.glob("shards/*-*.tar"))
        time.sleep(0.2)
    assert again.returncode == 0 and before <= seen
    check(Storage(out), PICTURES)


# How fast


def test_two_workers_against_one(entered: Path) -> None:
    """Beside the same with nothing but images, in the same run; all with one thread."""
    rates = {}
    for processes in (1, 2):
        rates["images alone", processes] = _images_alone(processes, 4 * PICTURES)
        rates["data set", processes] = _data_set(entered / str(processes), processes)
    scaling = {kind: rates[kind, 2] / rates[kind, 1] for kind in ("images alone", "data set")}
    print(f"\n{compute.cores()} cores, load {os.getloadavg()[0]:.1f}")
    for kind, ratio in scaling.items():
        one, two = rates[kind, 1], rates[kind, 2]
        print(f"{kind}: {one:.1f} pictures/s by one, {two:.1f} by two, {ratio:.2f} times as many")
    if compute.cores() < 2:
        pytest.skip("two workers need two cores")
    assert scaling["images alone"] > 1.2, "the machine does other work; measure again"
    share = scaling["data set"] / scaling["images alone"]
    print(f"scaling of the data set over that of images alone: {share:.2f}")
    assert share >= SCALING


def _images_alone(processes: int, pictures: int) -> float:
    """Pictures a second; each process makes as many, batch 8, once all have begun."""
    command = [sys.executable, "-c", _IMAGES, str(pictures // processes)]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **compute.environment(1)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    began = time.monotonic()
    for process in started:  # all of them, before any is waited for
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        assert process.wait(PATIENCE) == 0
    seconds = time.monotonic() - began
    for process in started:
        process.communicate()  # closes its pipes
    return pictures / seconds


_IMAGES = """
import sys, torch
from dgan_backend.generators import load_generator
from dgan_backend.pictures import to_pictures
generator = load_generator("toonhead")
def make(count):
    with torch.inference_mode():
        for start in range(0, count, 8):
            z = torch.cat([generator.latent_from_seed(seed) for seed in range(start, start + 8)])
            to_pictures(generator.synthesis(generator.mapping(z, truncation=0.7)).images)
make(16)
print("ready", flush=True)
sys.stdin.readline()
make(int(sys.argv[1]))
"""


def _data_set(folder: Path, count: int) -> float:
    """Samples a second, from the order to the last shard, by workers that stand by."""
    folder.mkdir()
    with _workers(folder, count) as client:
        _shards(folder / "warm", client, 2 * count)  # each worker has begun once
        time.sleep(15)  # and has its next process ready
        began = time.monotonic()
        samples = _shards(folder / "set", client, PICTURES)
        return samples / (time.monotonic() - began)


@contextmanager
def _workers(folder: Path, count: int) -> Iterator[redis.Redis]:
    from dgan_backend.supervision.launcher import Launcher

    with Launcher(folder / "state") as launcher:
        settings = Settings(model_dir=folder / "models", workers=count, threads=1)
        child, settings = services.embedded_redis(settings, launcher.state)
        launcher.start(child)
        env = {**os.environ, **services.child_env(settings)}
        for number in range(1, count + 1):
            launcher.spawn(services.worker(number, settings, env))
        with redis.Redis.from_url(settings.redis_url) as client:
            yield client


def _shards(out: Path, client: redis.Redis, count: int) -> int:
    """Have the shards of a data set made, and no more; how many samples."""
    found = making.find_version("toonhead", Settings(model_dir=out / "models"))
    generator = found.segmenter.generator
    samples = samples_for(count, 0.1)
    order = Order(
        found.name,
        found.sha256,
        generator.card.sha256,
        generator.id,
        count,
        0.1,
        0.7,
        0,
        min(shard_size(64, samples), max(1, samples // 2)),
    )
    place = Storage(out)
    shards = Shards(place, order)
    shards.begin()
    Waiting(Desk(client, key_of(place.url, order)), shards, place.url).run()
    return order.samples


def _publish(name: str) -> None:
    """The shipped version under another name, to the MODEL_DIR of the environment."""
    from dataclasses import replace

    from dgan_backend.registry import Registry
    from dgan_backend.segmenter import Segmenter

    segmenter = Segmenter.load("toonhead")
    segmenter.card = replace(segmenter.card, name=name)
    Registry.of(Settings.from_env()).publish(segmenter, current=True)

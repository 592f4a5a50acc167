"""Web process and worker busy at once: each becomes slower, none stands still.

On two cores, two processes of two spinning threads each were 10 to 25 times as slow as one.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from dgan_backend.factory import making
from dgan_backend.factory.desk import Desk, key_of
from dgan_backend.factory.encoding import picture_png
from dgan_backend.factory.order import Order, samples_for
from dgan_backend.factory.shards import Shards
from dgan_backend.factory.waiting import Waiting
from dgan_backend.pictures import load_picture
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage
from dgan_backend.supervision import compute, services
from dgan_backend.supervision.launcher import Launcher
from dgan_backend.versions import SHIPPED
from tests.e2e.conftest import free_ports
from tests.labeling import CONFIG
from tests.sites import Answer, Seen, serving

pytestmark = pytest.mark.soak

TASKS, ROUNDS = 4, 5  # of a request; requests
SAMPLES = 1600  # that the worker makes meanwhile
MOST = 3.0  # times as slow as alone; two that share two cores fairly are 2


@contextmanager
def backend(folder: Path, image_host: str) -> Iterator[tuple[str, redis.Redis]]:
    """Its address and its Redis."""
    (port,) = free_ports(1)
    with Launcher(folder / "state") as launcher:
        settings = Settings(model_dir=folder / "models", port=port, workers=1)
        child, settings = services.embedded_redis(settings, launcher.state)
        launcher.start(child)
        env = {**os.environ, **services.child_env(settings), "ALLOWED_IMAGE_HOSTS": image_host}
        launcher.spawn(services.web(settings, "127.0.0.1", env))
        launcher.spawn(services.worker(1, settings, env))
        launcher.wait_ready("web")
        with redis.Redis.from_url(settings.redis_url) as client:
            yield f"http://127.0.0.1:{port}", client


def shards_of(out: Path, count: int) -> tuple[Storage, Shards]:
    found = making.find_version("toonhead", Settings(model_dir=out / "models"))
    card = found.segmenter.generator.card
    order = Order(found.name, found.sha256, card.sha256, card.id, count, 0.1, 0.7, 0, 128)
    place = Storage(out)
    shards = Shards(place, order)
    shards.begin()
    return place, shards


def test_web_and_worker_share_the_cores(tmp_path: Path) -> None:
    pictures = [load_picture(path) for path in sorted((SHIPPED.parent / "demo").glob("*.png"))]

    def answer(seen: Seen) -> Answer:
        number = int(seen.path.strip("/").partition(".")[0])
        picture = pictures[number % len(pictures)].copy()
        picture[0, 0] = number % 256  # no two are the same, so none is remembered
        return Answer(picture_png(picture), headers={"Content-Type": "image/png"})

    with serving(answer) as site, backend(tmp_path, "127.0.0.1") as (url, client):
        asked = [0]

        def ask() -> float:
            """Seconds of a request."""
            asked[0] += TASKS
            tasks = [
                {"id": n, "data": {"image": f"{site.url}/{n}.png"}}
                for n in range(asked[0], asked[0] + TASKS)
            ]
            body = {"tasks": tasks, "label_config": CONFIG, "project": "7.17", "params": {}}
            began = time.monotonic()
            answer = httpx.post(f"{url}/predict", json=body, timeout=120, trust_env=False)
            assert len(answer.json()["results"]) == TASKS, answer.text
            return time.monotonic() - began

        def order(name: str, count: int) -> Waiting:
            place, shards = shards_of(tmp_path / name, count)
            return Waiting(Desk(client, key_of(place.url, shards.order)), shards, place.url)

        order("warm", 10).run()
        ask()
        alone = statistics.median(ask() for _ in range(ROUNDS))
        began = time.monotonic()
        order("alone", SAMPLES).run()
        worker_alone = time.monotonic() - began

        together: list[float] = []
        waiting = order("together", SAMPLES)
        waiting._tend = lambda: together.append(ask())  # one request after the other
        began = time.monotonic()
        waiting.run()
        worker_together = time.monotonic() - began

    busy = statistics.median(together)
    cores = compute.cores()
    told = {
        "cores": cores,
        "predict alone, s": round(alone, 2),
        "beside a worker, s": round(busy, 2),
        f"{samples_for(SAMPLES, 0.1)} samples alone, s": round(worker_alone, 1),
        "beside the web process, s": round(worker_together, 1),
    }
    print("\n" + json.dumps(told, indent=1))
    assert busy < MOST * alone and worker_together < MOST * worker_alone, told

"""The rows of docs/reliability.md: a fault is caused for real while a correction is on its way, and
what became of it is counted. RELIABILITY names a folder for the rows; each prints its own, too.

Everything is real: Label Studio is the demo's, with a misbehaving proxy in front of it; Redis, the
web process and two workers are those of `dgan-backend start`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import redis
from rq.serializers import JSONSerializer

from dgan_backend import jobs
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.project import project_uid
from dgan_backend.registry import Kept, Registry
from dgan_backend.supervision import services
from dgan_backend.versions import TRAINING, WEIGHTS, read_version
from tests.e2e.aside import Aside, parent
from tests.e2e.conftest import Demo
from tests.e2e.misbehaving import Misbehaving
from tests.e2e.test_loop import Team, until

pytestmark = pytest.mark.soak

PICTURES = 60  # the first picture that no shipped version has seen
TASKS = 26  # the corrected ones, one a fault, among them
FROZEN_SECONDS = 20.0  # longer than a lease, so that another process may take the work
AWAY_SECONDS = 60.0
REFUSED_SECONDS = 20.0
RECOVERED_SECONDS = 480.0
LOOK_SECONDS = 10  # between two looks at Label Studio; 60 where nobody says
DISK_BYTES = 512 * 2**20
LEFT_BYTES = 256 * 2**10  # of the full disk: less than a version has


@dataclass
class Stage:
    """A backend of its own and its project. corrected: tasks by now. disk: whether MODEL_DIR is
    a file system of its own, and so may be filled."""

    demo: Demo
    aside: Aside
    team: Team
    disk: bool

    def __post_init__(self) -> None:
        self.corrected: set[int] = set()
        self.since = time.time()
        self.gate: Misbehaving = self.aside.gate
        self.url = services.known_redis(self.aside.state)
        self.registry = Registry(self.aside.models)
        self.uid = project_uid(self.team.api.project(self.team.project))

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def redis_pid(self) -> int:
        return int(self.redis().info("server")["process_id"])

    def correct(self) -> None:
        """Submit the next correction."""
        number = len(self.corrected)
        self.team.draw(number)
        self.corrected.add(self.team.tasks[number])

    def trains(self) -> bool:
        return bool(self.redis().exists(f"dgan:lease:train:{self.uid}"))

    def correct_and_wait_for_training(self) -> None:
        self.correct()
        until(self.trains, "a training", pause=0.2)

    def versions(self) -> list[Kept]:
        return self.registry.versions(self.team.project)

    def serving(self) -> str:
        free = [version.name for version in self.versions() if not version.held_back]
        return free[-1] if free else "toonhead-shipped"

    def learned(self) -> set[int]:
        """Tasks that the last version has learned from."""
        versions = self.versions()
        if not versions:
            return set()
        data = read_version(self.aside.models / versions[-1].name)[-1]
        return {source.task for source in data.sources if source.task is not None}

    def settled(self) -> bool:
        """Whether all tasks that nobody has corrected are labeled by the version that serves."""
        rest = [t for t in self.team.summaries().values() if not t.touched]
        return not self.trains() and {task.versions for task in rest} == {(self.serving(),)}

    def doubled(self) -> int:
        """Predictions beyond one a task, and versions that learned the same as the one before."""
        found = self.team.api.with_predictions(self.team.project, self.team.tasks)
        more = sum(len(predictions) - 1 for _, predictions in found)
        told = [version.training["corrections"] for version in self.versions()]
        return more + sum(now == before for before, now in pairwise(told))

    def told(self) -> list[str]:
        """What /status says is wrong: with the backend now, with the project since the fault."""
        url = f"{self.aside.url}/status?format=json"
        report = httpx.get(url, trust_env=False, timeout=60).json()
        errors = [e for project in report["projects"] for e in project["errors"]]
        return [*report["problems"], *(e["text"] for e in errors if e["time"] > self.since)]

    def tells(self, pattern: str) -> None:
        """Wait until /status says something."""

        def said() -> bool:
            return any(re.search(pattern, text) for text in self.told())

        until(said, f"{pattern!r} in /status", 240, pause=0.5)

    def answers(self) -> None:
        """/health and a webhook are answered within Label Studio's patience."""
        url, event = self.aside.url, {"action": "TASKS_CREATED", "project": {"id": 0}}
        httpx.get(f"{url}/health", timeout=1.0, trust_env=False).raise_for_status()
        httpx.post(f"{url}/webhook", json=event, timeout=1.0, trust_env=False).raise_for_status()

    def worker(self) -> tuple[int, ...]:
        """The worker that trains, and the process of its job."""
        for worker in jobs.JobWorker.all(connection=self.redis(), serializer=JSONSerializer):
            job = worker.get_current_job()
            if job is not None and list(job.args) == [self.uid, "train"] and worker.pid:
                horses = self.aside.pids("dgan_backend.jobs")
                return worker.pid, *(pid for pid in horses if parent(pid) == worker.pid)
        raise AssertionError("no worker trains")


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


# Each causes a fault around a correction, and returns when the fault is over.


def worker_killed(stage: Stage) -> None:
    stage.correct_and_wait_for_training()
    os.kill(stage.worker()[0], signal.SIGKILL)


def worker_frozen(stage: Stage) -> None:
    """With the process of its job: both wake when another worker is at the same."""
    stage.correct_and_wait_for_training()
    with frozen(*stage.worker()):
        time.sleep(FROZEN_SECONDS)


def two_workers_with_the_same_job(stage: Stage) -> None:
    stage.correct()
    for name in "ab":
        jobs.enqueue(stage.redis(), stage.uid, "train", f"twice-{name}-{time.time_ns()}")


def web_killed(stage: Stage) -> None:
    """The webhook is lost with it: the correction comes while nobody listens."""
    stage.aside.kill("dgan_backend.cli", "serve")
    stage.correct()


def redis_killed(stage: Stage) -> None:
    stage.correct_and_wait_for_training()
    os.kill(stage.redis_pid(), signal.SIGKILL)


def redis_frozen(stage: Stage) -> None:
    stage.correct_and_wait_for_training()
    with frozen(stage.redis_pid()):
        time.sleep(FROZEN_SECONDS / 2)
        stage.answers()
        time.sleep(FROZEN_SECONDS / 2)


def redis_frozen_for_a_minute(stage: Stage) -> None:
    """The correction comes while it is away."""
    with frozen(stage.redis_pid()):
        stage.correct()
        stage.answers()
        time.sleep(AWAY_SECONDS)


def redis_gone_for_a_minute(stage: Stage) -> None:
    """Killed, and nobody there to start it again: the launcher is frozen."""
    stage.correct_and_wait_for_training()
    with frozen(parent(stage.redis_pid())):
        os.kill(stage.redis_pid(), signal.SIGKILL)
        time.sleep(AWAY_SECONDS / 2)
        stage.tells("Redis cannot be reached")
        stage.answers()
        time.sleep(AWAY_SECONDS / 2)


def redis_emptied(stage: Stage) -> None:
    stage.correct_and_wait_for_training()
    stage.redis().flushall()


def label_studio_killed(stage: Stage) -> None:
    """Its launcher starts it again, which takes as long as it takes."""
    stage.correct()
    os.kill(stage.demo.facts["pids"]["label-studio"], signal.SIGKILL)
    stage.tells("cannot be reached")
    until(lambda: _up(stage.demo), "Label Studio")


def _up(demo: Demo) -> bool:
    try:
        return httpx.get(f"{demo.facts['label_studio_url']}/health", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def label_studio_is(mood: str, told: str, stage: Stage) -> None:
    with stage.gate.in_mood(mood):
        stage.correct()
        stage.tells(told)
        stage.answers()
        time.sleep(REFUSED_SECONDS)
        assert stage.gate.requests
    print(f"\n{stage.gate.requests} requests while it was so")


def answers_lost(stage: Stage) -> None:
    """Half of the answers, while a training and the labeling after it go on."""
    with stage.gate.in_mood("answers lost"):
        stage.correct()
        time.sleep(2 * AWAY_SECONDS)


def disk_full(stage: Stage) -> None:
    if not stage.disk:
        pytest.skip("a small file system of its own takes root and the right to mount")
    ballast = stage.aside.models / "ballast"
    try:
        free = shutil.disk_usage(stage.aside.models).free
        ballast.write_bytes(b"\0" * max(0, free - LEFT_BYTES))
        before = stage.serving()
        stage.correct()
        stage.tells("No space left")
        assert stage.serving() == before
        assert not list(stage.aside.models.glob("*.partial"))
    finally:
        ballast.unlink()


def version_damaged(file: str, damage: Callable[[Path], None], stage: Stage) -> None:
    """The file of the version that serves; the web process has it in memory, jobs do not."""
    version = stage.serving()
    damage(stage.aside.models / version / file)
    stage.correct()
    stage.tells(f"{version}/{file} is damaged")
    assert stage.serving() != version


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def bits_flipped(path: Path) -> None:
    """In the middle of the numbers, so that the file can be read all the same."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    for n in range(middle, middle + 4096):
        data[n] ^= 0x55
    path.write_bytes(data)


Fault = Callable[[Stage], None]
FAULTS: dict[str, Fault] = {
    "worker killed": worker_killed,
    "worker frozen": worker_frozen,
    "two workers with the same job": two_workers_with_the_same_job,
    "Redis emptied": redis_emptied,
    "version cut short": partial(version_damaged, WEIGHTS, cut_short),
    "disk full": disk_full,
    "Redis gone for a minute": redis_gone_for_a_minute,
    "Label Studio answers 500": partial(label_studio_is, "500", "answered 500"),
    "Label Studio answers garbage": partial(label_studio_is, "garbage", "cannot be reached"),
    "Label Studio answers 401": partial(label_studio_is, "401", "refused the token"),
    "Label Studio answers 429": partial(label_studio_is, "429", "answered 429"),
    "Label Studio killed": label_studio_killed,
    "Label Studio stalls": partial(label_studio_is, "stalled", "timed out|cannot be reached"),
    "a proxy answers 404": partial(label_studio_is, "404 of a proxy", "answered 404"),
    "a proxy answers other JSON": partial(
        label_studio_is, "JSON of something else", "is LABEL_STUDIO_URL right"
    ),
    "answers of Label Studio lost": answers_lost,
    "web process killed": web_killed,
    "Redis killed": redis_killed,
    "Redis frozen": redis_frozen,
    "Redis frozen for a minute": redis_frozen_for_a_minute,
    "Label Studio hangs up": partial(label_studio_is, "nothing", "cannot be reached"),
    "version with other bits": partial(version_damaged, TRAINING, bits_flipped),
}


@pytest.fixture(scope="module")
def stage(
    demo: Demo, api: LabelStudioClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A project that has a version of its own, and is labeled by it."""
    folder = tmp_path_factory.mktemp("aside")
    site, token = demo.facts["label_studio_url"], demo.facts["token"]
    more = {"WORKERS": "2", "THREADS": "1", "SWEEP_SECONDS": str(LOOK_SECONDS)}
    with (
        _own_disk(folder / "models") as disk,
        Aside.started(folder, site, token, Misbehaving, **more) as aside,
    ):
        team = Team(demo, api, "Reliability", list(range(PICTURES, PICTURES + TASKS)))
        team.connect(aside.url, seed_tasks=0)
        team.import_pictures(tmp_path_factory.mktemp("pictures"))
        stage = Stage(demo, aside, team, disk)
        until(stage.settled, "pre-labels")
        stage.correct()
        until(lambda: stage.learned() >= stage.corrected and stage.settled(), "a version")
        yield stage


@contextmanager
def _own_disk(folder: Path) -> Iterator[bool]:
    """A small file system where that is allowed; whether it is."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield bool(mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_fault_loses_and_doubles_nothing(stage: Stage, name: str) -> None:
    stage.since = time.time()
    FAULTS[name](stage)
    began = time.monotonic()
    until(
        lambda: stage.learned() >= stage.corrected,
        "a version that knows the correction",
        RECOVERED_SECONDS,
        pause=0.5,
    )
    learned = time.monotonic() - began
    until(stage.settled, "predictions of it", RECOVERED_SECONDS, pause=0.5)
    row = {
        "fault": name,
        "learned_seconds": round(learned, 1),
        "recovered_seconds": round(time.monotonic() - began, 1),
        "lost": len(stage.corrected - stage.learned()),
        "doubled": stage.doubled(),
    }
    print(f"\n{json.dumps(row)}")
    if folder := os.environ.get("RELIABILITY"):
        (Path(folder) / f"{name.replace(' ', '-')}.json").write_text(json.dumps(row))
    assert row["lost"] == row["doubled"] == 0
    assert not any("No worker" in text for text in stage.told())

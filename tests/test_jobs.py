"""The queue and its worker, on the embedded Redis."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from rq.job import Job, JobStatus

from dgan_backend import jobs
from dgan_backend.errors import DganError
from dgan_backend.loop.board import Board
from dgan_backend.loop.connection import Connection
from dgan_backend.settings import Settings
from dgan_backend.supervision import services
from dgan_backend.supervision.launcher import Launcher
from tests.labeling import CONFIG


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings that point to a Redis of our own."""
    with Launcher(tmp_path_factory.mktemp("state")) as launcher:
        child, settings = services.embedded_redis(Settings(), launcher.state)
        launcher.start(child)
        yield settings


@pytest.fixture
def client(served: Settings) -> Iterator[redis.Redis]:
    with jobs.connect(served) as client:
        client.flushdb()
        yield client


@contextmanager
def start_worker(settings: Settings, *options: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        services.dgan_backend("worker", *options),
        env={**os.environ, "REDIS_URL": settings.redis_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def wait_for(job: Job, status: JobStatus, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while job.get_status() != status:
        assert time.monotonic() < deadline, f"{job.get_status()}, not {status}"
        time.sleep(0.05)


def where_a_job_runs() -> list[object]:
    """A job: its pid, its parent's pid, its command line."""
    command = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    return [os.getpid(), os.getppid(), [a.decode() for a in command]]


def sleep(seconds: float) -> None:
    """A job that takes its time."""
    time.sleep(seconds)


def test_a_worker_runs_jobs_given_as_json(served: Settings, client: redis.Redis) -> None:
    job = jobs.queue(client, "label").enqueue(jobs.echo, {"seed": 7, "names": ["é"]})
    with start_worker(served, "--burst") as worker:
        output = worker.communicate(timeout=60)[0]
    assert worker.returncode == 0, output
    assert job.latest_result().return_value == {"seed": 7, "names": ["é"]}
    assert b"pickle" not in (client.hget(job.key, "data") or b"")


def test_a_job_has_a_fresh_process_that_hides_the_password(
    served: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    job = jobs.queue(client, "label").enqueue(where_a_job_runs)
    with start_worker(served, "--burst") as worker:
        output = worker.communicate(timeout=60)[0]
    assert job.latest_result() is not None, output
    pid, parent, command = job.latest_result().return_value
    assert pid != worker.pid and parent == worker.pid
    password = served.redis_url.partition("@")[0].rpartition(":")[2]
    assert password and not any(password in argument for argument in command)


def test_a_worker_stops_at_once_when_idle(served: Settings, client: redis.Redis) -> None:
    with start_worker(served) as worker:
        assert worker.stdout is not None
        while "Listening on" not in worker.stdout.readline():
            pass
        time.sleep(0.5)
        worker.terminate()
        began = time.monotonic()
        worker.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert worker.returncode == 0


def test_whether_a_worker_lives_is_told(
    served: Settings, client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jobs.check_worker(served) == 1
    with start_worker(served) as worker:
        assert worker.stdout is not None
        while "Listening on" not in worker.stdout.readline():
            pass
        assert jobs.check_worker(served) == 0
        assert "was heard of" in capsys.readouterr().out
        worker.terminate()
        worker.communicate(timeout=60)
    assert jobs.check_worker(served) == 1


def test_a_killed_worker_takes_its_job_along(
    served: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    job = jobs.queue(client, "label").enqueue(sleep, 60)
    with start_worker(served) as worker:
        wait_for(job, JobStatus.STARTED)
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
        horses = [int(pid) for pid in children.read_text().split()]
        assert len(horses) == 1
        time.sleep(1.0)  # the job's process is past its imports
        worker.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{horses[0]}").exists():
        assert time.monotonic() < deadline, "the job outlived its worker"
        time.sleep(0.05)


@pytest.mark.parametrize("told", [True, False])
def test_a_job_dies_when_its_worker_is_killed_but_not_when_that_is_told_to_stop(
    served: Settings,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    told: bool,
) -> None:
    """The job waits for a Label Studio that says nothing."""
    board, uid = Board(client), "17.1795491060"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name, value in (
            ("PYTHONPATH", os.pathsep.join(sys.path)),
            ("LABEL_STUDIO_URL", url),
            ("LABEL_STUDIO_API_KEY", "key"),
            ("MODEL_DIR", str(tmp_path)),
        ):
            monkeypatch.setenv(name, value)
        board.remember(Connection(uid, CONFIG, url))
        board.mark(uid, "train")
        jobs.enqueue(client, uid, "train", "one")
        with start_worker(served) as worker:
            deadline = time.monotonic() + 120
            while board.begun(uid, "train") != {"one"}:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            if told:
                worker.terminate()
            else:
                worker.kill()
            worker.communicate(timeout=30)
    assert board.begun(uid, "train") == (set() if told else {"one"})
    assert board.unsettled(uid, "train")


def wait_for_next(worker: int, done: Job) -> int:
    """The pid of the process that waits for a job after that one."""
    before = done.latest_result().return_value[0]
    while True:
        children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
        if children and int(children[0]) != before:
            return int(children[0])
        time.sleep(0.05)


def test_the_next_jobs_process_waits_and_dies_with_its_worker(
    served: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with start_worker(served) as worker:
        first = jobs.queue(client, "label").enqueue(where_a_job_runs)
        wait_for(first, JobStatus.FINISHED)
        waiting = wait_for_next(worker.pid, first)
        second = jobs.queue(client, "label").enqueue(where_a_job_runs)
        wait_for(second, JobStatus.FINISHED)
        assert second.latest_result().return_value[0] == waiting
        waiting = wait_for_next(worker.pid, second)
        os.kill(waiting, 9)  # one that died meanwhile is replaced
        while " Z " not in Path(f"/proc/{waiting}/stat").read_text():
            time.sleep(0.01)
        third = jobs.queue(client, "label").enqueue(where_a_job_runs)
        wait_for(third, JobStatus.FINISHED)
        waiting = wait_for_next(worker.pid, third)
        worker.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{waiting}").exists():
        assert time.monotonic() < deadline, "it outlived its worker"
        time.sleep(0.05)


def test_a_job_that_a_worker_took_and_never_began_is_gone(client: redis.Redis) -> None:
    jobs.enqueue(client, "17.0", "train", "one")
    jobs.enqueue(client, "17.0", "train", "two")
    assert jobs.state_of(client, "one") == jobs.state_of(client, "two") == ("queued", 0.0)
    assert client.lpop("rq:queue:dgan-train") == b"one"  # and the worker is killed right then
    assert jobs.state_of(client, "one") == ("", 0.0)
    assert jobs.state_of(client, "two") == ("queued", 0.0)
    assert jobs.state_of(client, "three") == ("", 0.0)


def test_a_failing_job_says_why(served: Settings, client: redis.Redis) -> None:
    job = jobs.queue(client, "label").enqueue("dgan_backend.jobs.no_such_job")
    with start_worker(served, "--burst") as worker:
        worker.communicate(timeout=60)
    assert job.get_status() == JobStatus.FAILED
    assert "no_such_job" in job.latest_result().exc_string


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "REDIS_URL is not set"),
        ("redis://:secret@127.0.0.1:1/0", r"Redis at redis://127.0.0.1:1/0 cannot be used"),
        ("nonsense", "cannot be used"),
    ],
    ids=["unset", "nobody there", "no url"],
)
def test_an_unusable_redis_is_explained(address: str, said: str) -> None:
    with pytest.raises(DganError, match=said) as caught:
        jobs.connect(Settings(redis_url=address))
    assert "secret" not in str(caught.value)


def test_a_wrong_password_is_explained(served: Settings) -> None:
    wrong = served.redis_url.replace("unix://:", "unix://:x")
    with pytest.raises(DganError, match="cannot be used"):
        jobs.connect(Settings(redis_url=wrong))


def test_embedded_redis_is_for_this_user_only_and_keeps_its_data(tmp_path: Path) -> None:
    for value in (None, b"kept"):
        with Launcher(tmp_path) as launcher:
            child, settings = services.embedded_redis(Settings(), launcher.state)
            launcher.start(child)
            with redis.Redis.from_url(settings.redis_url) as client:
                assert client.get("key") == value
                client.set("key", "kept")
                assert client.config_get("appendonly") == {"appendonly": "yes"}
                assert client.config_get("port") == {"port": "0"}
    assert (tmp_path / "redis" / "redis.conf").stat().st_mode & 0o077 == 0
    assert tmp_path.stat().st_mode & 0o077 == 0


def test_a_deep_state_folder_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    with Launcher(tmp_path / ("deep" * 30)) as launcher:
        child, settings = services.embedded_redis(Settings(), launcher.state)
        launcher.start(child)
        assert jobs.connect(settings).ping()


def test_a_worker_whose_redis_was_emptied_goes_on(served: Settings, client: redis.Redis) -> None:
    """It is counted again, and its next job's process finds it."""
    with start_worker(served) as worker:
        assert worker.stdout is not None
        while "Listening on" not in worker.stdout.readline():
            pass
        client.flushall()
        assert jobs.workers(client) == 0
        job = jobs.queue(client, "label").enqueue(jobs.echo, 7)
        wait_for(job, JobStatus.FINISHED)
        assert job.return_value() == 7 and jobs.workers(client) == 1
        worker.terminate()
        worker.communicate(timeout=60)

"""Background jobs on RQ: their queues, and the worker that runs what is in it.

Jobs are plain functions of ids, seeds and numbers (JSON), safe to run twice. A worker never
computes itself: each job has a Python process of its own (not a fork, since torch's threads do
not survive one), which can be timed out or killed without taking the worker along. The next one
is started, and has imported all that it needs, before there is a job for it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue, SpawnWorker, worker_registration
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job, JobStatus, get_current_job
from rq.serializers import JSONSerializer

from dgan_backend import logs
from dgan_backend.errors import DganError
from dgan_backend.settings import Settings
from dgan_backend.supervision import compute, services
from dgan_backend.supervision.processes import die_with_parent
from dgan_backend.supervision.standby import Standby, given, receive

log = logging.getLogger("dgan_backend.jobs")  # also where this module is the main one

# A worker empties the first one first.
QUEUES = {work: f"dgan-{work}" for work in ("train", "label", "check", "make", "synthesize")}
_WORK_ON = "dgan_backend.jobs.work_on"
_TIMEOUT = 6 * 3600  # seconds, for one job
_HURRIED_SECONDS = 1.0
_HEARD_SECONDS = 150.0
_STOP_SECONDS = 5.0  # until a worker that does not end is told again
_TOLD_SECONDS = 75  # a worker that waits tells every minute that it is there
_NICE = 5  # the web process comes first


def connect(settings: Settings, *, hurried: bool = False) -> redis.Redis:
    """A connection to Redis that has answered; DganError with the remedy otherwise.

    hurried: a call that cannot be made fails within 2 s or so, for a process that has others to
    answer; without it, it is tried again for some seconds.
    """
    if not settings.redis_url:
        raise DganError(
            "REDIS_URL is not set. `dgan-backend start` brings its own Redis; to run a part "
            "alone, set it, e.g. REDIS_URL=redis://127.0.0.1:6379/0."
        )
    try:
        client = redis.Redis.from_url(settings.redis_url, health_check_interval=30)
        client.ping()
        if hurried:
            client = redis.Redis.from_url(
                settings.redis_url, retry=Retry(NoBackoff(), 1), socket_timeout=_HURRIED_SECONDS
            )
    except (redis.RedisError, ValueError) as error:
        raise DganError(
            f"Redis at {_without_password(settings.redis_url)} cannot be used: {error}. "
            f"Check that it runs and that REDIS_URL is right."
        ) from error
    return client


def reach(settings: Settings, state: Path | None = None) -> redis.Redis | None:
    """A connection to the Redis of the running backend, for a command beside it.

    That is the one of REDIS_URL, or else the embedded one of `dgan-backend start` with that state
    folder. None where there never was one; raises DganError when it cannot be reached.
    """
    embedded = services.known_redis(state or services.state_of(settings))
    url = settings.redis_url or embedded
    if not url:
        return None
    try:
        return connect(replace(settings, redis_url=url))
    except DganError as error:
        if settings.redis_url:
            raise
        raise DganError(
            f"The Redis of `dgan-backend start` does not answer ({error}). Start the backend, or "
            "set --state to the folder of the one that runs."
        ) from error


def _without_password(address: str) -> str:
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if rest else "an address without scheme"


def queue(client: redis.Redis, work: str) -> Queue:
    """The queue of one kind of work, which web processes fill and workers empty."""
    return Queue(QUEUES[work], connection=client, serializer=JSONSerializer)


def enqueue(client: redis.Redis, uid: str, work: str, job_id: str) -> None:
    """Ask for a project's work of one kind, see loop/work.py."""
    queue(client, work).enqueue(
        _WORK_ON,
        uid,
        work,
        job_id=job_id,
        job_timeout=_TIMEOUT,
        result_ttl=60,
        failure_ttl=3600,
    )


def state_of(client: redis.Redis, job_id: str) -> tuple[str, float]:
    """A job's state, and how many seconds ago it began (0 = it has not).

    "" when it is gone, which it also is when a worker took it out of its queue and died before it
    was begun: RQ calls it queued for ever.
    """
    try:
        job = Job.fetch(job_id, connection=client, serializer=JSONSerializer)
    except NoSuchJobError:
        return "", 0.0
    status = job.get_status()
    if (
        status == JobStatus.QUEUED
        and client.lpos(Queue(job.origin, connection=client).key, job_id) is None
    ):
        return "", 0.0
    state, began = status.value if status else "", job.started_at
    if began is None:
        return state, 0.0
    if began.tzinfo is None:
        began = began.replace(tzinfo=UTC)
    return state, (datetime.now(UTC) - began).total_seconds()


def waiting(client: redis.Redis) -> dict[str, int]:
    """How many jobs wait in each queue."""
    return {work: queue(client, work).count for work in QUEUES}


def workers(client: redis.Redis) -> int:
    """How many workers there are."""
    return len(JobWorker.all(connection=client, serializer=JSONSerializer))


def work_on(uid: str, work: str) -> None:
    """The job: in a process of its own, with all cores but behind the web process."""
    from dgan_backend.loop.board import Board

    settings = Settings.from_env()
    client = connect(settings)
    board = Board(client)
    if not board.unsettled(uid, work):  # type: ignore[arg-type]
        return  # another job has done it; torch need not be imported for that
    logs.REQUEST.set(board.asked_by(uid, work))  # type: ignore[arg-type]
    from dgan_backend.loop.bench import Bench
    from dgan_backend.loop.work import do

    job = get_current_job()
    do(Bench.open(settings, client), uid, work, job.id if job else "")  # type: ignore[arg-type]


def make_shards(url: str, key: str, number: int) -> None:
    """The job: part of a data set, see factory/shift.py."""
    from dgan_backend.factory.shift import work

    settings = Settings.from_env()
    work(settings, connect(settings), url, key, number)


def run_worker(settings: Settings, burst: bool = False) -> int:
    """`dgan-backend worker`: run jobs until a signal (`burst`: until the queue is empty).

    SIGINT or SIGTERM ends it at once, with the job that runs: jobs may be killed at any time, and
    are done again.
    """
    client = connect(settings)
    queues = [queue(client, work) for work in QUEUES]
    worker = JobWorker(
        queues, connection=client, serializer=JSONSerializer, worker_ttl=_TOLD_SECONDS
    )
    worker.has_next = not burst
    os.environ["REDIS_URL"] = settings.redis_url  # for the processes of the jobs
    threads = settings.threads or compute.share(settings.workers)
    wanted = compute.environment(threads, 1 + settings.workers)
    os.environ.update({k: v for k, v in wanted.items() if k not in os.environ})
    waiting = f"Waiting for jobs (pid {os.getpid()})."
    if settings.log_format == "json":
        logs.set_up(settings)  # and RQ brings no handler of its own
        log.info(waiting)
    else:
        print(waiting, flush=True)
    worker.get_ready()
    worker.work(burst=burst, logging_level=settings.log_level)
    if not burst and worker._shutdown_requested_date is None:
        raise DganError("The worker lost its Redis; the line above says how. Start it again.")
    return 0


def check_worker(settings: Settings) -> int:
    """`dgan-backend worker --check`: 0 when a worker of this machine was heard of lately, else 1.
    A worker tells every minute or more often."""
    client, now = connect(settings, hurried=True), datetime.now(UTC)
    for worker in JobWorker.all(connection=client, serializer=JSONSerializer):
        heard = worker.last_heartbeat
        if worker.hostname == socket.gethostname() and heard is not None:
            seconds = (now - heard.replace(tzinfo=heard.tzinfo or UTC)).total_seconds()
            if seconds < _HEARD_SECONDS:
                print(f"{worker.name} was heard of {seconds:.0f} s ago.")
                return 0
    print("No worker of this machine was heard of lately.")
    return 1


class JobWorker(SpawnWorker):
    """RQ's spawning worker with the process of a job started our way.

    RQ's own hands the connection over on the command line, where `ps` shows the password to
    every user of the machine; ours goes through the environment. And the process dies with its
    worker, which is how a killed worker leaves nothing behind.

    has_next: whether the process of the next job is started before there is one.
    """

    has_next = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._job: Job | None = None  # that runs
        self._standby = Standby("dgan_backend.jobs")

    def get_ready(self) -> None:
        if self.has_next:
            self._standby.start()

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Tell that this worker is there; where Redis was emptied, who it is, as well: a job's
        process asks for that."""
        super().heartbeat(timeout, pipeline)
        if pipeline is not None or self.birth_date is None:
            return
        if not self.connection.sismember(self.redis_workers_keys, self.key):
            self.connection.hset(self.key, mapping=self.serialize())
            worker_registration.register(self)

    def request_stop(self, signum: int, frame: Any) -> None:
        """A signal to end: the job that runs is not waited for.

        RQ ends an idle worker by an exception, which is lost where code beneath catches all; so
        the signal comes a second time.
        """
        again = threading.Timer(_STOP_SECONDS, os.kill, (os.getpid(), signum))
        again.daemon = True
        again.start()
        super().request_stop(signum, frame)
        if self.horse_pid:
            self.kill_horse()
            self._excuse()

    def _excuse(self) -> None:
        """The job was killed by us: it is not among those that died."""
        from dgan_backend.loop.board import Board

        job = self._job
        if job is not None and job.func_name == _WORK_ON:
            uid, work = job.args
            with suppress(redis.RedisError):
                Board(self.connection).ended(uid, work, job.id)

    def execute_job(self, job: Job, queue: Queue) -> None:
        self._job = job
        super().execute_job(job, queue)
        self._job = None
        self.get_ready()

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Start the process that runs a job (RQ calls it the work horse)."""
        assert self.execution is not None  # RQ prepared it just before
        env = {
            "RQ_WORKER_ID": self.name,
            "RQ_JOB_ID": job.id,
            "RQ_EXECUTION_ID": self.execution.id,
        }
        arguments = [self.key, job.id, self.execution.id]
        self._horse_pid = self._standby.hand_over(arguments, env)
        self.procline(f"Started {self._horse_pid} for {job.id}")


def run_job(settings: Settings, worker_key: str, job_id: str, execution_id: str) -> None:
    """Run one job in this process, which a worker has started for it."""
    client = connect(settings)
    worker = JobWorker.find_by_key(worker_key, connection=client, serializer=JSONSerializer)
    if worker is None:
        raise DganError(f"The worker {worker_key} of job {job_id} is gone.")
    job = Job.fetch(job_id, connection=client, serializer=JSONSerializer)
    worker.execution = Execution.fetch(execution_id, job_id, connection=client)
    worker.main_work_horse(job, Queue(job.origin, connection=client, serializer=JSONSerializer))


def echo(value: Any) -> Any:
    """Give back what was sent: the job by which a set-up is tested."""
    return value


def _prepare() -> None:
    """Import what jobs need, while there is time."""
    import label_studio_sdk.converter.brush  # noqa: F401  half a second
    import torch

    import dgan_backend.loop.bench
    import dgan_backend.loop.work  # noqa: F401

    torch.optim.Adam([torch.zeros(1)])  # the first optimizer imports 800 modules more, 1.5 s


if __name__ == "__main__":
    die_with_parent()
    os.nice(_NICE)
    logs.set_up(Settings.from_env(), quiet=("rq",))
    if not given():
        _prepare()
    run_job(Settings.from_env(), *receive())

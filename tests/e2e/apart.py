"""Machines that share nothing but TCP, as far as one machine can play several: a Redis and an
S3-compatible server in one network namespace, workers in others, each with its own home and,
where other users can run this Python, its own user.

Where namespaces are not allowed, two users alone; where this is not root, two homes.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis

from dgan_backend.supervision import services
from tests.e2e.conftest import free_ports

_SERVER, _HOSTS = "dgan-test-s", ("dgan-test-a", "dgan-test-b")
_UIDS = (64_001, 64_002)
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu"}


@dataclass
class Host:
    """prefix: of a command that runs there. env: what it needs to reach Redis and storage."""

    name: str
    prefix: list[str]
    env: dict[str, str]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """`dgan-backend WORDS` there, in a process group of its own."""
        command = [*self.prefix, *services.dgan_backend(*words)]
        log = Path(self.env["HOME"]) / "log"
        with log.open("ab") as output:
            return subprocess.Popen(
                command, env=self.env, stdout=output, stderr=output, start_new_session=True
            )

    def log(self, everything: bool = False) -> str:
        text = (Path(self.env["HOME"]) / "log").read_text(errors="replace")
        return text if everything else text[-3000:]


@dataclass
class Cluster:
    how: str
    hosts: list[Host]
    redis_url: str
    env: dict[str, str] = field(default_factory=dict)  # for the test's own process


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, also to all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def cluster(folder: Path, bucket: str) -> Iterator[Cluster]:
    """Redis, S3 with a bucket, and two hosts. folder: one that every user may enter."""
    spaces = _namespaces()
    try:
        ports = free_ports(2)
        server = "10.77.0.1" if spaces else "127.0.0.1"
        prefix = ["ip", "netns", "exec", _SERVER] if spaces else []
        password = secrets.token_hex(8)
        command = [services._redis_server(), "--port", str(ports[0]), "--bind", "0.0.0.0"]
        store = subprocess.Popen(
            [*prefix, *command, "--requirepass", password, "--save", ""],
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        s3 = subprocess.Popen(
            [*prefix, sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", str(ports[1])],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield _reached(folder, spaces, server, ports, password, bucket)
        finally:
            for process in (store, s3):
                process.kill()
                process.wait()
    finally:
        _remove_namespaces()


def _reached(
    folder: Path, spaces: bool, server: str, ports: list[int], password: str, bucket: str
) -> Cluster:
    hosts = []
    users = os.geteuid() == 0 and _any_user_can_run()
    for number, (space, uid) in enumerate(zip(_HOSTS, _UIDS, strict=True)):
        address = f"10.77.{number + 1}.1" if spaces else server
        home = folder / f"home-{number}"
        home.mkdir()
        prefix = ["ip", "netns", "exec", space] if spaces else []
        if users:
            os.chown(home, uid, uid)
            prefix += _as_user(uid)
        hosts.append(Host(space, prefix, _environment(home, address, ports, password, bucket)))
    how = "network namespaces" if spaces else "users" if users else "homes"
    own = _environment(folder, server, ports, password, bucket)
    made = Cluster(f"two {how}", hosts, own["REDIS_URL"], own)
    _wait(made, bucket)
    return made


def _as_user(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def _any_user_can_run() -> bool:
    """Whether this very Python is for all: it may lie in somebody's home."""
    command = [*_as_user(_UIDS[0]), sys.executable, "-c", "import sys; print(sys.version)"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() == sys.version


def _environment(
    home: Path, server: str, ports: list[int], password: str, bucket: str
) -> dict[str, str]:
    return {
        **KEYS,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "HOME": str(home),
        "TMPDIR": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "REDIS_URL": f"redis://:{password}@{server}:{ports[0]}/0",
        "AWS_ENDPOINT_URL": f"http://{server}:{ports[1]}",
        "MODEL_DIR": f"s3://{bucket}/models",
        "THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _wait(made: Cluster, bucket: str) -> None:
    """Until both servers answer, and there is a bucket."""
    import fsspec

    deadline = time.monotonic() + 90
    while True:
        try:
            redis.Redis.from_url(made.redis_url).ping()
            files = fsspec.filesystem(
                "s3", endpoint_url=made.env["AWS_ENDPOINT_URL"], key="test", secret="test"
            )
            files.mkdir(bucket)
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _namespaces() -> bool:
    """The server's namespace, wired to this one and to one for each host; False where that is not
    allowed."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    _remove_namespaces()
    commands = [f"ip netns add {space}" for space in (_SERVER, *_HOSTS)]
    for number, there in enumerate(("", *_HOSTS)):
        near, far = f"dgant{number}s", f"dgant{number}h"
        commands.append(f"ip link add {near} type veth peer name {far}")
        commands.append(f"ip link set {near} netns {_SERVER}")
        commands += _up(near, f"10.77.{number}.1/24", _SERVER)
        if there:
            commands.append(f"ip link set {far} netns {there}")
        commands += _up(far, f"10.77.{number}.2/24", there)
    for command in commands:
        if subprocess.run(command.split(), capture_output=True).returncode != 0:
            _remove_namespaces()
            return False
    return True


def _up(link: str, address: str, space: str) -> list[str]:
    at = f"ip -n {space}" if space else "ip"
    return [f"{at} addr add {address} dev {link}", f"{at} link set {link} up"]


def _remove_namespaces() -> None:
    if os.geteuid() == 0 and shutil.which("ip"):
        for space in (_SERVER, *_HOSTS):
            subprocess.run(["ip", "netns", "del", space], capture_output=True)

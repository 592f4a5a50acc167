"""Supervision: children started in order, watched, restarted, and stopped in reverse order.

    with Launcher(state) as launcher:
        launcher.start(redis)
        launcher.start(web)
        launcher.watch()          # until SIGINT, SIGTERM or SIGHUP

Leaving the block stops everything, whatever the reason. The launcher never imports torch.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO

from dgan_backend.errors import DganError
from dgan_backend.supervision import processes

GRACE_SECONDS = 10.0
FIRST_DELAY, LAST_DELAY = 0.5, 10.0  # seconds before a restart: doubled from the first to the last
STEADY_SECONDS = 20.0  # a child that ran for so long starts again from the first delay
GIVE_UP_AFTER = 8  # failures in a row
LOG_BYTES = 20_000_000  # a longer log is put aside (one old log is kept) when its child starts
TAIL_LINES = 15
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked the launcher to stop; not an error, so nothing but the launcher catches it."""


@dataclass(frozen=True)
class Child:
    """What to run. `env` is the whole environment; `ready` says when the child can be used.

    When a `vital` child fails again and again all is given up; others are tried for ever.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    ready: Callable[[], bool] = lambda: True
    ready_seconds: float = 60.0
    vital: bool = True


@dataclass
class _Running:
    """A child that is up, or waits for its restart (`restart_at` set)."""

    child: Child
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    started: float = field(default_factory=time.monotonic)
    failures: int = 0
    restart_at: float | None = None


class Launcher:
    """Owns the state folder (locked: one launcher at a time) and the children.

    `report` gets one line for everything worth telling the person who started us.
    """

    def __init__(
        self, state: Path, report: Callable[[str], None] = print, grace: float = GRACE_SECONDS
    ) -> None:
        self.state = state.expanduser().resolve()
        self.logs = self.state / "logs"
        self.after_restart: Callable[[], None] = lambda: None
        self._report = report
        self._grace = grace
        self._running: dict[str, _Running] = {}
        self._lock: IO[str] | None = None
        self._old_handlers: dict[int, object] = {}
        self._stopping = False
        self._hurry = False

    # -- life of the launcher -------------------------------------------------------------------

    def __enter__(self) -> Launcher:
        self.logs.mkdir(parents=True, exist_ok=True)
        self.state.chmod(0o700)
        self._lock = _locked(self.state / "launcher.lock")
        processes.sweep(str(self.state))  # what a launcher that was killed may have left
        for number in _SIGNALS:
            self._old_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._stopping = True
        self.stop()
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._lock is not None:
            self._lock.close()
        return kind is Stopped

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stopping:
            self._hurry = True
            return
        self._stopping = True
        raise Stopped(signal.Signals(number).name)

    # -- children -------------------------------------------------------------------------------

    @property
    def pids(self) -> dict[str, int]:
        """The pid of every child by its name."""
        return {name: running.process.pid for name, running in self._running.items()}

    def start(self, child: Child) -> None:
        """Spawn a child and wait until it is ready."""
        self.spawn(child)
        self.wait_ready(child.name)

    def spawn(self, child: Child) -> None:
        """Start a child without waiting for it."""
        log = self.logs / f"{child.name}.log"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            start = output.tell()
            env = {**child.env, processes.MARK: str(self.state)}
            try:
                process = processes.spawn(child.command, env, output)
            except OSError as error:
                raise DganError(
                    f"{child.name} cannot be started: {error.strerror}: {child.command[0]}"
                ) from error
        self._running[child.name] = _Running(child, process, log, start)

    def wait_ready(self, name: str) -> None:
        """Wait until a spawned child is ready; DganError with its last log lines if it fails."""
        running = self._running[name]
        deadline = time.monotonic() + running.child.ready_seconds
        while not running.child.ready():
            self.check(name)
            if time.monotonic() > deadline:
                raise DganError(
                    f"{name} was not ready within {running.child.ready_seconds:.0f} s."
                    + _last_lines(running)
                )
            time.sleep(0.1)
        self.check(name)

    def finish(self, name: str) -> None:
        """Wait until a spawned child has done its work; DganError if it did not succeed."""
        running = self._running[name]
        if running.process.wait() != 0:
            self.check(name)
        del self._running[name]

    def check(self, *names: str) -> None:
        """Raise DganError with the last log lines if one of the children (all) has ended."""
        for name in names or tuple(self._running):
            running = self._running[name]
            if running.process.poll() is not None:
                raise DganError(f"{name} {_how_it_ended(running)}." + _last_lines(running))

    def watch(self) -> None:
        """Restart what ends, until a signal; DganError when a child fails again and again."""
        while True:
            self.tend()
            time.sleep(0.1)

    def tend(self) -> None:
        """One round of `watch`, for a caller that has more to do meanwhile."""
        for running in tuple(self._running.values()):
            self._tend(running)

    def _tend(self, running: _Running) -> None:
        if running.restart_at is not None:
            if time.monotonic() >= running.restart_at:
                self._restart(running)
        elif running.process.poll() is not None:
            self._plan_restart(running)

    def _plan_restart(self, running: _Running) -> None:
        processes.stop(running.process, 0.0, lambda: True)  # its group may hold more than it
        now = time.monotonic()
        running.failures = 1 if now - running.started > STEADY_SECONDS else running.failures + 1
        name, ended = running.child.name, _how_it_ended(running)
        if running.failures >= GIVE_UP_AFTER and running.child.vital:
            raise DganError(
                f"{name} {ended}, for the {running.failures}th time in a row; giving up. Mend "
                f"what its log says and start again." + _last_lines(running)
            )
        delay = min(LAST_DELAY, FIRST_DELAY * 2 ** (running.failures - 1))
        self._report(f"{name} {ended}; starting it again in {delay:g} s." + _last_lines(running))
        running.restart_at = now + delay

    def _restart(self, running: _Running) -> None:
        self.spawn(running.child)
        again = self._running[running.child.name]
        again.failures = running.failures
        self._report(f"{running.child.name} was started again (pid {again.process.pid}).")
        self.after_restart()

    def stop(self) -> None:
        """End every child, last started first, and whatever they have started."""
        for name, running in reversed(self._running.items()):
            orderly = processes.stop(running.process, self._grace, lambda: self._hurry)
            if not orderly:
                self._report(f"{name} did not stop by itself and was killed.")
        self._running.clear()
        processes.sweep(str(self.state))


def _locked(path: Path) -> IO[str]:
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise DganError(
            f"{path.parent} is in use by another launcher (pid {owner}); stop that one or choose "
            f"another folder with --state."
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _how_it_ended(running: _Running) -> str:
    status = running.process.returncode
    if status is not None and status < 0:
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"
    return f"stopped with status {status}"


def _last_lines(running: _Running) -> str:
    """The end of what the child wrote since it was started last, and where the rest is."""
    with running.log.open("rb") as log:
        log.seek(running.log_start)
        lines = log.read().decode(errors="replace").rstrip().splitlines()[-TAIL_LINES:]
    if not lines:
        return f" It wrote nothing (log: {running.log})."
    body = "\n".join(f"  | {line}" for line in lines)
    return f" The end of its log, {running.log}:\n{body}"

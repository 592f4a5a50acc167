"""A process that is started before it is needed, since imports take seconds."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress


class Standby:
    """One process of `python -m MODULE` at a time, which waits until it is given its arguments.

    They go through its standard input, a line of JSON that `receive` reads there: the command
    line shows to every user of the machine.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._waiting: tuple[int, int] | None = None  # pid, where it reads from

    def start(self) -> None:
        """Have one ready; nothing happens where there is one."""
        if self._waiting is None or not _lives(self._waiting[0]):
            self._drop()
            self._waiting = self._spawn()

    def hand_over(self, arguments: Sequence[str], env: Mapping[str, str]) -> int:
        """The pid of a process that goes to work: the one that waits, or a new one.

        env: variables that it gets beside those of this process.
        """
        self.start()
        assert self._waiting is not None
        pid, pipe = self._waiting
        self._waiting = None
        with os.fdopen(pipe, "w") as stream, suppress(BrokenPipeError):
            json.dump({"arguments": list(arguments), "env": dict(env)}, stream)
        return pid

    def _spawn(self) -> tuple[int, int]:
        read, write = os.pipe()
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", self._module],
                os.environ,
                setpgroup=0,
                file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)],
            )
        finally:
            os.close(read)
        return pid, write

    def _drop(self) -> None:
        if self._waiting is not None:
            os.close(self._waiting[1])
            self._waiting = None


def given() -> bool:
    """In the process that waits: whether its arguments are there already."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def receive() -> list[str]:
    """In the process that waits: its arguments, once they come; ends when none will."""
    text = sys.stdin.read()
    if not text:
        sys.exit(0)
    given = json.loads(text)
    os.environ.update(given["env"])
    return list(given["arguments"])


def _lives(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False

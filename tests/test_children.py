"""A pool's processes end with the command that began them, even one that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

SCRIPT = """
import os, time
from dgan_backend import children
if __name__ == "__main__":
    with children.pool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 60).result()
"""


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="ascii") as told:
        return told.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_killed_command_leaves_none_behind() -> None:
    command = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert command.stdout is not None
    child = int(command.stdout.readline())
    try:
        assert runs(child)
        command.kill()
        command.wait()
        end = time.monotonic() + 10
        while runs(child) and time.monotonic() < end:
            time.sleep(0.05)
        assert not runs(child)
    finally:
        command.stdout.close()
        with suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)

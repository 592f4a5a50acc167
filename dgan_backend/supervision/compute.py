"""The environment that a computing process wants: memory allocator and threads. No torch here.

The rule for threads: the web process gets an equal share of the cores among itself and the
workers, `max(1, cores // processes)`, and workers share all cores among them, as they yield to the
web process by their priority; THREADS overrides both. Threads wait passively, since an OpenMP
thread that spins for a partner that is not running takes the core that the partner needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_MOST_KEPT = 8 * 2**30  # bytes
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


def cores(quota_file: Path = _CGROUP_QUOTA) -> int:
    """Cores that this process may use: its affinity, capped by a container's CPU quota."""
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:
        available = os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()[:2]
        return max(1, min(available, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return available


def memory(limit_file: Path = _CGROUP_MEMORY) -> int:
    """Bytes of memory that there are for this process: the machine's, capped by a container's."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(total, int(limit_file.read_text()))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return total


def allocator(available: int | None = None, processes: int = 1) -> dict[str, str]:
    """Settings of glibc, which it reads when a process starts, so that they have to be inherited.

    It gives large blocks back to the kernel on every free and faults them in again on the next use.
    Keeping them makes synthesis of a batch 2.9 times as fast on a CPU; what is kept instead of
    returned is bounded by 8 GB and a quarter of the memory for each process, and by half of the
    memory for all of them.
    """
    there = memory() if available is None else available
    most = min(_MOST_KEPT, there // 4, there // (2 * max(1, processes)))
    return {
        "MALLOC_MMAP_THRESHOLD_": "4294967296",
        "MALLOC_TRIM_THRESHOLD_": str(most),
        "MALLOC_TOP_PAD_": str(min(2**28, most)),
    }


def share(processes: int, threads: int = 0, available: int | None = None) -> int:
    """Threads of one of `processes` computing processes; `threads` (THREADS) wins when set."""
    total = cores() if available is None else available
    return threads or max(1, total // max(1, processes))


def environment(threads: int, processes: int = 1) -> dict[str, str]:
    """What to add to the environment of a process that computes with `threads` threads, one of so
    many `processes`."""
    return {
        **allocator(processes=processes),
        "THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def restart_with(extra: Mapping[str, str]) -> None:
    """Replace this process by itself with `extra` in its environment; a no-op when it is there.

    Values that the caller of this process chose stay. For a command started by hand, without
    the launcher, whose allocator settings have to be there before the process starts.
    """
    missing = {key: value for key, value in extra.items() if key not in os.environ}
    if missing and sys.orig_argv:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})

"""Time and memory: medians, and the peak of a process of its own."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import torch

from dgan_backend import children
from dgan_backend.errors import DganError
from dgan_backend.supervision import compute

T = TypeVar("T")


def timed(run: Callable[[], T]) -> tuple[float, T]:
    """Wall-clock seconds, and what `run` returned."""
    started = time.perf_counter()
    value = run()
    return time.perf_counter() - started, value


def median(values: list[float]) -> float:
    """The middle one; the lower of the two in the middle."""
    return sorted(values)[(len(values) - 1) // 2]


def peak_bytes() -> int:
    """The most memory that this process held, since it began to run its program."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):  # no Linux
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def here(run: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """What `run` returns, and the peak memory of this process as `peak_bytes`."""
    return {**run(*args), "peak_bytes": peak_bytes()}


def apart(run: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """As `here`, in a new process."""
    with children.pool(1) as pool:
        try:
            return pool.submit(here, run, *args).result()
        except BrokenProcessPool as error:
            raise DganError(
                f"the process of the part `{run.__name__}` was killed; is there enough memory? "
                "Its peak is what it measures."
            ) from error


def available_bytes() -> int:
    """Memory that can be had without swapping, and within a container's limit."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable"))
        return min(int(line.split()[1]) * 1024, compute.memory())
    except (OSError, StopIteration):  # no Linux
        return compute.memory() // 2


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    name = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    return {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2),
    }

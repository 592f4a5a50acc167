"""What processes hold in memory, over time. Linux only; elsewhere there are no samples."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_EVERY = 2.0  # seconds
_MIB = 2**20
_SESSION = 3  # of the fields behind the name in /proc/PID/stat
_FLAT_MIB, _FLAT_SHARE = 16.0, 0.05  # growth, in the second half, that counts as none


@dataclass
class Memory:
    """Samples of each process by its name, and of `NAME's jobs`, all that it has started:
    [seconds since the first sample, MiB]."""

    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)
    _next: float = 0.0

    def sample(self, pids: Mapping[str, int]) -> None:
        """Called as often as one likes. pids: of session leaders."""
        now = time.monotonic() - self._began
        if now < self._next:
            return
        self._next = now + _EVERY
        below = _sessions()
        for name, pid in pids.items():
            own = resident(pid)
            if own:
                self._add(name, now, own)
            jobs = [resident(other) for other in below.get(pid, []) if other != pid]
            if any(jobs):
                self._add(f"{name}'s jobs", now, sum(jobs))

    def _add(self, name: str, at: float, mib: float) -> None:
        self.samples.setdefault(name, []).append((round(at, 1), round(mib, 1)))

    def figures(self) -> dict[str, dict[str, Any]]:
        return {name: told(samples) for name, samples in self.samples.items()}


def told(samples: list[tuple[float, float]]) -> dict[str, Any]:
    """First, last and most, MiB; the trend of the second half, when all is warm, MiB a minute; and
    whether it is flat: growth in that time of under 16 MiB or 5 %."""
    values = [mib for _, mib in samples]
    later = samples[len(samples) // 2 :]
    slope = trend(later)
    grown = slope * (later[-1][0] - later[0][0]) / 60.0
    return {
        "first_mib": values[0],
        "last_mib": values[-1],
        "peak_mib": max(values),
        "mib_per_minute": round(slope, 2),
        "flat": grown < max(_FLAT_MIB, _FLAT_SHARE * values[-1]),
    }


def trend(samples: list[tuple[float, float]]) -> float:
    """Slope of the least-squares line, a minute. samples: (seconds, value)."""
    n = len(samples)
    middle = sum(at for at, _ in samples) / n
    mean = sum(value for _, value in samples) / n
    spread = sum((at - middle) ** 2 for at, _ in samples)
    if not spread:
        return 0.0
    return 60.0 * sum((at - middle) * (value - mean) for at, value in samples) / spread


def resident(pid: int) -> float:
    """Of one process, MiB; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def _sessions() -> dict[int, list[int]]:
    """Processes by their session."""
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        found.setdefault(int(fields[_SESSION]), []).append(int(path.parent.name))
    return found

"""Threads and cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dgan_backend.supervision import compute


@pytest.mark.parametrize(
    ("processes", "threads", "cores", "expected"),
    [(2, 0, 2, 1), (2, 0, 16, 8), (3, 0, 16, 5), (5, 0, 2, 1), (1, 0, 4, 4), (2, 6, 2, 6)],
    ids=["2 cores", "16 cores", "rounded down", "at least one", "alone", "THREADS wins"],
)
def test_processes_share_the_cores(processes: int, threads: int, cores: int, expected: int) -> None:
    assert compute.share(processes, threads, cores) == expected


@pytest.mark.parametrize(("quota", "most"), [("100000 100000", 1), ("50000 100000", 1)])
def test_a_container_quota_caps_the_cores(tmp_path: Path, quota: str, most: int) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(quota)
    assert compute.cores(limit) == most


def test_no_quota_leaves_the_affinity(tmp_path: Path) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text("max 100000")
    assert compute.cores(limit) == compute.cores(tmp_path / "none") == len(os.sched_getaffinity(0))


def test_what_the_allocator_keeps_is_bounded_by_the_memory(tmp_path: Path) -> None:
    kept = [int(compute.allocator(gb << 30)["MALLOC_TRIM_THRESHOLD_"]) >> 30 for gb in (4, 16, 256)]
    assert kept == [1, 4, 8]
    kept = [int(compute.allocator(1 << 36, n)["MALLOC_TRIM_THRESHOLD_"]) >> 30 for n in (2, 16)]
    assert kept == [8, 2]  # half of it in all
    limit = tmp_path / "memory.max"
    limit.write_text("1073741824")
    assert compute.memory(limit) == 2**30
    limit.write_text("max")
    assert compute.memory(limit) == compute.memory(tmp_path / "none") > 2**30


def test_restart_keeps_what_the_caller_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "7")
    replaced: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda path, argv, env: replaced.append(env))
    compute.restart_with({"THREADS": "1", "OMP_WAIT_POLICY_OF_TEST": "PASSIVE"})
    assert replaced[0]["THREADS"] == "7"
    assert replaced[0]["OMP_WAIT_POLICY_OF_TEST"] == "PASSIVE"


def test_no_restart_when_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "7")
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("restarted"))
    compute.restart_with({"THREADS": "1"})
